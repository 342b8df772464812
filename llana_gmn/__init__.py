"""The multimodal language model that talks about NeRFs, and the command line of the project.

The public names are imported on first use, so that ``import llana_gmn`` stays quick; the first of them registers the model with
the Auto classes of transformers.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .assembly import assemble
    from .auto import LlanaGmnConfig, LlanaGmnForConditionalGeneration, LlanaGmnProcessor
    from .caption import caption_nerfs
    from .chat import ChatSession

_MODULES = {
    "ChatSession": "chat",
    "LlanaGmnConfig": "auto",
    "LlanaGmnForConditionalGeneration": "auto",
    "LlanaGmnProcessor": "auto",
    "assemble": "assembly",
    "caption_nerfs": "caption",
}

__all__ = [
    "ChatSession",
    "LlanaGmnConfig",
    "LlanaGmnForConditionalGeneration",
    "LlanaGmnProcessor",
    "assemble",
    "caption_nerfs",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_MODULES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
