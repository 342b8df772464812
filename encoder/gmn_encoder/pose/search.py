"""The search for the motions that turn one field into another, coarse to fine, many candidates at once.

The mismatch of a candidate is the squared difference of what both fields show at points of the ball in the box, as a share of all
that they show: 0 for equal fields, 1 where nothing overlaps. Candidates are compared on blurred grids, where what lies
20 degrees off is still downhill; the best are refined by damped Gauss-Newton steps on less and less blurred grids. What they look
like decides in the end (`views.py`).

Shapes: N candidates, K points, M unknowns: 3 of a rotation, or 7 with shift and scale.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..nerfs.fields import BOX_MAX
from .fields import BakedField, BlurredField
from .rotations import matrix_of, multiply, quaternion_of_vector, spread_rotations

Values = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Points ``(..., 3)`` to what a field shows there ``(..., 4)`` and derivatives of that ``(..., 4, 3)``."""

_CHUNK = 1 << 19  # points of candidates that are evaluated at once
_DAMPING = 1e-3
_LONGEST_STEP = 0.35  # radians


@dataclass(frozen=True)
class SearchSettings:
    """Sizes of the search.

    Attributes:
        rotations: candidates to begin with, evenly over all rotations.
        coarse_points: points at which these are compared.
        kept: candidates that are refined on grids.
        apart: candidates closer than this to a better one are dropped, degrees, while coarse, and when refined.
        blurs: standard deviations of the grids' blurring, world units, one for each round of refinement.
        points: points at which refined candidates are compared.
        steps: steps of a round.
        seen: candidates of which views are compared.
        views: of each round on views the pixels along their side, the candidates that are refined, and the steps.
    """

    rotations: int = 3000
    coarse_points: int = 600
    kept: int = 32
    apart: tuple[float, float] = (12.0, 6.0)
    blurs: tuple[float, ...] = (0.08, 0.03)
    points: int = 2000
    steps: int = 5
    seen: int = 16
    views: tuple[tuple[int, int, int], ...] = ((16, 16, 4), (32, 3, 5))


@dataclass(frozen=True, eq=False)
class Motions:
    """N motions ``p -> scale R p + shift``: quaternions ``(N, 4)``, scales ``(N,)``, shifts ``(N, 3)``."""

    quaternions: Tensor
    scales: Tensor
    shifts: Tensor

    def __len__(self) -> int:
        return len(self.quaternions)

    def __getitem__(self, index: Tensor | slice) -> Motions:
        return Motions(self.quaternions[index], self.scales[index], self.shifts[index])

    def each(self) -> list[Motions]:
        return [self[place : place + 1] for place in range(len(self))]

    @classmethod
    def turns(cls, quaternions: Tensor) -> Motions:
        """Turns ``(N, 4)`` without a shift or a change of scale."""
        return cls(quaternions, quaternions.new_ones(len(quaternions)), quaternions.new_zeros(len(quaternions), 3))

    @classmethod
    def cat(cls, parts: list[Motions]) -> Motions:
        return cls(*(torch.cat(each) for each in zip(*(dataclasses.astuple(part) for part in parts), strict=True)))

    def back(self, points: Tensor) -> Tensor:
        """Where points ``(K, 3)`` come from, ``(N, K, 3)``."""
        return (points - self.shifts[:, None]) @ matrix_of(self.quaternions) / self.scales[:, None, None]


def ball_points(count: int, *, device: torch.device | str | None = None) -> Tensor:
    """Points ``(K, 3)`` evenly in the ball of the box, about `count`: the part of it that stays inside however it is turned."""
    with torch.device("cpu"):
        cube = torch.quasirandom.SobolEngine(3, scramble=True, seed=0).draw(round(count * 6 / math.pi)) * 2 - 1
        points = cube[cube.norm(dim=-1) < 1] * BOX_MAX
    return points.to(device or torch.get_default_device())


class Comparison(Protocol):
    """A mismatch of motions, and what steps down from there need."""

    @property
    def cost(self) -> int:
        """Points that are looked at for a motion."""
        ...

    def mismatch(self, motions: Motions) -> Tensor:
        """``(N,)``: 0 for equal fields, 1 where nothing overlaps."""
        ...

    def normal_equations(self, motions: Motions) -> tuple[Tensor, Tensor, Tensor]:
        """Mismatch ``(N,)``, products ``(N, M, M)`` and gradients ``(N, M)``; unknowns as of `moved`."""
        ...


@dataclass(frozen=True, eq=False)
class Problem:
    """One field to be brought over another at given points.

    Attributes:
        source: the field that is turned.
        points: where they are compared ``(K, 3)``.
        target: what the other one shows there ``(K, 4)``.
        similarity: whether shift and scale are free too.
    """

    source: Values
    points: Tensor
    target: Tensor
    similarity: bool = False

    @property
    def cost(self) -> int:
        return len(self.points)

    def mismatch(self, motions: Motions) -> Tensor:
        """``(N,)``."""
        found = [self._residuals(motions[part])[1] for part in _chunks(len(motions), len(self.points))]
        return torch.cat(found)

    def _residuals(self, motions: Motions) -> tuple[Tensor, Tensor, Tensor]:
        values, slopes = self.source(motions.back(self.points))
        residual = values - self.target
        total = values.square().sum(dim=(1, 2)) + self.target.square().sum()
        mismatch = residual.square().sum(dim=(1, 2)) / total.clamp(min=1e-9)
        return residual, mismatch, slopes

    def normal_equations(self, motions: Motions) -> tuple[Tensor, Tensor, Tensor]:
        """Mismatch ``(N,)``, products ``(N, M, M)`` and gradients ``(N, M)``; unknowns as of `moved`."""
        residual, mismatch, slopes = self._residuals(motions)
        matrices = matrix_of(motions.quaternions)
        turned = (slopes @ matrices[:, None].transpose(-1, -2)) / motions.scales[:, None, None, None]
        points = self.points[:, None].expand_as(turned)
        parts = [torch.linalg.cross(turned, points)]
        if self.similarity:
            parts += [-turned, -(turned * points).sum(dim=-1, keepdim=True)]
        jacobian = torch.cat(parts, dim=-1).flatten(1, 2)  # (N, K * 4, M)
        transposed = jacobian.transpose(-1, -2)
        return mismatch, transposed @ jacobian, (transposed @ residual.flatten(1)[..., None])[..., 0]


def refine(problem: Comparison, motions: Motions, steps: int) -> tuple[Motions, Tensor]:
    """Damped Gauss-Newton steps, each taken where it lowers the mismatch; the motions after them, and their mismatch ``(N,)``."""
    found = [_refine(problem, motions[part], steps) for part in _chunks(len(motions), 4 * problem.cost)]
    return Motions.cat([each for each, _ in found]), torch.cat([mismatch for _, mismatch in found])


def _refine(problem: Comparison, motions: Motions, steps: int) -> tuple[Motions, Tensor]:
    mismatch, products, gradients = problem.normal_equations(motions)
    damping = torch.full_like(mismatch, _DAMPING)
    for _ in range(steps):
        step = _solve(products, gradients, damping)
        tried = moved(motions, step)
        new, new_products, new_gradients = problem.normal_equations(tried)
        better = new < mismatch
        damping = torch.where(better, damping / 3, damping * 10)
        mismatch = torch.where(better, new, mismatch)
        products = torch.where(better[:, None, None], new_products, products)
        gradients = torch.where(better[:, None], new_gradients, gradients)
        motions = Motions(
            torch.where(better[:, None], tried.quaternions, motions.quaternions),
            torch.where(better, tried.scales, motions.scales),
            torch.where(better[:, None], tried.shifts, motions.shifts),
        )
    return motions, mismatch


def _solve(products: Tensor, gradients: Tensor, damping: Tensor) -> Tensor:
    """The step ``(N, M)`` that solves the damped equations."""
    diagonal = products.diagonal(dim1=-2, dim2=-1)
    # A share of the mean too: directions along which nothing changes, as about the axis of a round object, stay solvable.
    ridge = damping[:, None] * (diagonal + 1e-2 * diagonal.mean(dim=-1, keepdim=True)) + 1e-9
    return -torch.linalg.solve(products + torch.diag_embed(ridge), gradients)


def moved(motions: Motions, step: Tensor) -> Motions:
    """Motions followed by small ones ``(N, M)``: ``p -> growth Q p + step``.

    The unknowns: a rotation about the origin, radians, which is cut at 20 degrees; where there are seven, then the step, world
    units, and the logarithm of the growth.
    """
    vector = step[:, :3]
    vector = vector * (_LONGEST_STEP / vector.norm(dim=-1, keepdim=True).clamp(min=_LONGEST_STEP))
    turn = quaternion_of_vector(vector)
    quaternions = multiply(turn, motions.quaternions)
    quaternions = quaternions / quaternions.norm(dim=-1, keepdim=True)
    if step.shape[-1] == 3:
        return Motions(quaternions, motions.scales, motions.shifts)
    growth = step[:, 6].clamp(-0.3, 0.3).exp()
    shifts = growth[:, None] * (matrix_of(turn) @ motions.shifts[..., None])[..., 0] + step[:, 3:6].clamp(-0.2, 0.2)
    return Motions(quaternions, motions.scales * growth, shifts)


def distinct(motions: Motions, mismatch: Tensor, apart: float, most: int) -> tuple[Motions, Tensor]:
    """The best first, without those whose rotation is closer than `apart` degrees to a better one's, at most so many."""
    order = mismatch.argsort(stable=True)
    quaternions = motions.quaternions[order]
    near = (quaternions @ quaternions.T).abs() > torch.deg2rad(torch.tensor(apart / 2)).cos()
    kept: list[int] = []
    free = torch.ones(len(order), dtype=torch.bool, device=order.device)
    while len(kept) < most and bool(free.any()):
        first = int(free.int().argmax())
        kept.append(first)
        free &= ~near[first]
        free[first] = False
    chosen = order[torch.tensor(kept, device=order.device)]
    return motions[chosen], mismatch[chosen]


def begin(a: BakedField, b: BakedField, quaternions: Tensor, *, similarity: bool) -> Motions:
    """Candidates with these rotations; with `similarity` centre on centre, extent over extent."""
    if not similarity:
        return Motions.turns(quaternions)
    (from_, size), (to, other) = a.extent(), b.extent()
    scale = other / size
    shifts = to - scale * (matrix_of(quaternions) @ from_)
    return Motions(quaternions, quaternions.new_full((len(quaternions),), scale), shifts)


def search(
    a: BakedField,
    b: BakedField,
    settings: SearchSettings,
    *,
    similarity: bool = False,
    guesses: Tensor | None = None,
) -> tuple[Motions, Tensor]:
    """The best distinct motions on grids, best first, and their mismatch. `guesses` are quaternions ``(G, 4)`` to begin with."""
    device = a.volume.device
    starts = [torch.eye(4, device=device)[:1], spread_rotations(settings.rotations).to(device)]
    if guesses is not None:
        starts.append(guesses.to(device).float())
    motions = begin(a, b, torch.cat(starts), similarity=similarity)
    points = ball_points(settings.coarse_points, device=device)
    problem = grid_problem(a, b, settings.blurs[0], points, similarity=similarity)
    coarse = Problem(_without_slopes(a.blurred(settings.blurs[0])), points, problem.target)
    motions, mismatch = distinct(motions, coarse.mismatch(motions), settings.apart[0], settings.kept)
    points = ball_points(settings.points, device=device)
    for blur in settings.blurs:
        problem = grid_problem(a, b, blur, points, similarity=similarity)
        motions, mismatch = refine(problem, motions, settings.steps)
        motions, mismatch = distinct(motions, mismatch, settings.apart[1], settings.kept)
    return motions, mismatch


def grid_problem(a: BakedField, b: BakedField, blur: float, points: Tensor, *, similarity: bool) -> Problem:
    return Problem(a.blurred(blur).values_and_slopes, points, b.blurred(blur).values(points), similarity)


def _without_slopes(field: BlurredField) -> Values:
    return lambda xyz: (field.values(xyz), xyz)


def _chunks(count: int, points: int) -> list[slice]:
    size = max(1, _CHUNK // points)
    return [slice(start, start + size) for start in range(0, count, size)]
