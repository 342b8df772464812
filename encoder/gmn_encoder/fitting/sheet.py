"""Contact sheets of fits: previews, which have fitted views above true ones, side by side.

python scripts/make_fit_sheet.py DIRECTORY_OF_A_FIT --out docs
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from ..files import StrPath, atomic_path
from ..nerfs.architectures import FAMILIES
from ..rendering.images import contact_sheet


def draw_fits(fit: StrPath, *, out: StrPath = "docs", count: int = 6) -> None:
    """Draw the previews of the first NeRFs of each family that is there, in two columns.

    Args:
        fit: the output of ``llana-gmn fit``.
        out: folder for ``fit_<family>.png``.
        count: number of previews on a sheet.

    Raises:
        FileNotFoundError: no previews.
    """
    previews = {family: sorted(Path(fit, family).glob("*/*/preview.png"))[:count] for family in FAMILIES}
    if not any(previews.values()):
        raise FileNotFoundError(f"{fit}: holds no previews; expected the output of llana-gmn fit")
    for family, files in previews.items():
        if files:
            sheet = contact_sheet([Image.open(file).convert("RGB") for file in files], columns=min(2, len(files)))
            with atomic_path(Path(out, f"fit_{family}.png")) as temporary:
                sheet.quantize(128).save(temporary, format="PNG", optimize=True)
