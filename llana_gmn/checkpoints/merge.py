"""A LoRA adapter (and all that was trained beside it) into its base model."""

from __future__ import annotations

from pathlib import Path

from gmn_encoder.files import StrPath, atomic_directory

from ..model.auto import LlanaGmnForConditionalGeneration, LlanaGmnProcessor
from .loading import adapter_base, load_adapter


def merge(adapter: StrPath, out: StrPath, *, model: StrPath | None = None, dtype: str = "auto") -> Path:
    """Merge an adapter of PEFT into the model it was trained on.

    Args:
        adapter: directory with ``adapter_config.json``. If it holds a processor, that is the one saved.
        out: a new directory, for a whole model and its processor.
        model: the base model; None for the one that the adapter names.
        dtype: dtype that the base model is loaded in; ``"auto"`` for as it was saved.

    Raises:
        ValueError, FileNotFoundError: no adapter, no base model, or `out` is there already.
    """
    adapter, out = Path(adapter), Path(out)
    base = adapter_base(adapter, model)
    with atomic_directory(out) as directory:
        whole = LlanaGmnForConditionalGeneration.from_pretrained(base, dtype=dtype)
        merged = load_adapter(whole, adapter).merge_and_unload()
        merged.save_pretrained(directory)
        source = adapter if (adapter / "processor_config.json").is_file() else base
        LlanaGmnProcessor.from_pretrained(source).save_pretrained(directory)
    return out
