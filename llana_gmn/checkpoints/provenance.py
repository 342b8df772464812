"""Which model gave an answer, by content: models are trained anew in the same place, and dates change with every copy.

(Which NeRF it is about says `gmn_encoder.embeddings.files.content_hash`.)
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from gmn_encoder.ahead import ahead
from gmn_encoder.digests import Digests
from gmn_encoder.files import StrPath

from ..model.hub import ADAPTER_CONFIG, hub_file
from .loading import adapter_base

_DECISIVE = (
    *("*config.json", "chat_template*", "additional_chat_templates/*"),
    *("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab*", "merges.txt"),
    *("model*.safetensors", "pytorch_model*.bin", "adapter_model*", "encoder/*config.json", "encoder/*.safetensors"),
)
"""Files of a model's directory that decide what it says; not what training or evaluation leaves beside them."""

_WORKERS = 4


def model_fingerprint(path: StrPath, known: Digests | None = None) -> str:
    """SHA-256 over the configuration, tokenizer, prompt templates and weights, the encoder's among them, of a model.

    Whole files are read, side by side, one to three seconds a GiB: a projector trained alone changes less than a hundredth of
    them. Of an adapter its base is part; of a name on the hub it is the revision that is in the cache, or now fetched.

    Args:
        path: a model as `load_model` takes it, an encoder's directory, or a checkpoint file.
        known: digests of files that are remembered.
    """
    known = known or Digests()
    directory = Path(path)
    if directory.is_file():
        return known.digest(directory)
    if not directory.is_dir():
        return _hub_fingerprint(str(path), known)
    files = sorted({file for pattern in _DECISIVE for file in directory.glob(pattern) if file.is_file()})
    digest = hashlib.sha256()
    for file, content in zip(files, ahead(known.digest, files, workers=_WORKERS), strict=True):
        digest.update(f"{file.relative_to(directory)} {content}\n".encode())
    if (directory / ADAPTER_CONFIG).is_file():
        digest.update(model_fingerprint(adapter_base(path), known).encode())
    return digest.hexdigest()


def _hub_fingerprint(name: str, known: Digests) -> str:
    adapter = hub_file(name, ADAPTER_CONFIG)
    file = adapter or hub_file(name, "config.json")
    if file is None:
        raise FileNotFoundError(f"{name}: is a repository without a model; expected config.json or {ADAPTER_CONFIG}")
    digest = hashlib.sha256(file.parent.name.encode())  # the commit
    if adapter is not None:
        digest.update(model_fingerprint(adapter_base(name), known).encode())
    return digest.hexdigest()
