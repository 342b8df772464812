"""Registration with the Auto classes of transformers. The public names are imported through here, so they are always known."""

from __future__ import annotations

import transformers

from .body import LlanaGmnModel
from .configuration import LlanaGmnConfig
from .modeling import LlanaGmnForConditionalGeneration
from .processing import LlanaGmnProcessor

transformers.AutoConfig.register(LlanaGmnConfig.model_type, LlanaGmnConfig, exist_ok=True)
transformers.AutoModel.register(LlanaGmnConfig, LlanaGmnModel, exist_ok=True)
for _auto in (
    transformers.AutoModelForCausalLM,
    transformers.AutoModelForImageTextToText,
    transformers.AutoModelForMultimodalLM,
):
    _auto.register(LlanaGmnConfig, LlanaGmnForConditionalGeneration, exist_ok=True)
transformers.AutoProcessor.register(LlanaGmnConfig, LlanaGmnProcessor, exist_ok=True)

__all__ = ["LlanaGmnConfig", "LlanaGmnForConditionalGeneration", "LlanaGmnModel", "LlanaGmnProcessor"]
