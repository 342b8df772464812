"""Canonical weights: of all weights that make the same field, those that a graph network is shown.

Different weights are often the same function. Such symmetries are exact, and an encoder of weights has to learn each of them,
unless one of all equal weights is taken beforehand. `canonical_nerfs` does that, as far as a family says how
(`NerfArchitecture.canonical_form`); what families share is here:

* a ReLU neuron's incoming row times s > 0, its outgoing column times 1 / s (`unit_rows`; Neyshabur et al., "Path-SGD", 2015);
* a sine neuron's incoming row and outgoing column negated; its bias moved by pi, its outgoing column negated (`signed_rows`);
* invertible linear maps, and shifts, of features that are interpolated from a table (`canonical_features`).

The order of hidden neurons is a symmetry, too. It stays: a graph network does not see it.

A sign or a rotation that has to be chosen jumps somewhere, and rounding moves weights that lie there to either side. The work is
done in float64, for B NeRFs at once, and differentiable in the weights.

Shapes: B NeRFs, N entries of a table, F features of an entry, W neurons.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from torch import Tensor

from .record import NerfBatch

_INDEPENDENT = (
    1e-10  # features whose smallest variance is below this share of the largest are rounding of dependent ones
)
_NEWTON_STEPS = 14  # more than double precision needs for any matrix that it can tell from a singular one


def canonical_nerfs(nerfs: NerfBatch) -> NerfBatch:
    """The canonical form of stacked NeRFs: the same fields inside the box, weights without the symmetries that the family knows.

    Args:
        nerfs: stacked NeRFs of any family; those of a family that knows no symmetry come back as they are.

    Returns:
        NeRFs whose architecture has biases where theirs had padding columns or a table, in float32 at least; differentiable.
    """
    return NerfBatch(*nerfs.architecture.canonical_form(nerfs.tensors))


def unit_rows(matrices: list[Tensor], biases: list[Tensor | None]) -> tuple[list[Tensor], list[Tensor | None]]:
    """A ReLU network whose hidden neurons have incoming rows, bias included, of length 1.

    A neuron without incoming weights has no outgoing ones either: nothing is what it passes on.

    Args:
        matrices: each ``(B, out, in)``, input layer first.
        biases: each ``(B, out)``, or None where a layer has none.

    Returns:
        matrices and biases of the same function.
    """
    matrices, biases = list(matrices), list(biases)
    for number in range(len(matrices) - 1):
        bias = biases[number]
        rows = matrices[number] if bias is None else torch.cat([matrices[number], bias[..., None]], dim=-1)
        length = torch.linalg.vector_norm(rows, dim=-1)
        divisor = length.clamp(min=torch.finfo(length.dtype).tiny)
        matrices[number] = matrices[number] / divisor[..., None]
        biases[number] = None if bias is None else bias / divisor
        matrices[number + 1] = matrices[number + 1] * length[..., None, :]
    return matrices, biases


def signed_rows(matrices: list[Tensor], biases: list[Tensor | None]) -> tuple[list[Tensor], list[Tensor | None]]:
    """A sine network whose hidden neurons have incoming rows with a sum of cubes of at least 0, and biases in -pi/2 .. pi/2.

    The sum of cubes does not depend on the order of the layer below. Arguments as of `unit_rows`.
    """
    matrices, biases = list(matrices), list(biases)
    for number in range(len(matrices) - 1):
        bias = biases[number]
        sign = 1.0 - 2.0 * (matrices[number].detach().pow(3).sum(dim=-1) < 0)
        matrices[number] = matrices[number] * sign[..., None]
        if bias is not None:
            bias = bias * sign
            turns = torch.round(bias.detach() / math.pi)
            biases[number] = bias - turns * math.pi
            sign = sign * (1.0 - 2.0 * turns.remainder(2))
        matrices[number + 1] = matrices[number + 1] * sign[..., None, :]
    return matrices, biases


def canonical_features(table: Tensor, columns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A table of features in their canonical coordinates, and the columns of the first matrix that read them there.

    What is read are sums of entries with weights whose sum is one: any invertible map and shift of the features, taken back
    by columns and bias, leaves the field as it is. Here features get mean 0, variance 1 and covariance 0 over the entries, which
    leaves a rotation: that which brings them closest to fixed functions of the entries (Schönemann, "A generalized solution of
    the orthogonal Procrustes problem", 1966). Features that depend linearly on each other keep map and scale.

    Args:
        table: entries ``(B, N, F)``, float64.
        columns: ``(B, W, F)``, what the first matrix multiplies the features with.

    Returns:
        table and columns of the same shapes, and what the bias gains, ``(B, W)``.
    """
    entries, features = table.shape[1:]
    mean = table.mean(dim=1, keepdim=True)
    table = table - mean
    bias = (columns @ mean.mT).squeeze(-1)
    covariance = table.mT @ table / entries
    spectrum = torch.linalg.eigvalsh(covariance.detach())
    independent = (spectrum[:, 0] > _INDEPENDENT * spectrum[:, -1])[:, None, None]
    identity = torch.eye(features, dtype=table.dtype, device=table.device)
    factor = torch.linalg.cholesky(torch.where(independent, covariance, identity))
    whiten = torch.linalg.solve_triangular(factor.mT, identity, upper=True)
    seen = whiten.mT @ (table.mT @ _functions(entries, features).to(table))
    rotation = _orthogonal_factor(torch.where(independent, seen, identity))
    return table @ (whiten @ rotation), columns @ (factor @ rotation), bias


@functools.lru_cache(maxsize=16)
def _functions(entries: int, features: int) -> Tensor:
    """Fixed functions of the entries ``(N, F)``: noise, which no table has a reason to be at right angles to.

    NumPy promises the stream of this generator for all its versions.
    """
    return torch.from_numpy(np.random.RandomState(0).standard_normal((entries, features)))


def _orthogonal_factor(matrix: Tensor) -> Tensor:
    """The orthogonal factor of the polar decomposition of ``(B, F, F)``, by Higham's scaled Newton iteration (1986).

    Unlike one from singular vectors its gradient needs no distance between singular values.
    """
    for _ in range(_NEWTON_STEPS):
        inverse = torch.linalg.inv(matrix).mT
        norms = torch.linalg.matrix_norm(inverse.detach()) / torch.linalg.matrix_norm(matrix.detach())
        scale = norms.sqrt()[:, None, None]
        matrix = (matrix * scale + inverse / scale) / 2
    return matrix
