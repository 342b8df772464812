"""The search for the motions that turn one field into another, coarse to fine, many candidates at once.

The mismatch of a candidate is the squared difference of what both fields show at points of the ball in the box, as a share of all
that they show: 0 for equal fields, 1 where nothing overlaps. Candidates are compared on blurred grids first, where what lies
20 degrees off is still downhill; the best are refined by damped Gauss-Newton steps on less and less blurred grids, and at
last on the fields themselves.

Shapes: N candidates, K points, M unknowns: 3 of a rotation, or 7 with shift and scale.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..nerfs.fields import BOX_MAX
from .fields import BakedField, BlurredField, Queryable, field_values
from .rotations import matrix_of, multiply, quaternion_of_vector, spread_rotations

Values = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Points ``(..., 3)`` to what a field shows there ``(..., 4)`` and derivatives of that ``(..., 4, 3)``."""

_CHUNK = 1 << 19  # points of candidates that are evaluated at once
_DAMPING = 1e-3
_LONGEST_STEP = 0.35  # radians
_BLOCKS = 16  # of points, for the jackknife


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
        exact: candidates that are refined on the fields.
        exact_points, exact_steps: points and steps of that.
    """

    rotations: int = 3000
    coarse_points: int = 600
    kept: int = 32
    apart: tuple[float, float] = (12.0, 6.0)
    blurs: tuple[float, ...] = (0.08, 0.03)
    points: int = 3000
    steps: int = 5
    exact: int = 4
    exact_points: int = 12000
    exact_steps: int = 4


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

    @classmethod
    def cat(cls, parts: list[Motions]) -> Motions:
        return cls(*(torch.cat(each) for each in zip(*(dataclasses.astuple(part) for part in parts), strict=True)))

    def back(self, points: Tensor, matrices: Tensor) -> tuple[Tensor, Tensor]:
        """Where points ``(K, 3)`` come from, ``(N, K, 3)``, and the points less the shifts ``(N, K, 3)``."""
        away = points - self.shifts[:, None]
        return away @ matrices / self.scales[:, None, None], away


def ball_points(count: int, *, device: torch.device | str | None = None) -> Tensor:
    """Points ``(K, 3)`` evenly in the ball of the box, about `count`: the part of it that stays inside however it is turned.

    Those of an octant stand side by side, the inner ones first, so that blocks of points are regions.
    """
    with torch.device("cpu"):
        cube = torch.quasirandom.SobolEngine(3, scramble=True, seed=0).draw(round(count * 6 / math.pi)) * 2 - 1
        cube = cube[cube.norm(dim=-1) < 1]
        octant = ((cube > 0) * torch.tensor([4.0, 2.0, 1.0])).sum(dim=-1)
        points = cube[(octant + cube.norm(dim=-1) / 2).argsort()] * BOX_MAX
    return points.to(device or torch.get_default_device())


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

    def mismatch(self, motions: Motions) -> Tensor:
        """``(N,)``."""
        found = [self._residuals(motions[part])[1] for part in _chunks(len(motions), len(self.points))]
        return torch.cat(found)

    def _residuals(self, motions: Motions) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        matrices = matrix_of(motions.quaternions)
        places, away = motions.back(self.points, matrices)
        values, slopes = self.source(places)
        residual = values - self.target
        total = values.square().sum(dim=(1, 2)) + self.target.square().sum()
        mismatch = residual.square().sum(dim=(1, 2)) / total.clamp(min=1e-9)
        return residual, mismatch, slopes, matrices, places, away

    def normal_equations(self, motions: Motions) -> tuple[Tensor, Tensor, Tensor]:
        """Mismatch ``(N,)``, and by blocks of points the products ``(N, P, M, M)`` and gradients ``(N, P, M)``.

        The unknowns: a rotation about the shift of each motion in the target's frame, radians; with `similarity` the change of
        the shift, world units, and of the logarithm of the scale.
        """
        residual, mismatch, slopes, matrices, places, away = self._residuals(motions)
        turned = (slopes @ matrices[:, None].transpose(-1, -2)) / motions.scales[:, None, None, None]
        parts = [torch.linalg.cross(turned, away[:, :, None].expand_as(turned))]
        if self.similarity:
            parts += [-turned, -(slopes * places[:, :, None]).sum(dim=-1, keepdim=True)]
        jacobian = torch.cat(parts, dim=-1)  # (N, K, 4, M)
        blocks = len(self.points) // _BLOCKS
        jacobian = jacobian[:, : blocks * _BLOCKS].unflatten(1, (_BLOCKS, blocks)).flatten(2, 3)
        residual = residual[:, : blocks * _BLOCKS].unflatten(1, (_BLOCKS, blocks)).flatten(2, 3)
        transposed = jacobian.transpose(-1, -2)
        return mismatch, transposed @ jacobian, (transposed @ residual[..., None])[..., 0]


def refine(problem: Problem, motions: Motions, steps: int) -> tuple[Motions, Tensor]:
    """Damped Gauss-Newton steps, each taken where it lowers the mismatch; the motions after them, and their mismatch ``(N,)``."""
    found = [_refine(problem, motions[part], steps) for part in _chunks(len(motions), 4 * len(problem.points))]
    return Motions.cat([each for each, _ in found]), torch.cat([mismatch for _, mismatch in found])


def _refine(problem: Problem, motions: Motions, steps: int) -> tuple[Motions, Tensor]:
    mismatch, products, gradients = problem.normal_equations(motions)
    damping = torch.full_like(mismatch, _DAMPING)
    for _ in range(steps):
        step = _solve(products.sum(dim=1), gradients.sum(dim=1), damping)
        tried = moved(motions, step)
        new, new_products, new_gradients = problem.normal_equations(tried)
        better = new < mismatch
        damping = torch.where(better, damping / 3, damping * 10)
        mismatch = torch.where(better, new, mismatch)
        products = torch.where(better[:, None, None, None], new_products, products)
        gradients = torch.where(better[:, None, None], new_gradients, gradients)
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
    """Motions after a step ``(N, M)`` of `Problem.normal_equations`'s unknowns; a rotation by more than 20 degrees is cut."""
    vector = step[:, :3]
    vector = vector * (_LONGEST_STEP / vector.norm(dim=-1, keepdim=True).clamp(min=_LONGEST_STEP))
    quaternions = multiply(quaternion_of_vector(vector), motions.quaternions)
    quaternions = quaternions / quaternions.norm(dim=-1, keepdim=True)
    if step.shape[-1] == 3:
        return Motions(quaternions, motions.scales, motions.shifts)
    growth = step[:, 6].clamp(-0.3, 0.3).exp()
    return Motions(quaternions, motions.scales * growth, motions.shifts + step[:, 3:6].clamp(-0.2, 0.2))


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
    count = len(quaternions)
    if not similarity:
        return Motions(quaternions, quaternions.new_ones(count), quaternions.new_zeros(count, 3))
    (from_, size), (to, other) = a.extent(), b.extent()
    scale = other / size
    shifts = to - scale * (matrix_of(quaternions) @ from_)
    return Motions(quaternions, quaternions.new_full((count,), scale), shifts)


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


def exact_problem(
    fields: tuple[Queryable, Queryable], baked: tuple[BakedField, BakedField], points: Tensor, *, similarity: bool
) -> Problem:
    """The problem on the fields themselves; derivatives are those of the grid, by which steps are only a little off."""
    (a, b), slopes_of = fields, baked[0].blurred(0.0)
    gains = [each.gain for each in baked]

    def source(places: Tensor) -> tuple[Tensor, Tensor]:
        return gains[0] * field_values(a, places), slopes_of.values_and_slopes(places)[1]

    return Problem(source, points, gains[1] * field_values(b, points), similarity)


def _without_slopes(field: BlurredField) -> Values:
    return lambda xyz: (field.values(xyz), xyz)


def _chunks(count: int, points: int) -> list[slice]:
    size = max(1, _CHUNK // points)
    return [slice(start, start + size) for start in range(0, count, size)]
