"""Files from visitors: checked, and read without running anything in them.

What a visitor sends is a claim: extension, size, what an archive unpacks to and how many weights it holds are checked before
anything is built from it. Errors name the file as the visitor did, never a path of the server.
"""

from __future__ import annotations

import re
import shutil
import zipfile
from pathlib import Path

from torch import Tensor

from gmn_encoder.files import read_tensors
from gmn_encoder.nerfs.files import load_nerf
from gmn_encoder.nerfs.record import Nerf
from gmn_encoder.objects.mesh_files import EXTENSIONS as MESH_EXTENSIONS

NERF_EXTENSIONS = (".pth", ".pt", ".safetensors")
MAX_WEIGHTS = 2_000_000
"""The largest of the paper's architectures has 78,000."""


def receive(path: Path, folder: Path, *, max_bytes: int) -> Path:
    """Copy an upload into a folder of its own under `folder`, where no other file stands beside it.

    Where it arrived it stays: Gradio keeps equal files of all visitors in one place, and removes them within the hour.

    Raises `ValueError` for an extension that is not read here, an empty file, or one over `max_bytes`.
    """
    extension, size = path.suffix.lower(), path.stat().st_size
    if extension not in (*NERF_EXTENSIONS, *MESH_EXTENSIONS):
        raise ValueError(
            f"{path.name}: unknown extension {path.suffix!r}; expected a NeRF ({', '.join(NERF_EXTENSIONS)}) "
            f"or a mesh ({', '.join(MESH_EXTENSIONS)})"
        )
    if size > max_bytes:
        raise ValueError(f"{path.name}: has {size / 2**20:.1f} MiB; expected at most {max_bytes / 2**20:g} MiB")
    folder.mkdir(parents=True)
    name = re.sub(r"[^\w-]+", "_", path.stem).strip("_")[:60] or "upload"
    return Path(shutil.copyfile(path, folder / f"{name}{extension}"))


def read_nerf(path: Path, *, max_bytes: int) -> Nerf:
    """A received NeRF, or the directory of a fit. Raises what `load_nerf` raises, and `ValueError` for a file that is larger
    than it looks."""
    if path.is_dir():
        return load_nerf(path)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > max_bytes:
            raise ValueError(
                f"{path}: unpacks to {unpacked / 2**20:.0f} MiB; expected at most {max_bytes / 2**20:g} MiB"
            )
    content, _ = read_tensors(path)
    weights = sum(value.numel() for value in content.values() if isinstance(value, Tensor))
    if weights > MAX_WEIGHTS:
        raise ValueError(f"{path}: has {weights:,} weights; expected at most {MAX_WEIGHTS:,}")
    return load_nerf(path)
