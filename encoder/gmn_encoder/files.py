"""Reading and writing files: safely in, atomically out.

Nothing here runs code from a data file, and nothing half-written ever stands under its final name.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import reprlib
import shutil
import stat
import tempfile
import warnings
import zipfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import safe_open
from torch import Tensor

from .pickles import Outline, PickleError
from .torch_files import check_torch_file

StrPath = str | os.PathLike[str]

MAX_JSON_BYTES = 64 << 20
"""Of `read_json`: tokenizers of large vocabularies have 20 MiB."""


_LONGEST = 1000  # ambiguous NeRFs list what they may be
_NO_MEMORY = "needs more memory than there is"
_MAX_HEADER = 100_000_000  # safetensors reads no longer ones
_BRIEF = reprlib.Repr()
_BRIEF.maxstring = _BRIEF.maxother = _BRIEF.maxlong = 60
_BRIEF.maxlevel = 3


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


def file_digest(path: StrPath) -> str:
    """SHA-256 of a file's bytes, in hex: what tells whether results were made from what stands there now.

    Raises `FileNotFoundError` or another `OSError` that names the file.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe or a device never ends
            raise OSError(f"{path}: is not a file")
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file") from None
    except OSError as error:
        raise OSError(f"{path}: cannot be read: {error.strerror or error}") from error


def write_bytes(content: bytes, path: StrPath) -> None:
    """Write a whole file atomically. Serialising first means that a full disk is an `OSError`, whoever serialises."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_json(value: Any, path: StrPath) -> None:
    write_bytes((json.dumps(value, indent=2) + "\n").encode(), path)


def brief(value: object) -> str:
    """The `repr` of something out of a file for a message: cut short, also where it is nested or has thousands of digits."""
    try:
        return _BRIEF.repr(value)
    except ValueError:  # Python prints integers of up to 4,300 digits
        return f"an {type(value).__name__} of thousands of digits"


def parse_json(text: str | bytes) -> Any:
    """`json.loads`, where whatever is wrong with a text is a `ValueError`: also brackets in brackets, thousands deep."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("brackets are nested too deep") from None


def read_json(path: StrPath, *, max_bytes: int = MAX_JSON_BYTES) -> dict[str, Any]:
    """An object in a JSON file. Raises `FileNotFoundError` or `ValueError` with the file's name."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    if (size := path.stat().st_size) > max_bytes:
        raise ValueError(f"{path}: has {size / 2**20:,.0f} MiB; expected JSON of at most {max_bytes / 2**20:,.0f} MiB")
    try:
        value = parse_json(path.read_text(encoding="utf-8"))
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


@contextlib.contextmanager
def named_errors(path: StrPath) -> Iterator[None]:
    """Whatever the content of a file brings about in a block that works on it is a `ValueError` that begins with its path.

    `OSError` goes through, and so does a `ValueError` that has the path already.
    """
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        if isinstance(error, ValueError) and str(error).startswith(str(path)):
            raise
        raise ValueError(f"{path}: {reason(error)}") from error


def reason(error: BaseException) -> str:
    """An error as half a sentence: its message, or what its kind means."""
    if isinstance(error, RecursionError):
        return "is nested too deep"
    if isinstance(error, MemoryError) or "allocate memory" in str(error):
        return _NO_MEMORY
    if isinstance(error, ValueError | TypeError) and 0 < len(str(error)) <= _LONGEST:
        return str(error)
    return _reason(error)


def safetensors_metadata(path: StrPath) -> dict[str, str]:
    """The metadata in the header of a `.safetensors` file, which is all that is read; empty for anything else."""
    try:
        if not Path(path).is_file():
            return {}
        with open(path, "rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = parse_json(file.read(size)) if size <= _MAX_HEADER else {}
    except (OSError, ValueError):
        return {}
    metadata = header.get("__metadata__") if isinstance(header, dict) else None
    return metadata if isinstance(metadata, dict) else {}


def read_tensors(path: StrPath, *, extra: Collection[str] = ()) -> tuple[dict[str, Any], dict[str, str]]:
    """Contents and metadata of a `.safetensors` or `torch.save` file, on the CPU.

    Memory is taken for bytes that the file has, never for what it announces (`torch_files.py`).

    Args:
        path: the file.
        extra: what a pickle may hold besides plain values and tensors, `pickles.NUMPY_NUMBERS`.

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
    return _read_torch(path, extra), {}


def _read_safetensors(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping: safe_open has keys() only)
            return tensors, dict(file.metadata() or {})
    except OSError as error:
        raise OSError(f"{path}: cannot be read: {error.strerror or error}") from error
    except Exception as error:
        raise ValueError(f"{path}: {_unreadable(error, 'safetensors')}") from error


def torch_outline(path: StrPath, *, extra: Collection[str] = ()) -> Outline:
    """The keys of the dict in a `torch.save` file, and of the dicts in that, without its tensors.

    Raises what `read_tensors` raises, as far as it shows without them.
    """
    with _torch_errors(Path(path)), open(path, "rb") as file:
        return check_torch_file(file, extra=extra)


def _read_torch(path: Path, extra: Collection[str]) -> dict[str, Any]:
    with _torch_errors(path), open(path, "rb") as file, _numpy_numbers(allowed=bool(extra)):
        check_torch_file(file, extra=extra)
        content = torch.load(file, map_location="cpu", weights_only=True)
        _check_tensors(content)
    if not isinstance(content, dict):
        raise ValueError(f"{path}: holds a {type(content).__name__}; expected a dict of tensors")
    return content


@contextlib.contextmanager
def _torch_errors(path: Path) -> Iterator[None]:
    """What is wrong with a `torch.save` file, with its name."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols, on files that are then refused
            yield
    except PickleError as error:
        raise ValueError(f"{path}: {error}") from error
    except OSError as error:
        raise OSError(f"{path}: cannot be read: {error.strerror or error}") from error
    except Exception as error:
        # Whatever a broken archive or pickle raises (KeyError, IndexError, RuntimeError, ...), it is the file's fault.
        raise ValueError(f"{path}: {_unreadable(error, 'torch.save')}") from error


@contextlib.contextmanager
def _numpy_numbers(*, allowed: bool) -> Iterator[None]:
    """Lets torch read numbers of numpy, which the pickle was checked for."""
    if not allowed:
        yield
        return
    import numpy as np

    scalar = np._core.multiarray.scalar  # type: ignore[attr-defined]
    kinds = [type(np.dtype(code)) for code in ("f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "b1")]
    with torch.serialization.safe_globals([scalar, (scalar, "numpy.core.multiarray.scalar"), np.dtype, *kinds]):
        yield


def _check_tensors(content: Any) -> None:
    """Raise `PickleError` for a tensor that shows the same bytes many times: what is made of it would be larger than the file."""
    rest, seen = [content], set()
    while rest:
        value = rest.pop()
        if isinstance(value, Tensor):
            if value.layout != torch.strided:
                continue
            stored = value.untyped_storage().nbytes()
            if value.numel() * value.element_size() > stored:
                raise PickleError(
                    f"holds a tensor of {value.numel():,} elements that are not all there ({stored:,} bytes); "
                    "save a contiguous copy"
                )
        elif isinstance(value, dict | list | tuple) and id(value) not in seen:
            seen.add(id(value))
            rest.extend(value.values() if isinstance(value, dict) else value)


def _unreadable(error: Exception, kind: str) -> str:
    why = reason(error)
    return why if why == _NO_MEMORY else f"is no {kind} file, or cut short ({_reason(error)})"


def _reason(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    text = re.split(r"(?<=[a-z])\. ", lines[0])[0] if lines else ""
    if len(text) < 4:  # a KeyError shows its key alone
        text = f"{type(error).__name__} {text}".strip()
    return text if len(text) <= 160 else text[:157] + "..."
