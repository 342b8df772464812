"""What everything downstream knows of an encoder of NeRFs: embed, caption, training, evaluation, the web page.

An encoder kind is a class with the methods of `NerfEncoder`, known by the ``model_type`` in the config.json that it writes.
`register_encoder` adds a kind, `load_encoder` opens a saved one of any kind.

Shapes: B NeRFs, N tokens, D embedding.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from ..files import StrPath
from ..nerfs.record import Nerf

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"


@runtime_checkable
class NerfEncoder(Protocol):
    """NeRFs to embeddings and tokens, whatever their architectures."""

    @property
    def embedding_dim(self) -> int: ...

    @property
    def device(self) -> torch.device: ...

    def encode(self, nerfs: Sequence[Nerf], *, batch_size: int = 8, dtype: torch.dtype | None = None) -> Tensor:
        """One vector a NeRF, ``(B, D)`` in the order given, on the encoder's device, without gradient."""
        ...

    def encode_tokens(self, nerfs: Sequence[Nerf], *, batch_size: int = 8, dtype: torch.dtype | None = None) -> Tensor:
        """N vectors a NeRF, ``(B, N, D)``; N is 1 where the encoder gives one vector."""
        ...

    def fingerprint(self) -> str:
        """SHA-256 over configuration and weights: equal for encoders that give equal embeddings."""
        ...

    def save_pretrained(self, path: StrPath) -> None: ...

    def to(self, *args: Any, **kwargs: Any) -> NerfEncoder: ...


_KINDS: dict[str, str | type] = {"gmn_encoder": "gmn_encoder.encoders.gmn.encoder:GmnEncoder"}
"""``model_type`` -> class, or where to import it from."""


def register_encoder(model_type: str, cls: str | type) -> None:
    """Make a kind of encoder known to `load_encoder`.

    Args:
        model_type: the kind's name in its config.json.
        cls: a class with ``from_pretrained(path)``, or ``"package.module:Class"``, imported when first needed.

    Raises:
        ValueError: the name is another class's already.
    """
    if _KINDS.get(model_type, cls) != cls:
        raise ValueError(f"encoder kind {model_type!r} is registered already; choose another model_type")
    _KINDS[model_type] = cls


def encoder_class(model_type: str) -> Any:
    """The class of a kind. Raises `ValueError` for a `model_type` that nobody registered."""
    if model_type not in _KINDS:
        raise ValueError(f"unknown encoder kind {model_type!r}; expected one of {', '.join(sorted(_KINDS))}")
    cls = _KINDS[model_type]
    if isinstance(cls, str):
        module, _, name = cls.partition(":")
        cls = getattr(importlib.import_module(module), name)
    return cls


def load_encoder(path: StrPath) -> NerfEncoder:
    """Open a saved encoder of any registered kind, in evaluation mode on the CPU.

    Args:
        path: a directory of `save_pretrained` (its config.json names the kind), the name of such a repository on the Hugging
            Face hub, or a released checkpoint file, which holds a GMN encoder.

    Raises:
        FileNotFoundError: nothing there.
        ValueError: not an encoder, or one of an unknown kind.
    """
    config = Path(path) / CONFIG_NAME
    model_type = "gmn_encoder"
    if config.is_file():
        try:
            values = json.loads(config.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{config}: is no JSON ({error}); expected an encoder's configuration") from error
        model_type = values.get("model_type", model_type) if isinstance(values, dict) else model_type
    try:
        cls = encoder_class(model_type)
    except ValueError as error:
        raise ValueError(f"{config}: {error}") from error
    return cls.from_pretrained(path)
