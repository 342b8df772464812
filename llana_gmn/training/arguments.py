"""A recipe as the arguments of transformers' Trainer.

Source of the settings: docs/released_format.md#llana-training. DeepSpeed's optimizer is torch's AdamW in every case: its own
compiles first.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments

from gmn_encoder.files import read_json

from .plan import TrainingPlan
from .recipe import TrainingRecipe

_CPU_DEEPSPEED = {"zero_force_ds_cpu_optimizer": False, "zero_allow_untested_optimizer": True}


def training_arguments(recipe: TrainingRecipe, plan: TrainingPlan) -> TrainingArguments:
    """The Trainer's arguments for a recipe whose plan is made.

    Raises `ValueError` or `FileNotFoundError` for DeepSpeed or FSDP settings that cannot be read.
    """
    evaluates = plan.eval_samples > 0
    options: dict[str, Any] = {
        "output_dir": recipe.output,
        "per_device_train_batch_size": recipe.batch_size,
        "per_device_eval_batch_size": recipe.batch_size,
        "gradient_accumulation_steps": recipe.accumulation,
        "num_train_epochs": recipe.epochs,
        "max_steps": recipe.max_steps or -1,
        "learning_rate": recipe.learning_rate,
        "lr_scheduler_type": recipe.schedule,
        "warmup_steps": math.ceil(recipe.warmup_ratio * plan.steps),
        "weight_decay": recipe.weight_decay,
        "max_grad_norm": recipe.max_grad_norm,
        "optim": "adamw_torch",
        "bf16": recipe.bf16,
        "logging_steps": recipe.logging_steps,
        "logging_first_step": True,
        "logging_nan_inf_filter": False,
        "save_strategy": "steps" if recipe.save_steps else "epoch",
        "save_steps": recipe.save_steps or 500,
        "save_total_limit": recipe.save_limit,
        "eval_strategy": ("steps" if recipe.eval_steps else "epoch") if evaluates else "no",
        "eval_steps": recipe.eval_steps or None,
        "prediction_loss_only": True,
        "seed": recipe.seed,
        "data_seed": recipe.seed,
        "use_cpu": not torch.cuda.is_available(),
        "dataloader_num_workers": recipe.workers,
        "remove_unused_columns": False,
        "label_names": ["labels"],
        "report_to": list(recipe.report_to),
        "disable_tqdm": True,
        # Text-only batches keep the projector in the graph, so every parameter that learns has a gradient at every step.
        "ddp_find_unused_parameters": False,
        "ddp_timeout": 24 * 3600,
    }
    if recipe.gradient_checkpointing:
        # Renamed between the transformers versions that are supported.
        known = {each.name for each in dataclasses.fields(TrainingArguments)}
        name = "activation_checkpointing" if "activation_checkpointing" in known else "gradient_checkpointing"
        options |= {name: True, f"{name}_kwargs": {"use_reentrant": False}}
    if recipe.deepspeed:
        options["deepspeed"] = deepspeed_settings(recipe)
    if recipe.fsdp:
        options |= {"fsdp": True, "fsdp_config": read_json(recipe.fsdp)}
    return TrainingArguments(**options)


def deepspeed_settings(recipe: TrainingRecipe) -> dict[str, Any]:
    """The settings in `recipe.deepspeed`, for the Trainer to complete. Raises `ValueError` for precision that contradicts."""
    settings = read_json(Path(str(recipe.deepspeed)))
    bf16 = (settings.get("bf16") or {}).get("enabled", "auto")
    if bf16 not in ("auto", recipe.bf16):
        raise ValueError(f'{recipe.deepspeed}: has bf16 {bf16}, the recipe {recipe.bf16}; write "auto" there')
    if not torch.cuda.is_available():
        settings = {**settings, **_CPU_DEEPSPEED}
    return settings
