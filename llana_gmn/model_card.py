"""The model card that is saved with a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gmn_encoder.files import StrPath, atomic_path

if TYPE_CHECKING:
    from .configuration import LlanaGmnConfig

CARD_NAME = "README.md"

_CARD = """---
library_name: transformers
pipeline_tag: any-to-any
tags:
- nerf
- llana
- llana-gmn
{base}---

# {title}

A language model that talks about NeRFs: their weights go in, with no rendering step, and text comes out.

| part | size |
|---|---|
| text backbone | {backbone} |
| encoder (frozen) | {encoder} |
| projector | {projector}, {tokens} token(s) a NeRF |

```python
from llana_gmn import LlanaGmnForConditionalGeneration, LlanaGmnProcessor

processor = LlanaGmnProcessor.from_pretrained("{name}")
model = LlanaGmnForConditionalGeneration.from_pretrained("{name}")
inputs = processor.apply_chat_template(
    [{{"role": "user", "content": [
        {{"type": "nerf", "path": "path/to/nerf"}}, {{"type": "text", "text": "What is this object?"}}
    ]}}],
    add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt",
)
ids = model.generate(**inputs, max_new_tokens=64)
print(processor.decode(ids[0, inputs["input_ids"].shape[1]:], skip_special_tokens=True))
```

The answers are those of a language model: they may be wrong, and they carry the biases and the licence of the backbone and of
the data the model was trained on. What it was trained on, and how well it does, is for whoever trained it to add here.
"""


def model_card(config: LlanaGmnConfig, name: str) -> str:
    text = config.get_text_config()
    base = getattr(text, "_name_or_path", "") or ""
    sizes = [config.embedding_dim, *config.projector_hidden_sizes, config.tokens_per_nerf * text.hidden_size]
    encoder = config.encoder_config
    layers = getattr(text, "num_hidden_layers", "?")
    return _CARD.format(
        title=name,
        name=name,
        base=f"base_model: {base}\n" if base and not Path(base).exists() else "",
        backbone=f"{text.model_type}, hidden size {text.hidden_size}, {layers} layers, vocabulary {text.vocab_size}",
        encoder=(
            ", ".join(f"{name} {value}" for name, value in encoder.to_dict().items())
            if config.use_encoder
            else f"none: takes precomputed embeddings of size {encoder.embedding_dim}"
        ),
        projector=" to ".join(map(str, sizes)),
        tokens=config.tokens_per_nerf,
    )


def write_model_card(config: LlanaGmnConfig, directory: StrPath) -> None:
    """Write a card into a model's directory. One that is there stays."""
    path = Path(directory, CARD_NAME)
    if path.exists():
        return
    with atomic_path(path) as temporary:
        temporary.write_text(model_card(config, Path(directory).resolve().name), encoding="utf-8")
