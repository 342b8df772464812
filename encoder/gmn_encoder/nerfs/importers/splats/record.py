"""The record that every splat file is read into, and the arithmetic that several of the formats share.

Source: Kerbl et al., "3D Gaussian Splatting for Real-Time Radiance Field Rendering", 2023. A splat is a Gaussian with a mean,
three standard deviations along the axes of a rotation, an opacity at its mean and a colour in spherical harmonics.

Shapes: N splats, K coefficients of spherical harmonics a channel (1, 4, 9 or 16).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ..encodings import spherical_harmonics

MAX_SPLATS = 10_000_000
"""Splats of a file that are read; the largest published captures have about six million."""
CONSTANT_HARMONIC = 0.28209479177387814
"""The value of the spherical harmonic of degree 0."""
COEFFICIENTS = (1, 4, 9, 16)
"""Coefficients a channel, by the degree of the spherical harmonics."""

UP_Y_DOWN = (0.0, -1.0, 0.0)
UP_Y = (0.0, 1.0, 0.0)
UP_Z = (0.0, 0.0, 1.0)
UP_NOTES = {
    UP_Y_DOWN: "y is taken to point down, as COLMAP has it; --up overrides",
    UP_Y: "y points up, as in all .spz files; --up overrides",
    UP_Z: "z is taken to point up; --up overrides",
}

_OPAQUE = 0.999  # of an opacity of 1 no logarithm could be taken; renderers cut at 0.99


@dataclass(frozen=True, eq=False, repr=False)
class Splats:
    """Gaussian splats in the world of the program that made them.

    Attributes:
        kind: the format, in words for people.
        means: ``(N, 3)``.
        scales: ``(N, 3)`` standard deviations along the splats' own axes, positive.
        rotations: ``(N, 4)`` unit quaternions w, x, y, z, from a splat's axes to the world's.
        opacities: ``(N,)`` in 0..0.999.
        harmonics: ``(N, K, 3)`` coefficients of the colour, degree after degree; colour = 0.5 + their sum, at least 0.
        up: the direction that points up.
        notes: sentences worth saying about it.

    All tensors are float32 on the CPU.
    """

    kind: str
    means: Tensor
    scales: Tensor
    rotations: Tensor
    opacities: Tensor
    harmonics: Tensor
    up: tuple[float, float, float] = UP_Y_DOWN
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.means)

    def __repr__(self) -> str:
        return f"Splats({self.kind}, {len(self):,} splats, degree {self.degree})"

    @property
    def degree(self) -> int:
        """The degree of the spherical harmonics: 0 where colours do not depend on the direction."""
        return COEFFICIENTS.index(self.harmonics.shape[1])

    @property
    def colours(self) -> Tensor:
        """``(N, 3)`` in 0..1: each splat's mean colour over all directions."""
        return (0.5 + CONSTANT_HARMONIC * self.harmonics[:, 0]).clamp(0, 1)

    def seen_from(self, directions: Tensor) -> Tensor:
        """Colours ``(N, 3)``, at least 0, as seen along unit vectors ``(N, 3)`` from the camera to the splats."""
        basis = spherical_harmonics(directions)[:, : self.harmonics.shape[1]]
        return (0.5 + (basis[..., None] * self.harmonics).sum(dim=1)).clamp(min=0)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The five tensors by their names."""
        return {name: getattr(self, name) for name in ("means", "scales", "rotations", "opacities", "harmonics")}

    @property
    def covariances(self) -> Tensor:
        """``(N, 3, 3)``."""
        spread = quaternion_matrices(self.rotations) * self.scales[:, None]
        return spread @ spread.transpose(1, 2)

    def select(self, chosen: Tensor) -> Splats:
        """Some of the splats, by a mask or indices."""
        parts: dict[str, Any] = {name: part[chosen] for name, part in self.tensors.items()}
        return replace(self, **parts)


def quaternion_matrices(quaternions: Tensor) -> Tensor:
    """Rotation matrices ``(N, 3, 3)`` of unit quaternions w, x, y, z ``(N, 4)``."""
    w, x, y, z = quaternions.unbind(dim=-1)
    rows = [
        *(1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        *(2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        *(2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    ]
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))


def make_splats(
    kind: str,
    *,
    means: ArrayLike,
    scales: ArrayLike,
    rotations: ArrayLike,
    opacities: ArrayLike,
    harmonics: ArrayLike,
    up: tuple[float, float, float] = UP_Y_DOWN,
    notes: tuple[str, ...] = (),
) -> Splats:
    """A record of what a decoder read; splats that no renderer can show are left out.

    Args:
        kind, up, notes: attributes of `Splats`.
        means, opacities, harmonics: ``(N, 3)``, ``(N,)`` and ``(N, K, 3)``.
        scales: ``(N, 3)``, at least 0.
        rotations: ``(N, 4)`` quaternions w, x, y, z of any length.

    Raises:
        ValueError: no splat is left.
    """
    with np.errstate(all="ignore"):
        parts = [np.asarray(part, np.float32) for part in (means, scales, rotations, opacities, harmonics)]
        length = np.linalg.norm(parts[2], axis=1)
    usable = (length > 1e-12) & (parts[1] >= 0).all(axis=1) & (parts[1].max(axis=1, initial=0) > 0)
    for part in parts:
        usable &= np.isfinite(part.reshape(len(part), -1)).all(axis=1)
    if not usable.all():
        dropped = int((~usable).sum())
        if dropped == len(usable):
            raise ValueError(f"none of its {len(usable):,} splats has finite numbers; expected Gaussian splats")
        notes = (*notes, f"left out {dropped:,} of {len(usable):,} splats whose numbers are not finite")
        parts = [part[usable] for part in parts]
        length = length[usable]
    if not len(parts[0]):
        raise ValueError("holds no splats; expected at least one")
    parts[2] = parts[2] / length[:, None]
    # A disk has one axis of no extent: thin enough for a surface, and still a Gaussian.
    parts[1] = np.maximum(parts[1], 1e-3 * parts[1].max(axis=1, keepdims=True))
    parts[3] = parts[3].clip(0, _OPAQUE)
    tensors = (torch.from_numpy(np.ascontiguousarray(part)) for part in parts)
    means_, scales_, rotations_, opacities_, harmonics_ = tensors
    return Splats(kind, means_, scales_, rotations_, opacities_, harmonics_, up, notes)


def check_count(count: int, size: float, available: int, what: str = "splats") -> None:
    """Raises `ValueError` for more records than are taken, or than so many bytes can hold.

    Args:
        count: number of records that a file claims.
        size: the least number of bytes that one takes.
        available: bytes that are there for them.
        what: what the records are called.
    """
    if count < 1:
        raise ValueError(f"holds no {what}; expected at least one")
    if count * size > available:
        raise ValueError(
            f"claims {count:,} {what} of {size:g} bytes, and {available:,} bytes are there for them; "
            "the file is cut short or broken: fetch it again"
        )
    if count > MAX_SPLATS:
        raise ValueError(f"holds {count:,} {what}; at most {MAX_SPLATS:,} are read: crop or thin it out first")


def exp(values: ArrayLike) -> NDArray[np.float32]:
    """Of logarithms of scales, float32; infinite ones are left to `make_splats`."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.exp(np.asarray(values, np.float32))


def sigmoid(logits: ArrayLike) -> NDArray:
    with np.errstate(over="ignore", invalid="ignore"):
        return 1 / (1 + np.exp(-np.asarray(logits, np.float32)))


def harmonics_of_colours(colours: ArrayLike) -> NDArray:
    """Coefficients ``(N, 1, 3)`` of colours ``(N, 3)`` in 0..1 that are the same from everywhere."""
    return (np.asarray(colours, np.float32)[:, None] - 0.5) / CONSTANT_HARMONIC


def harmonics_from_channels(constant: NDArray, rest: NDArray) -> NDArray:
    """Coefficients ``(N, K, 3)`` from those of degree 0 ``(N, 3)`` and the others, channel by channel, ``(N, 3 * (K - 1))``."""
    others = np.asarray(rest, np.float32).reshape(len(constant), 3, -1).swapaxes(1, 2)
    return np.concatenate([np.asarray(constant, np.float32)[:, None], others], axis=1)


def check_coefficients(rest: int) -> None:
    """Raises `ValueError` for a number of coefficients beyond degree 0, of all channels, that no degree has."""
    known = [3 * (coefficients - 1) for coefficients in COEFFICIENTS]
    if rest not in known:
        raise ValueError(
            f"has {rest} coefficients of spherical harmonics beyond the first three; "
            f"expected {', '.join(map(str, known[:-1]))} or {known[-1]} (degree 0 to 3)"
        )


def quaternions_from_three(others: NDArray, largest: NDArray[np.integer]) -> NDArray[np.float32]:
    """Unit quaternions ``(N, 4)`` from all components but the largest ``(N, 3)``, in order, and that one's place ``(N,)``."""
    result = np.empty((len(others), 4), np.float32)
    missing = np.sqrt(np.maximum(0, 1 - np.square(others).sum(axis=1)))
    for place in range(4):
        rows = largest == place
        result[np.ix_(rows, [each for each in range(4) if each != place])] = others[rows]
        result[rows, place] = missing[rows]
    return result
