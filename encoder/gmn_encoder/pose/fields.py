"""What a pose is estimated of: any field, a field turned, and a field baked into a blurred grid.

Shapes: K points, G voxels along an axis, C = 4 channels (colour times opacity, opacity).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ..nerfs.fields import BOX_MAX
from ..nerfs.probing import shown, whole_field
from ..nerfs.record import Nerf
from ..rendering.occupancy import OccupancyGrid, occupancy_file, read_occupancy
from ..rendering.voxels import numbers_at, voxel_centers, voxel_width

GRID = 64
"""Voxels of a baked field along an axis."""

_SOLID = 1 / 256  # opacity of a voxel below which it shows nothing

_POINTS = 1 << 14  # in a query: their features stay in cache


class Queryable(Protocol):
    """A field in the world box: a `Nerf`, a `TurnedField`, or whatever has this one method."""

    def query(self, xyz: Tensor) -> tuple[Tensor, Tensor]:
        """World coordinates ``(..., 3)`` to rgb ``(..., 3)`` in 0..1 and density ``(..., 1)``."""
        ...


@dataclass(frozen=True, eq=False)
class TurnedField:
    """A field turned, scaled and shifted exactly: what the other shows at p, this one shows at ``scale R p + shift``.

    Attributes:
        field: the field that is turned.
        rotation: ``(3, 3)``.
        scale: positive.
        shift: ``(3,)`` world units, or None for none.
    """

    field: Queryable
    rotation: Tensor
    scale: float = 1.0
    shift: Tensor | None = None

    def query(self, xyz: Tensor) -> tuple[Tensor, Tensor]:
        """As of the field itself; a density per length is divided by the scale, so that opacities along rays stay."""
        moved = xyz if self.shift is None else xyz - self.shift.to(xyz)
        rgb, density = self.field.query(moved @ self.rotation.to(xyz) / self.scale)
        return rgb, density / self.scale


@dataclass(frozen=True, eq=False)
class VisibleField:
    """A field where its occupancy grid says that something may be, and nothing elsewhere: what renderings of it show.

    A fit is never asked beyond its grid while it is trained, so that small networks fill the rest of the box with haze.

    Attributes:
        field: the field.
        grid: a single grid.
    """

    field: Queryable
    grid: OccupancyGrid

    def query(self, xyz: Tensor) -> tuple[Tensor, Tensor]:
        """As of the field itself, which is asked in occupied voxels alone; zeros elsewhere."""
        points = xyz.reshape(-1, 3)
        occupied = self.grid.binary.view(-1)[numbers_at(points, self.grid.resolution)]
        places = (occupied & (points.abs() < BOX_MAX).all(dim=-1)).nonzero()[:, 0]
        rgb, density = self.field.query(points[places])
        colours = rgb.new_zeros(len(points), 3).index_copy(0, places, rgb)
        densities = density.new_zeros(len(points), 1).index_copy(0, places, density)
        return colours.view(*xyz.shape[:-1], 3), densities.view(*xyz.shape[:-1], 1)


def visible(field: Queryable, *, device: torch.device | str | None = None) -> Queryable:
    """The `VisibleField` of a NeRF that has a grid beside its weights, turned or not; any other field as it is.

    Raises `ValueError` for a grid that cannot be read.
    """
    if isinstance(field, TurnedField):
        return replace(field, field=visible(field.field, device=device))
    if isinstance(field, Nerf) and (beside := occupancy_file(field)) is not None:
        return VisibleField(field, read_occupancy(beside).to(torch.empty(0, device=device).device))
    return field


@torch.no_grad()
def field_values(field: Queryable, xyz: Tensor) -> Tensor:
    """`shown` of a field at points ``(..., 3)``: float32 ``(..., 4)`` without gradient, in queries of a size that fits.

    Raises `ValueError` where it is not finite.
    """
    parts = [shown(*field.query(part)) for part in xyz.reshape(-1, 3).split(_POINTS)]
    values = torch.cat(parts).view(*xyz.shape[:-1], 4)
    if not bool(values.isfinite().all()):
        raise ValueError("its field is NaN or infinite somewhere; expected finite values")
    return values


class BakedField:
    """A field's values at the centres of voxels, as `shown` has them.

    Attributes:
        volume: ``(G, G, G, 4)``.
        solid: bool ``(G ** 3,)``, the voxels in whose neighbourhood something is seen.
        reach: radius of a ball about the origin that holds all of these, world units, at most `BOX_MAX`.
        nothing: "empty" or "full" where there is nothing to see in it, which leaves no pose to be told; else None.

    Args:
        field: the field.
        device: where to query and to keep them.

    Raises:
        ValueError: a field that is not finite.
    """

    def __init__(self, field: Queryable, *, device: torch.device | str | None = None) -> None:
        centres = voxel_centers(GRID, device=device)
        inside = centres.norm(dim=-1) < BOX_MAX + voxel_width(GRID)
        values = field_values(field, centres[inside])
        self.nothing = whole_field(values[None])[0]
        self.volume = torch.zeros(GRID, GRID, GRID, 4, device=values.device)
        self.volume[inside] = values
        self.solid = (F.max_pool3d(self.volume[None, ..., 3], 3, stride=1, padding=1) > _SOLID).flatten()
        away = centres.flatten(0, 2)[self.solid].norm(dim=-1)
        self.reach = min(BOX_MAX, float(away.max())) if len(away) else BOX_MAX
        self._channels = self.volume.permute(3, 0, 1, 2)[None].contiguous()
        self._levels: dict[float, BlurredField] = {}

    def sampled(self, xyz: Tensor) -> Tensor:
        """Interpolated values ``(..., 4)`` at points ``(..., 3)``; zero outside the box."""
        return _sample(self._channels, xyz)

    def blurred(self, width: float) -> BlurredField:
        """A grid of half the resolution, blurred by a Gaussian of this standard deviation, world units; kept once made."""
        if width not in self._levels:
            self._levels[width] = BlurredField(F.avg_pool3d(self._channels, 2), width)
        return self._levels[width]

    def extent(self) -> tuple[Tensor, float]:
        """Centre of mass ``(3,)`` of its opacity, and the root mean square distance from there, world units."""
        mass = self.volume[..., 3]
        centres = voxel_centers(GRID, device=mass.device)
        total = mass.sum()
        centre = (mass[..., None] * centres).sum(dim=(0, 1, 2)) / total
        square = (mass * (centres - centre).square().sum(dim=-1)).sum() / total
        return centre, float(square.sqrt().clamp(min=voxel_width(GRID)))


class BlurredField:
    """A baked field and its derivatives, blurred; zero outside the box.

    How dense a fit makes its surfaces depends on the family and on how long it was trained. So that this does not count, values
    are divided by a mean of the opacity that weights opaque places, whatever the size of the object.

    Args:
        volume: ``(1, 4, G, G, G)``.
        width: standard deviation, world units.
    """

    def __init__(self, volume: Tensor, width: float) -> None:
        voxel = voxel_width(volume.shape[-1])
        values = _gaussian(volume[0, :, None], width / voxel)[:, 0]
        values = values * _gain(values[3])
        padded = F.pad(values[None], (1,) * 6)[0]
        step = 2 * voxel
        inner = slice(1, -1)
        slopes = [
            (padded[:, 2:, inner, inner] - padded[:, :-2, inner, inner]) / step,
            (padded[:, inner, 2:, inner] - padded[:, inner, :-2, inner]) / step,
            (padded[:, inner, inner, 2:] - padded[:, inner, inner, :-2]) / step,
        ]
        self._values = values[None].contiguous()
        self._all = torch.cat([values, *slopes])[None].contiguous()  # (1, 16, G, G, G)

    def values(self, xyz: Tensor) -> Tensor:
        """Interpolated values ``(..., 4)`` at points ``(..., 3)``."""
        return _sample(self._values, xyz)

    def values_and_slopes(self, xyz: Tensor) -> tuple[Tensor, Tensor]:
        """Interpolated values ``(..., 4)`` and their derivatives ``(..., 4, 3)`` per world unit."""
        both = _sample(self._all, xyz)
        return both[..., :4], both[..., 4:].unflatten(-1, (3, 4)).transpose(-1, -2)


def _gain(opacity: Tensor) -> float:
    return float(opacity.sum() / opacity.square().sum().clamp(min=1e-12))


def _sample(volume: Tensor, xyz: Tensor) -> Tensor:
    # grid_sample names the last axis of the volume first, and the box is -1..1 to it.
    places = (xyz.flip(-1) / BOX_MAX).reshape(1, 1, 1, -1, 3)
    found = F.grid_sample(volume, places, align_corners=False)
    return found[0, :, 0, 0].T.reshape(*xyz.shape[:-1], -1)


def _gaussian(volumes: Tensor, width: float) -> Tensor:
    """``(C, 1, G, G, G)`` blurred along each axis; `width` in voxels."""
    reach = max(1, round(3 * width))
    weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, device=volumes.device) / width).square())
    weights = weights / weights.sum()
    for axis in range(3):
        shape, padding = [1] * 5, [0] * 3
        shape[2 + axis], padding[axis] = len(weights), reach
        volumes = F.conv3d(volumes, weights.view(shape), padding=padding)
    return volumes
