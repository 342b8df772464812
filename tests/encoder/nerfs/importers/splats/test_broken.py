"""Files that are cut short, broken, or claim more than they hold: one sentence each, and no memory for what is not there."""

from __future__ import annotations

import gzip
import json
import struct
import tracemalloc

import numpy as np
import pytest

from gmn_encoder.nerfs.importers import find_importer, import_field, is_foreign

from . import writers
from .writers import random_cloud

HUGE = 1 << 40
SPZ_CLAIM = writers.spz_header(3, 9_999_999, 0)


def ply_claim(count: int, form: str = "binary_little_endian") -> bytes:
    names = ["x", "y", "z", "f_dc_0", "f_dc_1", "f_dc_2", "opacity", "scale_0", "scale_1", "scale_2"]
    names += [f"rot_{k}" for k in range(4)]
    return writers.ply_header(form, [("vertex", count, [f"float {name}" for name in names])]) + bytes(500)


def compressed_claim(chunks: int, vertices: int) -> bytes:
    content = writers.write_compressed_ply(random_cloud(5))
    return content.replace(b"chunk 1\n", f"chunk {chunks}\n".encode()).replace(
        b"vertex 5\n", f"vertex {vertices}\n".encode()
    )


def points_claim(count: int) -> bytes:
    return writers.ply_header("binary_little_endian", [("vertex", count, ["float x", "float y", "float z"])]) + bytes(
        240
    )


def with_meta(**changes) -> bytes:
    files = writers.sog_files(random_cloud(150, 1))
    meta = json.loads(files["meta.json"])
    for key, value in changes.items():
        part, _, name = key.partition("__")
        if name:
            meta[part][name] = value
        else:
            meta[part] = value
    return writers.zip_of({**files, "meta.json": json.dumps(meta).encode()})


def without(name: str) -> bytes:
    return writers.zip_of({key: value for key, value in writers.sog_files(random_cloud(9)).items() if key != name})


def bomb() -> bytes:
    """Zeros that gzip packs a thousandfold, far more than the header says."""
    return gzip.compress(writers.spz_header(3, 4, 0) + bytes(50_000_000))


CASES = {
    "ply that claims 2^40 splats": (
        "a.ply",
        ply_claim(HUGE),
        "claims 1,099,511,627,776 rows of vertex of 56 bytes, and 500",
    ),
    "text ply that claims 2^40": ("a.ply", ply_claim(HUGE, "ascii"), "claims 1,099,511,627,776 rows of vertex"),
    "points that claim 2^40": ("a.ply", points_claim(HUGE), "claims 1,099,511,627,776 rows of vertex of 12 bytes"),
    "ply cut short": ("a.ply", writers.write_ply(random_cloud())[:-1], "cut short or broken"),
    "text ply cut short": ("a.ply", writers.write_ply(random_cloud(), "ascii")[:-500], "cut short or broken"),
    "text ply of words": ("a.ply", ply_claim(10, "ascii").rstrip(b"\0") + b"nothing here " * 40, "no table of numbers"),
    "no splats": ("a.ply", ply_claim(0), "holds no rows of vertex"),
    "ply with 7 f_rest": (
        "a.ply",
        ply_claim(2).replace(
            b"property float x", b"".join(b"property float f_rest_%d\n" % k for k in range(7)) + b"property float x"
        ),
        "has 7 coefficients of spherical harmonics",
    ),
    "ply without rotations": ("a.ply", ply_claim(2).replace(b"rot_3", b"other"), "splats without rot_3"),
    "compressed, 2^40 chunks": ("a.ply", compressed_claim(HUGE, 5), "rows of chunk"),
    "compressed, too few chunks": ("a.ply", compressed_claim(1, 500), "a chunk for every 256 splats"),
    "compressed, 2^40 splats": ("a.ply", compressed_claim(HUGE, HUGE), "rows of chunk"),
    "splat cut short": ("a.splat", bytes(33), "expected a multiple of 32"),
    "empty splat": ("a.splat", b"", "expected a multiple of 32"),
    "ksplat, compressed": (
        "a.ksplat",
        writers.write_ksplat(random_cloud(), level=1),
        "compression level 1, which is not read",
    ),
    "ksplat cut short": ("a.ksplat", writers.write_ksplat(random_cloud())[:-1], "cut short or broken"),
    "ksplat without a header": ("a.ksplat", bytes(100), "has 100 bytes"),
    "ksplat, other version": ("a.ksplat", bytes(5120), "version 0.0; expected 0.1"),
    "ksplat, 2^32 sections": (
        "a.ksplat",
        b"\x00\x01\x00\x00" + b"\xff" * 4 + bytes(6000),
        "claims 4,294,967,295 sections",
    ),
    "spz that is no gzip": ("a.spz", b"\x1f\x8b" + bytes(40), "no gzip stream, or broken"),
    "spz cut short": ("a.spz", writers.write_spz(random_cloud(), 2)[:-60], "the file is cut short or broken"),
    "spz that claims too much": ("a.spz", gzip.compress(SPZ_CLAIM + bytes(100)), "claims 9,999,999 splats"),
    "spz of version 9": ("a.spz", gzip.compress(writers.spz_header(9, 4, 0)), "version 9; expected 1 to 4"),
    "spz of degree 7": ("a.spz", gzip.compress(writers.spz_header(3, 4, 7) + bytes(200)), "degree 7; expected 0 to 3"),
    "spz 4 without a table": ("a.spz", writers.spz_header(4, 4, 0) + bytes(16), "table of 6 streams at byte 0"),
    "spz 4 with a wrong size": (
        "a.spz",
        writers.spz_header(4, 4, 0) + struct.pack("<I", 32) + bytes(12) + struct.pack("<QQ", 4, HUGE) * 6 + bytes(99),
        "a stream of 1,099,511,627,776 bytes packed into 4",
    ),
    "sog cut short": ("a.sog", writers.zip_of(writers.sog_files(random_cloud(9)))[:-30], "no SOG bundle, or cut short"),
    "sog without an image": ("a.sog", without("quats.webp"), "holds no quats.webp"),
    "sog of version 3": ("a.sog", with_meta(version=3), "SOG of version 3; expected 1 or 2"),
    "sog that claims 2^40": ("a.sog", with_meta(count=HUGE), "holds 1,099,511,627,776 splats; at most 10,000,000"),
    "sog with too small images": ("a.sog", with_meta(count=5000), "pixels for 5,000 splats"),
    "sog that names a file above": ("a.sog", with_meta(quats__files=["../quats.webp"]), "without folders"),
    "sog with a short codebook": ("a.sog", with_meta(scales__codebook=[1.0]), "codebook of 1 numbers; expected 256"),
    "sog with words for numbers": ("a.sog", with_meta(means__mins="none"), "could not convert"),
    "sog without means": ("a.sog", with_meta(means={}), "not a SOG bundle's"),
    "sog whose image is text": (
        "a.sog",
        writers.zip_of({**writers.sog_files(random_cloud(9)), "quats.webp": b"RIFF, and so on"}),
        "holds a quats.webp that is no picture",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_one_sentence_and_little_memory(tmp_path, case):
    name, content, message = CASES[case]
    file = tmp_path / name
    file.write_bytes(content)
    assert is_foreign(file)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError) as caught:
            import_field(file)
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(file)) and "\n" not in str(caught.value)


def test_a_bomb_behind_a_small_header_is_not_unpacked(tmp_path):
    file = tmp_path / "a.spz"
    file.write_bytes(bomb())
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="no splat has an opacity"):
            import_field(file)
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()


def test_a_zstandard_stream_is_not_believed(tmp_path):
    """The table says the right size, the stream's own header another, and what it unpacks to is larger still."""
    zstandard = pytest.importorskip("zstandard")
    cloud = random_cloud(200)
    streams = writers.spz_streams(cloud, 4)
    packed = [zstandard.ZstdCompressor().compress(stream) for stream in streams]
    packed[0] = zstandard.ZstdCompressor().compress(bytes(200_000_000))
    table = b"".join(struct.pack("<QQ", len(p), len(s)) for p, s in zip(packed, streams, strict=True))
    content = writers.spz_header(4, len(cloud), 0) + struct.pack("<I", 32) + bytes(12) + table + b"".join(packed)
    file = tmp_path / "a.spz"
    file.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="a stream of other than its 1,800 bytes"):
            import_field(file)
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()


def test_files_of_others_are_left_to_them(tmp_path):
    mesh = writers.ply_header(
        "ascii", [("vertex", 3, ["float x", "float y", "float z"]), ("face", 1, ["list uchar int vertex_indices"])]
    )
    for name, content in (
        ("mesh.ply", mesh + b"0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n"),
        ("broken.ply", b"ply\nformat ascii 1.0\nelement"),
        ("other.zip", writers.zip_of({"meta.json": b"[1, 2]"})),
        ("other.gz", gzip.compress(b"something else")),
        ("other.bin", bytes(64)),
    ):
        file = tmp_path / name
        file.write_bytes(content)
        assert find_importer(file) is None, name


def test_mutated_files_are_refused_or_read(tmp_path):
    """Whatever a byte is changed to, the answer is a field or a ValueError."""
    generator = np.random.default_rng(0)
    cloud = random_cloud(20, 1)
    contents = {
        "a.ply": writers.write_ply(cloud),
        "b.ply": writers.write_compressed_ply(cloud),
        "c.spz": writers.write_spz(cloud, 3),
        "d.sog": writers.zip_of(writers.sog_files(cloud)),
        "e.ksplat": writers.write_ksplat(cloud),
    }
    for name, content in contents.items():
        file = tmp_path / name
        for _ in range(60):
            changed = bytearray(content)
            for place in generator.integers(
                len(changed) if generator.random() < 0.5 else min(len(changed), 1500), size=3
            ):
                changed[place] = generator.integers(256)
            file.write_bytes(changed)
            try:
                if is_foreign(file):
                    import_field(file)
            except ValueError as error:
                assert len(str(error)) < 600
