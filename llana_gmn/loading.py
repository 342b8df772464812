"""Loading a model for use: on the accelerator if there is one, quantised if asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from gmn_encoder.files import StrPath, read_json

from .adapters import adapter_config
from .auto import LlanaGmnForConditionalGeneration, LlanaGmnProcessor

UNQUANTISED = ("model.nerf_encoder", "model.projector", "lm_head")
"""Parts that stay as they are when a backbone is quantised."""

ADAPTER_CONFIG = "adapter_config.json"
"""What a directory of PEFT's holds."""


def adapter_base(adapter: StrPath, model: StrPath | None = None) -> str:
    """The base model of an adapter: `model` if given, else what the adapter names.

    Raises `ValueError` where it names none, `FileNotFoundError` where it is no longer there.
    """
    base = model or read_json(Path(adapter, ADAPTER_CONFIG)).get("base_model_name_or_path")
    if not base:
        raise ValueError(f"{adapter}: does not name its base model; pass it (--model)")
    if not Path(base, "config.json").is_file() and Path(base).is_absolute():
        raise FileNotFoundError(f"{base}: no such model, the base of {adapter}; say where it is now (--model)")
    return str(base)


def load_adapter(model: LlanaGmnForConditionalGeneration, adapter: StrPath) -> Any:
    """An adapter of PEFT around its base model, a `PeftModel`."""
    from peft import PeftModel

    return PeftModel.from_pretrained(model, str(adapter), config=adapter_config(adapter))


def quantization_config(bits: int) -> Any:
    """transformers' own configuration for a backbone in 8 or 4 bits; encoder, projector and output layer are left out."""
    from transformers import BitsAndBytesConfig

    if bits not in (4, 8):
        raise ValueError(f"quantisation is to 4 or 8 bits, got {bits}")
    return BitsAndBytesConfig(
        load_in_8bit=bits == 8,
        load_in_4bit=bits == 4,
        bnb_4bit_compute_dtype=torch.bfloat16,
        bnb_4bit_quant_type="nf4",
        llm_int8_skip_modules=list(UNQUANTISED),
    )


def load_model(
    path: StrPath, *, dtype: str = "auto", device: torch.device | None = None, bits: int | None = None
) -> tuple[LlanaGmnForConditionalGeneration, LlanaGmnProcessor]:
    """A model, in evaluation mode, and its processor.

    Args:
        path: a directory of `save_pretrained`, or the name of a repository on the hub; or an adapter's directory. An adapter
            is merged into its base, unless that is quantised.
        dtype: name of the weights' dtype; `"auto"` for as they were saved.
        device: where the model goes; None for the accelerator if there is one, else the CPU.
        bits: bits of a quantised backbone, 8 or 4 (needs bitsandbytes); None: as it is.
    """
    if device is None:
        device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    adapter = Path(path, ADAPTER_CONFIG).is_file()
    base = adapter_base(path) if adapter else path
    processor = LlanaGmnProcessor.from_pretrained(path if Path(path, "processor_config.json").is_file() else base)
    options: dict[str, Any] = {"dtype": dtype}
    if bits is not None:
        options |= {"quantization_config": quantization_config(bits), "device_map": {"": device}}
    model = LlanaGmnForConditionalGeneration.from_pretrained(base, **options)
    processor.check_model(model.config)
    if adapter:
        adapted = load_adapter(model, path)
        model = adapted.merge_and_unload() if bits is None else adapted.get_base_model()
    if bits is None:
        torch.nn.Module.to(model, device)
    return model.eval(), processor
