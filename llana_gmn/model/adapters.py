"""Adapters of PEFT from before the model's body stood apart from its head."""

from __future__ import annotations

import os
import re
from typing import Any

from ..names import BACKBONE, current_name

_EARLIER_BACKBONE = re.escape("language_model.")


def adapter_config(adapter: str | os.PathLike[str], **options: Any) -> Any:
    """The `PeftConfig` of an adapter, with the names that its modules have today.

    Args:
        adapter: a directory of PEFT's, or the name of a repository on the hub.
        **options: arguments of `PeftConfig.from_pretrained`.
    """
    from peft import PeftConfig

    config: Any = PeftConfig.from_pretrained(str(adapter), **options)
    targets = getattr(config, "target_modules", None)
    if isinstance(targets, str):
        if targets.startswith(_EARLIER_BACKBONE):
            config.target_modules = re.escape(BACKBONE) + targets.removeprefix(_EARLIER_BACKBONE)
    elif targets:
        config.target_modules = {_module_name(name) for name in targets}
    rows = getattr(config, "trainable_token_indices", None)
    if isinstance(rows, dict):
        config.trainable_token_indices = {_module_name(name): indices for name, indices in rows.items()}
    return config


def _module_name(name: str) -> str:
    return current_name(f"{name}.").removesuffix(".")
