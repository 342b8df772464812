"""Files of encoders and decoders: where a saved one lies, on disk or on the Hugging Face hub, and whether its weights fit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..files import StrPath, read_json

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"


def encoder_directory(path: StrPath) -> Path:
    """A saved encoder as a local directory; of a hub repository the two files are downloaded.

    Raises `FileNotFoundError` where there is neither a directory nor, within reach, a repository of this name.
    """
    path = Path(path)
    if path.is_dir():
        return path
    if path.is_absolute() or len(path.parts) > 2 or str(path).startswith("."):
        raise FileNotFoundError(f"{path}: no such file or directory")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(str(path), allow_patterns=[CONFIG_NAME, WEIGHTS_NAME]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise FileNotFoundError(
            f"{path}: no such file or directory, and no such repository within reach on the hub"
        ) from error


def read_config(directory: Path) -> dict[str, Any]:
    """The object in a directory's ``config.json``. Raises `FileNotFoundError` or `ValueError`, one sentence each."""
    if not (directory / CONFIG_NAME).is_file():
        raise FileNotFoundError(
            f"{directory}: holds no encoder; expected {CONFIG_NAME} and {WEIGHTS_NAME}, or a checkpoint file instead"
        )
    return read_json(directory / CONFIG_NAME)


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
