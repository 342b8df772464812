"""Samples into batches: padding on the right, labels that ignore it, the NeRFs of every sample.

Source: docs/released_format.md#labels (collation). NeRFs travel as `model/nerf_inputs.py` describes: embeddings as floats, which
mixed precision may cast, and where a sample holds whole NeRFs their architectures and weights as integers, which it leaves alone.

Shapes: B samples, L most tokens, K most NeRFs of a sample, E of what stands for a NeRF.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ..model.nerf_inputs import pack_nerfs
from .dataset import IGNORED


@dataclass(frozen=True)
class ConversationCollator:
    """Pads samples ``{"input_ids", "labels", "nerfs"}`` to the longest.

    Attributes:
        pad_token_id: the tokenizer's padding token.
        embedding_shape: shape of an embedding, as the processor's.
        pad_to_multiple_of: number that lengths are rounded up to a multiple of; 8 suits tensor cores.

    Returns (when called):
        ``input_ids``, ``attention_mask``, ``labels`` ``(B, L)`` int64, and where there are NeRFs ``nerf_architectures``
        ``(B, K, C)`` int64 with ``nerf_embeddings`` ``(B, K, *E)`` or ``nerf_weights`` ``(B, P)`` int32.

    Raises (when called):
        ValueError: a sample without a label to learn from, or whose labels do not match its tokens.
    """

    pad_token_id: int
    embedding_shape: tuple[int, ...]
    pad_to_multiple_of: int = 1

    def __call__(self, samples: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        for place, sample in enumerate(samples):
            if len(sample["input_ids"]) != len(sample["labels"]):
                raise ValueError(
                    f"sample {place} of a batch has {len(sample['input_ids'])} tokens but {len(sample['labels'])} labels"
                )
            if not bool((torch.as_tensor(sample["labels"]) != IGNORED).any()):
                raise ValueError(
                    f"sample {place} of a batch has no token to learn from: every label is {IGNORED}; "
                    "leave it out, or give it an answer"
                )
        input_ids = self._pad([sample["input_ids"] for sample in samples], self.pad_token_id)
        attention = self._pad([torch.ones(len(sample["input_ids"])) for sample in samples], 0)
        labels = self._pad([sample["labels"] for sample in samples], IGNORED)
        nerfs = pack_nerfs([sample.get("nerfs", ()) for sample in samples], embedding_shape=self.embedding_shape)
        return {"input_ids": input_ids, "attention_mask": attention, "labels": labels, **nerfs}

    def _pad(self, rows: Sequence[Any], value: int) -> Tensor:
        tensors = [torch.as_tensor(row).long() for row in rows]
        padded = pad_sequence(tensors, batch_first=True, padding_value=value)
        missing = -padded.shape[1] % self.pad_to_multiple_of
        return torch.nn.functional.pad(padded, (0, missing), value=value) if missing else padded
