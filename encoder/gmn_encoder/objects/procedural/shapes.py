"""Solids that procedural objects are put together from.

All functions return a `Shape` in the object's own frame (z up, front towards -y), outward winding, texture coordinates in
the same units as the geometry. Legend: N vertices, F triangles, K points of a loop, S sections.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..mesh import cross, face_normals, smooth_normals

Point = tuple[float, float, float]
Axis = int  # 0 x, 1 y, 2 z
CORNERS = ((-1, -1), (-1, 1), (1, -1), (1, 1))  # signs of x and y: where four legs stand


@dataclass(frozen=True, eq=False)
class Shape:
    """`vertices` `(N, 3)`, `faces` `(F, 3)`, corner `normals` `(F, 3, 3)` and corner `uv` `(F, 3, 2)`."""

    vertices: NDArray[np.float64]
    faces: NDArray[np.int64]
    normals: NDArray[np.float64]
    uv: NDArray[np.float64]

    def moved(self, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Shape:
        return Shape(self.vertices + np.array([x, y, z]), self.faces, self.normals, self.uv)

    def turned(self, axis: Axis, degrees: float, *, about: Point = (0.0, 0.0, 0.0)) -> Shape:
        """Turned by the right-hand rule around an axis through `about`."""
        cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        i, j = (axis + 1) % 3, (axis + 2) % 3
        matrix = np.eye(3)
        matrix[i, i], matrix[i, j], matrix[j, i], matrix[j, j] = cosine, -sine, sine, cosine
        centre = np.array(about)
        return Shape((self.vertices - centre) @ matrix.T + centre, self.faces, self.normals @ matrix.T, self.uv)

    def mirrored(self, axis: Axis = 0) -> Shape:
        """The mirror image through the plane at 0 of `axis`."""
        sign = np.ones(3)
        sign[axis] = -1
        flip = [0, 2, 1]
        return Shape(self.vertices * sign, self.faces[:, flip], (self.normals * sign)[:, flip], self.uv[:, flip])

    def scaled(self, x: float = 1.0, y: float = 1.0, z: float = 1.0) -> Shape:
        """Stretched about the origin by positive factors."""
        scale = np.array([x, y, z])
        normals = self.normals / scale
        length = np.sqrt((normals**2).sum(axis=-1, keepdims=True))
        return Shape(self.vertices * scale, self.faces, normals / np.maximum(length, 1e-12), self.uv)

    def with_uv(self, uv: NDArray[np.float64]) -> Shape:
        return Shape(self.vertices, self.faces, self.normals, uv)


def _planar_uv(vertices: NDArray, faces: NDArray, grain: Axis) -> NDArray[np.float64]:
    """Texture coordinates by projection along each face's main direction; u runs along `grain` where the face contains it."""
    main = np.abs(face_normals(vertices, faces)).argmax(axis=1)
    order = (grain, (grain + 1) % 3, (grain + 2) % 3)
    others = np.array([[axis for axis in order if axis != away] for away in range(3)])[main]  # (F, 2)
    return vertices[faces][np.arange(len(faces))[:, None, None], np.arange(3)[:, None], others[:, None]]


def _solid(vertices: ArrayLike, faces: ArrayLike, *, grain: Axis, crease: float) -> Shape:
    points, triangles = np.asarray(vertices, np.float64), np.asarray(faces, np.int64)
    sides = cross(points[triangles[:, 1]] - points[triangles[:, 0]], points[triangles[:, 2]] - points[triangles[:, 0]])
    # Where a loop shrinks to a point, by a margin: zero is not quite zero, and differently so on every machine.
    triangles = triangles[(sides**2).sum(axis=1) > 1e-20]
    if crease > 0:
        normals = smooth_normals(points, triangles, crease=crease)
    else:
        normals = np.repeat(face_normals(points, triangles)[:, None], 3, axis=1)
    return Shape(points, triangles, normals, _planar_uv(points, triangles, grain))


def box(size: Point, centre: Point = (0.0, 0.0, 0.0), *, top: tuple[float, float] = (1.0, 1.0)) -> Shape:
    """A box of `size` (x, y, z); its upper face is scaled by `top` in x and y (a frustum)."""
    x, y, z = (s / 2 for s in size)
    tx, ty = x * top[0], y * top[1]
    vertices = [
        (-x, -y, -z), (x, -y, -z), (x, y, -z), (-x, y, -z), (-tx, -ty, z), (tx, -ty, z), (tx, ty, z), (-tx, ty, z),
    ]  # fmt: skip
    quads = [(0, 3, 2, 1), (4, 5, 6, 7), (0, 1, 5, 4), (1, 2, 6, 5), (2, 3, 7, 6), (3, 0, 4, 7)]
    faces = [triangle for a, b, c, d in quads for triangle in ((a, b, c), (a, c, d))]
    return _solid(vertices, faces, grain=int(np.argmax(size)), crease=0).moved(*centre)


def loft(
    sections: Sequence[ArrayLike], *, caps: bool = True, grain: Axis = 1, crease: float = 40.0, ring: bool = False
) -> Shape:
    """Skin over S closed loops of `(K, 3)` points, equally many each and in the same order.

    Seen from the end towards the start the loops run counter-clockwise. A loop may shrink to a point. `caps` closes both ends
    (convex loops); `ring` joins the last to the first instead.
    """
    rows = [np.asarray(section, np.float64) for section in sections]
    n = len(rows[0])
    faces = []
    count = len(rows)
    for s in range(count if ring else count - 1):
        a, b = s * n, (s + 1) % count * n
        for k in range(n):
            k2 = (k + 1) % n
            faces += [(a + k, a + k2, b + k2), (a + k, b + k2, b + k)]
    if caps and not ring:
        last = (count - 1) * n
        for k in range(1, n - 1):
            faces += [(0, k + 1, k), (last, last + k, last + k + 1)]
    return _solid(np.concatenate(rows), faces, grain=grain, crease=crease)


def circle(n: int, *, start: float = 0.0) -> NDArray[np.float64]:
    """`(n, 2)` points on the unit circle, counter-clockwise."""
    angle = math.radians(start) + 2 * math.pi * np.arange(n) / n
    return np.stack([np.cos(angle), np.sin(angle)], axis=-1)


def lathe(
    profile: Sequence[tuple[float, float]], *, sides: int = 20, start: float = 0.0, crease: float = 40.0
) -> Shape:
    """A profile of (radius, height) pairs turned around z. u runs around, v up; upwards along the outside."""
    ring = circle(sides, start=start)
    shape = loft(
        [np.concatenate([ring * radius, np.full((sides, 1), height)], axis=1) for radius, height in profile],
        crease=crease,
    )
    corners = shape.vertices[shape.faces]
    widest = max(radius for radius, _ in profile)
    angle = np.arctan2(corners[..., 1], corners[..., 0])
    angle = np.where(angle - angle.min(axis=1, keepdims=True) > math.pi, angle - 2 * math.pi, angle)
    flat = np.abs(shape.normals[..., 2]).mean(axis=1) > 0.95
    uv = np.stack([angle * widest, corners[..., 2]], axis=-1)
    return shape.with_uv(np.where(flat[:, None, None], corners[..., :2], uv))


def cylinder(radius: float, height: float, *, top: float | None = None, sides: int = 20, start: float = 0.0) -> Shape:
    """Around z, from 0 to `height`; `top` is the upper radius (0: a cone)."""
    return lathe([(radius, 0.0), (radius if top is None else top, height)], sides=sides, start=start)


def rod(begin: Point, end: Point, radius: float, *, top: float | None = None, sides: int = 10) -> Shape:
    """A straight round bar between two points, `top` its radius at the end."""
    return tube([begin, end], [radius, radius if top is None else top], sides=sides)


def tube(path: Sequence[Point], radius: float | Sequence[float], *, sides: int = 10, square: bool = False) -> Shape:
    """A round (or square) bar along a path of points that does not double back."""
    points = np.asarray(path, np.float64)
    radii = np.broadcast_to(np.asarray(radius, np.float64), (len(points),))
    steps = np.diff(points, axis=0)
    steps = steps / np.sqrt((steps**2).sum(axis=1, keepdims=True))
    tangents = np.concatenate([steps[:1], (steps[:-1] + steps[1:]) / 2, steps[-1:]])
    tangents = tangents / np.sqrt((tangents**2).sum(axis=1, keepdims=True))
    reference = np.eye(3)[int(np.abs(points[-1] - points[0]).argmin())]
    loop = circle(4, start=45) * math.sqrt(2) if square else circle(sides)
    sections = []
    for point, tangent, size in zip(points, tangents, radii, strict=True):
        side = np.cross(reference, tangent)
        side /= np.sqrt((side**2).sum())
        up = np.cross(tangent, side)
        sections.append(point + size * (loop[:, :1] * side + loop[:, 1:] * up))
    grain = int(np.abs(points[-1] - points[0]).argmax())
    return loft(sections, grain=grain, crease=0 if square else 50)


def rounded_rectangle(width: float, height: float, radius: float, *, steps: int = 3) -> NDArray[np.float64]:
    """`(4 * (steps + 1), 2)` points, counter-clockwise, centred."""
    radius = min(radius, width / 2, height / 2)
    quarter = np.linspace(0, math.pi / 2, steps + 1)
    corners = []
    for index, (sx, sy) in enumerate(((1, 1), (-1, 1), (-1, -1), (1, -1))):
        angle = quarter + index * math.pi / 2
        centre = np.array([sx * (width / 2 - radius), sy * (height / 2 - radius)])
        corners.append(centre + radius * np.stack([np.cos(angle), np.sin(angle)], axis=-1))
    return np.concatenate(corners)


def rounded_box(
    size: Point, radius: float, centre: Point = (0.0, 0.0, 0.0), *, axis: Axis = 2, bevel: float = 0.3
) -> Shape:
    """A box with its edges along `axis` rounded by `radius` and those around both ends bevelled by `bevel * radius`."""
    i, j = (axis + 1) % 3, (axis + 2) % 3
    width, height, depth = size[i], size[j], size[axis]
    cut = min(bevel * radius, depth / 2.5)
    sections = []
    for level, inset in ((-depth / 2, cut), (-depth / 2 + cut, 0), (depth / 2 - cut, 0), (depth / 2, cut)):
        loop = rounded_rectangle(width - 2 * inset, height - 2 * inset, max(radius - inset, 1e-4))
        section = np.zeros((len(loop), 3))
        section[:, i], section[:, j], section[:, axis] = loop[:, 0], loop[:, 1], level
        sections.append(section)
    return loft(sections, grain=int(np.argmax(size)), crease=40).moved(*centre)


def prism(outline: ArrayLike, depth: float, *, axis: Axis = 0, inset: float = 0.0) -> Shape:
    """An outline `(K, 2)` of any simple shape, extruded by `depth` along `axis`, centred on it.

    The outline's coordinates are the two axes after `axis` in cyclic order (for x: y, z), counter-clockwise. `inset` narrows both
    end faces towards the middle of the outline by that share (a chamfer).
    """
    loop = np.asarray(outline, np.float64)
    n, (i, j) = len(loop), ((axis + 1) % 3, (axis + 2) % 3)
    levels = [(-depth / 2, 1.0), (depth / 2, 1.0)]
    if inset > 0:
        levels = [(-depth / 2, 1 - inset), (-depth * 0.3, 1.0), (depth * 0.3, 1.0), (depth / 2, 1 - inset)]
    middle = (loop.min(axis=0) + loop.max(axis=0)) / 2
    sections = []
    for level, scale in levels:
        section = np.zeros((n, 3))
        section[:, [i, j]] = middle + (loop - middle) * scale
        section[:, axis] = level
        sections.append(section)
    triangles = triangulate(loop)
    skin = loft(sections, caps=False, crease=0)
    last = (len(levels) - 1) * n
    caps = [(c, b, a) for a, b, c in triangles] + [(last + a, last + b, last + c) for a, b, c in triangles]
    faces = np.concatenate([skin.faces, np.array(caps, np.int64)])
    size = np.ptp(skin.vertices, axis=0)
    return _solid(skin.vertices, faces, grain=int(size.argmax()), crease=30)


def triangulate(loop: NDArray[np.float64]) -> list[tuple[int, int, int]]:
    """A simple counter-clockwise polygon `(K, 2)` in triangles, by cutting ears."""
    left = list(range(len(loop)))
    triangles = []
    while len(left) > 3:
        for position in range(len(left)):
            a, b, c = left[position - 1], left[position], left[(position + 1) % len(left)]
            if _turn(loop[a], loop[b], loop[c]) > 1e-12 and not any(
                _inside(loop[p], loop[a], loop[b], loop[c]) for p in left if p not in (a, b, c)
            ):
                triangles.append((a, b, c))
                left.pop(position)
                break
        else:  # only flat corners are left
            left.pop(0)
    triangles.append((left[0], left[1], left[2]))
    return triangles


def _turn(a: NDArray, b: NDArray, c: NDArray) -> float:
    return float((b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]))


def _inside(p: NDArray, a: NDArray, b: NDArray, c: NDArray) -> bool:
    return _turn(a, b, p) >= 0 and _turn(b, c, p) >= 0 and _turn(c, a, p) >= 0


def ellipsoid(radii: Point, centre: Point = (0.0, 0.0, 0.0), *, sides: int = 18, rows: int = 9) -> Shape:
    profile = [(math.sin(math.pi * k / rows), -math.cos(math.pi * k / rows)) for k in range(rows + 1)]
    return lathe(profile, sides=sides, crease=80).scaled(*radii).moved(*centre)


def panel(width: float, height: float, depth: float, centre: Point = (0.0, 0.0, 0.0)) -> Shape:
    """A thin box facing -y whose front has texture coordinates 0..1, for pictures (see `materials.picture`)."""
    shape = box((width, depth, height), centre)
    corners = shape.vertices[shape.faces]
    u = (corners[..., 0] - centre[0]) / width + 0.5
    v = (corners[..., 2] - centre[2]) / height + 0.5
    return shape.with_uv(np.stack([u, v], axis=-1))
