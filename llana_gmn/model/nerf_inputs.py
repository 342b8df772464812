"""NeRFs as plain tensors, the form in which they travel from the processor to the model.

A batch of prompts holds any number of NeRFs each, of any mix of architectures. They become up to three tensors whose first
dimension is the batch:

* ``nerf_architectures`` ``(B, K, C)`` int64: one row a NeRF (`architecture_row`), zeros where a prompt has fewer than K;
* ``nerf_weights`` ``(B, P)`` int32: the tensors of a prompt's NeRFs end to end, as the **bit patterns** of their float32 values;
* ``nerf_embeddings`` ``(B, K, D)`` float32, or ``(B, K, V, D)`` where V vectors stand for a NeRF: those of NeRFs that came as
  embeddings (kind `EMBEDDING`), zeros elsewhere.

Why so. Plain tensors with a batch dimension survive all that happens on the way: `BatchFeature.to`, collation, pinned memory,
the slices of data-parallel wrappers, and the `repeat_interleave` with which `generate` makes beams and several return
sequences. Integers stay as they are where trainers cast every floating-point input to half precision (DeepSpeed does), which
would change the weights of a NeRF, or its box, before the encoder reads them; an embedding may be cast, the projector casts it
anyway.

Shapes: B prompts, K most NeRFs in a prompt, C numbers of the longest architecture row, P most weights in a prompt, V vectors of
a NeRF, D embedding (1024).
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gmn_encoder.nerfs.architectures import FAMILIES, NerfArchitecture, parse_architecture
from gmn_encoder.nerfs.record import Nerf

NERF_INPUTS = ("nerf_weights", "nerf_architectures", "nerf_embeddings")

NOTHING = 0
EMBEDDING = -1
NERF = 1
"""Kinds of rows."""


def architecture_row(architecture: NerfArchitecture) -> list[int]:
    """A NeRF's row: its kind, then the architecture's `to_dict` as JSON in UTF-8, eight bytes a number.

    So sizes of any kind arrive as they are: whole and other numbers, words, lists of these.

    Raises `ValueError` for an architecture of no registered family, or that JSON does not bring back.
    """
    if FAMILIES.get(architecture.family) is not type(architecture):
        raise ValueError(
            f"{architecture.name}: its family {architecture.family!r} is not registered; call register_family first"
        )
    try:
        text = json.dumps(architecture.to_dict(), separators=(",", ":")).encode()
        row = [NERF, *struct.unpack(f"<{-(-len(text) // 8)}q", text.ljust(-(-len(text) // 8) * 8, b"\0"))]
        arrived = architecture_of_row(row)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{architecture.name}: cannot be written as JSON ({error})") from error
    if arrived != architecture:
        raise ValueError(
            f"{architecture.name}: JSON brings back {arrived.to_dict()}; expected sizes of numbers, words or tuples of these"
        )
    return row


def architecture_of_row(row: Sequence[int]) -> NerfArchitecture:
    """The inverse of `architecture_row`; zeros may follow. Raises `ValueError` for any other row."""
    if len(row) < 2 or row[0] != NERF:
        raise ValueError(_NO_ARCHITECTURE.format(list(row)[:8]))
    try:
        values = json.loads(struct.pack(f"<{len(row) - 1}q", *row[1:]).rstrip(b"\0"))
        sizes = {name: _tuples(value) for name, value in values.items()}
    except (ValueError, AttributeError, RecursionError, struct.error) as error:
        raise ValueError(_NO_ARCHITECTURE.format(list(row)[:8])) from error
    return parse_architecture(sizes)


_NO_ARCHITECTURE = "{} is no architecture of a NeRF; expected a row as the processor writes it"


def _tuples(value: Any) -> Any:
    """Lists as the tuples they were: architectures can be hashed."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def pack_nerfs(groups: Sequence[Sequence[Nerf | Tensor]], *, embedding_shape: tuple[int, ...]) -> dict[str, Tensor]:
    """NeRFs, or embeddings in their place, of each prompt to the tensors described above.

    Keys that would hold nothing are left out; without any NeRF the result is empty.

    Args:
        groups: the NeRFs of each prompt.
        embedding_shape: the shape of an embedding, ``(D,)`` or ``(V, D)``.
    """
    most = max((len(group) for group in groups), default=0)
    if most == 0:
        return {}
    rows = [
        [architecture_row(item.architecture) if isinstance(item, Nerf) else [EMBEDDING] for item in group]
        for group in groups
    ]
    longest = max(len(row) for group in rows for row in group)
    architectures = torch.zeros(len(groups), most, longest, dtype=torch.int64)
    embeddings = torch.zeros(len(groups), most, *embedding_shape)
    flat: list[Tensor] = []
    for b, group in enumerate(groups):
        pieces = []
        for k, (item, row) in enumerate(zip(group, rows[b], strict=True)):
            architectures[b, k, : len(row)] = torch.tensor(row)
            if isinstance(item, Nerf):
                pieces += [_bits(item.tensors[key]) for key in item.architecture.tensor_shapes]
            else:
                embeddings[b, k] = item
        flat.append(torch.cat(pieces) if pieces else torch.zeros(0, dtype=torch.int32))
    packed = {"nerf_architectures": architectures}
    if largest := max(len(weights) for weights in flat):
        packed["nerf_weights"] = torch.zeros(len(groups), largest, dtype=torch.int32)
        for b, weights in enumerate(flat):
            packed["nerf_weights"][b, : len(weights)] = weights
    if (architectures[..., 0] == EMBEDDING).any():
        packed["nerf_embeddings"] = embeddings
    return packed


def unpack_nerfs(weights: Tensor | None, architectures: Tensor) -> list[tuple[int, int, Nerf]]:
    """``(prompt, place in the prompt, NeRF)`` of every NeRF that came with its weights, on the device of `weights`."""
    rows = architectures.tolist()
    if weights is None:
        if any(row[0] not in (NOTHING, EMBEDDING) for rows_of_prompt in rows for row in rows_of_prompt):
            raise ValueError(
                "nerf_architectures names NeRFs, but nerf_weights is missing; pass all the processor returned"
            )
        return []
    if weights.is_floating_point():
        raise ValueError(
            f"nerf_weights has dtype {weights.dtype}; expected int32, the bit patterns that the processor writes"
        )
    values = weights.to(torch.int32).view(torch.float32)
    found = []
    for b, rows_of_prompt in enumerate(rows):
        start = 0
        for k, row in enumerate(rows_of_prompt):
            if row[0] in (NOTHING, EMBEDDING):
                continue
            architecture = architecture_of_row(row)
            tensors = {}
            for key, shape in architecture.tensor_shapes.items():
                size = math.prod(shape)
                if start + size > values.shape[1]:
                    raise ValueError(
                        f"nerf_weights has {values.shape[1]} values a prompt; NeRF {k} of prompt {b} ({architecture.name}) "
                        f"ends at {start + size}; pass nerf_weights and nerf_architectures of the same processor call"
                    )
                tensors[key] = values[b, start : start + size].view(shape)
                start += size
            found.append((b, k, Nerf(architecture, tensors)))
    return found


def embedded_rows(kinds: Tensor) -> Tensor:
    """Architecture rows ``(B, K, 1)`` of the kind "an embedding" wherever `kinds` ``(B, K)`` has a NeRF."""
    return torch.where(kinds == NOTHING, NOTHING, EMBEDDING)[..., None]


def align_embeddings(embeddings: Tensor, counts: Tensor, embedding_shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Embeddings that came alone to ``(B, K, *embedding_shape)`` and kinds ``(B, K)``.

    Args:
        embeddings: embeddings ``(B, K, *embedding_shape)``, or ``(N, *embedding_shape)`` in the order of the placeholders. Where
            one vector stands for a NeRF, it may come as a matrix of one row, as `NerfEncoder.encode_tokens` gives it.
        counts: number of placeholders of each prompt ``(B,)``.
        embedding_shape: the shape of an embedding, ``(D,)`` or ``(V, D)``.
    """
    batch, single = counts.shape[0], len(embedding_shape) == 1
    if single and embeddings.ndim == 4 and embeddings.shape[2] == 1:
        embeddings = embeddings[:, :, 0]
    if single and embeddings.ndim == 3 and embeddings.shape[1] == 1 and embeddings.shape[0] != batch:
        embeddings = embeddings[:, 0]
    if embeddings.ndim == 2 + len(embedding_shape) and embeddings.shape[0] == batch:
        return embeddings, torch.ones(embeddings.shape[:2], dtype=torch.int64, device=counts.device)
    if embeddings.ndim != 1 + len(embedding_shape):
        each = "embedding size" if single else "vectors a NeRF, embedding size"
        raise ValueError(
            f"nerf_embeddings has shape {tuple(embeddings.shape)}; expected (NeRFs, {each}) or ({batch}, NeRFs a prompt, {each})"
        )
    total = int(counts.sum())
    if total != len(embeddings):
        raise ValueError(
            f"{len(embeddings)} NeRF embeddings were passed for {total} placeholders in the prompts; "
            "each placeholder needs one, in order"
        )
    present = torch.arange(int(counts.max()), device=counts.device) < counts[:, None]
    aligned = embeddings.new_zeros(*present.shape, *embeddings.shape[1:])
    aligned[present.to(embeddings.device)] = embeddings
    return aligned, present.long()


def check_batch(input_ids: Tensor, *others: Tensor | None) -> None:
    """Raise `ValueError` unless all tensors are of as many prompts as `input_ids`."""
    for other in others:
        if other is not None and len(other) != len(input_ids):
            raise ValueError(
                f"the NeRFs of {len(other)} prompts came with {len(input_ids)} prompts; "
                "pass all that one processor call returned"
            )


def check_counts(nerfs: Tensor, placeholders: Tensor, tokens_per_nerf: int) -> None:
    """Raise `ValueError` for a prompt whose placeholders ``(B,)`` are not those of its NeRFs ``(B,)``, with both counts."""
    wanted = nerfs.to(placeholders.device) * tokens_per_nerf
    if torch.compiler.is_compiling():
        torch._assert_async((wanted == placeholders).all(), "the prompts' placeholders are not those of their NeRFs")
        return
    if bool((wanted != placeholders).any()):
        prompt = int((wanted != placeholders).nonzero()[0])
        raise ValueError(
            f"prompt {prompt} has {int(nerfs[prompt])} NeRFs ({int(wanted[prompt])} tokens) but "
            f"{int(placeholders[prompt])} placeholder tokens; let the processor expand one <nerf> for each NeRF, "
            "and do not truncate its output"
        )


def insert(embeds: Tensor, places: Tensor, features: Tensor, *, first: int = 0) -> Tensor:
    """Embeddings of prompts with the features of their NeRFs in their places, in order.

    No shape depends on how many places there are, so `torch.compile` and `torch.export` go through.

    Args:
        embeds: embeddings ``(B, L - first, H)``.
        places: where the prompts have placeholders ``(B, L)``.
        features: token embeddings ``(B, F, H)`` of each prompt's NeRFs, its first placeholder's first.
        first: number of leading tokens of the prompts that are not in `embeds`.
    """
    if not features.shape[1]:
        return embeds
    features, places = features.to(embeds.device, embeds.dtype), places.to(embeds.device)
    which = (places.cumsum(dim=1) - 1).clamp(0, features.shape[1] - 1)[:, first:]
    chosen = features.gather(1, which.unsqueeze(-1).expand(-1, -1, features.shape[2]))
    return torch.where(places[:, first:].unsqueeze(-1), chosen, embeds)


def _bits(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().to(torch.float32).contiguous().flatten().view(torch.int32)
