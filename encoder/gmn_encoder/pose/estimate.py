"""The rotation, or the motion, that turns one NeRF into another.

Method: a search over what the fields show (`search.py`), and over what they look like in the end (`views.py`). It needs nothing
learnt, does not care which families and sizes the two have, and reads no weight. How good it is stands in docs/pose.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .fields import BakedField, Queryable, visible
from .rotations import euler_angles, geodesic_angle, matrix_of, multiply, quaternion_of_vector, unit_quaternion
from .search import Motions, SearchSettings, distinct, refine, search
from .views import ViewProblem

Vector = tuple[float, float, float]
Quaternion = tuple[float, float, float, float]

NEAR_EQUAL = (1.1, 0.01)
"""An answer is as good as the best where its mismatch is at most so many times the best one's, and this much more."""

_SWEEP = 24  # places about an axis at which a round object must look the same
_APART = 6.0  # degrees between answers that count as two


@dataclass(frozen=True)
class PoseAnswer:
    """One motion ``p -> scale R p + shift`` that turns A into B.

    Attributes:
        quaternion: ``(w, x, y, z)`` of the rotation R, norm 1, w >= 0.
        mismatch: squared difference of what both look like from all around, as a share of all that is seen: 0 for equal
            fields, 1 where nothing overlaps.
        scale: 1, or found with ``similarity=True``.
        shift: world units; zero, or found with ``similarity=True``.
    """

    quaternion: Quaternion
    mismatch: float
    scale: float = 1.0
    shift: Vector = (0.0, 0.0, 0.0)

    @property
    def matrix(self) -> Tensor:
        """R as ``(3, 3)`` float64, which turns column vectors."""
        return matrix_of(torch.tensor(self.quaternion, dtype=torch.float64))

    @property
    def angle(self) -> float:
        """Degrees of the rotation, 0..180."""
        return math.degrees(2 * math.atan2(math.hypot(*self.quaternion[1:]), self.quaternion[0]))

    @property
    def euler(self) -> Vector:
        """Degrees about the fixed axes x, then y, then z."""
        x, y, z = euler_angles(self.matrix).tolist()
        return x, y, z

    def degrees_from(self, other: PoseAnswer) -> float:
        """Degrees between the two rotations."""
        pair = torch.tensor([self.quaternion, other.quaternion], dtype=torch.float64)
        return math.degrees(float(geodesic_angle(pair[0], pair[1])))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "quaternion": list(self.quaternion),
            "matrix": self.matrix.tolist(),
            "euler_xyz_degrees": list(self.euler),
            "angle_degrees": self.angle,
            "mismatch": self.mismatch,
            "scale": self.scale,
            "shift": list(self.shift),
        }


@dataclass(frozen=True)
class PoseEstimate(PoseAnswer):
    """The best answer, and what there is to say about it.

    Attributes:
        error: standard error of the rotation, degrees: how much it changes when one view after another is left out (a
            jackknife). It knows nothing of answers elsewhere: see `near_equal`.
        runner_up: the best answer more than a few degrees away, good or bad; None where no other was found.
        near_equal: the other answers that are about as good (`NEAR_EQUAL`), best first: those of a symmetric object, or of one
            whose fits are too coarse to tell its front from its back. Of a round object some of many.
        axis: where B looks the same however it is turned about some axis, that axis, a unit vector in B's frame; else None.
    """

    error: float = 0.0
    runner_up: PoseAnswer | None = None
    near_equal: tuple[PoseAnswer, ...] = ()
    axis: Vector | None = None

    def to_dict(self) -> dict[str, Any]:
        return {
            **super().to_dict(),
            "error_degrees": self.error,
            "runner_up": None if self.runner_up is None else self.runner_up.to_dict(),
            "near_equal": [each.to_dict() for each in self.near_equal],
            "axis": None if self.axis is None else list(self.axis),
        }


def estimate_pose(
    a: Queryable,
    b: Queryable,
    *,
    similarity: bool = False,
    guesses: Tensor | None = None,
    settings: SearchSettings | None = None,
    device: torch.device | str | None = None,
) -> PoseEstimate:
    """The rotation that turns A into B: B shows at ``R p`` what A shows at ``p``.

    Args:
        a, b: NeRFs of any families and sizes, or other fields. What lies in the ball of radius 0.7 about the origin is compared,
            and of a NeRF with a `grid.pth` beside its weights only what this says is occupied.
        similarity: whether B may be scaled and shifted against A too: ``p -> scale R p + shift``.
        guesses: quaternions ``(G, 4)`` to begin with besides, such as a learnt head's.
        settings: sizes of the search.
        device: where the fields are queried; the default device if left out.

    Raises:
        ValueError: a field that is empty, full or not finite, by name; guesses that are no rotations.
    """
    return estimate_poses([a], [b], similarity=similarity, guesses=guesses, settings=settings, device=device)[0]


@torch.no_grad()
def estimate_poses(
    a: Sequence[Queryable],
    b: Sequence[Queryable],
    *,
    similarity: bool = False,
    guesses: Tensor | None = None,
    settings: SearchSettings | None = None,
    device: torch.device | str | None = None,
) -> list[PoseEstimate]:
    """`estimate_pose` of pairs. A field that stands in several pairs is looked at once; `guesses` serve all.

    Raises `ValueError` also where there are not as many a's as b's.
    """
    if len(a) != len(b):
        raise ValueError(f"{len(a)} fields and {len(b)} others; expected as many, a pair each")
    settings = settings or SearchSettings()
    guesses = None if guesses is None else unit_quaternion(guesses.float().reshape(-1, guesses.shape[-1]))
    baked: dict[int, BakedField] = {}
    for field, letter in [*((each, "A") for each in a), *((each, "B") for each in b)]:
        if id(field) not in baked:
            try:
                baked[id(field)] = _baked(field, device)
            except ValueError as error:
                raise ValueError(f"{getattr(field, 'name', f'field {letter}')}: {error}") from error
    return [
        _estimate((baked[id(one)], baked[id(other)]), settings, similarity, guesses)
        for one, other in zip(a, b, strict=True)
    ]


def _baked(field: Queryable, device: torch.device | str | None) -> BakedField:
    baked = BakedField(visible(field, device=device), device=device)
    if baked.nothing is not None:
        raise ValueError(f"its field is {baked.nothing} throughout; expected an object, which alone has a pose")
    return baked


def _estimate(
    pair: tuple[BakedField, BakedField], settings: SearchSettings, similarity: bool, guesses: Tensor | None
) -> PoseEstimate:
    motions, mismatch = search(*pair, settings, similarity=similarity, guesses=guesses)
    motions = motions[: settings.seen]
    problems = [ViewProblem(*pair, size, similarity) for size, _, _ in settings.views]
    for problem, (_, refined, steps) in zip(problems, settings.views, strict=True):
        best, lowered = refine(problem, motions[:refined], steps)
        rest = motions[refined:]
        mismatch = torch.cat([lowered, problem.mismatch(rest)]) if len(rest) else lowered
        motions, mismatch = distinct(Motions.cat([best, rest]), mismatch, settings.apart[1], settings.kept)
    answers = [_answer(motions, mismatch, place) for place in range(len(motions))]
    limit = _limit(answers[0].mismatch)
    return PoseEstimate(
        **vars(answers[0]),
        error=_standard_error(problems[-1], motions[:1]),
        runner_up=answers[1] if len(answers) > 1 else None,
        near_equal=tuple(each for each in answers[1:] if each.mismatch <= limit),
        axis=_axis(problems[0], motions[:1]),
    )


def _limit(mismatch: float) -> float:
    return NEAR_EQUAL[0] * mismatch + NEAR_EQUAL[1]


def _answer(motions: Motions, mismatch: Tensor, place: int) -> PoseAnswer:
    w, x, y, z = unit_quaternion(motions.quaternions[place].double()).tolist()
    right, up, back = motions.shifts[place].tolist()
    return PoseAnswer((w, x, y, z), float(mismatch[place]), float(motions.scales[place]), (right, up, back))


def _standard_error(problem: ViewProblem, motions: Motions) -> float:
    """Degrees, by the jackknife: one damped step from the answer for all views but one each."""
    _, products, gradients = problem.equations_of_views(motions)
    views = len(products)
    without = products.sum(dim=0) - products, gradients[0].sum(dim=0) - gradients[0]
    diagonal = without[0].diagonal(dim1=-2, dim2=-1)
    ridge = 1e-4 * diagonal.mean(dim=-1, keepdim=True).expand_as(diagonal) + 1e-9
    steps = -torch.linalg.solve(without[0] + torch.diag_embed(ridge), without[1])[:, :3]
    variance = (views - 1) / views * (steps - steps.mean(dim=0)).square().sum()
    return min(180.0, math.degrees(float(variance.sqrt())))


def _axis(problem: ViewProblem, motions: Motions) -> Vector | None:
    """The axis about which the answer may be turned by any angle, if there is one: that about which it is easiest to turn."""
    mismatch, products, _ = problem.normal_equations(motions)
    axis = torch.linalg.eigh(products[0, :3, :3].double()).eigenvectors[:, 0].float()
    angles = torch.arange(1, _SWEEP, device=axis.device) * (2 * math.pi / _SWEEP)
    turned = _turned_about(motions, axis, angles)
    if float(problem.mismatch(turned).max()) > _limit(float(mismatch)):
        return None
    x, y, z = axis.tolist()
    return x, y, z


def _turned_about(motions: Motions, axis: Tensor, angles: Tensor) -> Motions:
    count = len(angles)
    quaternions = multiply(quaternion_of_vector(angles[:, None] * axis), motions.quaternions.expand(count, 4))
    return Motions(quaternions, motions.scales.expand(count), motions.shifts.expand(count, 3))
