"""Fields whose poses are known: balls of fog, without a symmetry and with one."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor


@dataclass(frozen=True)
class Balls:
    """Balls of fog: centres ``(N, 3)``, radii ``(N,)`` and colours ``(N, 3)``."""

    centres: Tensor
    radii: Tensor
    colours: Tensor

    def query(self, xyz):
        away = (xyz[..., None, :] - self.centres).norm(dim=-1)
        density = 60 * torch.sigmoid((self.radii - away) * 60)
        total = density.sum(dim=-1, keepdim=True)
        return (density @ self.colours) / total.clamp(min=1e-6), total


@pytest.fixture
def crooked():
    """Four different balls in no order."""
    centres = torch.tensor([[0.3, 0.0, 0.0], [-0.2, 0.3, 0.1], [0.0, -0.2, 0.35], [-0.1, -0.1, -0.3]])
    return Balls(centres, torch.tensor([0.2, 0.12, 0.15, 0.18]), torch.eye(4)[:, :3])


@pytest.fixture
def dumbbell():
    """Two equal balls on the x axis: half a turn about y changes nothing, any turn about x neither."""
    return Balls(torch.tensor([[0.3, 0.0, 0.0], [-0.3, 0.0, 0.0]]), torch.full((2,), 0.2), torch.ones(2, 3))


@pytest.fixture
def brick():
    """Two pairs of equal balls across the z axis and one on it: half a turn about z alone changes nothing."""
    centres = [[0.35, 0.0, 0.1], [-0.35, 0.0, 0.1], [0.0, 0.25, -0.15], [0.0, -0.25, -0.15], [0.0, 0.0, 0.3]]
    colours = torch.eye(3)[[0, 0, 1, 1, 2]]
    return Balls(torch.tensor(centres), torch.tensor([0.15, 0.15, 0.18, 0.18, 0.1]), colours)
