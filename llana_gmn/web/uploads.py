"""Files from visitors: checked, and read without running anything in them.

What a visitor sends is a claim: extension and size are checked before it is opened, what an archive unpacks to before it is
unpacked, how many weights a NeRF has before they are used. Errors name the file as the visitor did, never a path of the server.
"""

from __future__ import annotations

import re
import shutil
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from gmn_encoder.fitting.sources import sources_below
from gmn_encoder.nerfs.files import find_nerfs, load_nerf
from gmn_encoder.nerfs.importers import find_importer, foreign_suffixes
from gmn_encoder.nerfs.record import Nerf
from gmn_encoder.objects.mesh_files import EXTENSIONS as MESH_EXTENSIONS

NERF_EXTENSIONS = (".pth", ".pt", ".safetensors")
ARCHIVE = ".zip"
"""Of a folder: photographs with their cameras, a mesh with its textures, a run of another program."""
MAX_WEIGHTS = 2_000_000
"""The largest of the paper's architectures has 78,000."""
MAX_MEMBERS = 10_000
"""Files in an archive."""

_BROKEN = (
    *(zipfile.BadZipFile, zlib.error, EOFError, FileExistsError, NotADirectoryError),
    *(NotImplementedError, RuntimeError),  # other ways to compress, passwords
)
_INFLATION = 4  # times the largest upload: images hardly shrink
_UNPACKED = "unpacked"


def fitted_extensions() -> tuple[str, ...]:
    """Extensions of what is never a NeRF of ours: a fit is made to it first."""
    found = (*MESH_EXTENSIONS, *foreign_suffixes(), ARCHIVE)
    return tuple(each for each in dict.fromkeys(found) if each not in NERF_EXTENSIONS)


def receive(path: Path, folder: Path, *, max_bytes: int) -> Path:
    """Copy an upload into a folder of its own under `folder`, where no other file stands beside it.

    Where it arrived it stays: Gradio keeps equal files of all visitors in one place, and removes them within the hour.

    Raises `ValueError` for an extension that is not read here, an empty file, or one over `max_bytes`.
    """
    extension, size = path.suffix.lower(), path.stat().st_size
    if extension not in (*NERF_EXTENSIONS, *fitted_extensions()):
        others = [each for each in fitted_extensions() if each not in (*MESH_EXTENSIONS, ARCHIVE)]
        raise ValueError(
            f"{path.name}: unknown extension {path.suffix!r}; expected a NeRF ({', '.join(NERF_EXTENSIONS)}), "
            f"a mesh ({', '.join(MESH_EXTENSIONS)}), a field of another program ({', '.join(others)}), "
            f"or a folder of photographs and their cameras ({ARCHIVE})"
        )
    if size > max_bytes:
        raise ValueError(f"{path.name}: has {size / 2**20:.1f} MiB; expected at most {max_bytes / 2**20:g} MiB")
    folder.mkdir(parents=True)
    name = re.sub(r"[^\w-]+", "_", path.stem).strip("_")[:60] or "upload"
    return Path(shutil.copyfile(path, folder / f"{name}{extension}"))


def opened(path: Path, *, max_bytes: int) -> tuple[Path, bool]:
    """What a received file is read from: itself, or what its archive holds, unpacked beside it; and whether to fit a NeRF to it.

    Raises `ValueError` for an archive that holds none or several, what `unpack` refuses, and for broken checkpoints.
    """
    if path.suffix in NERF_EXTENSIONS:
        return path, find_importer(path) is not None
    if path.suffix != ARCHIVE:
        return path, True
    folder = path.parent / _UNPACKED
    unpack(path, folder, max_bytes=_INFLATION * max_bytes)
    nerfs = [nerf for nerf in find_nerfs(folder) if nerf != folder]
    found = nerfs or list(sources_below(folder))
    if len(found) != 1:
        names = ", ".join(each.relative_to(folder).as_posix() for each in found[:3])
        raise ValueError(
            f"{path}: holds {f'{len(found)} objects ({names})' if found else 'no object'}; expected one: photographs with their "
            "cameras (transforms.json, COLMAP), a mesh with its textures, or the folder of a run"
        )
    return found[0], not nerfs


def unpack(path: Path, folder: Path, *, max_bytes: int) -> None:
    """Write the files of a zip archive into a new folder.

    Raises `ValueError`, before anything is written, for names that lead out of the folder, links, over `MAX_MEMBERS` files, or
    over `max_bytes` of them; and for what is no archive, or broken.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            _check_members(path, members, max_bytes)
            for member in members:
                target = folder.joinpath(*PurePosixPath(member.filename).parts)
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as source, open(target, "wb") as file:
                    shutil.copyfileobj(source, file)
    except _BROKEN as error:
        raise ValueError(f"{path}: is no zip archive that can be unpacked ({error}); zip the folder again") from error


def _check_members(path: Path, members: list[zipfile.ZipInfo], max_bytes: int) -> None:
    total = sum(member.file_size for member in members)
    if total > max_bytes:
        raise ValueError(f"{path}: unpacks to {total / 2**20:.0f} MiB; expected at most {max_bytes / 2**20:g} MiB")
    if len(members) > MAX_MEMBERS:
        raise ValueError(f"{path}: has {len(members):,} files; expected at most {MAX_MEMBERS:,}")
    for member in members:
        name = PurePosixPath(member.filename)
        if (
            name.is_absolute()
            or ".." in name.parts
            or "\\" in member.filename
            or stat.S_ISLNK(member.external_attr >> 16)
        ):
            raise ValueError(
                f"{path}: has the member {member.filename[:80]!r}, which leads elsewhere; expected plain files"
            )


def read_nerf(path: Path) -> Nerf:
    """A received NeRF, or the directory of a fit. Raises what `load_nerf` raises, and `ValueError` over `MAX_WEIGHTS`."""
    nerf = load_nerf(path)
    if nerf.architecture.num_parameters > MAX_WEIGHTS:
        raise ValueError(f"{path}: has {nerf.architecture.num_parameters:,} weights; expected at most {MAX_WEIGHTS:,}")
    return nerf
