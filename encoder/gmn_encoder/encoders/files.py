"""Where a saved encoder lies: a directory, or a repository on the Hugging Face hub, with a configuration and weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
