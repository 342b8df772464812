"""NeRFs as plain tensors, the form in which they travel from the processor to the model.

A batch of prompts holds any number of NeRFs each, of any mix of architectures. They become up to three tensors whose first
dimension is the batch:

* ``nerf_architectures`` ``(B, K, C)`` int64: one row a NeRF (`columns`), rows of zeros where a prompt has fewer than K;
* ``nerf_weights`` ``(B, P)`` int32: the tensors of a prompt's NeRFs end to end, as the **bit patterns** of their float32 values;
* ``nerf_embeddings`` ``(B, K, D)`` float32: the rows of NeRFs that came as embeddings (kind `EMBEDDING`), zeros elsewhere.

Why so. Plain tensors with a batch dimension survive all that happens on the way: `BatchFeature.to`, collation, pinned memory,
the slices of data-parallel wrappers, and the `repeat_interleave` with which `generate` makes beams and several return
sequences. Integers stay as they are where trainers cast every floating-point input to half precision (DeepSpeed does), which
would change the weights of a NeRF before the encoder reads them; an embedding may be cast, the projector casts it anyway.

Shapes: B prompts, K most NeRFs in a prompt, C columns (12), P most weights in a prompt, D embedding (1024).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from gmn_encoder.nerfs.architectures import FAMILIES, NerfArchitecture, parse_architecture
from gmn_encoder.nerfs.record import Nerf

NERF_INPUTS = ("nerf_weights", "nerf_architectures", "nerf_embeddings")

NOTHING = 0
EMBEDDING = -1
"""Kinds of rows; a NeRF's is the number of its family in `FAMILIES`, from 1 on."""


def columns() -> tuple[str, ...]:
    """Meaning of the numbers of an architecture row: the kind, then every size of every family, 0 where a family lacks it."""
    return ("kind", *dict.fromkeys(field.name for cls in FAMILIES.values() for field in dataclasses.fields(cls)))


def architecture_row(architecture: NerfArchitecture) -> list[int]:
    """The numbers of `columns`. The inverse of `architecture_of_row`."""
    sizes = dataclasses.asdict(architecture)
    kind = 1 + list(FAMILIES).index(architecture.family)
    return [kind, *(int(sizes.get(column, 0)) for column in columns()[1:])]


def architecture_of_row(row: Sequence[int]) -> NerfArchitecture:
    names = columns()
    if len(row) != len(names) or not 1 <= row[0] <= len(FAMILIES):
        raise ValueError(
            f"{list(row)} is no architecture of a NeRF; expected {len(names)} numbers as the processor writes them: "
            + ", ".join(names)
        )
    family, cls = list(FAMILIES.items())[row[0] - 1]
    sizes = dict(zip(names, row, strict=True))
    values = {
        field.name: bool(sizes[field.name]) if isinstance(field.default, bool) else sizes[field.name]
        for field in dataclasses.fields(cls)
    }
    return parse_architecture({"family": family, **values})


def pack_nerfs(groups: Sequence[Sequence[Nerf | Tensor]], *, embedding_dim: int) -> dict[str, Tensor]:
    """NeRFs, or embeddings ``(D,)`` in their place, of each prompt to the tensors described above.

    Keys that would hold nothing are left out; without any NeRF the result is empty.
    """
    most = max((len(group) for group in groups), default=0)
    if most == 0:
        return {}
    architectures = torch.zeros(len(groups), most, len(columns()), dtype=torch.int64)
    embeddings = torch.zeros(len(groups), most, embedding_dim)
    flat: list[Tensor] = []
    for b, group in enumerate(groups):
        pieces = []
        for k, item in enumerate(group):
            if isinstance(item, Nerf):
                architectures[b, k] = torch.tensor(architecture_row(item.architecture))
                pieces += [_bits(item.tensors[key]) for key in item.architecture.tensor_shapes]
            else:
                architectures[b, k, 0] = EMBEDDING
                embeddings[b, k] = item
        flat.append(torch.cat(pieces) if pieces else torch.zeros(0, dtype=torch.int32))
    packed = {"nerf_architectures": architectures}
    if longest := max(len(weights) for weights in flat):
        packed["nerf_weights"] = torch.zeros(len(groups), longest, dtype=torch.int32)
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
    """Architecture rows ``(B, K, C)`` of the kind "an embedding" wherever `kinds` ``(B, K)`` has a NeRF."""
    rows = kinds.new_zeros(*kinds.shape, len(columns()))
    rows[..., 0] = torch.where(kinds == NOTHING, NOTHING, EMBEDDING)
    return rows


def align_embeddings(embeddings: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Embeddings that came alone to ``(B, K, D)`` and kinds ``(B, K)``.

    Args:
        embeddings: embeddings ``(B, K, D)``, or ``(N, D)`` in the order of the placeholders.
        counts: number of placeholders of each prompt ``(B,)``.
    """
    batch = counts.shape[0]
    if embeddings.ndim == 3 and embeddings.shape[0] == batch:
        return embeddings, torch.ones(embeddings.shape[:2], dtype=torch.int64, device=counts.device)
    if embeddings.ndim != 2:
        raise ValueError(
            f"nerf_embeddings has shape {tuple(embeddings.shape)}; expected (NeRFs, embedding size) "
            f"or ({batch}, NeRFs a prompt, embedding size)"
        )
    total = int(counts.sum())
    if total != len(embeddings):
        raise ValueError(
            f"{len(embeddings)} NeRF embeddings were passed for {total} placeholders in the prompts; "
            "each placeholder needs one, in order"
        )
    present = torch.arange(int(counts.max()), device=counts.device) < counts[:, None]
    aligned = embeddings.new_zeros(*present.shape, embeddings.shape[-1])
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
