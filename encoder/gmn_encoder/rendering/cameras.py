"""Cameras: OpenGL axes (x right, y up, looking along -z), z up in the world, as the released data
(docs/released_format.md#camera-files, #camera-model); pinhole, or with a lens that distorts.

Shapes: V cameras, R rays.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .lenses import Lens

RELEASED_ANGLE_X = 0.8575560450553894
"""Horizontal field of view of the released views, radians."""
RELEASED_SIZE = 224
"""Width and height of the released views, pixels."""
DEFAULT_DISTANCE = 1.5
"""Distance from the camera to the centre of the box in the released views, world units."""

_RIGID_TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class Rays:
    """R rays in world coordinates.

    Attributes:
        origins: ``(R, 3)``.
        directions: ``(R, 3)``, of length one.
        nerf_index: ``(R,)`` int64, which of several NeRFs a ray belongs to; None where there is only one.
    """

    origins: Tensor
    directions: Tensor
    nerf_index: Tensor | None = None

    def __post_init__(self) -> None:
        shape = tuple(self.origins.shape)
        if len(shape) != 2 or shape[1] != 3 or tuple(self.directions.shape) != shape:
            raise ValueError(
                f"rays have origins {list(shape)} and directions {list(self.directions.shape)}; expected (R, 3) for both"
            )
        if self.nerf_index is not None and (
            tuple(self.nerf_index.shape) != shape[:1] or self.nerf_index.dtype != torch.int64
        ):
            raise ValueError(
                f"nerf_index has shape {list(self.nerf_index.shape)} and dtype {self.nerf_index.dtype}; "
                f"expected int64 ({shape[0]},), one per ray"
            )

    def __len__(self) -> int:
        return len(self.origins)

    def __getitem__(self, index: slice | Tensor) -> Rays:
        """Some of the rays, by slice, mask or indices."""
        nerfs = None if self.nerf_index is None else self.nerf_index[index]
        return Rays(self.origins[index], self.directions[index], nerfs)

    def to(self, *args: Any, **kwargs: Any) -> Rays:
        """The same rays on another device or in another floating dtype (arguments of `torch.Tensor.to`)."""
        moved = self.origins.to(*args, **kwargs)
        nerfs = None if self.nerf_index is None else self.nerf_index.to(moved.device)
        return Rays(moved, self.directions.to(*args, **kwargs), nerfs)


@dataclass(frozen=True, eq=False)
class Cameras:
    """V cameras whose images have one size.

    Attributes:
        camera_to_world: ``(V, 4, 4)``, rigid, OpenGL axes.
        focal: ``(V, 2)`` horizontal and vertical, pixels.
        principal_point: ``(V, 2)`` column and row, pixels from the corner of the image.
        width, height: size of the images, pixels.
        image_names: the file of each camera's image as its camera file names it, or empty.
        lens: distortion of the cameras; None for pinhole cameras.

    Raises:
        ValueError: wrong shapes, a matrix that is not rigid, a focal length that is not positive.
    """

    camera_to_world: Tensor
    focal: Tensor
    principal_point: Tensor
    width: int
    height: int
    image_names: tuple[str, ...] = ()
    lens: Lens | None = None

    def __post_init__(self) -> None:
        views = len(self.camera_to_world)
        expected = {"camera_to_world": (views, 4, 4), "focal": (views, 2), "principal_point": (views, 2)}
        for name, shape in expected.items():
            if tuple(getattr(self, name).shape) != shape:
                raise ValueError(f"{name} has shape {list(getattr(self, name).shape)}; expected {list(shape)}")
        if self.image_names and len(self.image_names) != views:
            raise ValueError(f"{len(self.image_names)} image names for {views} cameras; expected one each or none")
        if self.lens is not None and len(self.lens.fisheye) != views:
            raise ValueError(f"{len(self.lens.fisheye)} lenses for {views} cameras; expected one each or none")
        if self.width < 1 or self.height < 1:
            raise ValueError(f"images of {self.width}x{self.height} pixels; expected at least 1x1")
        if not bool(((self.focal > 0) & torch.isfinite(self.focal)).all()):
            raise ValueError(f"focal lengths reach {float(self.focal.min())}; expected positive numbers of pixels")
        for view in range(views):
            if problem := rigidity_problem(self.camera_to_world[view]):
                name = f" ({self.image_names[view]})" if self.image_names else ""
                raise ValueError(f"camera {view}{name}: {problem}")

    def __len__(self) -> int:
        return len(self.camera_to_world)

    def __getitem__(self, index: slice | list[int]) -> Cameras:
        """Some of the cameras."""
        numbers = range(len(self))[index] if isinstance(index, slice) else index
        names = tuple(self.image_names[number] for number in numbers) if self.image_names else ()
        pick = list(numbers)
        lens = None if self.lens is None else self.lens[pick]
        return Cameras(
            self.camera_to_world[pick],
            self.focal[pick],
            self.principal_point[pick],
            self.width,
            self.height,
            names,
            lens,
        )

    @classmethod
    def cat(cls, parts: Sequence[Cameras]) -> Cameras:
        """The cameras of several, one after the other, without image names. Raises `ValueError` for images of several sizes."""
        sizes = sorted({(part.width, part.height) for part in parts})
        if len(sizes) != 1:
            raise ValueError(f"cameras with images of sizes {sizes}; expected one size")
        lens = None
        if any(part.lens is not None for part in parts):
            lens = Lens.cat([part.lens or Lens.pinhole(len(part), device=part.focal.device) for part in parts])
        return cls(
            torch.cat([part.camera_to_world for part in parts]),
            torch.cat([part.focal for part in parts]),
            torch.cat([part.principal_point for part in parts]),
            *sizes[0],
            lens=lens,
        )

    def to(self, *args: Any, **kwargs: Any) -> Cameras:
        """The same cameras on another device or in another floating dtype (arguments of `torch.Tensor.to`)."""
        pose, focal, principal = (
            part.to(*args, **kwargs) for part in (self.camera_to_world, self.focal, self.principal_point)
        )
        lens = None if self.lens is None else self.lens.to(pose.device)
        return Cameras(pose, focal, principal, self.width, self.height, self.image_names, lens)

    def resized(self, width: int, height: int) -> Cameras:
        """The same cameras taking images of another size."""
        factor = self.focal.new_tensor([width / self.width, height / self.height])
        return dataclasses.replace(
            self, focal=self.focal * factor, principal_point=self.principal_point * factor, width=width, height=height
        )

    def rays(self, views: Tensor, rows: Tensor, columns: Tensor) -> Rays:
        """The rays through the centres of pixels.

        Args:
            views, rows, columns: integers ``(R,)``: which camera, which row (0 on top), which column.
        """
        directions = F.normalize(self.directions(views, columns + 0.5, rows + 0.5), dim=-1)
        return Rays(self.camera_to_world[views, :3, 3].contiguous(), directions)

    def directions(self, views: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """World directions ``(R, 3)`` of image points, of length one along the optical axis, so that distances along them are
        depths; those of fisheye lenses are of length one. Image points at which a lens shows nothing get the nearest direction
        that it shows: `shown` tells them.

        Args:
            views: integers ``(R,)``: which camera.
            x, y: ``(R,)`` pixels from the left and from the top; the centre of pixel i is at i + 0.5.
        """
        focal, principal = self.focal[views], self.principal_point[views]
        if self.lens is not None:
            seen = self._through_lens(self.lens, views, x, y)[0].to(focal.dtype)
            return (self.camera_to_world[views, :3, :3] * (seen * seen.new_tensor([1, -1, -1]))[:, None]).sum(dim=-1)
        seen = torch.stack(
            [
                (x - principal[:, 0]) / focal[:, 0],
                -(y - principal[:, 1]) / focal[:, 1],
                -torch.ones_like(x, dtype=focal.dtype),
            ],
            dim=-1,
        )
        return (self.camera_to_world[views, :3, :3] * seen[:, None]).sum(dim=-1)

    def _through_lens(self, lens: Lens, views: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        points = torch.stack([x, y], dim=-1).double() - self.principal_point[views].double()
        return lens.directions(views, points / self.focal[views].double())

    def shown(self, view: int) -> Tensor:
        """Bool ``(height, width)``: the pixels of an image through which the lens shows anything (all, of a pinhole camera)."""
        device = self.focal.device
        if self.lens is None:
            return torch.ones(self.height, self.width, dtype=torch.bool, device=device)
        rows, columns = torch.meshgrid(
            torch.arange(self.height, device=device), torch.arange(self.width, device=device), indexing="ij"
        )
        border = torch.zeros(self.height, self.width, dtype=torch.bool, device=device)
        border[[0, -1]], border[:, [0, -1]] = True, True
        # Lenses bend outwards from the axis: what they show at the border they show within.
        for part in (border, torch.ones_like(border)):
            x, y = columns[part] + 0.5, rows[part] + 0.5
            found = self._through_lens(self.lens, torch.full_like(columns[part], view), x, y)[1]
            if bool(found.all()):
                break
        return torch.ones_like(border) if bool(found.all()) else found.view(self.height, self.width)

    def project(self, view: int, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Where a camera shows world points ``(N, 3)``.

        Returns:
            pixels ``(N, 2)``, column and row from the corner of the image; depths ``(N,)`` along the optical axis (fisheye:
            distances), world units; bool ``(N,)``, whether a point lies in front of the camera and within its lens, in the
            picture or beside it.
        """
        pose, focal = self.camera_to_world[view], self.focal[view]
        seen = (points - pose[:3, 3]) @ pose[:3, :3]
        depth = -seen[:, 2]
        if self.lens is None:
            pixel = seen[:, :2] / depth.clamp(min=1e-6)[:, None] * focal * focal.new_tensor([1, -1])
            return pixel + self.principal_point[view], depth, depth > 0
        if bool(self.lens.fisheye[view]):
            depth = seen.norm(dim=1)
        views = torch.full((len(points),), view, device=points.device)
        flat, shown = self.lens.image_points(views, seen * seen.new_tensor([1, -1, -1]))
        return (flat * focal.double() + self.principal_point[view]).to(points.dtype), depth, shown

    def magnification(self, view: int) -> float:
        """Pixels, at most, that one world unit across the line of sight takes at depth one (see `project`)."""
        focal = float(self.focal[view].max())
        if self.lens is None:
            return focal
        corners = torch.tensor([[0.0, 0.0], [0.0, self.height], [self.width, 0.0], [self.width, self.height]])
        reach = (corners.to(self.focal) - self.principal_point[view]) / self.focal[view]
        return focal * float(self.lens[[view]].stretch(2 * float(reach.norm(dim=1).max())))

    def image_rays(self, view: int) -> Rays:
        """The ``(height * width)`` rays of a whole image, row by row."""
        pixels = torch.arange(self.height * self.width, device=self.focal.device)
        return self.rays(torch.full_like(pixels, view), pixels // self.width, pixels % self.width)

    def random_rays(self, count: int, *, generator: torch.Generator | None = None) -> tuple[Rays, Tensor]:
        """Rays through pixels drawn uniformly over all images, with replacement (#rendering-loss).

        Returns:
            the rays and, ``(count,)``, the pixels' numbers in images ``(V, height, width)`` laid out flat.
        """
        area, device = self.height * self.width, self.focal.device
        flat = torch.randint(len(self) * area, (count,), generator=generator, device=device)
        pixels = flat % area
        return self.rays(flat // area, pixels // self.width, pixels % self.width), flat


def rigidity_problem(pose: Tensor) -> str | None:
    """What keeps a ``(4, 4)`` camera-to-world matrix from being a rotation and a translation, or None."""
    if not bool(torch.isfinite(pose).all()):
        return "its matrix has NaN or infinite entries; expected a rotation and a translation"
    rotation = pose[:3, :3].double()
    if not torch.allclose(pose[3].double(), pose.new_tensor([0, 0, 0, 1]).double(), atol=1e-6):
        return f"the last row of its matrix is {pose[3].tolist()}; expected [0, 0, 0, 1]"
    error = float((rotation.T @ rotation - torch.eye(3, dtype=torch.float64, device=pose.device)).abs().max())
    if error > _RIGID_TOLERANCE:
        return (
            f"its matrix is not rigid (rotation times its transpose is off the identity by {error:.3g}); "
            "expected a rotation without scale or shear"
        )
    if float(torch.linalg.det(rotation)) < 0:
        return "its matrix mirrors the world (determinant -1); expected a rotation"
    return None


def focal_from_angle(angle: float, pixels: int) -> float:
    """Focal length in pixels of a field of view (radians) over so many pixels."""
    return 0.5 * pixels / math.tan(0.5 * angle)


def released_cameras(poses: Tensor, *, size: int = RELEASED_SIZE, image_names: tuple[str, ...] = ()) -> Cameras:
    """Square cameras with the released field of view at ``(V, 4, 4)`` poses."""
    focal = focal_from_angle(RELEASED_ANGLE_X, size)
    return Cameras(
        poses,
        poses.new_full((len(poses), 2), focal),
        poses.new_full((len(poses), 2), size / 2),
        size,
        size,
        image_names,
    )


def orbit_pose(theta: float, phi: float, distance: float = DEFAULT_DISTANCE) -> Tensor:
    """A camera that looks at the origin (#camera-model): ``M Ry(theta) Rx(phi) T(0, 0, distance)``.

    Args:
        theta: azimuth in degrees, 90 is on the +x axis and 0 on the +y axis.
        phi: angle in degrees, negative above the ground plane: minus the elevation.
        distance: distance to the origin, world units.

    Returns:
        camera-to-world matrix ``(4, 4)``, float32.
    """
    # In float32 from the angles on, as the released code: its default view is off the x axis by 6e-8.
    theta_, phi_ = (torch.tensor(math.radians(angle), dtype=torch.float32) for angle in (theta, phi))
    axes, about_y, about_x, away = torch.eye(4).repeat(4, 1, 1)
    axes[:3, :3] = torch.tensor([[-1.0, 0, 0], [0, 0, 1], [0, 1, 0]])
    about_y[0, 0], about_y[0, 2], about_y[2, 0], about_y[2, 2] = theta_.cos(), -theta_.sin(), theta_.sin(), theta_.cos()
    about_x[1, 1], about_x[1, 2], about_x[2, 1], about_x[2, 2] = phi_.cos(), -phi_.sin(), phi_.sin(), phi_.cos()
    away[2, 3] = distance
    return axes @ about_y @ about_x @ away


THREE_QUARTER = 145.0
"""Azimuth of `three_quarter_view` in degrees: 90 is on the +x axis, 180 on -y, an object's front."""


def default_view(*, size: int = RELEASED_SIZE) -> Cameras:
    """The inspection view of the released code: from +x, 30 degrees up, 1.5 away (#camera-model)."""
    return released_cameras(orbit_pose(90.0, -30.0)[None], size=size)


def three_quarter_view(*, size: int = RELEASED_SIZE) -> Cameras:
    """From obliquely in front and a little above, where most things are recognised: between +x and the front, -y."""
    return released_cameras(orbit_pose(THREE_QUARTER, -25.0)[None], size=size)


def turntable(
    views: int,
    *,
    elevation: float = 30.0,
    distance: float = DEFAULT_DISTANCE,
    size: int = RELEASED_SIZE,
    first: float = 90.0,
) -> Cameras:
    """`views` cameras evenly around the z axis, the first one the default view unless `first` says its azimuth; in degrees."""
    _check_views(views)
    poses = [orbit_pose(first + 360.0 * view / views, -elevation, distance) for view in range(views)]
    return released_cameras(torch.stack(poses), size=size)


def sphere(
    views: int = 36, *, distance: float = DEFAULT_DISTANCE, size: int = RELEASED_SIZE, seed: int | None = None
) -> Cameras:
    """`views` upright cameras spread evenly over the whole sphere, looking at the origin; never quite at a pole.

    A golden spiral; a seed turns it about the z axis and shifts it along.
    """
    _check_views(views)
    turn, shift = (0.0, 0.5) if seed is None else np.random.default_rng(seed).random(2).tolist()
    index = torch.arange(views, dtype=torch.float64)
    height = 1 - 2 * (index + 0.2 + 0.6 * shift) / views
    angle = 2 * math.pi * (turn + index * (math.sqrt(5) - 1) / 2)
    radius = (1 - height**2).sqrt()
    positions = distance * torch.stack([radius * angle.cos(), radius * angle.sin(), height], dim=-1)
    return released_cameras(look_at(positions), size=size)


def look_at(positions: Tensor) -> Tensor:
    """Camera-to-world matrices ``(V, 4, 4)``, float32, of upright cameras at ``(V, 3)`` positions that look at the origin."""
    backward = F.normalize(positions.double(), dim=-1)
    right = torch.stack([-backward[:, 1], backward[:, 0], torch.zeros_like(backward[:, 0])], dim=-1)
    length = right.norm(dim=-1, keepdim=True)
    right = torch.where(length > 1e-9, right / length.clamp(min=1e-9), right.new_tensor([1.0, 0.0, 0.0]))
    poses = torch.eye(4, dtype=torch.float64).repeat(len(positions), 1, 1)
    poses[:, :3] = torch.stack([right, torch.linalg.cross(backward, right), backward, positions.double()], dim=-1)
    return poses.float()


def _check_views(views: int) -> None:
    if views < 1:
        raise ValueError(f"{views} views asked for; expected at least 1")
