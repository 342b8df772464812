"""Point clouds as rows of text (`.xyz`): x y z, with or without colours or normals behind, apart by spaces, commas or semicolons.

Nothing in such a file says what its columns are. Six are taken as colours where the last three could be some, and nothing is said
of normals, which have negative parts; of more columns the first three behind x y z that could be colours.

Shapes: N points, C columns.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from .points import splats_of_points
from .record import MAX_SPLATS, Splats, check_count

_COLUMNS = range(3, 13)


def read_xyz(path: Path) -> Splats:
    """Points as splats. Raises `ValueError` for text that is no table of 3 to 12 columns, and for too many points."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        first = next((line for line in iter(lambda: file.readline(1 << 16), b"") if _holds_numbers(line)), b"")
        count = len(first.translate(_SPACES).split())
        if count not in _COLUMNS:
            raise ValueError(
                f"begins with {first[:40]!r}; expected rows of x y z, or with red, green, blue behind "
                "(files of atoms, which have the same ending, are no point clouds)"
            )
        check_count(1, 2 * count - 1, size, "points")
        file.seek(0)
        rows = _read_rows(file, count)
    if len(rows) > MAX_SPLATS:
        raise ValueError(f"holds over {MAX_SPLATS:,} points, which is all that is read: thin it out first")
    with np.errstate(all="ignore"):
        return splats_of_points("point cloud (.xyz)", rows[:, :3].astype(np.float32), _colours(rows[:, 3:]))


_SPACES = bytes.maketrans(b",;", b"  ")


def _holds_numbers(line: bytes) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith((b"#", b"//"))


def _read_rows(file: BinaryIO, count: int) -> NDArray[np.float64]:
    """Rows ``(N, C)``, one more than is read at most."""
    lines = (line.translate(_SPACES) for line in file if _holds_numbers(line))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return np.loadtxt(lines, np.float64, comments=None, max_rows=MAX_SPLATS + 1, ndmin=2, usecols=range(count))
    except (ValueError, UnicodeDecodeError) as error:
        reason = str(error).partition(";")[0]
        raise ValueError(f"has text that is no table of {count} numbers a row ({reason})") from error


def _colours(rest: NDArray[np.float64]) -> NDArray[np.float32] | None:
    """``(N, 3)`` in 0..1 from the columns behind x y z ``(N, C)``; None where none could be colours."""
    for start in range(rest.shape[1] - 2):
        three = rest[:, start : start + 3]
        if not np.isfinite(three).all() or three.min() < 0 or three.max() > 255:
            continue
        if three.max() <= 1:
            lengths = np.linalg.norm(three, axis=1)
            if np.allclose(lengths, 1, atol=1e-3):  # normals that happen to have no negative part
                continue
            return three.astype(np.float32)
        if (three == np.rint(three)).all():
            return (three / 255).astype(np.float32)
    return None
