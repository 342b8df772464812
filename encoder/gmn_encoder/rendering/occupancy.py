"""Occupancy grids: which voxels of the world box hold anything, so that rays only stop where something is.

Source: nerfacc 0.3's grid as the released data has it (docs/released_format.md#occupancy-grid). Shapes: B NeRFs, G voxels along
an axis (96), as `voxels` numbers them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from ..files import StrPath, read_tensors, write_pth
from ..nerfs.fields import BOX_MAX, BOX_MIN
from ..nerfs.record import Nerf
from ..progress import Progress, no_progress
from .voxels import RESOLUTION, voxel_centers, voxel_width

GRID_NAME = "grid.pth"
DENSITY_THRESHOLD = 0.01 / (1.4 * 3**0.5 / 1024)
"""Density (per world unit) from which a voxel counts as occupied: opacity 0.01 over one marching step, nerfacc's default."""

_DILATIONS = (1, 1, 1, 1, 4, 8)  # radii, each at most what the ones before reach, or one more
_BATCH = 1 << 14  # points in a query: their features stay in cache


@dataclass(frozen=True, eq=False)
class OccupancyGrid:
    """Occupied voxels of B NeRFs.

    Attributes:
        binary: bool ``(B, G, G, G)``; a single grid ``(G, G, G)`` is given its B = 1.
    """

    binary: Tensor

    def __post_init__(self) -> None:
        binary = self.binary[None] if self.binary.ndim == 3 else self.binary
        if binary.ndim != 4 or len(set(binary.shape[1:])) != 1 or binary.dtype != torch.bool or 0 in binary.shape:
            raise ValueError(
                f"occupancy has shape {list(self.binary.shape)} and dtype {self.binary.dtype}; "
                "expected bool (G, G, G) or (B, G, G, G)"
            )
        object.__setattr__(self, "binary", binary.contiguous())

    def __len__(self) -> int:
        return len(self.binary)

    @property
    def resolution(self) -> int:
        return self.binary.shape[-1]

    def to(self, device: torch.device | str) -> OccupancyGrid:
        return OccupancyGrid(self.binary.to(device))

    def dilated(self, radius: int = 1) -> OccupancyGrid:
        """The grid with every voxel occupied that is within `radius` voxels of an occupied one (along diagonals too)."""
        binary = self.binary
        for _ in range(radius):
            binary = _dilate(binary, 1)
        return OccupancyGrid(binary)

    @cached_property
    def clearance(self) -> Tensor:
        """uint8 ``(B, G, G, G)``: zero where occupied, else c so that no voxel closer than c (Chebyshev) is occupied.

        A lower bound, one of 1, 2, 3, 4, 5, 9 and, for anything farther, 17: with it marching crosses empty space in leaps.
        Kept once computed: where voxels change, make another grid.
        """
        reached, clearance = self.binary, (~self.binary).to(torch.uint8)
        total = 0
        for radius in _DILATIONS:
            reached = _dilate(reached, radius)
            total += radius
            clearance = torch.where(reached, clearance, total + 1)
        return clearance.to(torch.uint8)

    @classmethod
    def full(cls, nerfs: int = 1, *, device: torch.device | str | None = None) -> OccupancyGrid:
        """A grid of one voxel that holds everything: marching it visits every step inside the box."""
        return cls(torch.ones(nerfs, 1, 1, 1, dtype=torch.bool, device=device))

    @classmethod
    def stack(cls, grids: Sequence[OccupancyGrid]) -> OccupancyGrid:
        """The grids of several NeRFs as one. Raises `ValueError` when there are none or their resolutions differ."""
        resolutions = sorted({grid.resolution for grid in grids})
        if len(resolutions) != 1:
            raise ValueError(f"grids of resolutions {resolutions} do not stack; expected one or more of one resolution")
        return cls(torch.cat([grid.binary for grid in grids]))


@torch.no_grad()
def occupancy_from_density(
    density: Callable[[Tensor], Tensor],
    *,
    resolution: int = RESOLUTION,
    threshold: float = DENSITY_THRESHOLD,
    points: int = 1,
    dilation: int = 1,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
    progress: Progress = no_progress,
) -> OccupancyGrid:
    """Find the occupied voxels of a field by evaluating its density.

    A voxel is occupied if the density exceeds `threshold` at its centre or at one of `points` - 1 random points in it. What is
    thinner than a voxel can fall between the points: `dilation` then adds the voxels around occupied ones.

    Args:
        density: world coordinates ``(S, 3)`` to ``(S,)`` or ``(S, 1)`` per world unit, or, for B NeRFs at once,
            ``(B, S)`` or ``(B, S, 1)``.
        resolution: voxels along an axis.
        threshold: density per world unit.
        points: evaluations in each voxel.
        dilation: radius in voxels by which occupied voxels are widened.
        device: the device that coordinates are made on.
        progress: receives the points done and all.
    """
    centers = voxel_centers(resolution, device=device).reshape(-1, 3)
    highest: Tensor | None = None
    width = voxel_width(resolution)
    for turn in range(points):
        parts = []
        for start in range(0, len(centers), _BATCH):
            xyz = centers[start : start + _BATCH]
            if turn:
                xyz = xyz + (torch.rand(xyz.shape, generator=generator, device=xyz.device) - 0.5) * width
            values = density(xyz)
            parts.append(values.reshape(-1, len(xyz)))
            progress("looking for the object", turn * len(centers) + start + len(xyz), points * len(centers))
        found = torch.cat(parts, dim=-1)
        highest = found if highest is None else torch.maximum(highest, found)
    if highest is None:
        raise ValueError(f"{points} points in each voxel asked for; expected at least 1")
    return OccupancyGrid((highest > threshold).unflatten(-1, (resolution,) * 3)).dilated(dilation)


def nerf_occupancy(nerf: Nerf, *, resolution: int = RESOLUTION, progress: Progress = no_progress) -> OccupancyGrid:
    """The occupied voxels of a NeRF without a `grid.pth`, on its device, with the defaults of `occupancy_from_density`."""
    device = next(iter(nerf.tensors.values())).device
    return occupancy_from_density(
        lambda xyz: nerf.query(xyz)[1], resolution=resolution, device=device, progress=progress
    )


def find_occupancy(nerf: Nerf, *, resolution: int = RESOLUTION, progress: Progress = no_progress) -> OccupancyGrid:
    """The grid beside a NeRF's weights where there is one, else what its density shows (`nerf_occupancy`, of a resolution)."""
    beside = occupancy_file(nerf)
    return nerf_occupancy(nerf, resolution=resolution, progress=progress) if beside is None else read_occupancy(beside)


def occupancy_file(nerf: Nerf) -> Path | None:
    """The `grid.pth` beside a NeRF's weights; None where there is none."""
    beside = None if nerf.source is None else nerf.source.parent / GRID_NAME
    return beside if beside is not None and beside.is_file() else None


def read_occupancy(path: StrPath) -> OccupancyGrid:
    """Read a released `grid.pth` (nerfacc 0.3's state dict with a sparse `_binary`; a dense one is accepted).

    Raises `FileNotFoundError`, or `ValueError` for a file that is no such grid or whose box is not -0.7..0.7.
    """
    content, _ = read_tensors(path)
    binary = content.get("_binary")
    if not isinstance(binary, Tensor):
        keys = ", ".join(repr(str(key)) for key in list(content)[:6]) or "nothing"
        raise ValueError(f"{path}: holds no '_binary' tensor; found {keys}; expected an occupancy grid of nerfacc 0.3")
    box = content.get("_roi_aabb")
    expected = torch.tensor([BOX_MIN] * 3 + [BOX_MAX] * 3)
    if isinstance(box, Tensor) and (box.shape != (6,) or not torch.allclose(box.float(), expected, atol=1e-5)):
        raise ValueError(f"{path}: its box is {box.tolist()}; expected {BOX_MIN}..{BOX_MAX} on each axis")
    try:
        return OccupancyGrid(_densified(binary))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def write_occupancy(grid: OccupancyGrid, path: StrPath) -> None:
    """Write a single grid as the released files have it: sparse `_binary`, `_roi_aabb` and `resolution`. Atomic."""
    if len(grid) != 1:
        raise ValueError(f"the grids of {len(grid)} NeRFs do not fit one file; expected one: write them one by one")
    write_pth(
        {
            "_roi_aabb": torch.tensor([BOX_MIN] * 3 + [BOX_MAX] * 3, dtype=torch.float32),
            "_binary": grid.binary[0].cpu().to_sparse_coo(),
            "resolution": torch.full((3,), grid.resolution, dtype=torch.int32),
        },
        path,
        compress=True,  # coordinates of neighbours: a hundredth of megabytes
    )


def _densified(binary: Tensor) -> Tensor:
    if max(binary.shape, default=0) > 1024 or binary.ndim != 3:
        raise ValueError(f"occupancy has shape {list(binary.shape)}; expected (96, 96, 96)")
    if binary.layout == torch.strided:
        return binary.bool()
    if binary.layout != torch.sparse_coo or binary.dense_dim():
        raise ValueError(f"occupancy is a {binary.layout} tensor; expected a sparse COO or dense one")
    indices, values = binary._indices(), binary._values().bool()
    shape = torch.tensor(binary.shape)[:, None]
    if bool(((indices < 0) | (indices >= shape)).any()):
        raise ValueError(f"occupancy has voxels outside {list(binary.shape)}; expected indices within the grid")
    dense = torch.zeros(binary.shape, dtype=torch.bool)
    dense[tuple(indices[:, values])] = True
    return dense


def _dilate(binary: Tensor, radius: int) -> Tensor:
    """Or with the copies moved by plus and minus `radius` along each axis in turn."""
    for axis in (1, 2, 3):
        length = binary.shape[axis] - radius
        if length <= 0:
            binary = binary.any(dim=axis, keepdim=True).expand_as(binary)
            continue
        result = binary.clone()
        result.narrow(axis, radius, length).logical_or_(binary.narrow(axis, 0, length))
        result.narrow(axis, 0, length).logical_or_(binary.narrow(axis, radius, length))
        binary = result
    return binary
