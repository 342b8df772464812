"""Contact sheets of fits, as in ``docs/fit_mlp.png``: previews, which have fitted views above true ones, side by side."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from ..files import StrPath
from ..nerfs.architectures import FAMILIES
from ..rendering.images import contact_sheet


def fit_sheets(fit: StrPath, *, count: int = 6) -> dict[str, Image.Image]:
    """Family -> the previews of its first NeRFs in two columns, for each family that `fit`, the output of a fit, has.

    Raises `FileNotFoundError` where there are no previews.
    """
    previews = {family: sorted(Path(fit, family).glob("*/*/preview.png"))[:count] for family in FAMILIES}
    if not any(previews.values()):
        raise FileNotFoundError(f"{fit}: holds no previews; expected the output of llana-gmn fit")
    return {
        family: contact_sheet([Image.open(file).convert("RGB") for file in files], columns=min(2, len(files)))
        for family, files in previews.items()
        if files
    }
