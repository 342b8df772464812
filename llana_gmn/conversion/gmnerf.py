"""Checkpoints of gmnerf, which hold a GMN encoder (docs/released_format.md#encoder and #checkpoints): ours into one;
`open_encoder` reads one."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from gmn_encoder.encoders.base import NerfEncoder, num_tokens
from gmn_encoder.encoders.gmn.config import GmnConfig
from gmn_encoder.encoders.gmn.encoder import GmnEncoder
from gmn_encoder.files import atomic_path

from ..checkpoints.encoders import open_encoder


def encoder_to_gmnerf(source: Path, out: Path) -> None:
    """Write a gmnerf checkpoint file from an encoder, or from the encoder of a model of ours or of a LLaNA directory.

    Raises `ValueError` for an encoder that gmnerf has no form for, or where `out` is there already.
    """
    if out.exists():
        raise ValueError(f"{out}: is there already; name a new file, or remove it first")
    encoder = open_encoder(source)
    if reason := _no_form(encoder):
        raise ValueError(f"{source}: {reason}")
    state = {key: tensor.float() for key, tensor in encoder.state_dict().items()}
    with atomic_path(out) as temporary:
        torch.save({"encoder": state}, temporary)


def _no_form(encoder: NerfEncoder) -> str | None:
    """Why a checkpoint of gmnerf cannot hold an encoder; None where it can."""
    config = encoder.config
    if not isinstance(encoder, GmnEncoder) or not isinstance(config, GmnConfig):
        return f"its encoder is a {config.model_type!r}; a gmnerf checkpoint holds a GMN"
    if num_tokens(config) > 1:
        return (
            f"its encoder makes {num_tokens(config)} tokens a NeRF; a gmnerf checkpoint holds an encoder of one vector"
        )
    if config.layout != "released":
        return f"its encoder was trained on {config.layout!r} graphs, which gmnerf does not have"
    if config.probes:
        return f"its encoder also asks the field at {config.probes} points, which gmnerf's does not"
    if options := [name for name in config.OPTIONS if getattr(config, name)]:
        return f"its encoder was made with {', '.join(options)}, which gmnerf does not have"
    if config.readout_dim is not None:
        return f"its encoder has a head ({config.readout_dim} to {config.embedding_dim}), which gmnerf does not have"
    if config.layer_norm_eps != GmnConfig.layer_norm_eps:
        return f"its layer norms have the epsilon {config.layer_norm_eps}, gmnerf's are {GmnConfig.layer_norm_eps}"
    told = GmnEncoder.config_of_state(encoder.state_dict())  # what gmnerf would take it for
    if changed := [
        field.name for field in dataclasses.fields(config) if getattr(told, field.name) != getattr(config, field.name)
    ]:
        return f"its encoder has {changed[0]} {getattr(config, changed[0])!r}, which gmnerf does not have"
    return None
