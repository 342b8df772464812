"""The encoder that a path means, a model's own among them, and whether embeddings are of a model's encoder.

An encoder is told apart by its fingerprint (`NerfEncoder.fingerprint`), which files of ``llana-gmn embed`` carry; ``.npy`` and
``.h5`` files do not say which encoder made them.

Shapes: n rows, D embedding.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open
from torch import Tensor

from gmn_encoder.embeddings.files import EMBEDDINGS_KEY
from gmn_encoder.encoders.base import NerfEncoder, encoder_kinds, load_encoder
from gmn_encoder.encoders.files import CONFIG_NAME, WEIGHTS_NAME, encoder_directory
from gmn_encoder.files import StrPath, named_errors, read_json, safetensors_metadata

from ..model.hub import ADAPTER_CONFIG

if TYPE_CHECKING:
    from ..model.configuration import LlanaGmnConfig

MODEL_TYPE = "llana_gmn"
"""That of `LlanaGmnConfig`, known without transformers."""

_INDEX = f"{WEIGHTS_NAME}.index.json"
_PART = "nerf_encoder."
"""What stands in the names of the encoder's weights in a model."""


def open_encoder(path: StrPath) -> NerfEncoder:
    """Open what `load_encoder` opens, or the encoder of a model of ours, in evaluation mode on the CPU.

    Args:
        path: an encoder's directory, hub name or released checkpoint file; the directory or hub name of a model, whose backbone
            is not read; the directory of a LLaNA checkpoint with an encoder beside it; or that of an adapter, for its base's.

    Raises:
        FileNotFoundError: nothing there.
        ValueError: no encoder, or a model without one.
    """
    if Path(path).is_file():
        return load_encoder(path)
    if Path(path, ADAPTER_CONFIG).is_file() and not Path(path, CONFIG_NAME).is_file():
        from .loading import adapter_base

        return open_encoder(adapter_base(path))
    directory = _hub_model(path) or encoder_directory(path)
    if not is_model(directory):
        return load_encoder(_encoder_folder(directory))
    from ..model.configuration import LlanaGmnConfig
    from .files import encoder_of

    with named_errors(path):
        config = LlanaGmnConfig.from_pretrained(directory)
        if not config.use_encoder:
            raise ValueError(
                f"{path}: is a model without an encoder, which reads embeddings of size {config.embedding_dim}"
            )
        weights = ((name[name.index(_PART) :], tensor) for name, tensor in _encoder_weights(directory))
        return encoder_of(weights, config.encoder_config)


def _encoder_folder(directory: Path) -> Path:
    """Where in a directory its encoder lies: in a folder of its own where this is a LLaNA checkpoint."""
    values = read_json(directory / CONFIG_NAME) if (directory / CONFIG_NAME).is_file() else {}
    if values.get("model_type") in (None, *encoder_kinds()):
        return directory
    from .llana_files import ENCODER_FOLDER, is_llana

    if not is_llana(values):
        return directory
    if not (directory / ENCODER_FOLDER).is_dir():
        raise ValueError(
            f"{directory}: holds no encoder; a LLaNA checkpoint has one only in its folder {ENCODER_FOLDER}"
        )
    return directory / ENCODER_FOLDER


def is_model(directory: StrPath) -> bool:
    """Whether a directory holds a model of ours."""
    config = Path(directory, CONFIG_NAME)
    return config.is_file() and read_json(config).get("model_type") == MODEL_TYPE


def short_name(encoder: NerfEncoder) -> str:
    """Kind, first digits of the fingerprint, and embedding size."""
    return f"{encoder.config.model_type} {encoder.fingerprint()[:12]} (embeddings of {encoder.embedding_dim})"


def foreign_encoder(config: LlanaGmnConfig) -> str | None:
    """Half a sentence where a model from a LLaNA checkpoint has another encoder than LLaNA names, None where nothing is odd."""
    if config.llana is None or not config.use_encoder:
        return None
    named, kind = config.llana.get("point_backbone", "nf2vec"), config.encoder_config.model_type
    if kind == named:
        return None
    return (
        f"is from a LLaNA checkpoint, which reads embeddings of {named}, and its encoder is a {kind}; "
        "they belong together only if it was trained with that"
    )


def is_embedding_set(path: StrPath) -> bool:
    """Whether a path is a file of embeddings as ``llana-gmn embed`` writes them, ``.safetensors`` or ``.npz``."""
    path = Path(path)
    if not path.is_file():
        return False
    try:
        if path.suffix == ".safetensors":
            return EMBEDDINGS_KEY in safetensors_metadata(path)
        if path.suffix == ".npz":
            with zipfile.ZipFile(path) as file:
                return "embeddings.npy" in file.namelist()
    except (zipfile.BadZipFile, OSError, ValueError):
        pass
    return False


def check_origin(origin: str, encoder: NerfEncoder | None, source: object) -> str | None:
    """Whether embeddings belong to an encoder.

    Args:
        origin: the fingerprint that came with the embeddings, "" where none did.
        encoder: the encoder of the model that is to read them; None for a model without.
        source: name of the embeddings, for messages.

    Returns:
        None where they do, a sentence where nobody can tell.

    Raises:
        ValueError: they are of another encoder.
    """
    if encoder is None:
        if not origin:
            return None
        return f"{source}: made by encoder {origin[:12]}; this model has no encoder to compare with (LLaNA's reads nf2vec's)"
    if not origin:
        return f"{source}: does not say which encoder made it; this model's is {short_name(encoder)}"
    if origin != encoder.fingerprint():
        raise ValueError(
            f"{source}: made by encoder {origin[:12]}, this model's is {short_name(encoder)}; "
            "embed the NeRFs again with --encoder MODEL"
        )
    return None


def _encoder_weights(directory: Path) -> Iterator[tuple[str, Tensor]]:
    """The tensors of the encoder in a model's directory, the others unread."""
    for file in _encoder_files(directory):
        try:
            with safe_open(file, "pt") as content:
                for name in content.keys():  # noqa: SIM118 (no mapping)
                    if _PART in name:
                        yield name, content.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{file}: is no safetensors file, or cut short ({error})") from error


def _encoder_files(directory: Path) -> list[Path]:
    if not (directory / _INDEX).is_file():
        return [directory / WEIGHTS_NAME]
    table = read_json(directory / _INDEX).get("weight_map") or {}
    return [directory / file for file in sorted({file for name, file in table.items() if _PART in name})]


def _hub_model(path: StrPath) -> Path | None:
    """Of a model in shards on the hub, a directory with its configuration and the shards that the encoder is in.

    None for anything else, which `encoder_directory` finds, or says why not.
    """
    name = str(path)
    if Path(path).exists() or Path(path).is_absolute() or name.startswith(".") or name.count("/") > 1:
        return None
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        directory = Path(snapshot_download(name, allow_patterns=[CONFIG_NAME, _INDEX]))
        if not is_model(directory) or not (directory / _INDEX).is_file():
            return None
        return Path(snapshot_download(name, allow_patterns=[file.name for file in _encoder_files(directory)]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError, json.JSONDecodeError):
        return None
