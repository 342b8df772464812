"""Names of a model's tokens and weights: of its parts, and those of models and adapters saved before its body stood apart."""

from __future__ import annotations

import re

NERF_TOKENS = ("<point_patch>", "<point_start>", "<point_end>")
"""LLaNA's tokens, in the order in which they are added to a vocabulary (docs/released_format.md#llana-checkpoint)."""

BODY = "model"
"""What the model without its head is called in the whole one."""
BACKBONE = "model.language_model."
PROJECTOR = "model.projector."
ENCODER = "model.nerf_encoder."

EARLIER_NAMES = {
    r"^language_model\.(?:lm_head|embed_out)\.": "lm_head.",
    r"^language_model\.(?:model|transformer|gpt_neox|backbone)\.": BACKBONE,
    r"^projector\.": PROJECTOR,
    r"^nerf_encoder\.": ENCODER,
}
"""Beginnings of names, as patterns, and what became of them."""


def current_name(name: str) -> str:
    """The name that a weight or a module of a saved model has today."""
    for pattern, replacement in EARLIER_NAMES.items():
        name, found = re.subn(pattern, replacement, name)
        if found:
            return name
    return name
