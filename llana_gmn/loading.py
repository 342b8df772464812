"""Loading a model for use: on the accelerator if there is one, quantised if asked for."""

from __future__ import annotations

from typing import Any

import torch

from gmn_encoder.files import StrPath

from .auto import LlanaGmnForConditionalGeneration, LlanaGmnProcessor

UNQUANTISED = ("nerf_encoder", "projector", "lm_head")
"""Parts that stay as they are when a backbone is quantised."""


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
        path: a directory of `save_pretrained`, or the name of a repository on the hub.
        dtype: `"auto"` for as it was saved, or the name of one.
        device: None for the accelerator if there is one, else the CPU.
        bits: 8 or 4 to quantise the backbone (needs bitsandbytes).
    """
    if device is None:
        device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    processor = LlanaGmnProcessor.from_pretrained(path)
    options: dict[str, Any] = {"dtype": dtype}
    if bits is not None:
        options |= {"quantization_config": quantization_config(bits), "device_map": {"": device}}
    model = LlanaGmnForConditionalGeneration.from_pretrained(path, **options)
    if bits is None:
        torch.nn.Module.to(model, device)
    return model.eval(), processor
