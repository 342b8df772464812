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
    from .assembly.assemble import assemble
    from .checkpoints.loading import load_model
    from .default.objects import default_model_path, default_nerfs_path
    from .inference.caption import caption_nerfs, converse
    from .inference.chat import ChatSession
    from .model.auto import LlanaGmnConfig, LlanaGmnForConditionalGeneration, LlanaGmnModel, LlanaGmnProcessor

_MODULES = {
    "ChatSession": "inference.chat",
    "LlanaGmnConfig": "model.auto",
    "LlanaGmnForConditionalGeneration": "model.auto",
    "LlanaGmnModel": "model.auto",
    "LlanaGmnProcessor": "model.auto",
    "assemble": "assembly.assemble",
    "caption_nerfs": "inference.caption",
    "converse": "inference.caption",
    "default_model_path": "default.objects",
    "default_nerfs_path": "default.objects",
    "load_model": "checkpoints.loading",
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
