"""Putting an object together: named parts with materials, and the parameters that they came from."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..mesh import Mesh
from .materials import Material
from .shapes import Shape


class Draft:
    """An object in the making, in its own frame: z up, front towards -y, longest side about 1.

    Labels are the words for a part, plural where there are several ("legs"); those that start with "_" are details that language
    never mentions. All parts of one label have one material.
    """

    def __init__(self) -> None:
        self.parameters: dict[str, Any] = {}
        self.surfaces: dict[str, Material] = {}
        self.counts: dict[str, int] = {}
        self._parts: list[tuple[str, Shape, Material]] = []

    def say(self, **parameters: Any) -> None:
        """Record parameters: plain JSON values that are visible on the object."""
        self.parameters.update(parameters)

    def add(self, label: str, shape: Shape, material: Material) -> None:
        if self.surfaces.setdefault(label, material) is not material:
            raise ValueError(f"the parts {label!r} have several materials; expected one, or different labels")
        self.counts[label] = self.counts.get(label, 0) + 1
        self._parts.append((label, shape, material))

    def pair(self, label: str, shape: Shape, material: Material) -> None:
        """The shape and its mirror image in x."""
        self.add(label, shape, material)
        self.add(label, shape.mirrored(0), material)

    def mesh(self) -> Mesh:
        """All parts in one mesh, normalised, rounded to 1e-5 so that every machine makes the same."""
        offsets = np.cumsum([0, *(len(shape.vertices) for _, shape, _ in self._parts)])
        counts = [len(shape.faces) for _, shape, _ in self._parts]
        tiles: list[Material] = []
        texture, colours, uv = [], [], []
        for _, shape, material in self._parts:
            n = len(shape.faces)
            if material.tile is None:
                texture.append(np.full(n, -1))
                colours.append(np.broadcast_to((*material.rgb, 255), (n, 3, 4)))
                uv.append(np.zeros((n, 3, 2)))
                continue
            if material not in tiles:
                tiles.append(material)
            texture.append(np.full(n, tiles.index(material)))
            colours.append(np.full((n, 3, 4), 255))
            uv.append(shape.uv / material.period)
        mesh = Mesh(
            vertices=np.concatenate([shape.vertices for _, shape, _ in self._parts]).astype(np.float32),
            faces=np.concatenate(
                [shape.faces + offset for (_, shape, _), offset in zip(self._parts, offsets[:-1], strict=True)]
            ).astype(np.int32),
            normals=np.round(np.concatenate([shape.normals for _, shape, _ in self._parts]), 4).astype(np.float32) + 0,
            colours=np.concatenate(colours).astype(np.uint8),
            uv=np.round(np.concatenate(uv), 4).astype(np.float32) + 0,
            texture=np.concatenate(texture).astype(np.int16),
            textures=tuple(_with_alpha(material.tile) for material in tiles if material.tile is not None),
            part=np.repeat(np.arange(len(counts), dtype=np.int32), counts),
            part_names=tuple(label for label, _, _ in self._parts),
        ).normalised()
        mesh.vertices[:] = np.round(mesh.vertices.astype(np.float64), 5) + 0.0  # + 0: no negative zeros
        return mesh


def _with_alpha(tile: np.ndarray) -> np.ndarray:
    return np.concatenate([tile, np.full((*tile.shape[:2], 1), 255, np.uint8)], axis=-1)
