"""Pictures of captures: image files of any kind to 8-bit sRGB with straight opacity, bounded before they are decoded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

MOST_PIXELS = 64_000_000
"""Pixels of one image file, at most: more than the sensors of phones and most cameras have."""

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP")
"""Kinds of images that are read: Pillow knows others, some of which start programs."""

_WITH_OPACITY = ("RGBA", "LA", "PA", "La", "RGBa")
_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N", "I")
_TURNED = (5, 6, 7, 8)  # EXIF orientations that swap width and height


@dataclass(frozen=True)
class Picture:
    """What the head of an image file says.

    Attributes:
        path: the file.
        width, height: size as it is stored, pixels.
        opacity: whether it stores an opacity.
        turned: EXIF orientation, 1 for none.
    """

    path: Path
    width: int
    height: int
    opacity: bool
    orientation: int = 1

    @classmethod
    def of(cls, path: Path) -> Picture:
        """Raises `ValueError` for what is no image, or one of more than `MOST_PIXELS`; nothing is decoded."""
        try:
            with Image.open(path, formats=FORMATS) as image:
                size = image.size
                opacity = image.mode in _WITH_OPACITY or "transparency" in image.info
                orientation = 1
                if size[0] * size[1] <= MOST_PIXELS:  # which may read on to the end of the file
                    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        except Image.DecompressionBombError as error:  # which does not say the size
            raise ValueError(
                f"{path}: claims far more than the {MOST_PIXELS:,} pixels that are taken at most: make the images smaller"
            ) from error
        except (OSError, ValueError, SyntaxError) as error:
            raise ValueError(f"{path}: is no image, or cut short ({error})") from error
        if size[0] * size[1] > MOST_PIXELS:
            raise ValueError(
                f"{path}: is {size[0]:,} x {size[1]:,} pixels; at most {MOST_PIXELS:,} are taken: make the images smaller"
            )
        return cls(path, *size, opacity, orientation if orientation in range(1, 9) else 1)

    def turned_to(self, size: tuple[int | None, int | None]) -> bool:
        """Whether the EXIF orientation must be applied for the picture to have the size that its camera says.

        Where the size as stored fits, or nothing is said, it is not: the programs that find cameras work on stored pixels.
        """
        turns = self.orientation in _TURNED and self.width != self.height
        return turns and size == (self.height, self.width)

    def read(self, *, turn: bool = False, factor: int = 1) -> NDArray[np.uint8]:
        """`(height, width, 4)` uint8, sRGB and straight opacity (255 where the file has none).

        Args:
            turn: whether to apply the EXIF orientation.
            factor: how many times smaller; each pixel is the mean of a square of that side.

        Raises:
            ValueError: an image that cannot be decoded.
        """
        try:
            with Image.open(self.path, formats=FORMATS) as image:
                decoded = _eight_bit(image)
                if turn:
                    decoded = ImageOps.exif_transpose(_with_exif(decoded, image))
                if factor > 1:
                    decoded = decoded.reduce(factor)
                return np.asarray(decoded.convert("RGBA"))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise ValueError(f"{self.path}: is no image, or cut short ({error})") from error


def read_mask(path: Path, width: int, height: int, *, factor: int = 1) -> NDArray[np.uint8]:
    """`(height, width)` uint8 of an image file as a mask: its opacity where that says anything, else its brightness.

    It is brought to `width` x `height` pixels, those of its image, by the nearest pixel, and made `factor` times smaller. Raises
    `ValueError`.
    """
    picture = Picture.of(path)
    values = picture.read()
    mask = values[..., 3] if picture.opacity and (values[..., 3] < 255).any() else values[..., :3].max(axis=-1)
    image = Image.fromarray(np.ascontiguousarray(mask))
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.NEAREST)
    return np.asarray(image.reduce(factor) if factor > 1 else image)


def _eight_bit(image: Image.Image) -> Image.Image:
    """RGB or RGBA, 8 bits: Pillow itself would clip 16-bit grey at 255."""
    if image.mode in _SIXTEEN_BIT:
        values = np.asarray(image).astype(np.float64).clip(0, 65535) / 257
        return Image.fromarray(np.rint(values).astype(np.uint8)).convert("RGB")
    if image.mode in _WITH_OPACITY or "transparency" in image.info:
        return image.convert("RGBA")
    return image.convert("RGB")


def _with_exif(decoded: Image.Image, image: Image.Image) -> Image.Image:
    decoded.getexif()[ExifTags.Base.Orientation] = image.getexif().get(ExifTags.Base.Orientation, 1)
    return decoded
