"""What an answer was made from: the content of its input, and the model that gave it, each as a SHA-256.

Names do not tell: weights are fitted anew, and models trained anew, in the same place.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from gmn_encoder.ahead import ahead
from gmn_encoder.files import StrPath, file_digest
from gmn_encoder.nerfs.files import weights_file

from .loading import ADAPTER_CONFIG, adapter_base

_DECISIVE = (
    *("*config.json", "chat_template*", "additional_chat_templates/*"),
    *("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab*", "merges.txt"),
    *("model*.safetensors", "pytorch_model*.bin", "adapter_model*"),
)
"""Files of a model's directory that decide what it says; not what training or evaluation leaves beside them."""

_WORKERS = 4


def input_digests(paths: Iterable[StrPath]) -> dict[str, str | None]:
    """SHA-256 of what each input is read from, the weights of a NeRF or the file of an embedding; None where it cannot be read."""
    distinct = list(dict.fromkeys(map(str, paths)))
    return dict(zip(distinct, ahead(_input_digest, distinct, workers=_WORKERS), strict=True))


def model_fingerprint(path: StrPath) -> str:
    """SHA-256 over the configuration, tokenizer, prompt templates and weights, the encoder's among them, of a model.

    Whole files are read, about a second a GiB: a projector trained alone changes less than a hundredth of them, and dates change
    with every copy. Of an adapter its base is part; of a name on the hub it is the revision that is in the cache, or now fetched.

    Args:
        path: what `load_model` takes.
    """
    directory = Path(path)
    if not directory.is_dir():
        from transformers.utils import cached_file

        return hashlib.sha256(Path(str(cached_file(str(path), "config.json"))).parent.name.encode()).hexdigest()
    files = sorted({file for pattern in _DECISIVE for file in directory.glob(pattern) if file.is_file()})
    digest = hashlib.sha256()
    for file, content in zip(files, ahead(file_digest, files, workers=_WORKERS), strict=True):
        digest.update(f"{file.relative_to(directory)} {content}\n".encode())
    if (directory / ADAPTER_CONFIG).is_file():
        digest.update(model_fingerprint(adapter_base(path)).encode())
    return digest.hexdigest()


def _input_digest(path: str) -> str | None:
    try:
        return file_digest(weights_file(path))
    except OSError:
        return None  # reading it will say why
