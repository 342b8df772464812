"""What SANE encoders learnt, on objects that they have not seen, fitted twice from weights of their own, turned and not.

All figures are of hash NeRFs against hash NeRFs, the family that has all kinds of tokens. Beside each stands what needs no
look at the NeRFs: rotations at random, none, and the mean one; for retrieval the same encoder with all values blanked, which
leaves it the positions of the tokens. Shapes: N objects.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gmn_encoder import Nerf, SaneEncoder
from gmn_encoder.encoders.sane.encoder import View
from gmn_encoder.encoders.tokens.rows import with_rows
from gmn_encoder.encoders.tokens.sequence import KINDS, POSE
from gmn_encoder.nerfs.record import NerfBatch
from gmn_encoder.nerfs.symmetries import features_mapped, permuted, rescaled
from gmn_encoder.pose.fields import BakedField, visible
from gmn_encoder.pose.rotations import random_rotations
from gmn_encoder.pose.search import Motions
from gmn_encoder.pose.views import ParallelRays
from gmn_encoder.rendering.psnr import psnr
from gmn_encoder.seeds import generator_for
from gmn_encoder.training.sane.validation import ShareOfVariance

from ..tables import Table
from .retrieval import random_recall, recall_at_k

_VIEW_SIZE = 40

LEAKS: Mapping[str, Callable[[Nerf, torch.Generator], Nerf | None]] = {
    "neurons permuted": permuted,
    "ReLU rescaled": rescaled,
    "features mapped": features_mapped,
}


@dataclass(frozen=True)
class HeldOut:
    """N objects that no encoder was trained on.

    Attributes:
        nerfs, turned: a NeRF of each, and one of the same object turned, fitted anew.
        turns: quaternions ``(N, 4)`` by which.
        errors: degrees ``(N,)`` of quaternions ``(N, 4)``, modulo the symmetries of each object.
        asymmetric: which have none.
    """

    nerfs: Sequence[Nerf]
    turned: Sequence[Nerf]
    turns: Tensor
    errors: Callable[[Tensor], list[float]]
    asymmetric: Sequence[bool]


def rotation_table(objects: HeldOut, encoders: Mapping[str, SaneEncoder]) -> Table:
    """Errors of rotation heads beside those of no look at all."""
    count = len(objects.turns)
    guesses = {
        "chance": random_rotations(count, generator_for("chance")),
        "identity": torch.tensor([[1.0, 0, 0, 0]]).expand(count, -1),
        "mean rotation": mean_rotation(objects.turns).expand(count, -1),
    }
    for name, encoder in encoders.items():
        guesses[f"head of {name}"] = encoder.relative_rotations(objects.nerfs, objects.turned)
    lines = []
    for name, found in guesses.items():
        errors = objects.errors(found)
        for kind, used in (("asymmetric", objects.asymmetric), ("all, modulo symmetry", [True] * count)):
            if kept := [error for error, use in zip(errors, used, strict=True) if use]:
                shares = [f"{sum(error < limit for error in kept) / len(kept):.0%}" for limit in (10, 20, 30)]
                middle = (f"{statistics.median(kept):.1f}", f"{statistics.fmean(kept):.1f}")
                lines.append([name, kind, str(len(kept)), *middle, *shares])
    head = ["method", "objects", "pairs", "median", "mean", "under 10", "under 20", "under 30"]
    return Table("Learnt heads", head, lines)


def mean_rotation(quaternions: Tensor) -> Tensor:
    """The unit quaternion ``(1, 4)`` nearest to all of some ``(N, 4)``, whatever their signs."""
    return torch.linalg.eigh(quaternions.T @ quaternions).eigenvectors[:, -1][None]


@torch.no_grad()
def tokens_table(objects: HeldOut, encoders: Mapping[str, SaneEncoder]) -> Table:
    """Retrieval of the turned ones, reconstruction, and what changes under other weights of the same field."""
    lines = []
    for name, encoder in encoders.items():
        first, second = (_views(encoder, nerfs) for nerfs in (objects.nerfs, objects.turned))
        blank = _embedded(encoder, _blanked(encoder, first)), _embedded(encoder, _blanked(encoder, second))
        plain = _embedded(encoder, first)
        shares = reconstruction(encoder, first)
        known, unknown = reassembled(encoder, objects.nerfs) if encoder.config.tokens == "rows" else (None, None)
        lines.append(
            [
                name,
                f"{_recall(_embedded(encoder, second), plain):.0%}",
                f"{_recall(blank[1], blank[0]):.0%}",
                *(f"{shares[key]:.2f}" if (key := f"r2/{kind}") in shares else "" for kind in KINDS[:POSE]),
                *("" if each is None else f"{each:.1f}" for each in (known, unknown)),
                *(f"{each:.2f}" for each in leaks(encoder, objects.nerfs, plain)),
            ]
        )
    head = [
        "encoder",
        "recall@1",
        "positions only",
        "R^2 of points",
        "R^2 of the network",
        "PSNR",
        "of mean tokens",
        *LEAKS,
    ]
    count = len(objects.nerfs)
    note = (
        f"Recall of the turned among {count}, chance {random_recall(1, count):.0%}. PSNR, dB: views of the NeRF with its touched "
        "weights from reconstructed tokens, against the NeRF. The last three: change of the embedding, as a share of the "
        "distance between objects."
    )
    return Table("Tokens and embeddings", head, lines, note=note)


def reconstruction(encoder: SaneEncoder, views: Sequence[View]) -> dict[str, float]:
    """``r2/KIND`` of tokens that come back, of each kind that there is."""
    shares = ShareOfVariance()
    for view in views:
        values = encoder.reconstruct(view)
        for kind in range(POSE):
            if bool((chosen := view.tokens.kinds == kind).any()):
                shares.add(kind, values[:, chosen], view.tokens.values[:, chosen], view.tokens.mask[chosen])
    return shares.result()


def reassembled(encoder: SaneEncoder, nerfs: Sequence[Nerf]) -> tuple[float, float]:
    """Mean PSNR in dB of what NeRFs look like with weights from reconstructed tokens, and from tokens of mean values."""
    rays = ParallelRays(_VIEW_SIZE)
    still = Motions.turns(torch.eye(4)[:1])
    found: list[tuple[float, float]] = []
    for nerf in nerfs:
        batch = NerfBatch.stack([nerf])
        view = encoder(encoder.tokenise(batch))
        true = _over_white(rays.see(BakedField(visible(nerf)), still))
        each = []
        for values in (encoder.reconstruct(view), torch.zeros_like(view.tokens.values)):
            made = with_rows(batch, view.tokens.with_values(values), encoder.points, window=encoder.config.window)
            other = dataclasses.replace(nerf, tensors={key: tensor[0] for key, tensor in made.tensors.items()})
            each.append(float(psnr(_over_white(rays.see(BakedField(visible(other)), still)), true)))
        found.append((each[0], each[1]))
    known, unknown = zip(*found, strict=True)
    return statistics.fmean(known), statistics.fmean(unknown)


def leaks(encoder: SaneEncoder, nerfs: Sequence[Nerf], plain: Tensor) -> list[float]:
    """How far embeddings move under each of `LEAKS`, as a share of the mean distance between those of two objects."""
    apart = torch.pdist(plain).mean().clamp(min=1e-9)
    found = []
    for change in LEAKS.values():
        others: list[Any] = [change(nerf, generator_for("leak", place)) for place, nerf in enumerate(nerfs)]
        moved = _embedded(encoder, _views(encoder, others)) - plain
        found.append(float(moved.norm(dim=1).mean() / apart))
    return found


def _views(encoder: SaneEncoder, nerfs: Sequence[Nerf]) -> list[View]:
    return [encoder(encoder.tokenise(NerfBatch.stack([nerf]))) for nerf in nerfs]


def _blanked(encoder: SaneEncoder, views: Sequence[View]) -> list[View]:
    return [encoder(view.tokens.with_values(torch.zeros_like(view.tokens.values))) for view in views]


def _embedded(encoder: SaneEncoder, views: Sequence[View]) -> Tensor:
    """As `SaneEncoder.encode` has them, ``(N, D)``."""
    vectors = torch.cat([encoder.embed_view(view) for view in views])
    return F.layer_norm(vectors, vectors.shape[-1:])


def _recall(queries: Tensor, gallery: Tensor) -> float:
    names = list(range(len(queries)))
    return recall_at_k(queries, gallery, names, names, ks=(1,))[1]


def _over_white(seen: Tensor) -> Tensor:
    """Views of `ParallelRays` as colours ``(V * S * S, 3)``."""
    pixels = seen.view(-1, 4)
    return pixels[:, :3] + 1 - pixels[:, 3:]
