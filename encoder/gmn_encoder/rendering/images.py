"""Pictures of renderings: PNG views, contact sheets, turntable GIFs. Colours are sRGB throughout, as in the released views."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..files import StrPath, atomic_path
from .compositing import Rendering

_FORMATS = {".png": "PNG", ".gif": "GIF"}
_OPAQUE = 0.5  # GIF knows no half-transparent pixels: from this opacity on they are shown


def parse_background(text: str) -> Tensor | None:
    """A background as it is written on the command line: ``R,G,B`` in 0..1, or ``transparent`` (None)."""
    if text.strip().lower() == "transparent":
        return None
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) != 3 or not all(0 <= value <= 1 for value in values):
        raise ValueError(f"background is {text!r}; expected three numbers from 0 to 1 as in 1,1,1, or transparent")
    return torch.tensor(values)


def to_images(views: Rendering, background: Tensor | None = None) -> list[Image.Image]:
    """A picture of each view ``(V, height, width)``: RGB over a background ``(3,)``, or RGBA without.

    `views` must have been rendered without background.
    """
    if background is not None:
        return [Image.fromarray(image) for image in _bytes(views.over(background.to(views.colour)).colour)]
    # Files hold colours that are not multiplied by their opacity.
    colour = views.colour / views.opacity.clamp(min=1e-8)[..., None]
    return [Image.fromarray(image) for image in _bytes(torch.cat([colour, views.opacity[..., None]], dim=-1))]


def rgba_over(images: Tensor, background: Tensor) -> Tensor:
    """uint8 RGBA ``(..., 4)``, straight opacity, before a colour ``(3,)`` or ``(..., 3)``: float ``(..., 3)`` in 0..1."""
    rgba = images.float() / 255
    return rgba[..., :3] * rgba[..., 3:] + background * (1 - rgba[..., 3:])


def contact_sheet(images: Sequence[Image.Image], *, columns: int | None = None) -> Image.Image:
    """Pictures of one size side by side, row by row, in about as many rows as columns."""
    if not images:
        raise ValueError("no pictures for a contact sheet; expected at least one")
    columns = columns or math.ceil(math.sqrt(len(images)))
    width, height = images[0].size
    sheet = Image.new(images[0].mode, (columns * width, -(-len(images) // columns) * height))
    for number, image in enumerate(images):
        sheet.paste(image, (number % columns * width, number // columns * height))
    return sheet


def save_images(images: Sequence[Image.Image], path: StrPath, *, seconds: float = 4.0) -> None:
    """Write pictures into one file, atomically: a `.gif` plays them in `seconds`, a `.png` shows them on a contact sheet."""
    path = Path(path)
    kind = image_format(path)
    if kind == "PNG":
        with atomic_path(path) as temporary:
            contact_sheet(images).save(temporary, format=kind)
        return
    frames = [_gif_frame(image) for image in images]
    with atomic_path(path) as temporary:
        frames[0].save(
            temporary,
            format=kind,
            save_all=True,
            append_images=frames[1:],
            duration=max(20, round(1000 * seconds / len(frames))),
            loop=0,
            disposal=2,
        )


def image_format(path: StrPath) -> str:
    """``PNG`` or ``GIF`` by the extension. Raises `ValueError` for any other."""
    suffix = Path(path).suffix.lower()
    if suffix not in _FORMATS:
        raise ValueError(f"{path}: unknown extension {suffix!r} for a picture; expected .png or .gif")
    return _FORMATS[suffix]


def _gif_frame(image: Image.Image) -> Image.Image:
    if image.mode != "RGBA":
        return image.quantize(dither=Image.Dither.NONE)
    frame = image.convert("RGB").quantize(255, dither=Image.Dither.NONE)
    hidden = image.getchannel("A").point(lambda alpha: 255 if alpha < 255 * _OPAQUE else 0)
    frame.paste(255, mask=hidden)
    frame.info["transparency"] = 255
    return frame


def _bytes(values: Tensor) -> np.ndarray:
    return values.detach().clamp(0, 1).mul(255).round().to(torch.uint8).cpu().numpy()
