"""Checkpoints of LLaNA (`llana.py`) and of gmnerf (`gmnerf.py`) into our layout, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch

from gmn_encoder.encoders.base import encoder_kinds, load_encoder
from gmn_encoder.files import StrPath, atomic_directory, read_json

from ..checkpoints.llana_files import is_llana
from ..model.configuration import LlanaGmnConfig
from .gmnerf import encoder_to_gmnerf
from .llana import model_from_llana, model_to_llana

Layout = Literal["llana-gmn", "llana", "gmnerf"]


def convert(
    source: StrPath,
    out: StrPath,
    *,
    to: Layout = "llana-gmn",
    encoder: StrPath | None = None,
    projector: StrPath | None = None,
    tokenizer: StrPath | None = None,
    dtype: torch.dtype | None = None,
) -> Path:
    """Convert a checkpoint; what `source` is, its files say.

    Args:
        source: a LLaNA directory, a directory of ours, an encoder's directory, or a checkpoint of gmnerf or
            nf2vec (`.pt`).
        out: a new directory; for ``to="gmnerf"`` a new `.pt` file.
        to: layout to write, ``"llana-gmn"`` (a model or an encoder in our layout), ``"llana"`` or ``"gmnerf"`` (an encoder).
        encoder: the encoder of a LLaNA model, in any form `open_encoder` reads.
        projector: the ``vec_proj.bin`` of LLaNA's first training stage, whose weights replace those of `source`.
        tokenizer: the Llama's ``tokenizer.model``, for ``to="llana"`` where none stands in `source`.
        dtype: dtype of the weights written; None for as they are. The encoder stays in float32.

    Returns:
        `out`.

    Raises:
        ValueError, FileNotFoundError: not such a checkpoint, weights that are missing, unknown or of another shape, `out`
            that is there already.
    """
    source, out = Path(source), Path(out)
    if not source.exists():
        raise FileNotFoundError(f"{source}: no such file or directory")
    if to == "gmnerf":
        encoder_to_gmnerf(source, out)
        return out
    values = {} if source.is_file() else read_json(source / "config.json")
    if to == "llana":
        if values.get("model_type") != LlanaGmnConfig.model_type:
            raise ValueError(f"{source}: is no model of ours; only such a one becomes a LLaNA checkpoint")
        model_to_llana(source, out, dtype=dtype, tokenizer_model=tokenizer)
    elif source.is_file() or values.get("model_type") in encoder_kinds():
        with atomic_directory(out) as directory:
            load_encoder(source).save_pretrained(directory)
    elif is_llana(values):
        model_from_llana(source, values, out, encoder=encoder, projector=projector, dtype=dtype)
    else:
        raise ValueError(
            f"{source}: has the model_type {values.get('model_type')!r}; expected a LLaNA checkpoint (llana or nerfllm), "
            "an encoder, or a model of ours with --to"
        )
    return out
