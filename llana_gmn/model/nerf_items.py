"""What a user passes as a NeRF: a record, the path of one or of an embedding, or an array.

Shapes: E of what stands for a NeRF, ``(D,)`` or, of V vectors, ``(V, D)``; D embedding (1024).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gmn_encoder.embeddings.files import is_embedding_file, read_embedding
from gmn_encoder.nerfs.files import load_nerf
from gmn_encoder.nerfs.finite import field_flag
from gmn_encoder.nerfs.record import Nerf

logger = logging.getLogger(__name__)

NerfLike = Nerf | str | os.PathLike | np.ndarray | Tensor
OnFlag = Callable[[Nerf, str], None]


def warn_of_flag(nerf: Nerf, flag: str) -> None:
    """Log that a NeRF's field is "empty" or "full"."""
    logger.warning("%s: its field is %s, there is no object to see in it; do not trust what is said", nerf.name, flag)


def group_nerfs(nerfs: Any, counts: Sequence[int], embedding_shape: tuple[int, ...]) -> list[list[Nerf | Tensor]]:
    """NeRFs of each prompt, `counts` of them."""
    if nerfs is None:
        nerfs = []
    elif isinstance(nerfs, Nerf | str | os.PathLike) or is_array(nerfs):
        nerfs = [nerfs]
    nested = bool(nerfs) and all(isinstance(item, list | tuple) for item in nerfs)
    if nested:
        groups = [[one for item in group for one in read_nerf(item, embedding_shape)] for group in nerfs]
        if len(groups) != len(counts):
            raise ValueError(f"NeRFs for {len(groups)} prompts came with {len(counts)} prompts")
        for prompt, (group, count) in enumerate(zip(groups, counts, strict=True)):
            if len(group) != count:
                raise ValueError(
                    f"prompt {prompt} has {count} placeholders but {len(group)} NeRFs; write one <nerf> for each NeRF"
                )
        return groups
    flat = [one for item in nerfs for one in read_nerf(item, embedding_shape)]
    if len(flat) != sum(counts):
        raise ValueError(
            f"{len(flat)} NeRFs were passed for {sum(counts)} placeholders in {len(counts)} prompts; "
            "write one <nerf> for each NeRF"
        )
    rest = iter(flat)
    return [[next(rest) for _ in range(count)] for count in counts]


def read_nerf(
    item: NerfLike, embedding_shape: tuple[int, ...], *, on_flag: OnFlag = warn_of_flag
) -> list[Nerf | Tensor]:
    """What the model is shown for an input: the record itself or of its file, or embeddings ``E`` float32 on the CPU.

    An array of embeddings ``(n, *E)`` stands for n NeRFs. Where E is ``(D,)``, it may also be ``(n, 1, D)``.

    Args:
        item: the input.
        embedding_shape: E.
        on_flag: receives a NeRF whose field is "empty" or "full", and which of these.

    Raises:
        FileNotFoundError: no such file.
        TypeError, ValueError: neither a NeRF nor an embedding of the model's size, a broken file, or a field without numbers.
    """
    source = "an embedding"
    if isinstance(item, str | os.PathLike) and not is_embedding_file(item):
        item = load_nerf(item)
    if isinstance(item, Nerf):
        if (flag := field_flag(item)) is not None:
            on_flag(item, flag)
        return [item]
    if isinstance(item, str | os.PathLike):
        source, item = f"{item}: the embedding", read_embedding(item, tokens=len(embedding_shape) > 1)
    if not is_array(item):
        raise TypeError(f"a NeRF is a {type(item).__name__}; expected a Nerf, a path or an array {embedding_shape}")
    values = torch.as_tensor(item).detach().to("cpu", torch.float32)
    if len(embedding_shape) == 1 and values.ndim == 3 and values.shape[1] == 1:
        values = values[:, 0]
    if (
        tuple(values.shape[-len(embedding_shape) :]) != embedding_shape
        or values.ndim > 1 + len(embedding_shape)
        or not len(values)
    ):
        many = f"(n, {', '.join(map(str, embedding_shape))})"
        raise ValueError(
            f"{source} has shape {tuple(values.shape)}; expected {embedding_shape} or {many}, "
            "as the encoder of this model makes them"
        )
    if not bool(torch.isfinite(values).all()):
        raise ValueError(f"{source} has NaN or infinite values")
    return list(values.reshape(-1, *embedding_shape))


def is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray | Tensor)
