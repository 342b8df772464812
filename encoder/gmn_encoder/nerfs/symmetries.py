"""Symmetries of fields: other weights of the same field, written without `canonical`, which takes these away.

Each takes a NeRF to another one with the same field, at random, or gives None where its family has no such symmetry. What an
encoder makes of the two tells whether it is invariant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .families.hash import HashArchitecture
from .families.triplane import TriplaneArchitecture
from .network import BIAS_KEY, MLP_KEY
from .record import Nerf


def rescaled(nerf: Nerf, generator: torch.Generator) -> Nerf | None:
    """Incoming rows of ReLU neurons times positive numbers, outgoing columns divided by them."""
    if _network(nerf).activation != "relu":
        return None
    return _with_neurons(nerf, lambda size: torch.exp(2 * torch.rand(size, generator=generator) - 1))


def negated(nerf: Nerf, generator: torch.Generator) -> Nerf | None:
    """Rows and columns of sine neurons negated."""
    if _network(nerf).activation != "sine":
        return None
    return _with_neurons(nerf, lambda size: 1 - 2.0 * torch.randint(2, (size,), generator=generator))


def turned(nerf: Nerf, generator: torch.Generator) -> Nerf | None:
    """Biases of sine neurons moved by multiples of pi, columns negated where it is an odd one."""
    if _network(nerf).activation != "sine" or not _network(nerf).bias:
        return None
    matrices, biases = _layers(nerf)
    for number in range(len(matrices) - 1):
        turns = torch.randint(-2, 3, biases[number].shape, generator=generator).to(biases[number])
        biases[number] += turns * torch.pi
        matrices[number + 1] *= 1 - 2 * (turns % 2)
    return _joined(nerf, matrices, biases)


def permuted(nerf: Nerf, generator: torch.Generator) -> Nerf:
    """Hidden neurons in another order."""
    matrices, biases = _layers(nerf)
    for number in range(len(matrices) - 1):
        order = torch.randperm(len(matrices[number]), generator=generator)
        matrices[number], matrices[number + 1] = matrices[number][order], matrices[number + 1][:, order]
        biases[number] = None if biases[number] is None else biases[number][order]
    return _joined(nerf, matrices, biases)


def padding_moved(nerf: Nerf, generator: torch.Generator) -> Nerf | None:
    """Constants moved between the padding columns, which all read ones, and to the bias."""
    used = _network(nerf).encoding_dim
    if _network(nerf).input_dim - used < (1 if _network(nerf).bias else 2):
        return None
    matrices, biases = _layers(nerf)
    change = torch.randn(matrices[0][:, used:].shape, generator=generator).to(matrices[0])
    if biases[0] is None:
        change -= change.mean(dim=1, keepdim=True)
    else:
        biases[0] -= change.sum(dim=1)
    matrices[0][:, used:] += change
    return _joined(nerf, matrices, biases)


def unused_changed(nerf: Nerf, generator: torch.Generator) -> Nerf | None:
    """Output rows that are neither colour nor density."""
    matrices, biases = _layers(nerf)
    matrices[-1][4:] += torch.randn(matrices[-1][4:].shape, generator=generator)
    return _joined(nerf, matrices, biases)


def features_mapped(nerf: Nerf, generator: torch.Generator, spread: float = 1.0) -> Nerf | None:
    """An invertible map of the features of each level, or of all planes together."""
    matrices, biases = _layers(nerf)
    tables: dict[str, Tensor] = {}
    for key, rows, columns in _tables(nerf):
        size = columns.stop - columns.start
        one, other = (torch.linalg.qr(torch.randn(size, size, generator=generator))[0] for _ in range(2))
        map = (one * torch.exp(spread * (2 * torch.rand(size, generator=generator) - 1))) @ other
        map = map.to(matrices[0])
        table = tables.setdefault(key, nerf.tensors[key].reshape(-1, size).clone())
        table[rows] = table[rows] @ map
        matrices[0][:, columns] = matrices[0][:, columns] @ torch.linalg.inv(map).T
    if not tables:
        return None
    return _joined(nerf, matrices, biases, {key: t.view_as(nerf.tensors[key]) for key, t in tables.items()})


def features_shifted(nerf: Nerf, generator: torch.Generator) -> Nerf | None:
    """A constant added to the features, and taken back by the bias or the first padding column."""
    architecture = _network(nerf)
    if not architecture.bias and architecture.encoding_dim == architecture.input_dim:
        return None
    matrices, biases = _layers(nerf)
    tables: dict[str, Tensor] = {}
    for key, rows, columns in _tables(nerf):
        shift = torch.randn(columns.stop - columns.start, generator=generator).to(matrices[0])
        table = tables.setdefault(key, nerf.tensors[key].reshape(-1, len(shift)).clone())
        table[rows] += shift
        constant = matrices[0][:, columns] @ shift * (3 if key == "triplane" else 1)
        (matrices[0][:, architecture.encoding_dim] if biases[0] is None else biases[0]).sub_(constant)
    if not tables:
        return None
    return _joined(nerf, matrices, biases, {key: t.view_as(nerf.tensors[key]) for key, t in tables.items()})


def planes_shared(nerf: Nerf, generator: torch.Generator) -> Nerf | None:
    """Functions of one axis moved from one plane of that axis to the other."""
    if "triplane" not in nerf.tensors:
        return None
    planes = nerf.tensors["triplane"].clone()
    x, y, z = torch.randn(3, *planes.shape[2:], generator=generator)[:, :, : planes.shape[3]].to(planes)
    planes[0] += x[None] + y[:, None]  # rows carry the second axis of planes xy, xz, yz, columns the first
    planes[1] += z[:, None] - x[None]
    planes[2] -= y[None] + z[:, None]
    return Nerf(nerf.architecture, {**nerf.tensors, "triplane": planes})


SYMMETRIES: dict[str, Callable[[Nerf, torch.Generator], Nerf | None]] = {
    function.__name__: function
    for function in (
        rescaled,
        negated,
        turned,
        permuted,
        padding_moved,
        unused_changed,
        features_mapped,
        features_shifted,
        planes_shared,
    )
}


def _network(nerf: Nerf) -> Any:
    return nerf.architecture


def _layers(nerf: Nerf) -> tuple[list[Tensor], list[Any]]:
    matrices, biases = _network(nerf).layers(nerf.tensors)
    return [m.clone() for m in matrices], [b if b is None else b.clone() for b in biases]


def _joined(
    nerf: Nerf, matrices: Sequence[Tensor], biases: Sequence[Any], tensors: Mapping[str, Tensor] | None = None
) -> Nerf:
    parts = {**nerf.tensors, **(tensors or {}), MLP_KEY: torch.cat([m.flatten() for m in matrices])}
    if _network(nerf).bias:
        parts[BIAS_KEY] = torch.cat(list(biases))
    return Nerf(nerf.architecture, parts)


def _with_neurons(nerf: Nerf, factors: Callable[[int], Tensor]) -> Nerf:
    matrices, biases = _layers(nerf)
    for number in range(len(matrices) - 1):
        factor = factors(len(matrices[number])).to(matrices[0])
        matrices[number] *= factor[:, None]
        matrices[number + 1] /= factor
        biases[number] = None if biases[number] is None else biases[number] * factor
    return _joined(nerf, matrices, biases)


def _tables(nerf: Nerf) -> Iterator[tuple[str, slice, slice]]:
    """Key, rows of the table of entries and columns of the first matrix of each group of features with a map of its own."""
    architecture = _network(nerf)
    if isinstance(architecture, TriplaneArchitecture):
        waves = 6 * architecture.frequencies
        yield "triplane", slice(None), slice(waves, waves + architecture.channels)
    if isinstance(architecture, HashArchitecture):
        start, width = 0, architecture.features_per_entry
        for level, entries in enumerate(architecture.level_entries):
            yield "encoding.params", slice(start, start + entries), slice(level * width, (level + 1) * width)
            start += entries
