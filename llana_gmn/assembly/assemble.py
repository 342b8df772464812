"""Putting a model together from a text backbone, a tokenizer and an encoder: the start of every training.

Source of the tokens and of their first embeddings: docs/released_format.md#llana-checkpoint.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from gmn_encoder.encoders.base import NerfEncoder
from gmn_encoder.files import read_json

from ..checkpoints.encoders import open_encoder
from ..checkpoints.llana_files import backbone_from_llana, is_llana
from ..model.auto import LlanaGmnConfig, LlanaGmnForConditionalGeneration, LlanaGmnProcessor
from ..model.processing import add_nerf_tokens
from ..model.projector import NerfProjector
from ..names import NERF_TOKENS


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
        backbone: any causal language model, or where to load it from; of a LLaNA checkpoint its Llama, not its projector. A model
            given is taken over, not copied.
        tokenizer: its tokenizer, or where to load it from; None for the place of the backbone. Gains the tokens.
        encoder: an encoder, or where to load it from; None for a model that takes precomputed embeddings (of size 1024).
        projector_hidden_sizes, nerf_tokens, tokens_per_nerf, encoder_dtype: fields of `LlanaGmnConfig`.
        dtype: dtype of a backbone that is loaded.
        chat_template: prompt of a conversation, as `LlanaGmnProcessor` takes it.

    Returns:
        the model in evaluation mode, in the backbone's dtype (the encoder in float32), and the processor.
    """
    if not isinstance(backbone, PreTrainedModel):
        place, tokenizer = backbone, backbone if tokenizer is None else tokenizer
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
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.unk_token or tokenizer.eos_token
    known = set(tokenizer.get_vocab())
    patch, start, end = add_nerf_tokens(tokenizer)
    table: Any = backbone.get_input_embeddings()
    rows = len(table.weight)
    ids = dict(zip(NERF_TOKENS, (patch, start, end), strict=True))
    new = [i for token, i in ids.items() if token not in known or i >= rows]
    _grow_vocabulary(backbone, len(tokenizer), new)
    if patch in new:
        table = backbone.get_input_embeddings()
        tell_apart(table.weight[patch])
    config = LlanaGmnConfig(
        text_config=backbone.config,
        encoder_config=encoder.config if encoder is not None else None,
        use_encoder=encoder is not None,
        encoder_dtype=encoder_dtype,
        projector_hidden_sizes=list(projector_hidden_sizes),
        nerf_tokens=nerf_tokens,
        tokens_per_nerf=tokens_per_nerf,
        nerf_token_id=patch,
        nerf_start_token_id=start,
        nerf_end_token_id=end,
    )
    with torch.device("meta"):
        model = LlanaGmnForConditionalGeneration(config)
    model.set_backbone(backbone)
    model.model.projector = NerfProjector(config).to(backbone.device, backbone.dtype)
    if encoder is not None:
        model.set_nerf_encoder(encoder)
    if backbone.generation_config is not None:
        model.generation_config = copy.deepcopy(backbone.generation_config)
    if model.generation_config.pad_token_id is None:
        model.generation_config.pad_token_id = tokenizer.pad_token_id
    processor = LlanaGmnProcessor(
        tokenizer,
        chat_template=chat_template,
        tokens_per_nerf=config.tokens_per_nerf,
        embedding_dim=config.embedding_dim,
        vectors_per_nerf=config.vectors_per_nerf,
    )
    return model.eval(), processor


def _is_llana_directory(place: Path) -> bool:
    return (place / "config.json").is_file() and is_llana(read_json(place / "config.json"))


@torch.no_grad()
def _grow_vocabulary(backbone: PreTrainedModel, size: int, new: Sequence[int]) -> None:
    """Room for `size` tokens (padded vocabularies may have it already), and a first embedding for the `new` ones."""
    table: Any = backbone.get_input_embeddings()
    if table.weight.shape[0] < size:
        backbone.resize_token_embeddings(size, mean_resizing=False)
    for table in (backbone.get_input_embeddings(), backbone.get_output_embeddings()):
        if table is not None and new:
            mean = table.weight[: min(new)].float().mean(dim=0)
            table.weight[list(new)] = mean.to(table.weight.dtype)


@torch.no_grad()
def tell_apart(row: Tensor) -> None:
    """Change the placeholder's new embedding by a rounding: prompts that come as embeddings show their placeholders by it
    (`LlanaGmnModel.placeholders`)."""
    row[row.abs().argmax()] *= 1 + 4 * torch.finfo(row.dtype).eps
