"""Symmetries of NeRFs: other weights with the same field, drawn at random.

What an encoder should not see (`canonical.py` takes one of all equal weights), what training varies, and by which one measures
how much of a field's arbitrary weights an encoder's embeddings show.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from .families import HashArchitecture, TriplaneArchitecture
from .network import BIAS_KEY, MLP_KEY, NetworkArchitecture
from .record import Nerf

Layers = tuple[list[Tensor], list[Tensor | None]]


def permuted(nerf: Nerf, generator: torch.Generator) -> Nerf:
    """Hidden neurons in another order."""
    matrices, biases = network_layers(nerf)
    for number in range(len(matrices) - 1):
        order = torch.randperm(len(matrices[number]), generator=generator).to(matrices[0].device)
        matrices[number], matrices[number + 1] = matrices[number][order], matrices[number + 1][:, order]
        bias = biases[number]
        biases[number] = None if bias is None else bias[order]
    return with_layers(nerf, matrices, biases)


def rescaled(nerf: Nerf, generator: torch.Generator) -> Nerf | None:
    """Incoming rows of ReLU neurons times positive numbers, outgoing columns divided by them; None without ReLU neurons."""
    if getattr(nerf.architecture, "activation", None) != "relu":
        return None
    return with_factors(nerf, lambda size: torch.exp(2 * torch.rand(size, generator=generator) - 1))


def features_mapped(nerf: Nerf, generator: torch.Generator, spread: float = 1.0) -> Nerf | None:
    """An invertible map of the features of each level, or of all planes together, undone in the first matrix; None without."""
    matrices, biases = network_layers(nerf)
    tables: dict[str, Tensor] = {}
    for key, rows, columns in table_groups(nerf):
        size = columns.stop - columns.start
        one, other = (torch.linalg.qr(torch.randn(size, size, generator=generator))[0] for _ in range(2))
        map = (one * torch.exp(spread * (2 * torch.rand(size, generator=generator) - 1))) @ other
        map = map.to(matrices[0])
        table = tables.setdefault(key, nerf.tensors[key].reshape(-1, size).clone())
        table[rows] = table[rows] @ map
        matrices[0][:, columns] = matrices[0][:, columns] @ torch.linalg.inv(map).T
    if not tables:
        return None
    return with_layers(nerf, matrices, biases, {key: t.view_as(nerf.tensors[key]) for key, t in tables.items()})


def network_layers(nerf: Nerf) -> Layers:
    """Copies of the matrices ``(out, in)`` and biases ``(out,)`` of a NeRF with a network; raises `ValueError` without one."""
    if not isinstance(nerf.architecture, NetworkArchitecture):
        raise ValueError(f"{nerf.name}: a {nerf.family} NeRF has no network behind its encoding")
    matrices, biases = nerf.architecture.layers(nerf.tensors)
    return [m.clone() for m in matrices], [b if b is None else b.clone() for b in biases]


def with_layers(
    nerf: Nerf, matrices: list[Tensor], biases: list[Tensor | None], tensors: Mapping[str, Tensor] | None = None
) -> Nerf:
    """The NeRF with other matrices and biases, and other tensors of its encoding where they are given."""
    parts = {**nerf.tensors, **(tensors or {}), MLP_KEY: torch.cat([m.flatten() for m in matrices])}
    if BIAS_KEY in parts:
        parts[BIAS_KEY] = torch.cat([bias for bias in biases if bias is not None])
    return Nerf(nerf.architecture, parts, nerf.source)


def with_factors(nerf: Nerf, factors: Callable[[int], Tensor]) -> Nerf:
    """Each hidden layer's rows times factors ``(W,)``, the next one's columns divided by them."""
    matrices, biases = network_layers(nerf)
    for number in range(len(matrices) - 1):
        factor = factors(len(matrices[number])).to(matrices[0])
        matrices[number] *= factor[:, None]
        matrices[number + 1] /= factor
        bias = biases[number]
        biases[number] = None if bias is None else bias * factor
    return with_layers(nerf, matrices, biases)


def table_groups(nerf: Nerf) -> Iterator[tuple[str, slice, slice]]:
    """Key, rows of the table of entries and columns of the first matrix of each group of features with a map of its own."""
    architecture = nerf.architecture
    if isinstance(architecture, TriplaneArchitecture):
        waves = 6 * architecture.frequencies
        yield "triplane", slice(None), slice(waves, waves + architecture.channels)
    if isinstance(architecture, HashArchitecture):
        start, width = 0, architecture.features_per_entry
        for level, entries in enumerate(architecture.level_entries):
            yield "encoding.params", slice(start, start + entries), slice(level * width, (level + 1) * width)
            start += entries
