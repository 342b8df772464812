"""What is around an object in photographs without opacity: a second, coarse field that is learnt with a NeRF and then left.

A NeRF of our families ends at its box. In photographs a room goes on behind it, which a NeRF alone would paint on the walls of
its box, over the object in most views. Here everything outside has a field of its own, over space contracted as mip-NeRF 360
does it (a ball as it is, all beyond in a shell of the same thickness): three dense grids and a small network. As both are fields
in space, what several views agree to be in the box is learnt there, and the rest outside.

Shapes: R rays, S samples of each, A points.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..nerfs.fields import BOX_MAX
from ..rendering.cameras import Rays

_LEVELS = (12, 32, 80)  # voxels along an axis
_CHANNELS = 4
_HIDDEN = 32
_SAMPLES = 24
_FARTHEST = 60.0  # world units: beyond, space is contracted to almost a point
_UNIT = BOX_MAX * math.sqrt(3)  # radius of the ball that is not contracted: the box is in it
_GRID_RATE, _NETWORK_RATE = 2e-2, 5e-3
_CHUNK = 1 << 13


class Surroundings(nn.Module):
    """A field outside the box, and its optimiser.

    Args:
        seed: seed of its first weights.
        device: the device that it is on.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.grids = nn.ParameterList(
            [0.1 * torch.randn(1, _CHANNELS, size, size, size, generator=generator) for size in _LEVELS]
        )
        features = _CHANNELS * len(_LEVELS)
        self.first = nn.Parameter(torch.randn(features, _HIDDEN, generator=generator) * math.sqrt(2 / features))
        self.last = nn.Parameter(torch.randn(_HIDDEN, 4, generator=generator) * math.sqrt(1 / _HIDDEN))
        self.bias = nn.Parameter(torch.zeros(4))
        self.to(device)
        groups = [
            {"params": list(self.grids), "rate": _GRID_RATE},
            {"params": [self.first, self.last, self.bias], "rate": _NETWORK_RATE},
        ]
        self.optimizer = torch.optim.Adam(groups, betas=(0.9, 0.99), eps=1e-15)

    def query(self, xyz: Tensor) -> tuple[Tensor, Tensor]:
        """Colours ``(A, 3)`` in 0..1 and densities ``(A,)`` per contracted unit, at world points ``(A, 3)``."""
        scaled = xyz / _UNIT
        length = scaled.norm(dim=-1, keepdim=True).clamp(min=1e-6)
        contracted = torch.where(length <= 1, scaled, (2 - 1 / length) * scaled / length) / 2
        place = contracted.view(1, -1, 1, 1, 3)
        parts = [F.grid_sample(grid, place, align_corners=True, padding_mode="border") for grid in self.grids]
        features = torch.cat([part.view(_CHANNELS, -1) for part in parts]).T
        out = torch.relu(features @ self.first) @ self.last + self.bias
        return torch.sigmoid(out[:, :3]), F.softplus(out[:, 3])

    def behind(self, rays: Rays, *, jitter: Tensor | None = None) -> Tensor:
        """Colours ``(R, 3)`` that rays show behind the box, or all along where they miss it.

        Args:
            rays: R rays.
            jitter: ``(R,)`` in 0..1, the part of a step by which a ray's samples are moved; the middle if left out.
        """
        start = _leaving_box(rays)
        jitter = torch.full_like(start, 0.5) if jitter is None else jitter
        # Steps that grow: even ones in the logarithm of the distance from a point a little before the start.
        steps = torch.arange(_SAMPLES + 1, device=start.device) + jitter[:, None] - 0.5
        growth = math.log(_FARTHEST / 0.25) / _SAMPLES
        edges = start[:, None] + 0.25 * (torch.exp(growth * steps.clamp(min=0)) - 1)
        middles = (edges[:, 1:] + edges[:, :-1]) / 2
        xyz = rays.origins[:, None] + rays.directions[:, None] * middles[..., None]
        rgb, density = self.query(xyz.flatten(0, 1))
        depth = density.view(middles.shape) * 20 * growth  # per step, whatever its length: space is contracted
        depth = torch.cat([depth[:, :-1], torch.full_like(depth[:, :1], 30.0)], dim=1)  # the last one ends everything
        before = torch.cat([torch.zeros_like(depth[:, :1]), depth[:, :-1]], dim=1).cumsum(dim=1)
        weights = torch.exp(-before) * -torch.expm1(-depth)
        return (weights[..., None] * rgb.view(*middles.shape, 3)).sum(dim=1)

    @torch.no_grad()
    def image(self, rays: Rays) -> Tensor:
        """`behind` for many rays, in parts, without gradients."""
        parts = [self.behind(rays[start : start + _CHUNK]) for start in range(0, len(rays), _CHUNK)]
        return torch.cat(parts)

    def step(self, factor: float) -> None:
        """A step of the optimiser with `factor` of the peak rates; gradients are cleared."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["rate"] * factor
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def training_state(self) -> dict[str, Any]:
        """Everything that the next steps depend on, flat, for `load_training_state`."""
        state: dict[str, Any] = {}
        for name, parameter in self.named_parameters():
            state[name] = parameter.detach().cpu().clone()
            for key, value in self.optimizer.state.get(parameter, {}).items():
                state[f"adam.{name}.{key}"] = value.detach().cpu().clone()
        return state

    def load_training_state(self, state: dict[str, Any]) -> None:
        for name, parameter in self.named_parameters():
            with torch.no_grad():
                parameter.copy_(state[name])
            prefix = f"adam.{name}."
            self.optimizer.state[parameter] = {
                key.removeprefix(prefix): value.clone() if key.endswith(".step") else value.to(parameter.device)
                for key, value in state.items()
                if key.startswith(prefix)
            }


def _leaving_box(rays: Rays) -> Tensor:
    """Distances ``(R,)`` at which rays leave the box; a part of that to the point nearest to its middle where they miss it."""
    safe = torch.where(rays.directions.abs() < 1e-9, torch.full_like(rays.directions, 1e-9), rays.directions)
    first, second = ((side - rays.origins) / safe for side in (-BOX_MAX, BOX_MAX))
    enter, leave = torch.minimum(first, second).amax(dim=1), torch.maximum(first, second).amin(dim=1)
    nearest = -(rays.origins * rays.directions).sum(dim=1)
    return torch.where((enter < leave) & (leave > 0), leave, 0.4 * nearest.clamp(min=0.0))
