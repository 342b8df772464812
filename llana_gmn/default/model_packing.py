"""Putting together the model that ships (`objects`): what a run of training wrote, small.

    python scripts/pack_default_model.py --model RUN --out llana_gmn/default/model

An adapter's matrices are stored in float16, half of what a run writes; its card is kept, or a new one written.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from safetensors import safe_open

from gmn_encoder.files import atomic_directory, write_safetensors
from gmn_encoder.hub import CARD_NAME

from ..checkpoints.backbone_adapters import on_backbone
from ..model.hub import ADAPTER_CONFIG

_ADAPTER = "adapter_model.safetensors"
_FILES = (
    *(ADAPTER_CONFIG, "base.json", "config.json", "processor_config.json", "chat_template.jinja"),
    *("tokenizer.json", "tokenizer_config.json", "encoder/config.json", "encoder/model.safetensors"),
)


def pack_model(*, model: Path, out: Path, card: Path | None = None) -> int:
    """Write the directory of the model that ships, whole or not at all; an earlier one is replaced.

    Args:
        model: directory of a run of stage 2 on a named backbone.
        out: the new directory.
        card: the file of its card; None for the one in `out`, if any.

    Returns:
        its bytes.

    Raises:
        ValueError: no adapter that brings all but its backbone.
    """
    if not on_backbone(model):
        raise ValueError(
            f"{model}: is no adapter that brings all but its backbone; train one with scripts/recipes/smollm2.yaml"
        )
    card = card if card is not None else out / CARD_NAME
    with atomic_directory(out, replace=True) as folder:
        for name in _FILES:
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(model / name, folder / name)
        if card.is_file():
            shutil.copyfile(card, folder / CARD_NAME)
        with safe_open(model / _ADAPTER, "pt") as content:
            tensors = {name: content.get_tensor(name).half().contiguous() for name in content.keys()}  # noqa: SIM118
        write_safetensors(tensors, folder / _ADAPTER, metadata={"format": "pt"})
        return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
