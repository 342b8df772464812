"""Putting a model together from a text backbone, a tokenizer and an encoder: the start of every training."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from gmn_encoder.encoders.base import NerfEncoder
from gmn_encoder.files import read_json

from ..checkpoints.encoders import open_encoder
from ..checkpoints.llana_files import backbone_from_llana, is_llana
from ..checkpoints.named_backbones import backbone_digest, backbone_place, chat_template_of
from ..model.around import model_around
from ..model.auto import LlanaGmnForConditionalGeneration, LlanaGmnProcessor


def assemble(
    backbone: PreTrainedModel | str | os.PathLike[str],
    tokenizer: Any = None,
    *,
    encoder: NerfEncoder | str | os.PathLike[str] | None = None,
    projector_hidden_sizes: Sequence[int] = (1024, 2048),
    nerf_tokens: str = "global",
    tokens_per_nerf: int | None = None,
    encoder_dtype: str = "float32",
    dtype: torch.dtype | str = "auto",
    chat_template: Any = None,
) -> tuple[LlanaGmnForConditionalGeneration, LlanaGmnProcessor]:
    """A model around a backbone, and its processor.

    LLaNA's three tokens are added where they are missing; their rows in the input and output tables start as the mean of those
    before, the placeholder's a rounding beside it, so that its embedding is no other token's. The projector starts at random
    (torch's default, from the global generator).

    Args:
        backbone: any causal language model, or where to load it from: a directory, a name on the hub, or one of
            `NAMED_BACKBONES`; of a LLaNA checkpoint its Llama, not its projector. A model given is taken over, not copied.
        tokenizer: its tokenizer, or where to load it from; None for the place of the backbone. Gains the tokens.
        encoder: an encoder, or where to load it from; None for a model that takes precomputed embeddings (of size 1024).
        projector_hidden_sizes, nerf_tokens, tokens_per_nerf, encoder_dtype: fields of `LlanaGmnConfig`.
        dtype: dtype of a backbone that is loaded.
        chat_template: prompt of a conversation, as `LlanaGmnProcessor` takes it; None for a named backbone's own, else LLaNA's.

    Returns:
        the model in evaluation mode, in the backbone's dtype (the encoder in float32), and the processor.
    """
    if not isinstance(backbone, PreTrainedModel):
        place = backbone_place(backbone)
        chat_template = chat_template_of(backbone) if chat_template is None else chat_template
        tokenizer = place if tokenizer is None else tokenizer
        if _is_llana_directory(Path(place)):
            backbone, own = backbone_from_llana(Path(place), dtype=dtype)
            tokenizer = own if tokenizer is place else tokenizer
        else:
            backbone = AutoModelForCausalLM.from_pretrained(place, dtype=dtype)
    if tokenizer is None:
        raise ValueError("a backbone given as a model needs its tokenizer")
    if isinstance(tokenizer, str | os.PathLike):
        tokenizer = AutoTokenizer.from_pretrained(tokenizer)
    if isinstance(encoder, str | os.PathLike):
        encoder = open_encoder(encoder)
    return model_around(
        backbone,
        tokenizer,
        encoder=encoder,
        projector_hidden_sizes=projector_hidden_sizes,
        nerf_tokens=nerf_tokens,
        tokens_per_nerf=tokens_per_nerf,
        encoder_dtype=encoder_dtype,
        chat_template=chat_template,
    )


def assemble_on(backbone: str, **options: Any) -> tuple[LlanaGmnForConditionalGeneration, LlanaGmnProcessor]:
    """`assemble`, for a model whose adapter is to be kept without its backbone: its configuration names that."""
    model, processor = assemble(backbone, **options)
    model.config.backbone = backbone
    model.config.backbone_sha256 = backbone_digest(backbone_place(backbone))
    model.name_or_path = backbone
    return model, processor


def _is_llana_directory(place: Path) -> bool:
    return (place / "config.json").is_file() and is_llana(read_json(place / "config.json"))
