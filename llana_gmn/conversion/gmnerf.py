"""Checkpoints of gmnerf, which hold a GMN encoder (docs/released_format.md#encoder and #checkpoints): ours into one;
`load_encoder` reads one."""

from __future__ import annotations

from pathlib import Path

import torch

from gmn_encoder.encoders.base import load_encoder
from gmn_encoder.encoders.gmn.encoder import GmnEncoder
from gmn_encoder.files import atomic_path, read_json

from ..checkpoints import encoder_of, read_weights
from ..configuration import LlanaGmnConfig


def encoder_to_gmnerf(source: Path, out: Path) -> None:
    """Write a gmnerf checkpoint file from an encoder, or from the encoder of a model of ours.

    Raises `ValueError` for an encoder that gmnerf has no form for, or where `out` is there already.
    """
    if out.exists():
        raise ValueError(f"{out}: is there already; name a new file, or remove it first")
    if source.is_dir() and read_json(source / "config.json").get("model_type") == LlanaGmnConfig.model_type:
        config = LlanaGmnConfig.from_pretrained(source)
        if not config.use_encoder:
            raise ValueError(f"{source}: holds no encoder (use_encoder is false)")
        encoder = encoder_of(read_weights(source), config.encoder_config)
    else:
        encoder = load_encoder(source)
    if not isinstance(encoder, GmnEncoder):
        raise ValueError(f"{source}: its encoder is a {encoder.config.model_type!r}; a gmnerf checkpoint holds a GMN")
    if encoder.config.layout != "released":
        raise ValueError(
            f"{source}: its encoder was trained on {encoder.config.layout!r} graphs, which gmnerf does not have"
        )
    with atomic_path(out) as temporary:
        torch.save({"encoder": encoder.state_dict()}, temporary)
