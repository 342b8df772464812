"""What learns in each stage, and the model a run begins with.

Source: docs/released_format.md#llana-checkpoint and #llana-training. Stage 1 trains the projector and the input embeddings of the
start and end token (unless `token_rows` is off); stage 2 trains them and a LoRA adapter on the backbone's linear layers, or all
of the backbone. The encoder never learns: its weights are buffers.

Projector, token rows and LoRA matrices are one adapter of PEFT (`modules_to_save`, `trainable_token_indices`), so they are saved
in one directory that loads in one call. An adapter of stage 1 has no LoRA matrices, its `target_modules` name nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from gmn_encoder.encoders.base import NerfEncoder
from gmn_encoder.encoders.frozen import FrozenEncoder
from gmn_encoder.files import StrPath

from ..checkpoints.loading import open_adapter
from ..model.auto import LlanaGmnForConditionalGeneration, LlanaGmnProcessor
from ..model.hub import ADAPTER_CONFIG
from ..names import BACKBONE
from .recipe import TrainingRecipe


def load_for_training(
    recipe: TrainingRecipe, *, encoder: NerfEncoder | None = None
) -> tuple[LlanaGmnForConditionalGeneration, LlanaGmnProcessor]:
    """The model a recipe names, whole, and its processor. What an adapter of stage 1 has learned is put into its base; one with
    LoRA matrices is trained on: `prepare` begins with what it has learned.

    Args:
        encoder: an encoder that takes the place of the model's, or goes into a model that has none.

    Raises:
        ValueError, FileNotFoundError: no such model, an adapter whose LoRA matrices are others than the recipe's, an encoder of
            another embedding size.
    """
    if not recipe.model:
        raise ValueError("the recipe names no model; set model= to a directory or a hub name, or to 'new'")
    path = Path(recipe.model)
    if (path / ADAPTER_CONFIG).is_file():
        model, processor = _under_adapter(path, recipe)
    elif path.is_absolute() and not path.is_dir():
        raise FileNotFoundError(f"{path}: no such model; expected a directory with config.json")
    else:
        processor = LlanaGmnProcessor.from_pretrained(recipe.model)
        model = LlanaGmnForConditionalGeneration.from_pretrained(recipe.model, dtype=recipe.dtype or "auto")
        processor.check_model(model.config)
    if encoder is not None:
        model.set_nerf_encoder(encoder)
    return model, processor


def _under_adapter(adapter: Path, recipe: TrainingRecipe) -> tuple[LlanaGmnForConditionalGeneration, LlanaGmnProcessor]:
    if has_lora(adapter):
        _check_same_lora(adapter, recipe)
    adapted, processor = open_adapter(adapter, dtype=recipe.dtype or "auto")
    place = adapted.get_base_model().name_or_path
    whole = adapted.unload() if has_lora(adapter) else adapted.merge_and_unload()
    whole.name_or_path = place
    return whole, processor


def has_lora(path: StrPath) -> bool:
    """Whether a directory holds an adapter with LoRA matrices, unlike that of stage 1."""
    from peft import LoraConfig
    from peft.utils.constants import DUMMY_TARGET_MODULES

    if not Path(path, ADAPTER_CONFIG).is_file():
        return False
    return bool(LoraConfig.from_pretrained(str(path)).target_modules != DUMMY_TARGET_MODULES)


def _check_same_lora(adapter: Path, recipe: TrainingRecipe) -> None:
    from peft import LoraConfig

    config = LoraConfig.from_pretrained(str(adapter))
    found = config.r, config.lora_alpha, config.target_modules
    expected = recipe.lora_rank, recipe.lora_alpha, _target_pattern(recipe.lora_targets)
    if recipe.trainable != "lora" or found != expected:
        raise ValueError(
            f"{adapter}: is an adapter with LoRA matrices (rank {found[0]}, alpha {found[1]}, layers {found[2]}), and this "
            f"recipe trains {what_learns(recipe)} (alpha {expected[1]}, layers {expected[2]}); set lora_rank, lora_alpha and "
            "lora_targets alike to train on it, or merge it first: llana-gmn merge ADAPTER --out MODEL"
        )


def prepare(model: LlanaGmnForConditionalGeneration, recipe: TrainingRecipe) -> PreTrainedModel | Any:
    """The model with the parameters that a recipe trains, all others frozen; a `PeftModel` but for full fine-tuning.

    What learns is in float32 whatever the rest is in: steps of 2e-5 vanish in bfloat16.

    Raises `ValueError` where `lora_targets` are no layers of the backbone.
    """
    if recipe.trainable == "full":
        model.requires_grad_(True)
        if recipe.from_nothing and not model.config.encoder_config.whitened:
            # Its weights undo a large common mean (`small.whiten_projector`): any step of Adam would bring that back.
            model.projector[0].requires_grad_(False)
        return model
    model.projector.float()
    peft = _adapter(model, recipe)
    if has_lora(recipe.model):
        from peft import load_peft_weights, set_peft_model_state_dict

        set_peft_model_state_dict(peft, load_peft_weights(str(recipe.model), device="cpu"))
    for parameter in peft.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return peft


def _adapter(model: LlanaGmnForConditionalGeneration, recipe: TrainingRecipe) -> Any:
    from peft import LoraConfig, get_peft_model
    from peft.utils.constants import DUMMY_TARGET_MODULES

    rows = [model.config.nerf_start_token_id, model.config.nerf_end_token_id]
    if recipe.trainable == "lora":
        _check_targets(model, recipe.lora_targets)
    config = LoraConfig(
        r=recipe.lora_rank,
        lora_alpha=recipe.lora_alpha,
        lora_dropout=recipe.lora_dropout,
        target_modules=_target_pattern(recipe.lora_targets) if recipe.trainable == "lora" else DUMMY_TARGET_MODULES,
        modules_to_save=["projector"],
        trainable_token_indices={input_table_name(model): rows} if recipe.token_rows else None,
    )
    peft = get_peft_model(model, config)
    # PEFT looks a name up on the hub at every save; that of a backbone is written beside the adapter (`complete_adapter`).
    config.base_model_name_or_path = None if model.config.backbone else absolute(model.name_or_path)
    return peft


def _target_pattern(names: Sequence[str]) -> str:
    return rf"{re.escape(BACKBONE)}.*\.({'|'.join(map(re.escape, names))})"


def compile_layers(model: nn.Module) -> None:
    """Have torch compile the layers of the backbone, which are alike, so that one is compiled for all; names stay."""
    for module in model.modules():
        if isinstance(module, GradientCheckpointingLayer):
            module.compile()


def what_learns(recipe: TrainingRecipe) -> str:
    """The parts of a model that `prepare` leaves to learn, in words."""
    if recipe.trainable == "full":
        return "everything but the encoder"
    parts = ["projector"]
    if recipe.token_rows:
        parts.append("rows of the start and end token")
    if recipe.trainable == "lora":
        parts.append(f"LoRA of rank {recipe.lora_rank}")
    return ", ".join(parts) if len(parts) > 1 else "the projector alone"


def absolute(place: str | None) -> str | None:
    """A model's place that another working directory finds too; names on the hub stay."""
    return str(Path(place).resolve()) if place and Path(place).is_dir() else place or None


def input_table_name(model: LlanaGmnForConditionalGeneration) -> str:
    """The name of the module that holds the input embeddings, whatever the backbone calls it."""
    table = model.get_input_embeddings()
    return next(name for name, module in model.named_modules() if module is table)


def _check_targets(model: LlanaGmnForConditionalGeneration, targets: Sequence[str]) -> None:
    linear = {
        name.rpartition(".")[2]
        for name, module in model.language_model.named_modules()
        if isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"
    }
    if missing := [target for target in targets if target not in linear] or ([""] if not targets else []):
        raise ValueError(
            f"lora_targets names {missing[0]!r}; this backbone's linear layers are {', '.join(sorted(linear))}"
        )


def trainable_parameters(model: nn.Module) -> tuple[int, int]:
    """(how many parameters learn, how many there are with the encoder's)."""
    learning = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    encoder = next((module for module in model.modules() if isinstance(module, FrozenEncoder)), None)
    frozen = 0 if encoder is None else sum(buffer.numel() for buffer in encoder.buffers())
    return learning, frozen + sum(parameter.numel() for parameter in model.parameters())


def dtype_bytes(model: nn.Module) -> int:
    """Bytes of all weights as they are."""
    tensors: list[torch.Tensor] = [*model.parameters(), *model.buffers()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
