"""The interface of encoders of NeRFs, which all that uses one takes: embed, caption, training, evaluation, the web page.

An encoder kind is a torch module with the methods of `NerfEncoder`, made from a configuration and known by the ``model_type``
in the config.json that it writes. `register_encoder` adds a kind, `load_encoder` opens a saved one of any kind; `module.py` has
what most kinds want to inherit.

Shapes: B NeRFs, N tokens, D embedding.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

import torch
from torch import Tensor

from ..files import StrPath, brief, read_tensors
from ..nerfs.record import Nerf
from .files import encoder_directory, read_config

_GMN = "gmn_encoder"
"""The kind of configurations that name none."""


@runtime_checkable
class EncoderConfig(Protocol):
    """Sizes of an encoder of one kind. One of several tokens a NeRF says ``num_tokens`` too."""

    model_type: ClassVar[str]

    @property
    def embedding_dim(self) -> int: ...

    @property
    def whitened(self) -> bool:
        """Whether embeddings come with means near zero and spreads near one, so that what reads them need not see to that."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Numbers, strings and lists for JSON, with ``model_type``."""
        ...

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`. Raises `ValueError` on what is not of this kind."""
        ...


@runtime_checkable
class NerfEncoder(Protocol):
    """NeRFs to embeddings and tokens, whatever their architectures."""

    @property
    def config(self) -> EncoderConfig: ...

    @property
    def embedding_dim(self) -> int: ...

    @property
    def device(self) -> torch.device: ...

    def encode(self, nerfs: Sequence[Nerf], *, batch_size: int = 8, dtype: torch.dtype | None = None) -> Tensor:
        """One vector a NeRF, ``(B, D)`` in the order given, on the encoder's device, without gradient."""
        ...

    def encode_tokens(self, nerfs: Sequence[Nerf], *, batch_size: int = 8, dtype: torch.dtype | None = None) -> Tensor:
        """N vectors a NeRF, ``(B, N, D)``, as many as `num_tokens` says; that of `encode` where N is 1."""
        ...

    def check_nerf(self, nerf: Nerf) -> None:
        """Raise `ValueError` for a NeRF that this encoder cannot read, whose weights are fine; `encode` does the same."""
        ...

    def fingerprint(self) -> str:
        """SHA-256 over configuration and weights: equal for encoders that give equal embeddings."""
        ...

    def save_pretrained(self, path: StrPath) -> None:
        """Write ``config.json`` and ``model.safetensors`` into a directory."""
        ...

    def state_dict(self) -> Mapping[str, Tensor]: ...

    def to(self, *args: Any, **kwargs: Any) -> NerfEncoder: ...


_KINDS: dict[str, str | type] = {
    _GMN: "gmn_encoder.encoders.gmn.encoder:GmnEncoder",
    "nf2vec": "gmn_encoder.encoders.nf2vec.encoder:Nf2vecEncoder",
    "sane": "gmn_encoder.encoders.sane.encoder:SaneEncoder",
}
"""``model_type`` -> class, or where to import it from."""

_CHECKPOINTS = {"layers.0.weight": "nf2vec"}
"""A tensor that checkpoint files of a kind have -> the kind; files without any hold a GMN."""


def num_tokens(config: EncoderConfig) -> int:
    """Vectors that `encode_tokens` of an encoder with this configuration gives a NeRF, N: 1 where it names no ``num_tokens``."""
    return getattr(config, "num_tokens", 1)


def register_encoder(model_type: str, cls: str | type) -> None:
    """Make a kind of encoder known to `load_encoder` and to the language model's configuration.

    Args:
        model_type: the kind's name in its config.json.
        cls: a torch module class with the methods of `NerfEncoder`, or ``"package.module:Class"``, imported when first needed.
            It is called with its configuration, has ``from_pretrained(path)``, and names as ``config_class`` the class of its
            configuration (`EncoderConfig`), which has a ``num_tokens`` where `encode_tokens` gives more than one vector.

    Raises:
        ValueError: the name is another class's already.
    """
    if _KINDS.get(model_type, cls) != cls:
        raise ValueError(f"encoder kind {model_type!r} is registered already; choose another model_type")
    _KINDS[model_type] = cls


def encoder_kinds() -> tuple[str, ...]:
    """The ``model_type`` of every registered kind."""
    return tuple(_KINDS)


def encoder_class(model_type: str) -> Any:
    """The class of a kind. Raises `ValueError` for a `model_type` that nobody registered."""
    if not isinstance(model_type, str) or model_type not in _KINDS:
        raise ValueError(
            f"model_type {brief(model_type)} is no kind of encoder; expected one of {', '.join(sorted(_KINDS))}: "
            "name an encoder, or import the package that registers this kind"
        )
    cls = _KINDS[model_type]
    if isinstance(cls, str):
        module, _, name = cls.partition(":")
        cls = getattr(importlib.import_module(module), name)
    return cls


def encoder_config(values: Mapping[str, Any]) -> EncoderConfig:
    """The configuration that `EncoderConfig.to_dict` gave, of any registered kind. Raises `ValueError` for any other."""
    return encoder_class(values.get("model_type", _GMN)).config_class.from_dict(values)


def load_encoder(
    path: StrPath,
    *,
    revision: str | None = None,
    cache_dir: StrPath | None = None,
    token: bool | str | None = None,
    subfolder: str = "",
) -> NerfEncoder:
    """Open a saved encoder of any registered kind, in evaluation mode on the CPU.

    Args:
        path: a directory of `save_pretrained` (its config.json names the kind), the name of such a repository on the Hugging
            Face hub, or a released checkpoint file (`.pt`), which holds gmnerf's GMN or nf2vec's encoder.
        revision, cache_dir, token, subfolder: of a repository which branch, tag or commit, where downloads are kept, an access
            token; of a directory or repository the folder that holds the encoder.

    Raises:
        FileNotFoundError: nothing there.
        ValueError: not an encoder, one of an unknown kind, or one whose weights contradict its configuration.
    """
    if Path(path).is_file():
        return encoder_class(_kind_of_file(path)).from_pretrained(path)
    directory = encoder_directory(path, revision=revision, cache_dir=cache_dir, token=token, subfolder=subfolder)
    model_type = read_config(directory).get("model_type", _GMN)
    try:
        cls = encoder_class(model_type)
    except ValueError as error:
        raise ValueError(f"{directory}: {error}") from error
    return cls.from_pretrained(directory)


def _kind_of_file(path: StrPath) -> str:
    content, _ = read_tensors(path)
    state = content.get("encoder", content)
    keys = state.keys() if isinstance(state, Mapping) else ()
    return next((kind for key, kind in _CHECKPOINTS.items() if key in keys), _GMN)
