"""NeRF files in and out: the released layout (docs/released_format.md#nerf-weights) and our own `.safetensors`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..files import StrPath, brief, named_errors, parse_json, read_tensors, write_pth, write_safetensors
from .architectures import FAMILIES, MAX_PARAMETERS, NerfArchitecture, detect_architecture, parse_architecture
from .network import BIAS_KEY, MLP_KEY
from .record import Nerf

WEIGHTS_NAME = "nerf_weights.pth"
SAFETENSORS_NAME = "nerf.safetensors"
MAX_BYTES = 8 * MAX_PARAMETERS
"""Of a file: as many weights as an architecture may have, in double precision."""

_METADATA_KEY = "nerf_architecture"
_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def load_nerf(path: StrPath, architecture: NerfArchitecture | Mapping[str, Any] | str | None = None) -> Nerf:
    """Read a NeRF.

    Args:
        path: a directory in the released layout (with `nerf_weights.pth`, or our `nerf.safetensors`), a `nerf_weights.pth`
            by any name, or a `.safetensors` file of `save_nerf`.
        architecture: a `NerfArchitecture`, its `to_dict()` form or a name of the paper's Table 14. Only needed where several
            sizes fit the tensors; otherwise family and sizes are detected from the shapes.

    Returns:
        the NeRF on the CPU in float32 (half, bfloat16 and double files are converted). Keys that do not belong to a NeRF
        are ignored, as are the zero-size tensors that tiny-cuda-nn writes.

    Raises:
        FileNotFoundError: nothing there, or a directory without weights.
        ValueError: not a NeRF, broken, ambiguous, or in contradiction to `architecture`; the message starts with the file.
    """
    file = weights_file(path)
    content, metadata = read_tensors(file)
    with named_errors(file):
        tensors = _nerf_tensors(content)
        if architecture is not None:
            sizes = parse_architecture(architecture)
        elif _METADATA_KEY in metadata:
            sizes = _architecture_from_metadata(metadata[_METADATA_KEY])
        else:
            sizes = detect_architecture({key: tuple(tensor.shape) for key, tensor in tensors.items()})
        # Converted before they are checked: a double beyond float32 becomes infinite.
        tensors = {key: tensor.float() if tensor.is_floating_point() else tensor for key, tensor in tensors.items()}
        return Nerf(sizes, tensors, file)


def save_nerf(nerf: Nerf, path: StrPath) -> Path:
    """Write a NeRF and return the file.

    `path` may end in `.safetensors` (our format: the architecture stands in its metadata, any dtype), in `.pth` or `.pt` (the
    released format), or be a directory, new or not, which gets a `nerf_weights.pth`. Atomic; raises `OSError` where it cannot
    be written.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        write_safetensors(nerf.tensors, path, metadata={_METADATA_KEY: json.dumps(nerf.architecture.to_dict())})
        return path
    if path.suffix in (".pth", ".pt") and not path.is_dir():
        file = path
    elif path.suffix and not path.is_dir():
        raise ValueError(
            f"{path}: unknown extension {path.suffix!r} for a NeRF; expected .safetensors, .pth or a directory"
        )
    else:
        file = path / WEIGHTS_NAME
    write_pth({**nerf.tensors, **{key: torch.empty(0) for key in nerf.architecture.empty_keys}}, file)
    return file


def weights_file(path: StrPath) -> Path:
    """The weights file that a path of the user's means: itself, or the one in the directory.

    Raises `FileNotFoundError` for a directory without one, `OSError` for a file that is too large for a NeRF (`MAX_BYTES`).
    """
    path = Path(path)
    names = [path] if not path.is_dir() else [path / name for name in (WEIGHTS_NAME, SAFETENSORS_NAME)]
    for file in names:
        if file.is_file() and (size := file.stat().st_size) > MAX_BYTES:
            raise OSError(f"{file}: has {size >> 20:,} MiB; expected a NeRF of at most {MAX_BYTES >> 20:,} MiB")
        if file.is_file() or file is path:
            return file
    raise FileNotFoundError(
        f"{path}: is a directory without {WEIGHTS_NAME} or {SAFETENSORS_NAME}; expected a NeRF directory"
    )


def renamed(text: str, path: StrPath, name: str) -> str:
    """What is said about a NeRF at a path, about the name that it was given in place of it."""
    for file in (Path(path, WEIGHTS_NAME), Path(path, SAFETENSORS_NAME), path):
        text = text.replace(str(file), name)
    return text


def is_nerf_directory(path: StrPath) -> bool:
    """Whether a directory is that of a NeRF in the released layout, or as `save_nerf` writes it."""
    return any(Path(path, name).is_file() for name in (WEIGHTS_NAME, SAFETENSORS_NAME))


def find_nerfs(path: StrPath) -> Iterator[Path]:
    """Every NeRF under a path, in sorted order: the path itself if it is a file or a NeRF directory, else what lies below.

    A path that does not exist, or a directory with nothing in it, is yielded as it is: reading it says what is wrong.
    """
    path = Path(path)
    found = False
    if path.is_dir():
        for root, directories, files in os.walk(path):
            directories.sort()
            if WEIGHTS_NAME in files or SAFETENSORS_NAME in files:
                directories.clear()
                found = True
                yield Path(root)
                continue
            for name in sorted(name for name in files if name.endswith(".safetensors") and not name.startswith(".")):
                if _may_be_nerf(Path(root, name)):
                    found = True
                    yield Path(root, name)
    if not found:
        yield path


def _may_be_nerf(file: Path) -> bool:
    """Whether a safetensors file names a NeRF's tensors in its header, or is too broken to tell."""
    if not file.is_file():  # a pipe, which opening would wait for
        return True
    try:
        with open(file, "rb") as stream:
            size = int.from_bytes(stream.read(8), "little")
            header = stream.read(min(size, 1 << 20))
    except OSError:
        return True
    names = (MLP_KEY, _METADATA_KEY)
    return len(header) < min(size, 1 << 20) or any(name.encode() in header for name in names)


def released_ids(path: StrPath) -> tuple[str, str]:
    """``(class_id, nerf_id)`` of a NeRF in the released layout: the names of its two last directories (#data-layout)."""
    path = Path(path)
    directory = path.parent if path.suffix in (".pth", ".pt", ".safetensors") else path
    directory = directory.absolute()
    return directory.parent.name, directory.name


def _nerf_tensors(content: Mapping[str, Any]) -> dict[str, Tensor]:
    if not any({*cls().tensor_shapes} <= {*content} for cls in FAMILIES.values()):
        keys = ", ".join(brief(str(key)) for key in list(content)[:3]) or "nothing"
        hint = ""
        if "encoder" in content or any(str(key).startswith(("pre_encoder.", "gnn_w_readout.")) for key in content):
            hint = " This looks like an encoder checkpoint: GmnEncoder.from_pretrained reads it."
        known = ", ".join(cls.display_name for cls in FAMILIES.values())
        raise ValueError(f"holds no {MLP_KEY!r}; found {keys}; expected the weights of a NeRF ({known}).{hint}")
    tensors = {}
    may_be_empty = {BIAS_KEY, *(key for cls in FAMILIES.values() for key in cls.empty_keys)}
    for key in dict.fromkeys(key for cls in FAMILIES.values() for key in (*cls.shared_keys, *cls.encoding_keys)):
        if key not in content:
            continue
        tensor = content[key]
        if not isinstance(tensor, Tensor):
            raise ValueError(f"{key!r} is a {type(tensor).__name__}; expected a tensor")
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
            raise ValueError(f"{key!r} is a {tensor.layout} tensor on {tensor.device}; expected a plain dense tensor")
        if tensor.numel() == 0 and key in may_be_empty:
            continue
        if tensor.dtype not in _DTYPES:
            expected = ", ".join(str(each).removeprefix("torch.") for each in _DTYPES)
            raise ValueError(f"{key!r} has dtype {tensor.dtype}; expected floating-point weights ({expected})")
        tensors[key] = tensor.detach()
    return tensors


def _architecture_from_metadata(text: str) -> NerfArchitecture:
    try:
        value = parse_json(text)
    except ValueError as error:
        raise ValueError(f"its metadata {_METADATA_KEY!r} is not JSON: {text[:80]!r}") from error
    return parse_architecture(value)
