"""Fields of other programs: snapshots, checkpoints, splats and point clouds that claim too much, or ask for code."""

from __future__ import annotations

import gzip
import struct
import zipfile
import zlib
from pathlib import Path

from .forged import archive, called, mapping, pickled, sparse, tensor, text, written
from .registry import command, hostile, reader


@reader("foreign")
def import_field(path: Path) -> None:
    from gmn_encoder.nerfs.importers import import_field

    import_field(path)


@reader("foreign", extra="gradio")
def upload_to_fit(path: Path) -> None:
    """What the web page does with a visitor's file before anything is fitted to it."""
    import tempfile

    from gmn_encoder.nerfs.importers import import_field
    from llana_gmn.web.uploads import opened, receive

    with tempfile.TemporaryDirectory() as folder:
        received = receive(path, Path(folder, "received"), max_bytes=8 << 20)
        import_field(opened(received, max_bytes=8 << 20)[0])


@command("foreign", done=lambda good, out, stdout: str(good) in stdout)
def inspect_field(bad: Path, good: Path, out: Path) -> list:
    return ["inspect", bad, good]


def ply(count: int, form: str = "binary_little_endian", *, rows: bytes = bytes(400)) -> bytes:
    names = ["x", "y", "z", "f_dc_0", "f_dc_1", "f_dc_2", "opacity", *(f"scale_{k}" for k in range(3))]
    names += [f"rot_{k}" for k in range(4)]
    lines = ["ply", f"format {form} 1.0", f"element vertex {count}", *(f"property float {name}" for name in names)]
    return "\n".join([*lines, "end_header", ""]).encode() + rows


def deep(levels: int) -> bytes:
    """Msgpack: a map within a map, and so on."""
    return b"\x81\xa1a" * levels + b"\xc0"


@hostile("foreign")
def ply_of_a_trillion_splats(folder: Path) -> Path:
    """A header that claims 2^40 rows; 400 bytes follow."""
    return written(folder / "bad.ply", ply(1 << 40))


@hostile("foreign")
def text_ply_of_a_trillion_splats(folder: Path) -> Path:
    """The same as text."""
    return written(folder / "bad.ply", ply(1 << 40, "ascii", rows=b"0 " * 200))


@hostile("foreign")
def pcd_of_a_trillion_points(folder: Path) -> Path:
    """Compressed points: 2^40 of them, in six bytes."""
    lines = "VERSION 0.7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 1\nWIDTH 1\nHEIGHT 1\n"
    head = f"{lines}POINTS {1 << 40}\nDATA binary_compressed\n".encode()
    return written(folder / "bad.pcd", head + struct.pack("<II", 6, 0xFFFFFFFF) + b"\xff" * 6)


@hostile("foreign")
def xyz_of_one_line(folder: Path) -> Path:
    """Two gigabytes of zeros without a line's end, which take no room on the disk."""
    return sparse(folder / "bad.xyz", 2 << 30)


@hostile("foreign")
def spz_bomb(folder: Path) -> Path:
    """A megabyte that unpacks to 256 MiB, of which its header claims 20."""
    head = b"NGSP" + struct.pack("<IIBBBB", 3, 1_000_000, 0, 12, 0, 0)
    stream = zlib.compressobj(1, zlib.DEFLATED, 31)
    packed = stream.compress(head) + b"".join(stream.compress(bytes(1 << 20)) for _ in range(256)) + stream.flush()
    return written(folder / "bad.spz", packed)


@hostile("foreign")
def snapshot_bomb(folder: Path) -> Path:
    """An .ingp that begins as msgpack and unpacks to a gigabyte of zeros."""
    stream = zlib.compressobj(1, zlib.DEFLATED, 31)
    parts = [stream.compress(b"\x81\xa8snapshot\xc6" + struct.pack(">I", 0xFFFFFFF0))]
    parts += [stream.compress(bytes(1 << 24)) for _ in range(64)]
    return written(folder / "bad.ingp", b"".join(parts) + stream.flush())


@hostile("foreign")
def snapshot_cut_short(folder: Path) -> Path:
    """A snapshot whose stream ends in the middle."""
    whole = gzip.compress(b"\x82\xa8snapshot\x81\xa4mode\xa4nerf\xa8encoding\x80" + bytes(500), mtime=0)
    return written(folder / "bad.ingp", whole[: len(whole) // 2])


@hostile("foreign")
def snapshot_in_depth(folder: Path) -> Path:
    """Maps in maps, 100,000 deep."""
    return written(folder / "bad.msgpack", b"\x82\xa8snapshot\x80\xa1a" + deep(100_000))


@hostile("foreign")
def snapshot_of_a_billion(folder: Path) -> Path:
    """An array and a binary that claim 2^32 - 1 entries."""
    return written(folder / "bad.msgpack", b"\x82\xa8snapshot\xdd\xff\xff\xff\xff\xa1a\xc6\xff\xff\xff\xff")


@hostile("foreign")
def checkpoint_that_runs_code(folder: Path) -> Path:
    """A krrish94 checkpoint whose network is a call of os.system."""
    network = called("os", "system", text("touch ran"))
    return archive(folder / "bad.ckpt", pickled(mapping({"model_fine_state_dict": network})), {})


@hostile("foreign")
def run_whose_checkpoint_is_a_bomb(folder: Path) -> Path:
    """A nerfstudio checkpoint with a deflated storage of 512 MiB."""
    weights = tensor([1 << 27], elements=1 << 27)
    pickle = pickled(mapping({"pipeline": mapping({"_model.field.mlp_base.params": weights})}))
    return archive(folder / "step-000000001.ckpt", pickle, {"0": bytes(512 << 20)}, deflate=True)


@hostile("foreign", harmless=("import_field", "inspect_field"))
def zipped_bomb(folder: Path) -> Path:
    """A folder of photographs that unpacks to 512 MiB."""
    path = folder / "bad.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed, packed.open("a.png", "w") as file:
        for _ in range(32):
            file.write(bytes(1 << 24))
    return path


@hostile("foreign")
def zipped_names_that_lead_elsewhere(folder: Path) -> Path:
    """Members above the folder, at the root, and a link."""
    with zipfile.ZipFile(folder / "bad.zip", "w") as packed:
        packed.writestr("../../up/transforms.json", "{}")
        packed.writestr("/tmp/abs/transforms.json", "{}")
        link = zipfile.ZipInfo("link.ply")
        link.external_attr = 0o120777 << 16
        packed.writestr(link, "/etc/passwd")
    return folder / "bad.zip"
