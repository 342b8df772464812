"""The multimodal language model that talks about NeRFs, and the command line of the project.

The public names are imported on first use, so that ``import llana_gmn`` stays quick. The Auto classes of transformers, and its
``pipeline``, know the model from then on, whichever of the two is imported first (`registration.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gmn_encoder.lazy import lazy_names

from .registration import register_on_use

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .assembly import assemble
    from .auto import LlanaGmnConfig, LlanaGmnForConditionalGeneration, LlanaGmnModel, LlanaGmnProcessor
    from .caption import caption_nerfs, converse
    from .chat import ChatSession
    from .defaults import default_model_path, default_nerfs_path
    from .loading import load_model

_MODULES = {
    "ChatSession": "chat",
    "LlanaGmnConfig": "auto",
    "LlanaGmnForConditionalGeneration": "auto",
    "LlanaGmnModel": "auto",
    "LlanaGmnProcessor": "auto",
    "assemble": "assembly",
    "caption_nerfs": "caption",
    "converse": "caption",
    "default_model_path": "defaults",
    "default_nerfs_path": "defaults",
    "load_model": "loading",
}

__all__ = [
    "ChatSession",
    "LlanaGmnConfig",
    "LlanaGmnForConditionalGeneration",
    "LlanaGmnModel",
    "LlanaGmnProcessor",
    "assemble",
    "caption_nerfs",
    "converse",
    "default_model_path",
    "default_nerfs_path",
    "load_model",
]

__getattr__, __dir__ = lazy_names(__name__, _MODULES)

register_on_use()
