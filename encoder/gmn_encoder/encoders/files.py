"""Files of encoders and decoders: where a saved one lies, on disk or on the Hugging Face hub, and whether its weights fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor, nn

from ..files import StrPath, read_json

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"


def encoder_directory(
    path: StrPath,
    *,
    revision: str | None = None,
    cache_dir: StrPath | None = None,
    token: bool | str | None = None,
    subfolder: str = "",
) -> Path:
    """A saved encoder as a local directory; of a hub repository the two files are downloaded.

    Args:
        path: a directory, or a repository's name.
        revision: branch, tag or commit of the repository; None for its main branch.
        cache_dir: where downloads are kept; None for huggingface_hub's own place.
        token: an access token for the hub; None or True for the one of ``hf auth login``.
        subfolder: folder of the directory or repository that holds the encoder.

    Raises:
        FileNotFoundError: neither a directory nor, within reach, a repository of this name; or no such folder in it.
    """
    path = Path(path)
    if path.is_dir():
        directory = path / subfolder
    elif path.is_absolute() or len(path.parts) > 2 or str(path).startswith("."):
        raise FileNotFoundError(f"{path}: no such file or directory")
    else:
        directory = _downloaded(str(path), subfolder, revision=revision, cache_dir=cache_dir, token=token)
    if not directory.is_dir():
        raise FileNotFoundError(f"{path}: has no folder {subfolder!r}; expected {CONFIG_NAME} and {WEIGHTS_NAME} in it")
    return directory


def _downloaded(name: str, subfolder: str, *, revision: str | None, **options: Any) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    patterns = [(PurePosixPath(subfolder) / file).as_posix() for file in (CONFIG_NAME, WEIGHTS_NAME)]
    try:
        return Path(snapshot_download(name, allow_patterns=patterns, revision=revision, **options)) / subfolder
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        which = "repository" if revision is None else f"repository with a revision {revision!r}"
        raise FileNotFoundError(
            f"{name}: no such file or directory, and no such {which} within reach on the hub"
        ) from error


def read_config(directory: Path) -> dict[str, Any]:
    """The object in a directory's ``config.json``. Raises `FileNotFoundError` or `ValueError`, one sentence each."""
    if not (directory / CONFIG_NAME).is_file():
        raise FileNotFoundError(
            f"{directory}: holds no encoder; expected {CONFIG_NAME} and {WEIGHTS_NAME}, or a checkpoint file instead"
        )
    return read_json(directory / CONFIG_NAME)


def check_fits(cls: Callable[[Any], nn.Module], config: Any, state: Mapping[str, Any]) -> None:
    """`check_state` for a module of a class and a configuration before it is built, as large as the configuration may say."""
    with torch.device("meta"):
        module = cls(config)
    check_state(module, state)


def check_state(module: nn.Module, state: Mapping[str, Any]) -> None:
    """Raise `ValueError` unless a state dict has a module's tensors, no others, in their shapes and finite."""
    problems = []
    expected = module.state_dict()
    for key, tensor in expected.items():
        found = state.get(key)
        if not isinstance(found, Tensor):
            problems.append(f"tensor {key!r} is missing")
        elif found.shape != tensor.shape:
            problems.append(f"tensor {key!r} has shape {list(found.shape)} instead of {list(tensor.shape)}")
        elif not bool(torch.isfinite(found).all()):
            problems.append(f"tensor {key!r} has NaN or infinite values")
    problems += [f"tensor {key!r} is unknown" for key in state if key not in expected]
    if problems:
        more = f" and {len(problems) - 1} more problems" if len(problems) > 1 else ""
        raise ValueError(f"does not fit a {type(module).__name__} of this configuration: {problems[0]}{more}")
