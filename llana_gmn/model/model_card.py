"""The cards of models and adapters: what is in them and how they are loaded. They go with saved files, and to the hub."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gmn_encoder.files import StrPath, atomic_path
from gmn_encoder.hub import CARD_NAME, card_header, table

if TYPE_CHECKING:
    from .configuration import LlanaGmnConfig

TAGS = ("nerf", "llana", "llana-gmn")
"""Tags of everything of ours on the hub."""

_CARD = """
# {name}

A language model that talks about NeRFs: their weights go in, with no rendering step, and text comes out.

{sizes}

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

`pip install llana-gmn` has the package; `llana-gmn chat --model {name} --nerf NERF` asks at the command line.

The answers are those of a language model: they may be wrong, and they carry the biases and the licence of the backbone and of
the data the model was trained on. What it was trained on, how well it does, and its licence (`unknown` above) are for whoever
trained it to add here.
"""

_ADAPTER_CARD = """
# {name}

An adapter of [PEFT](https://github.com/huggingface/peft) for a language model that talks about NeRFs, `{base}`.

{sizes}

```python
from llana_gmn import load_model

model, processor = load_model("{name}")  # merged into its base
```

`pip install llana-gmn` has the package. PEFT opens it too, for more training:

```python
from llana_gmn import LlanaGmnForConditionalGeneration
from peft import PeftModel

base = LlanaGmnForConditionalGeneration.from_pretrained("{base}")
model = PeftModel.from_pretrained(base, "{name}")
```

What it was trained on, how well it does, and its licence (`unknown` above) are for whoever trained it to add here.
"""


def model_card(config: LlanaGmnConfig, name: str, *, tags: Iterable[str] = ()) -> str:
    """The card of a model: its parts, their sizes, how to ask it.

    Args:
        config: its configuration.
        name: what `from_pretrained` takes.
        tags: tags beside `TAGS`.
    """
    text = config.get_text_config()
    vectors = config.vectors_per_nerf
    sizes = [config.embedding_dim, *config.projector_hidden_sizes, config.tokens_per_nerf // vectors * text.hidden_size]
    encoder = config.encoder_config
    layers = getattr(text, "num_hidden_layers", "?")
    parts = {
        "text backbone": f"{text.model_type}, hidden size {text.hidden_size}, {layers} layers, vocabulary {text.vocab_size}",
        "encoder (frozen)": (
            ", ".join(f"{name} {value}" for name, value in encoder.to_dict().items())
            if config.use_encoder
            else f"none: takes precomputed embeddings of size {encoder.embedding_dim}"
        ),
        "projector": f"{' to '.join(map(str, sizes))}, {config.tokens_per_nerf} token(s) a NeRF"
        + (f" from {vectors} vectors of the encoder" if vectors > 1 else ""),
    }
    header = card_header(
        library_name="transformers",
        pipeline_tag="any-to-any",
        base_model=getattr(text, "_name_or_path", None),
        tags=[*TAGS, *tags],
    )
    return header + _CARD.format(name=name, sizes=table(list(parts.items()), ("part", "size")))


def adapter_card(config: dict[str, Any], name: str, *, tags: Iterable[str] = ()) -> str:
    """The card of an adapter: its base, what is adapted, how to load it.

    Args:
        config: the content of its ``adapter_config.json``.
        name: the repository's name.
        tags: tags beside `TAGS`.
    """
    base = config["base_model_name_or_path"]
    kind = str(config.get("peft_type", "")).lower()
    rows = [
        ("kind", kind),
        ("rank", config.get("r")),
        ("adapted", _names(config.get("target_modules"))),
        ("trained beside it", _names(config.get("modules_to_save"))),
    ]
    header = card_header(library_name="peft", base_model=base, tags=[kind, *TAGS, *tags])
    sizes = table([(key, value) for key, value in rows if value], ("part", "what"))
    return header + _ADAPTER_CARD.format(name=name, base=base, sizes=sizes)


def _names(value: Any) -> str:
    """Names of modules, or a pattern of them, for a cell."""
    text = ", ".join(sorted(value)) if isinstance(value, list) else str(value or "")
    return f"`{text}`".replace("|", "\\|") if text else ""


def write_model_card(config: LlanaGmnConfig, directory: StrPath) -> None:
    """Write a card into a model's directory. One that is there stays."""
    path = Path(directory, CARD_NAME)
    if path.exists():
        return
    with atomic_path(path) as temporary:
        temporary.write_text(model_card(config, Path(directory).resolve().name), encoding="utf-8")
