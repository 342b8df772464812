"""Point clouds in .pcd and .xyz files, written byte by byte."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from gmn_encoder.nerfs.importers import find_importer, import_field
from gmn_encoder.nerfs.importers.splats.importer import read_splats
from gmn_encoder.nerfs.importers.splats.pcd import unpack_lzf

POINTS = np.random.default_rng(3).uniform(-1, 1, (40, 3)).astype(np.float32)
COLOURS = np.random.default_rng(4).integers(0, 256, (40, 3))
PACKED = (COLOURS << np.array([16, 8, 0])).sum(axis=1).astype("<u4")


def header(
    fields: str, sizes: str, kinds: str, data: str, *, count: int | str = 40, counts: str | None = None
) -> bytes:
    counts = counts or " ".join("1" for _ in fields.split())
    return (
        f"# .PCD v0.7 - Point Cloud Data file format\nVERSION 0.7\nFIELDS {fields}\nSIZE {sizes}\nTYPE {kinds}\nCOUNT {counts}\n"
        f"WIDTH {count}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS {count}\nDATA {data}\n"
    ).encode()


def literals(data: bytes) -> bytes:
    """An LZF stream of literal runs alone."""
    return b"".join(bytes([len(data[i : i + 32]) - 1]) + data[i : i + 32] for i in range(0, len(data), 32))


def compressed(data: bytes, packed: bytes) -> bytes:
    return struct.pack("<II", len(packed), len(data)) + packed


def pcd(form: str, kind: str = "F") -> bytes:
    fields = ("x y z rgb", "4 4 4 4", f"F F F {kind}")
    if form == "ascii":
        rows = [f"{x:.8f} {y:.8f} {z:.8f} {c}" for (x, y, z), c in zip(POINTS, PACKED, strict=True)]
        return header(*fields, form) + "\n".join(rows).encode() + b"\n"
    if form == "binary":
        rows = np.zeros(40, [("p", "<f4", 3), ("c", "<u4")])
        rows["p"], rows["c"] = POINTS, PACKED
        return header(*fields, form) + rows.tobytes()
    data = POINTS.T.tobytes() + PACKED.tobytes()
    return header(*fields, form) + compressed(data, literals(data))


@pytest.mark.parametrize("kind", ["F", "U"])
@pytest.mark.parametrize("form", ["ascii", "binary", "binary_compressed"])
def test_pcd(tmp_path, form, kind):
    (tmp_path / "a.bin").write_bytes(pcd(form, kind))  # known by its content
    assert find_importer(tmp_path / "a.bin").name == "gaussian-splats"
    splats = read_splats(tmp_path / "a.bin")
    np.testing.assert_allclose(splats.means, POINTS, atol=1e-6)
    np.testing.assert_allclose(splats.colours, COLOURS / 255, atol=1e-6)
    assert splats.kind == "point cloud (.pcd)" and "radius" in splats.notes[0]


def test_pcd_with_padding_other_types_and_no_colour(tmp_path):
    rows = np.zeros(40, [("z", "<f8"), ("pad", "u1", 3), ("y", "<i2"), ("x", "<f4")])
    rows["x"], rows["y"], rows["z"] = POINTS[:, 0], np.arange(40), POINTS[:, 2]
    head = header("z _ y x", "8 1 2 4", "F U I F", "binary", counts="1 3 1 1")
    (tmp_path / "a.pcd").write_bytes(head + rows.tobytes())
    field = import_field(tmp_path / "a.pcd")
    means = field.splats.means
    np.testing.assert_allclose(means, np.stack([POINTS[:, 0], np.arange(40), POINTS[:, 2]], axis=1), atol=1e-6)
    assert any("grey" in note for note in field.notes)


def test_colours_in_text_may_be_the_bits_of_floats(tmp_path):
    values = PACKED.view("<f4")
    rows = [f"{x:.8f} {y:.8f} {z:.8f} {c!r}" for (x, y, z), c in zip(POINTS, values.tolist(), strict=True)]
    content = header("x y z rgb", "4 4 4 4", "F F F F", "ascii") + "\n".join(rows).encode()
    (tmp_path / "a.pcd").write_bytes(content)
    np.testing.assert_allclose(read_splats(tmp_path / "a.pcd").colours, COLOURS / 255, atol=1e-6)


def test_references_of_lzf():
    # "abc", then 5 bytes from 3 back (which reaches into itself), then 12 from 1 back (a long one), then "z"
    stream = b"\x02abc" + bytes([3 << 5, 2]) + bytes([7 << 5, 3, 0]) + b"\x00z"
    assert unpack_lzf(stream, 3 + 5 + 12 + 1) == b"abcabcab" + b"b" * 12 + b"z"


BROKEN = {
    "2^40 points": (
        header("x y z", "4 4 4", "F F F", "binary", count=1 << 40) + bytes(120),
        "claims 1,099,511,627,776",
    ),
    "2^40 points as text": (header("x y z", "4 4 4", "F F F", "ascii", count=1 << 40) + b"0 0 0\n", "claims 1,099"),
    "2^40 points, compressed": (
        header("x y z", "4 4 4", "F F F", "binary_compressed", count=1 << 40) + compressed(b"", b"\x00a"),
        "claims 1,099",
    ),
    "a bomb": (
        header("x y z", "4 4 4", "F F F", "binary_compressed", count=1 << 23)
        + struct.pack("<II", 4, 12 << 23)
        + b"\0a",
        "at most 64 MiB",
    ),
    "cut": (pcd("binary")[:-5], "are there for them"),
    "cut text": (pcd("ascii")[:-300], "cut short or broken"),
    "cut, compressed": (pcd("binary_compressed")[:-200], "compressed points of"),
    "a reference to before": (
        header("x y z", "4 4 4", "F F F", "binary_compressed", count=2)
        + compressed(bytes(24), b"\x00a" + bytes([32, 9])),
        "refers to before its beginning",
    ),
    "no data": (b"VERSION 0.7\nFIELDS x y z\n", "without the line DATA"),
    "no z": (header("x y q", "4 4 4", "F F F", "binary") + bytes(480), "expected x, y, z"),
    "an odd type": (header("x y z", "4 4 3", "F F F", "binary") + bytes(480), "size '3'"),
    "an odd count": (header("x y z", "4 4 4", "F F F", "binary", counts="1 1 99999"), "count '99999'"),
    "an odd form": (header("x y z", "4 4 4", "F F F", "zipped") + bytes(480), "'zipped'"),
    "how many": (header("x y z", "4 4 4", "F F F", "binary", count="many") + bytes(480), "says POINTS 'many'"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_pcd(tmp_path, name):
    content, message = BROKEN[name]
    (tmp_path / "a.pcd").write_bytes(content)
    with pytest.raises(ValueError, match=rf"a\.pcd: .*{message}"):
        import_field(tmp_path / "a.pcd")


NORMALS = POINTS / np.linalg.norm(POINTS, axis=1, keepdims=True)


def xyz(*columns: np.ndarray, separator: str = " ", first: str = "") -> str:
    rows = np.concatenate([np.atleast_2d(each.T).T for each in columns], axis=1)
    return first + "".join(separator.join(f"{value:.7g}" for value in row) + "\n" for row in rows)


@pytest.mark.parametrize(
    ("text", "colours"),
    [
        (xyz(POINTS), None),
        (xyz(POINTS, COLOURS), COLOURS / 255),
        (xyz(POINTS, COLOURS / 255, separator=", ", first="# x y z r g b\n\n"), COLOURS / 255),
        (xyz(POINTS, NORMALS), None),
        (xyz(POINTS, np.abs(NORMALS)), None),
        (xyz(POINTS, np.arange(40.0)[:, None] - 9), None),  # an intensity
        (xyz(POINTS, NORMALS, COLOURS, separator=";"), COLOURS / 255),
        (xyz(POINTS, COLOURS, NORMALS, first="// comment\n"), COLOURS / 255),
    ],
)
def test_xyz(tmp_path, text, colours):
    (tmp_path / "a.xyz").write_text(text)
    splats = read_splats(tmp_path / "a.xyz")
    np.testing.assert_allclose(splats.means, POINTS, atol=1e-5)
    expected = np.full((40, 3), 160 / 255) if colours is None else colours
    np.testing.assert_allclose(splats.colours, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected rows of x y z"),
        (b"3\nwater\nO 0 0 0\nH 0 0 1\nH 0 1 0\n", "files of atoms"),
        (b"0 0 0\n1 1\n", "no table of 3 numbers a row"),
        (b"O 0 0 0\n", "no table of 4 numbers a row"),
        (b"\xff\xfe\x00" * 50, "expected rows of x y z|no table"),
        (b"0 0 0\n", "points in one place"),
        (b"1 " * 60_000, "expected rows of x y z"),
    ],
)
def test_broken_xyz(tmp_path, content, message):
    (tmp_path / "a.xyz").write_bytes(content)
    with pytest.raises(ValueError, match=rf"a\.xyz: .*({message})"):
        import_field(tmp_path / "a.xyz")
