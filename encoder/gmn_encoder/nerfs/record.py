"""The NeRF record: an architecture and its tensors. `load_nerf` makes it, everything else takes it.

Shapes: B NeRFs; ``(...)`` any leading shape of points.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .architectures import Family, NerfArchitecture, parse_architecture
from .fields import mean_over_directions, spread_directions

AVERAGED_DIRECTIONS = 16
"""Directions that a view-dependent colour is averaged over where nobody says from where it is looked at."""


@dataclass(frozen=True, eq=False, repr=False)
class Nerf:
    """One NeRF.

    Attributes:
        architecture: family and sizes.
        tensors: the weights by their keys in the released files, shapes as `architecture.tensor_shapes`, one floating dtype
            (float32 after `load_nerf`).
        source: the file it was read from, if any.

    Raises:
        ValueError: tensors that the architecture does not have, lacks, or has in another shape; integer or non-finite values.
    """

    architecture: NerfArchitecture
    tensors: Mapping[str, Tensor]
    source: Path | None = None

    def __post_init__(self) -> None:
        _check_tensors(self.architecture, self.tensors)

    def __repr__(self) -> str:
        source = f", {self.source}" if self.source else ""
        return f"Nerf({self.architecture.name}, {self.num_parameters:,} parameters{source})"

    @property
    def family(self) -> Family:
        return self.architecture.family

    @property
    def name(self) -> str:
        """Its name in messages: its file, or its architecture."""
        return str(self.source) if self.source else f"{self.architecture.name} NeRF"

    @property
    def num_parameters(self) -> int:
        return self.architecture.num_parameters

    def to(self, *args: Any, **kwargs: Any) -> Nerf:
        """The same NeRF on another device or in another floating dtype (arguments of `torch.Tensor.to`).

        Values are not looked at again, which a device would have to wait for: float16 may make large ones infinite.
        """
        moved = copy.copy(self)
        tensors = {key: tensor.to(*args, **kwargs) for key, tensor in self.tensors.items()}
        object.__setattr__(moved, "tensors", tensors)
        return moved

    def query(self, xyz: Tensor, directions: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Colour and density at world coordinates, differentiable in both coordinates and weights.

        Args:
            xyz: world coordinates ``(..., 3)``; the NeRF fills `architecture.box`, -0.7..0.7 on each axis for the families
                of the paper. float64 is computed in float64, all else in float32.
            directions: unit vectors from the camera to the points, ``(..., 3)`` or what broadcasts to it, for families whose
                colour depends on them; MLP, tri-plane and hash NeRFs ignore them. None: such colours are the mean over
                `AVERAGED_DIRECTIONS` directions, evenly over the sphere.

        Returns:
            rgb ``(..., 3)`` in 0..1 and density ``(..., 1)``, zero outside the box. Semantics of
            docs/released_format.md#radiance-field, except that small batches are evaluated like any other (the released tri-plane
            code returns zeros for ten points or fewer).

        Raises:
            ValueError: points or directions of another shape or dtype.
        """
        _check_points(xyz)
        stacked = {key: tensor[None].to(xyz.device) for key, tensor in self.tensors.items()}
        return _query(self.architecture, stacked, xyz, directions, nerfs=1)

    @classmethod
    def random(
        cls,
        architecture: NerfArchitecture | Mapping[str, Any] | str,
        *,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
    ) -> Nerf:
        """A NeRF whose weights are all drawn from N(0, 0.1): for tests, demos and benchmarks."""
        architecture = parse_architecture(architecture)
        generator = torch.Generator().manual_seed(seed)
        tensors = {}
        for key, shape in architecture.tensor_shapes.items():
            tensors[key] = torch.randn(shape, generator=generator).mul_(0.1).to(dtype)
        return cls(architecture, tensors)


@dataclass(frozen=True, eq=False)
class NerfBatch:
    """B NeRFs of one architecture with stacked tensors ``(B, ...)``, queried and embedded together."""

    architecture: NerfArchitecture
    tensors: Mapping[str, Tensor] = field(repr=False)

    @classmethod
    def stack(cls, nerfs: Iterable[Nerf]) -> NerfBatch:
        """Stack NeRFs. Raises `ValueError` when there are none or their architectures differ."""
        nerfs = list(nerfs)
        if not nerfs:
            raise ValueError("no NeRF to stack; at least one is needed")
        architecture = nerfs[0].architecture
        for nerf in nerfs:
            if nerf.architecture != architecture:
                raise ValueError(
                    f"only NeRFs of one architecture stack: {nerfs[0].name} is {architecture.name}, "
                    f"{nerf.name} is {nerf.architecture.name}; group them by nerf.architecture first"
                )
        keys = architecture.tensor_shapes
        return cls(architecture, {key: torch.stack([nerf.tensors[key] for nerf in nerfs]) for key in keys})

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))

    def query(self, xyz: Tensor, directions: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """`Nerf.query` with one set of points per NeRF: ``(B, ..., 3)`` to ``(B, ..., 3)`` and ``(B, ..., 1)``."""
        _check_points(xyz)
        if xyz.ndim < 2 or xyz.shape[0] != len(self):
            raise ValueError(
                f"xyz has shape {tuple(xyz.shape)}; expected ({len(self)}, ..., 3), one set of points per NeRF"
            )
        return _query(self.architecture, self.tensors, xyz, directions, nerfs=len(self))


def _query(
    architecture: NerfArchitecture, tensors: Mapping[str, Tensor], xyz: Tensor, directions: Tensor | None, *, nerfs: int
) -> tuple[Tensor, Tensor]:
    """`NerfArchitecture.query` of points of any shape."""
    if directions is not None:
        _check_points(directions, "directions")
        try:
            directions = directions.expand_as(xyz).reshape(nerfs, -1, 3)
        except RuntimeError:
            raise ValueError(
                f"directions have shape {tuple(directions.shape)}; expected one for each point, {tuple(xyz.shape)}"
            ) from None
    points = xyz.reshape(nerfs, -1, 3)
    rgb, density = architecture.query(tensors, points, directions)
    if directions is None and architecture.view_dependent:
        rgb = mean_over_directions(
            lambda direction: architecture.query(tensors, points, direction.expand_as(points))[0],
            spread_directions(AVERAGED_DIRECTIONS).to(points),
        )
    return rgb.reshape(*xyz.shape[:-1], 3), density.reshape(*xyz.shape[:-1], 1)


def _check_points(xyz: Tensor, name: str = "xyz") -> None:
    if xyz.ndim < 1 or xyz.shape[-1] != 3 or not xyz.is_floating_point():
        raise ValueError(
            f"{name} has shape {tuple(xyz.shape)} and dtype {xyz.dtype}; expected floating-point world coordinates (..., 3)"
        )


def _check_tensors(architecture: NerfArchitecture, tensors: Mapping[str, Tensor]) -> None:
    shapes = architecture.tensor_shapes
    for key, shape in shapes.items():
        if key not in tensors:
            raise ValueError(
                f"tensor {key!r} is missing; {architecture.name} needs {', '.join(f'{k} {list(s)}' for k, s in shapes.items())}"
            )
        tensor = tensors[key]
        if tuple(tensor.shape) != shape:
            raise ValueError(f"tensor {key!r} has shape {list(tensor.shape)}; {architecture.name} needs {list(shape)}")
        if not tensor.is_floating_point():
            raise ValueError(f"tensor {key!r} has dtype {tensor.dtype}; expected floating-point weights")
        if not bool(torch.isfinite(tensor).all()):
            bad = int((~torch.isfinite(tensor)).sum())
            raise ValueError(
                f"tensor {key!r} has {bad} NaN or infinite values of {tensor.numel()}; expected finite weights"
            )
    if extra := sorted(set(tensors) - set(shapes)):
        raise ValueError(f"tensor {extra[0]!r} does not belong to {architecture.name}, which has {', '.join(shapes)}")
