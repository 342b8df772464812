"""Pictures of an object from around it: the images that a NeRF is fitted to.

Light is fixed in the world and has no highlights, so the brightness of a surface does not depend on where the camera stands
and a NeRF without view direction can represent it. A surface shows the same side to light as to the camera, which shades open
meshes and meshes with mixed winding like solid ones.

Frame: world units, z up, object inside the sphere of `mesh.RADIUS`. Legend: V views, S image side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ..rendering.cameras import Cameras, sphere
from ..settings import require_integers
from .casting import Caster, CasterName, Hits, PixelGrid, make_caster
from .mesh import RADIUS, Mesh, face_normals

_AMBIENT = 0.68
_LIGHTS = (((0.45, -0.6, 0.85), 0.3), ((-0.7, 0.4, 0.35), 0.14), ((0.2, 0.5, -0.8), 0.06))
_MAX_LAYERS = 8
_COARSE, _FINE = 2, 4  # points per pixel and axis: everywhere, near silhouettes
_NEARLY_OPAQUE = 0.999


@dataclass(frozen=True, kw_only=True)
class ViewSettings:
    """How views are taken: their number, side in pixels and the seed of the camera positions."""

    n_views: int = 36
    size: int = 224
    seed: int = 0

    def __post_init__(self) -> None:
        require_integers(self, 1, "n_views", "size")
        require_integers(self, 0, "seed")


@dataclass(frozen=True, eq=False)
class Views:
    """`images` `(V, S, S, 4)` uint8 sRGB with straight opacity, and their `cameras`."""

    images: NDArray[np.uint8]
    cameras: Cameras


def render_mesh(
    mesh: Mesh,
    settings: ViewSettings | None = None,
    *,
    caster: CasterName = "auto",
    device: torch.device | str = "cpu",
) -> Views:
    """Views of a mesh from around it; the mesh is taken as it stands (see `Mesh.normalised`).

    Raises `ValueError` where the mesh reaches beyond the sphere that the cameras hold.
    """
    settings = settings or ViewSettings()
    reach = float(np.sqrt((mesh.vertices.astype(np.float64) ** 2).sum(axis=1).max(initial=0)))
    if reach > RADIUS * 1.001:
        raise ValueError(
            f"the object reaches {reach:.3g} from the origin; views hold {RADIUS}: call normalised() on the mesh first"
        )
    cameras = sphere(settings.n_views, size=settings.size, seed=settings.seed)
    return Views(render_views(mesh, cameras, caster=caster, device=device), cameras)


def render_views(
    mesh: Mesh,
    cameras: Cameras,
    *,
    caster: CasterName = "auto",
    device: torch.device | str = "cpu",
    lit: bool = True,
) -> NDArray[np.uint8]:
    """Images of a mesh.

    Args:
        mesh: the mesh, in any frame, as long as the cameras stand outside it.
        cameras: the cameras, on the CPU.
        caster: the method that finds surfaces, see `casting.make_caster`.
        device: the device of the torch caster.
        lit: whether light falls on it; else the colours are those of the surface.

    Returns:
        `(V, height, width, 4)` uint8: sRGB colour, the mean over what is seen in a pixel, and opacity, the covered share of it.
        Colour is 0 where nothing is seen. A pixel is the mean of 2 x 2 points, of 4 x 4 within half a pixel of a silhouette, so
        opacity is exact to 1/16 there; what is thinner than half a pixel can be missed.
    """
    scene = _Scene(mesh, make_caster(mesh, caster, device=device), lit=lit)
    return np.stack([scene.image(cameras, view) for view in range(len(cameras))])


def covered_pixels(mesh: Mesh, cameras: Cameras, view: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pixel rows and columns of a camera's image that the bounding rectangle of the projected mesh touches."""
    if cameras.lens is not None:  # edges of triangles are bent beyond the rectangle of their corners
        return np.arange(cameras.height), np.arange(cameras.width)
    pose = cameras.camera_to_world[view].numpy()
    focal, centre = cameras.focal[view].tolist(), cameras.principal_point[view].tolist()
    local = (mesh.vertices - pose[:3, 3]) @ pose[:3, :3]
    if not len(local) or local[:, 2].max() > -1e-3:  # reaches the camera plane: no such rectangle
        return np.arange(cameras.height), np.arange(cameras.width)
    x = local[:, 0] / -local[:, 2] * focal[0] + centre[0]
    y = local[:, 1] / local[:, 2] * focal[1] + centre[1]
    ranges = []
    for pixel, size in ((y, cameras.height), (x, cameras.width)):
        first, last = math.floor(pixel.min() - 0.01), math.ceil(pixel.max() + 0.01)
        ranges.append(np.arange(max(first, 0), min(last, size)))
    return ranges[0], ranges[1]


def _subpixels(pixels: NDArray[np.int64], samples: int) -> NDArray[np.float64]:
    """`(S * samples,)` positions: the centres of `samples` equal parts of each of `(S,)` pixels."""
    return (pixels[:, None] + (np.arange(samples) + 0.5) / samples).ravel()


class _Scene:
    """A mesh under its light, with what all views share."""

    def __init__(self, mesh: Mesh, caster: Caster, *, lit: bool) -> None:
        self._mesh, self._caster = mesh, caster
        self._opaque = mesh.opaque
        self._uniform = bool((mesh.colours == mesh.colours[:, :1]).all())  # one colour per triangle
        flat = face_normals(mesh.vertices, mesh.faces).astype(np.float32)
        self._flat, self._anchor = flat, mesh.vertices[mesh.faces[:, 0]]
        # Corner normals on the side of the face that its winding calls the front.
        side = np.where((mesh.normals * flat[:, None]).sum(axis=-1) < 0, np.float32(-1), np.float32(1))
        normals = mesh.normals * side[..., None]
        self._brightness = np.stack(
            [brightness(-normals), brightness(normals)], axis=1
        )  # (F, 2, 3): seen from back, front
        if not lit:
            self._brightness = np.ones_like(self._brightness)

    def image(self, cameras: Cameras, view: int) -> NDArray[np.uint8]:
        """`(height, width, 4)` uint8: `_COARSE` points per pixel and axis, `_FINE` near silhouettes."""
        image = np.zeros((cameras.height, cameras.width, 4), np.uint8)
        rows, columns = covered_pixels(self._mesh, cameras, view)
        if not len(rows) or not len(columns):
            return image
        origin = cameras.camera_to_world[view, :3, 3].numpy()
        front = (self._flat * (origin - self._anchor)).sum(axis=-1) > 0

        def grid(samples: int) -> PixelGrid:
            return PixelGrid(cameras, view, _subpixels(columns, samples), _subpixels(rows, samples))

        shape = (len(rows), _COARSE, len(columns), _COARSE)
        seen, hit = self._look(grid(_COARSE), None, front)
        parts = seen.reshape(*shape, 4)
        pixels = np.zeros((len(rows), len(columns), 4), np.float32)
        for i in range(_COARSE):
            for j in range(_COARSE):
                pixels += parts[:, i, :, j] / np.float32(_COARSE**2)
        edge = _edges(hit.reshape(shape[0] * _COARSE, -1)).reshape(shape).any(axis=(1, 3))
        row, column = np.nonzero(edge)
        if len(row):
            step = np.arange(_FINE)
            points = (row[:, None, None] * _FINE + step[:, None]) * (len(columns) * _FINE)
            points = (points + column[:, None, None] * _FINE + step).ravel()
            seen, _ = self._look(grid(_FINE), points, front)
            pixels[row, column] = seen.reshape(len(row), -1, 4).mean(axis=1)
        opacity = pixels[..., 3:]
        pixels[..., :3] = np.divide(pixels[..., :3], opacity, out=np.zeros_like(pixels[..., :3]), where=opacity > 0)
        image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = np.rint(pixels.clip(0, 1) * 255)
        return image

    def _look(
        self, grid: PixelGrid, points: NDArray[np.int64] | None, front: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """`(Q, 4)` colour times opacity, and opacity, at Q points of the grid (all for `None`), and where a surface is."""
        hits = self._caster.first(grid, points)
        found = np.nonzero(hits.face >= 0)[0]
        total = np.zeros((len(hits.face), 4), np.float32)
        hit = hits.face >= 0
        hits = hits[found]
        for _ in range(_MAX_LAYERS):
            if not len(found):
                break
            colour = self._colours(hits, front)
            if self._opaque:
                total[found] = colour
                break
            share = colour[:, 3:] * (1 - total[found, 3:])
            total[found] += np.concatenate([colour[:, :3] * share, share], axis=1)
            through = total[found, 3] < _NEARLY_OPAQUE
            found, hits = found[through], hits[through]
            hits = self._caster.behind(grid, found if points is None else points[found], hits)
            found, hits = found[hits.face >= 0], hits[hits.face >= 0]
        return total, hit if self._opaque else total[:, 3] > 0.5

    def _colours(self, hits: Hits, front: NDArray[np.bool_]) -> NDArray[np.float32]:
        """`(Q, 4)` shaded sRGB colour and opacity in 0..1 of Q hits; `front` `(F,)`: which side of a face the camera is on."""
        mesh, face = self._mesh, hits.face
        weights = np.stack([1 - hits.u - hits.v, hits.u, hits.v], axis=-1).astype(np.float32)
        if self._uniform:
            colour = mesh.colours[face, 0] / np.float32(255)
        else:
            colour = _interpolate(weights, mesh.colours[face]) / np.float32(255)
        texture = mesh.texture[face]
        for index, image in enumerate(mesh.textures):
            on = np.nonzero(texture == index)[0]
            if len(on):
                colour[on] *= sample_texture(image, _interpolate(weights[on], mesh.uv[face[on]]))
        light = self._brightness[face, front[face].astype(np.int64)]
        colour[:, :3] *= _interpolate(weights, light[..., None])
        return colour


def _edges(hit: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Points of a `(rows, columns)` mask with a different one among their eight neighbours; nothing is outside."""
    padded = np.pad(hit, 1)
    some = padded[:, :-2] | padded[:, 1:-1] | padded[:, 2:]
    every = padded[:, :-2] & padded[:, 1:-1] & padded[:, 2:]
    return (some[:-2] | some[1:-1] | some[2:]) & ~(every[:-2] & every[1:-1] & every[2:])


def _interpolate(weights: NDArray[np.float32], corners: NDArray) -> NDArray[np.float32]:
    """`(Q, 3)` weights of `(Q, 3, C)` corner values -> `(Q, C)`."""
    return weights[:, :1] * corners[:, 0] + weights[:, 1:2] * corners[:, 1] + weights[:, 2:] * corners[:, 2]


def brightness(normals: NDArray[np.floating]) -> NDArray[np.float32]:
    """`(..., 3)` normals towards the viewer -> `(...)`, at most 1: ambient light and Lambert terms of three fixed lights."""
    light = np.full(normals.shape[:-1], _AMBIENT, np.float32)
    for direction, strength in _LIGHTS:
        unit = np.asarray(direction, np.float32) / np.float32(np.linalg.norm(direction))
        light += np.float32(strength) * (normals * unit).sum(axis=-1).clip(0)
    return light.clip(max=1)


def sample_texture(texture: NDArray[np.uint8], uv: NDArray[np.floating]) -> NDArray[np.float32]:
    """`(Q, 4)` values in 0..1 of a repeating `(height, width, 4)` texture at `(Q, 2)` coordinates, v upwards, bilinear."""
    height, width = texture.shape[:2]
    uv = uv.astype(np.float32)
    x, y = uv[:, 0] * width - np.float32(0.5), (1 - uv[:, 1]) * height - np.float32(0.5)
    left, top = np.floor(x), np.floor(y)
    right_share, low_share = (x - left)[:, None], (y - top)[:, None]
    left, top = left.astype(np.int64) % width, top.astype(np.int64) % height
    right, low = (left + 1) % width, (top + 1) % height
    texels = texture.reshape(-1, 4)
    upper = _mix(texels[top * width + left], texels[top * width + right], right_share)
    lower = _mix(texels[low * width + left], texels[low * width + right], right_share)
    return _mix(upper, lower, low_share) / np.float32(255)


def _mix(first: NDArray, second: NDArray, share: NDArray[np.float32]) -> NDArray[np.float32]:
    first = first.astype(np.float32)
    return first + (second - first) * share
