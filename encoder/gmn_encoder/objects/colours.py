"""Colours of mesh files: numbers of any kind, materials and opacity modes to 8-bit sRGB with straight opacity."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_ALPHA_CUTOFF = 0.5  # glTF's default


def linear_to_srgb(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """The sRGB transfer function (IEC 61966-2-1), 0..1 to 0..1."""
    values = np.asarray(values, np.float64).clip(0, 1)
    return np.where(values <= 0.0031308, 12.92 * values, 1.055 * values ** (1 / 2.4) - 0.055)


def srgb_to_linear(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """The inverse of `linear_to_srgb`."""
    values = np.asarray(values, np.float64).clip(0, 1)
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def to_rgba8(colours: Any, *, linear: bool) -> NDArray[np.uint8]:
    """`(K, 3 or 4)` colours as floats in 0..1 or integers of any width -> `(K, 4)` uint8 sRGB."""
    values = np.asarray(colours)
    scale = np.iinfo(values.dtype).max if values.dtype.kind in "ui" else 1
    values = np.nan_to_num(values.astype(np.float64) / scale).clip(0, 1)
    if values.shape[1] == 3:
        values = np.concatenate([values, np.ones((len(values), 1))], axis=1)
    if linear:
        values[:, :3] = linear_to_srgb(values[:, :3])
    return np.rint(values * 255).astype(np.uint8)


def factor_to_rgba8(factor: NDArray[np.float64], *, linear: bool) -> NDArray[np.uint8]:
    rgb = linear_to_srgb(factor[:3]) if linear else factor[:3]
    return np.rint(np.append(rgb, factor[3]).clip(0, 1) * 255).astype(np.uint8)


def material_colour(material: Any, *, gltf: bool) -> tuple[NDArray[np.float64], Any, bool]:
    """Base colour factor `(4,)` in 0..1 as the file has it, base texture or `None`, and whether the file says a colour."""
    if hasattr(material, "baseColorFactor"):  # glTF
        factor, image = material.baseColorFactor, material.baseColorTexture
        said = factor is not None or image is not None
        factor = np.ones(4) if factor is None else np.asarray(factor, np.float64) / 255
        # glTF: an absent factor is white; a material that says nothing at all is treated as without colour.
        return factor, image, said
    image = getattr(material, "image", None)
    diffuse = (getattr(material, "kwargs", None) or {}).get("kd")
    said = image is not None or diffuse is not None
    factor = np.ones(4)
    if diffuse is not None and image is None:
        factor = np.asarray(material.diffuse, np.float64) / 255
    return factor, image, said


def with_alpha_mode(values: NDArray[np.uint8], material: Any) -> NDArray[np.uint8]:
    """Opacity `(..., 4)` as glTF's alphaMode means it. Formats without one (.obj) use the image's opacity as it is."""
    values = values.copy()
    if hasattr(material, "baseColorFactor"):
        mode = material.alphaMode or "OPAQUE"
        if mode == "MASK":
            cutoff = _ALPHA_CUTOFF if material.alphaCutoff is None else float(material.alphaCutoff)
            values[..., 3] = np.where(values[..., 3] >= cutoff * 255, 255, 0)
        elif mode != "BLEND":
            values[..., 3] = 255
    return values
