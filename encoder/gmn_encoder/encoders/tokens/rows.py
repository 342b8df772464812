"""Tokens of raw weights: the rows that a point reads, and the rows of the network's matrices.

Source: SANE over hash NeRFs. A point's token holds the rows at all corners around it: (corner, level, feature) of a hash grid,
(corner of a plane, channel) of planes, 8 x 16 x 2 = 256 values of the usual grids. A network's token holds the incoming weights
of `window` consecutive neurons, each padded with zeros to W / `window` values; a bias stands behind them as one more column. Each
level, the planes, and each matrix are standardised by their own mean and deviation in the file, which `Tokens` keeps.

Rows of separately trained tables cannot be compared across files: any invertible map of a level's features is undone by the
first matrix. `values.py` has tokens without that.

Shapes: B NeRFs, K points, C tokens, L layers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ...nerfs.families import HashArchitecture, TriplaneArchitecture
from ...nerfs.families.hash import KEY as TABLE
from ...nerfs.families.hash import corner_rows
from ...nerfs.families.triplane import KEY as PLANES
from ...nerfs.families.triplane import corner_cells
from ...nerfs.fields import unit_coordinates
from ...nerfs.network import BIAS_KEY, MLP_KEY, NetworkArchitecture
from ...nerfs.record import NerfBatch
from .sequence import NETWORK, POINT, Part, Tokens, joined


def row_tokens(nerfs: NerfBatch, points: Tensor, *, width: int, window: int, asked: Tensor | None = None) -> Tokens:
    """Raw tokens of NeRFs of one architecture.

    Args:
        nerfs: stacked NeRFs with a network, on the device of the points.
        points: world coordinates ``(K, 3)``, to which point tokens belong.
        width: values of a token, W, a multiple of `window`.
        window: neurons in a network token.
        asked: where rows are read instead, ``(B, K, 3)``: at R^T p, a NeRF is seen as if turned by R.

    Raises:
        ValueError: a family without a network; a grid or a network that is too wide for the tokens.
    """
    architecture = nerfs.architecture
    if not isinstance(architecture, NetworkArchitecture):
        raise ValueError(f"a {architecture.family} NeRF has no rows of weights to be read; expected one with a network")
    parts: list[Part] = []
    tables = _tables(nerfs)
    means, deviations = _statistics([*tables, *_matrices(nerfs)])
    if tables:
        rows = point_rows(architecture, (points.expand(len(nerfs), -1, -1) if asked is None else asked))
        entries = _standard(tables, means, deviations)
        values = _gathered(torch.cat(entries, dim=1), rows).flatten(2)
        mask = torch.ones(values.shape[1:], dtype=torch.bool, device=values.device)
        parts.append(Part(values, mask, POINT, places=points / points.abs().amax().clamp(min=1e-6)))
    matrices = _standard(_matrices(nerfs), means[:, len(tables) :], deviations[:, len(tables) :])
    for number, matrix in enumerate(matrices):
        parts.append(_network_part(matrix, number, width, window))
    return joined(parts, width, means=means, deviations=deviations)


def point_rows(architecture: NetworkArchitecture, xyz: Tensor) -> Tensor:
    """Rows of the family's table, all levels or planes one after the other, around points: int64 ``(B, K, corners)``.

    A hash grid's come corner by corner, each with all levels; planes' plane by plane. Points beyond the box read its border.
    """
    unit = unit_coordinates(xyz, architecture.box)[0].clamp(0, 1)
    if isinstance(architecture, HashArchitecture):
        return corner_rows(architecture, unit)[0].transpose(-1, -2).flatten(-2)
    if isinstance(architecture, TriplaneArchitecture):
        return corner_cells(unit, architecture.resolution)[0].movedim(0, -1).long()
    raise ValueError(f"a {architecture.family} NeRF has no table of rows that belong to places")


def with_rows(nerfs: NerfBatch, tokens: Tokens, points: Tensor, *, window: int) -> NerfBatch:
    """The NeRFs with the weights that tokens hold in place of theirs; a row in several tokens becomes their mean.

    Args:
        nerfs: what the tokens were made of.
        tokens: of `row_tokens`, with values of one's own; its network's values fill whole matrices.
        points: those of `row_tokens`, which read unturned.
        window: that of `row_tokens`.
    """
    architecture = nerfs.architecture
    tables, matrices = _tables(nerfs), _matrices(nerfs)
    tensors = dict(nerfs.tensors)
    if tables:
        rows = point_rows(architecture, points.expand(len(nerfs), -1, -1))  # type: ignore[arg-type]
        held = tokens.values[:, tokens.kinds == POINT]
        size = tables[0].shape[-1]
        values = held[..., : rows.shape[-1] * size].unflatten(-1, (-1, size)).flatten(1, 2)
        old = torch.cat(_standard(tables, tokens.means, tokens.deviations), dim=1)
        index = rows.flatten(1)[..., None].expand(-1, -1, size)
        ones = torch.ones_like(values)
        count = torch.zeros_like(old).scatter_add_(1, index, ones)
        total = torch.zeros_like(old).scatter_add_(1, index, values)
        new = torch.where(count > 0, total / count.clamp(min=1), old).split([each.shape[1] for each in tables], dim=1)
        key = TABLE if isinstance(architecture, HashArchitecture) else PLANES
        entries = _original(list(new), tokens.means, tokens.deviations)
        tensors[key] = torch.cat(entries, dim=1).reshape(nerfs.tensors[key].shape)
    found = []
    for number, matrix in enumerate(matrices):
        chosen = (tokens.kinds == NETWORK) & (tokens.layers == number)
        held = tokens.values[:, chosen].unflatten(-1, (window, -1)).flatten(1, 2)
        found.append(held[:, : matrix.shape[1], : matrix.shape[2]])
    found = _original(found, tokens.means[:, len(tables) :], tokens.deviations[:, len(tables) :])
    if BIAS_KEY in tensors:
        tensors[BIAS_KEY] = torch.cat([each[..., -1] for each in found], dim=1)
        found = [each[..., :-1] for each in found]
    tensors[MLP_KEY] = torch.cat([each.flatten(1) for each in found], dim=1)
    return NerfBatch(architecture, tensors)


def _tables(nerfs: NerfBatch) -> list[Tensor]:
    """Entries ``(B, N, F)`` of each level, or of the planes together; none of a family without."""
    architecture = nerfs.architecture
    if isinstance(architecture, HashArchitecture):
        table = nerfs.tensors[TABLE].unflatten(1, (-1, architecture.features_per_entry))
        return list(table.split(architecture.level_entries, dim=1))
    if isinstance(architecture, TriplaneArchitecture):
        return [nerfs.tensors[PLANES].flatten(1, 3)]
    return []


def _matrices(nerfs: NerfBatch) -> list[Tensor]:
    """Matrices ``(B, out, in)``, with the bias as their last column where there is one."""
    matrices, biases = nerfs.architecture.layers(nerfs.tensors)  # type: ignore[attr-defined]
    return [
        matrix if bias is None else torch.cat([matrix, bias[..., None]], dim=-1)
        for matrix, bias in zip(matrices, biases, strict=True)
    ]


def _statistics(layers: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and deviation ``(B, L)`` of each layer."""
    means = torch.stack([each.flatten(1).mean(dim=1) for each in layers], dim=1)
    deviations = torch.stack([each.flatten(1).std(dim=1, correction=0) for each in layers], dim=1)
    return means, deviations.clamp(min=1e-8)


def _standard(layers: Sequence[Tensor], means: Tensor, deviations: Tensor) -> list[Tensor]:
    return [(e - means[:, n, None, None]) / deviations[:, n, None, None] for n, e in enumerate(layers)]


def _original(layers: Sequence[Tensor], means: Tensor, deviations: Tensor) -> list[Tensor]:
    return [e * deviations[:, n, None, None] + means[:, n, None, None] for n, e in enumerate(layers)]


def _gathered(entries: Tensor, rows: Tensor) -> Tensor:
    """Entries ``(B, N, F)`` at rows ``(B, K, R)``: ``(B, K, R, F)``."""
    size = entries.shape[-1]
    index = rows.flatten(1)[..., None].expand(-1, -1, size)
    return entries.gather(1, index).unflatten(1, rows.shape[1:])


def _network_part(matrix: Tensor, number: int, width: int, window: int) -> Part:
    """A matrix ``(B, out, in)`` as tokens of `window` rows."""
    nerfs, out, columns = matrix.shape
    space = width // window
    if columns > space:
        raise ValueError(
            f"matrix {number} of the network reads {columns} values, and a token has room for {space} of a neuron; expected a "
            f"narrower network, or an encoder of token_dim {columns * window} or more"
        )
    missing = -out % window
    rows = F.pad(matrix, (0, space - columns, 0, missing)).reshape(nerfs, -1, width)
    there = F.pad(torch.ones(out, columns, dtype=torch.bool, device=matrix.device), (0, space - columns, 0, missing))
    return Part(rows, there.view(-1, width), NETWORK, layer=number)
