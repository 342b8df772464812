"""Adapters that bring all of a model but its backbone: projector, LoRA matrices and new rows, and beside them the encoder and the
model's configuration, which names the backbone.

Such a directory is some megabytes, and `load_model` opens it in one call wherever the backbone is at hand
(`named_backbones.py`): ``adapter_config.json``, ``adapter_model.safetensors``, ``config.json``, ``base.json``, ``encoder/``, and
a processor's files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from gmn_encoder.encoders.base import load_encoder
from gmn_encoder.encoders.files import CONFIG_NAME, WEIGHTS_NAME
from gmn_encoder.files import StrPath, read_json, write_json

from ..model.around import model_around
from ..model.auto import LlanaGmnConfig, LlanaGmnForConditionalGeneration
from ..model.hub import ADAPTER_CONFIG, ADAPTER_FILES, hub_file
from .adapter_base import check_backbone, note_base
from .llana_files import ENCODER_FOLDER
from .named_backbones import NAMED_BACKBONES, backbone_place

_KEPT = ("backbone", "backbone_sha256", "trained_on", "confidence")
"""What an adapter's configuration says of it that the backbone and the encoder do not."""

_ENCODER_FILES = (f"{ENCODER_FOLDER}/{CONFIG_NAME}", f"{ENCODER_FOLDER}/{WEIGHTS_NAME}")


def on_backbone(path: StrPath, **hub: Any) -> bool:
    """Whether a directory, or a repository on the hub, holds such an adapter."""
    if hub_file(path, ADAPTER_CONFIG, **hub) is None or (config := hub_file(path, "config.json", **hub)) is None:
        return False
    return bool(read_json(config).get("backbone"))


def open_base(
    adapter: StrPath, tokenizer: Any, *, backbone: StrPath | None = None, dtype: torch.dtype | str = "auto", **hub: Any
) -> LlanaGmnForConditionalGeneration:
    """The model that such an adapter goes on, without what it has learned.

    Args:
        adapter: its directory, or its name on the hub.
        tokenizer: the tokenizer of the adapter's processor.
        backbone: another name or place of the backbone than the adapter's own.
        dtype: dtype of the backbone; "auto" for float32 on a machine without an accelerator, else as it is stored.
        **hub: where on the hub the adapter is, as of `load_model`.

    Raises:
        FileNotFoundError: the backbone is not at hand, or the adapter lacks its encoder.
        ValueError: another backbone.
    """
    files = [hub_file(adapter, name, **hub) for name in ("config.json", *ADAPTER_FILES, "base.json")]
    directory = next(file for file in files if file is not None).parent
    config = LlanaGmnConfig.from_pretrained(directory)
    encoder = None
    if config.use_encoder:
        if None in [hub_file(adapter, name, **hub) for name in _ENCODER_FILES]:
            raise FileNotFoundError(
                f"{directory / ENCODER_FOLDER}: no such encoder, which belongs to the adapter; "
                "copy the directory again from where it came from"
            )
        encoder = load_encoder(directory / ENCODER_FOLDER)
        if encoder.config.to_dict() != config.encoder_config.to_dict():
            raise ValueError(
                f"{directory / ENCODER_FOLDER}: is another encoder than the adapter was trained with; "
                "copy the directory again from where it came from"
            )
    name = str(config.backbone if backbone is None else backbone)
    place = backbone_place(name)
    check_backbone(directory, place, trained_on=str(config.backbone), sha256=config.backbone_sha256)
    if dtype == "auto" and not torch.accelerator.is_available():
        dtype = "float32"
    model, _ = model_around(
        AutoModelForCausalLM.from_pretrained(place, dtype=dtype),
        tokenizer,
        encoder=encoder,
        projector_hidden_sizes=config.projector_hidden_sizes,
        nerf_tokens=config.nerf_tokens,
        tokens_per_nerf=config.tokens_per_nerf,
        encoder_dtype=config.encoder_dtype,
    )
    for name in _KEPT:
        setattr(model.config, name, getattr(config, name))
    model.name_or_path = str(config.backbone)
    return model


def complete_adapter(model: LlanaGmnForConditionalGeneration, directory: StrPath) -> None:
    """Write beside an adapter what makes it whole: the configuration, the encoder, some numbers of the backbone.

    Nothing is done for a model that is a whole one, whose adapter names its place.
    """
    directory = Path(directory)
    if not model.config.backbone or not (directory / ADAPTER_CONFIG).is_file():
        return
    if model.nerf_encoder is not None and not (directory / ENCODER_FOLDER / WEIGHTS_NAME).is_file():
        model.nerf_encoder.save_pretrained(directory / ENCODER_FOLDER)
    named = NAMED_BACKBONES.get(model.config.backbone)
    base = model.config.backbone if named is None else named.hub
    language: Any = model.config.text_config
    language._name_or_path = base  # not where this machine keeps it
    model.config.save_pretrained(directory)
    write_json({**read_json(directory / ADAPTER_CONFIG), "base_model_name_or_path": base}, directory / ADAPTER_CONFIG)
    note_base(directory, backbone_place(model.config.backbone), name=model.config.backbone)
