"""What two fields look like from all around: the mismatch by which candidates are told apart, and refined, in the end.

NeRFs are fitted to images, and images are what they get right: inside, and where no view looked, fits of one object differ. So
views are compared, with occlusion: of B from fixed directions around it, of A from cameras that are turned the other way, which
sees A turned. Views are parallel projections through baked grids, so that they cost milliseconds.

The steps are those of Gauss and Newton, with the derivatives of B's views in the place of A's (Baker and Matthews, "Lucas-Kanade
20 Years On", IJCV 2004): where both look alike these are the same, and they are taken once for all candidates and steps.

Shapes: N motions, V views, S pixels along a side and samples along a ray, M unknowns: 3 of a rotation, or 7 with shift and scale.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from ..nerfs.fields import BOX_MAX, spread_directions
from ..nerfs.probing import OPACITY_LENGTH
from ..rendering.voxels import numbers_at
from .fields import BakedField
from .search import Motions, moved

VIEWS = 12

_OFFSETS = (
    0.05,
    0.05,
    0.05,
    0.02,
    0.02,
    0.02,
    0.05,
)  # of the unknowns for derivatives: radians, world units, logarithm
_LEAST = 1e-6


@dataclass(frozen=True, eq=False)
class ViewProblem:
    """One field to be brought over another by what both look like: the same questions as `Problem` answers for points.

    Attributes:
        source: the field that is turned.
        target: the other one.
        size: pixels along the side of a view, S.
        similarity: whether shift and scale are free too.
    """

    source: BakedField
    target: BakedField
    size: int
    similarity: bool = False

    @property
    def cost(self) -> int:
        return VIEWS * self.size**3

    def mismatch(self, motions: Motions) -> Tensor:
        """Squared difference of colours and opacities of all pixels, as a share of all that both show: ``(N,)``."""
        return torch.stack([self._compared(motion)[1] for motion in motions.each()])

    def normal_equations(self, motions: Motions) -> tuple[Tensor, Tensor, Tensor]:
        """Mismatch ``(N,)``, products ``(N, M, M)`` and gradients ``(N, M)``; unknowns as of `moved`."""
        mismatch, products, gradients = self.equations_of_views(motions)
        return mismatch, products.sum(dim=0).expand(len(motions), -1, -1), gradients.sum(dim=1)

    def equations_of_views(self, motions: Motions) -> tuple[Tensor, Tensor, Tensor]:
        """Mismatch ``(N,)``, and view by view the products ``(V, M, M)`` of any motion and the gradients ``(N, V, M)``."""
        compared = [self._compared(motion) for motion in motions.each()]
        gradients = [(residual[:, None] @ self._jacobian)[:, 0] for residual, _ in compared]
        mismatch = torch.stack([each for _, each in compared])
        return mismatch, self._products, torch.stack(gradients)

    def _compared(self, motion: Motions) -> tuple[Tensor, Tensor]:
        """Differences ``(V, S * S * 4)`` and mismatch of one motion."""
        seen = self._rays.see(self.source, motion)
        residual = seen - self._seen
        total = seen.square().sum() + self._seen.square().sum()
        return residual, residual.square().sum() / total.clamp(min=_LEAST)

    @functools.cached_property
    def _rays(self) -> ParallelRays:
        reach = BOX_MAX if self.similarity else max(self.source.reach, self.target.reach)
        return ParallelRays(self.size, reach=reach, device=self.target.volume.device)

    @functools.cached_property
    def _seen(self) -> Tensor:
        return self._rays.see(self.target, _still(self.target))

    @functools.cached_property
    def _jacobian(self) -> Tensor:
        """Derivatives of the target's views by its own motion ``(V, S * S * 4, M)``."""
        device = self.target.volume.device
        still = _still(self.target)
        columns = []
        for unknown in range(7 if self.similarity else 3):
            step = torch.zeros(1, 7 if self.similarity else 3, device=device)
            step[0, unknown] = _OFFSETS[unknown]
            there, back = (self._rays.see(self.target, moved(still, sign * step)) for sign in (1, -1))
            columns.append((there - back) / (2 * _OFFSETS[unknown]))
        return torch.stack(columns, dim=-1)

    @functools.cached_property
    def _products(self) -> Tensor:
        return self._jacobian.transpose(-1, -2) @ self._jacobian


class ParallelRays:
    """Parallel rays of `VIEWS` directions through a ball about the origin, and what is seen along them.

    Args:
        size: pixels along the side of a view, and samples along a ray, S.
        reach: radius of the ball, world units.
        device: where.
    """

    def __init__(self, size: int, *, reach: float = BOX_MAX, device: torch.device | str | None = None) -> None:
        self.size, self.step = size, 2 * reach / size
        across = ((torch.arange(size, device=device) + 0.5) / size * 2 - 1) * reach
        cube = torch.stack(torch.meshgrid(across, across, across.flip(0), indexing="ij"), dim=-1).reshape(-1, 3)
        frames = _frames(spread_directions(VIEWS).to(across))
        inside = (cube.norm(dim=-1) < reach).nonzero()[:, 0]
        numbers = torch.arange(VIEWS, device=device)[:, None] * len(cube) + inside
        self._numbers = numbers.flatten()  # of samples: by views, rows, columns, and the nearest ones of a ray first
        self._points = (cube[inside] @ frames.transpose(-1, -2)).reshape(-1, 3)

    def see(self, field: BakedField, motion: Motions) -> Tensor:
        """Colour times opacity, and opacity, of a moved field ``(V, S * S * 4)``; `motion` is a single one."""
        places = motion.back(self._points)[0]
        met = field.solid[numbers_at(places, len(field.volume))].nonzero()[:, 0]
        values, numbers = field.sampled(places[met]), self._numbers[met]
        depth = -torch.log1p(-values[:, 3].clamp(0, 1 - _LEAST)) * (self.step / OPACITY_LENGTH / motion.scales)
        depths = torch.zeros(VIEWS * self.size**3, device=places.device).index_copy_(0, numbers, depth)
        behind = depths.view(-1, self.size).cumsum(dim=1).view(-1)[numbers]
        weights = torch.expm1(depth) * torch.exp(-behind)
        colours = torch.cat([values[:, :3] / values[:, 3:].clamp(min=_LEAST), torch.ones_like(values[:, 3:])], dim=1)
        seen = torch.zeros(VIEWS * self.size**2, 4, device=places.device)
        return seen.index_add_(0, numbers // self.size, colours * weights[:, None]).view(VIEWS, -1)


def _still(field: BakedField) -> Motions:
    return Motions.turns(torch.eye(4, device=field.volume.device)[:1])


def _frames(directions: Tensor) -> Tensor:
    """Right, up and backward axes of cameras that look at the origin from directions ``(V, 3)``, as columns ``(V, 3, 3)``."""
    steep = directions[:, 2:].abs() > 0.9
    up = torch.where(steep, directions.new_tensor([1.0, 0.0, 0.0]), directions.new_tensor([0.0, 0.0, 1.0]))
    right = torch.nn.functional.normalize(torch.linalg.cross(up, directions), dim=-1)
    return torch.stack([right, torch.linalg.cross(directions, right), directions], dim=-1)
