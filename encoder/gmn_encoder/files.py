"""Reading and writing files: safely in, atomically out.

Nothing here runs code from a data file, and nothing half-written ever stands under its final name.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import tempfile
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import safe_open
from torch import Tensor

StrPath = str | os.PathLike[str]


@contextlib.contextmanager
def atomic_path(path: StrPath) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends well and vanishes when it does not.

    Raises `OSError` with the final path in its message where the directory cannot be written or the disk is full.
    """
    final = Path(path)
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{final.name}.", suffix=".tmp", dir=final.parent)
        os.close(handle)
    except OSError as error:
        raise OSError(f"{final}: cannot be written: {error.strerror or error}") from error
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes files private; give the file what an ordinary open() would have given it.
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        os.replace(temporary, final)
    except OSError as error:
        raise OSError(f"{final}: cannot be written: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_directory(path: StrPath, *, replace: bool = False) -> Iterator[Path]:
    """A hidden directory beside `path` that takes its place when the block ends well and vanishes when it does not.

    Args:
        path: the directory; it may be there already if it is empty.
        replace: or if it is not empty: it is removed once its successor is whole.

    Raises:
        ValueError: something stands at `path` and may not be replaced.
        OSError: the place cannot be written; errors of the block about the hidden directory name `path` instead.
    """
    final = Path(path)
    if final.exists() and not final.is_dir():
        raise ValueError(f"{final}: is a file; expected a new directory")
    if not replace and final.is_dir() and any(final.iterdir()):
        raise ValueError(f"{final}: is there already; name a new directory, or remove it first")
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{final.name}.", suffix=".tmp", dir=final.parent))
    except OSError as error:
        raise OSError(f"{final}: cannot be written: {error.strerror or error}") from error
    try:
        yield temporary
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o777 & ~mask)
        if final.is_dir():
            shutil.rmtree(final)
        temporary.rename(final)
    except OSError as error:
        if str(temporary) not in f"{error} {error.filename}":
            raise
        reason = error.strerror or str(error).replace(str(temporary), str(final))
        raise OSError(f"{final}: cannot be written: {reason}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_bytes(content: bytes, path: StrPath) -> None:
    """Write a whole file atomically. Serialising first means that a full disk is an `OSError`, whoever serialises."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_json(value: Any, path: StrPath) -> None:
    write_bytes((json.dumps(value, indent=2) + "\n").encode(), path)


def read_json(path: StrPath) -> dict[str, Any]:
    """An object in a JSON file. Raises `FileNotFoundError` or `ValueError` with the file's name."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: is no JSON file ({error})") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path}: holds a {type(value).__name__}; expected an object")
    return value


def write_safetensors(
    tensors: Mapping[str, Tensor], path: StrPath, *, metadata: Mapping[str, str] | None = None
) -> None:
    contiguous = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
    write_bytes(safetensors.torch.save(contiguous, metadata=dict(metadata or {})), path)


def write_pth(tensors: Mapping[str, Tensor], path: StrPath, *, compress: bool = False) -> None:
    """A flat dict of tensors as `torch.save` writes it. Each tensor is copied: a view would drag its whole storage along."""
    write_pth_content({key: tensor.detach().cpu().clone() for key, tensor in tensors.items()}, path, compress=compress)


def write_pth_content(content: Mapping[str, Any], path: StrPath, *, compress: bool = False) -> None:
    """A dict of tensors, numbers, strings and lists of them, which `read_tensors` and `torch.load` read back.

    Args:
        content: the dict.
        path: the file.
        compress: deflate the members of the zip archive that such a file is; only what repeats itself gets smaller.
    """
    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    write_bytes(_deflated(buffer) if compress else buffer.getvalue(), path)


def _deflated(archive: io.BytesIO) -> bytes:
    """The same members, names and dates, compressed."""
    result = io.BytesIO()
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(result, "w") as target:
        for member in source.infolist():
            target.writestr(member, source.read(member), zipfile.ZIP_DEFLATED)
    return result.getvalue()


def read_tensors(path: StrPath) -> tuple[dict[str, Any], dict[str, str]]:
    """Contents and metadata of a `.safetensors` or `torch.save` file, on the CPU.

    Returns:
        the top-level dict (for torch files values may be anything that loads without code) and the safetensors metadata,
        empty for torch files.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not such a file, empty, cut short, or a pickle that asks for code; nothing was executed.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    if not path.is_file():
        raise ValueError(f"{path}: is not a file; expected a .safetensors or torch.save file")
    if path.stat().st_size == 0:
        raise ValueError(f"{path}: is empty; expected saved tensors")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    return _read_torch(path), {}


def _read_safetensors(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping: safe_open has keys() only)
            return tensors, dict(file.metadata() or {})
    except OSError as error:
        raise OSError(f"{path}: cannot be read: {error.strerror or error}") from error
    except Exception as error:
        raise ValueError(f"{path}: is no safetensors file, or cut short ({_reason(error)})") from error


def _read_torch(path: Path) -> dict[str, Any]:
    try:
        with open(path, "rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols, on files that are then refused
            content = torch.load(file, map_location="cpu", weights_only=True)
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise OSError(f"{path}: cannot be read: {error.strerror}") from error
    except Exception as error:
        # Whatever a broken pickle raises (KeyError, IndexError, RuntimeError, ...), it is the file's fault.
        if found := re.search(r"(?:GLOBAL|Unsupported (?:class|global))[: ]+(?:GLOBAL )?([A-Za-z_][\w.]*)", str(error)):
            raise ValueError(
                f"{path}: refused, its pickle asks for {found.group(1)}, which is code; "
                "expected a plain dict of tensors as torch.save writes it (nothing was executed)"
            ) from error
        if "Unsupported operand" in str(error):
            raise ValueError(
                f"{path}: refused, a pickle that torch.save did not write; "
                "expected a plain dict of tensors (nothing was executed)"
            ) from error
        raise ValueError(f"{path}: is no torch.save file, or cut short ({_reason(error)})") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: holds a {type(content).__name__}; expected a dict of tensors")
    return content


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    text = re.split(r"(?<=[a-z])\. ", lines[0])[0] if lines else ""
    if len(text) < 4:  # a KeyError shows its key alone
        text = f"{type(error).__name__} {text}".strip()
    return text if len(text) <= 160 else text[:157] + "..."
