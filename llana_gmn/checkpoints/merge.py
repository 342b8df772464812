"""A LoRA adapter (and all that was trained beside it) into its base model."""

from __future__ import annotations

from pathlib import Path

from gmn_encoder.files import StrPath, atomic_directory

from .loading import open_adapter


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
    with atomic_directory(out) as directory:
        adapted, processor = open_adapter(adapter, model=model, dtype=dtype)
        merged = adapted.merge_and_unload()
        merged.config.backbone, merged.config.backbone_sha256 = None, ""
        merged.save_pretrained(directory)
        processor.save_pretrained(directory)
    return out
