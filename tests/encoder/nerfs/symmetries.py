"""Symmetries of fields, written without `canonical`: each takes a NeRF to another one with the same field, at random, or gives
None where its family has no such symmetry."""

from __future__ import annotations

import torch

from gmn_encoder import HashArchitecture, MlpArchitecture, Nerf, TriplaneArchitecture
from gmn_encoder.nerfs.symmetries import (
    features_mapped,
    network_layers,
    permuted,
    rescaled,
    table_groups,
    with_factors,
    with_layers,
)

ARCHITECTURES = [
    MlpArchitecture(hidden_dim=16, frequencies=3, hidden_layers=3),
    MlpArchitecture(hidden_dim=16, frequencies=2, bias=True),
    TriplaneArchitecture(hidden_dim=16, frequencies=1, resolution=5, channels=3),
    TriplaneArchitecture(hidden_dim=16, frequencies=2, resolution=4, channels=4),  # an encoding that needs no padding
    TriplaneArchitecture(hidden_dim=16, frequencies=2, resolution=6, channels=5, hidden_layers=2, bias=True),
    HashArchitecture(hidden_dim=16, levels=3, log2_table_size=6),
    HashArchitecture(hidden_dim=16, levels=8, log2_table_size=5, bias=True, base_resolution=2, max_resolution=9),
]


def negated(nerf, generator):
    """Rows and columns of sine neurons negated."""
    if nerf.architecture.activation != "sine":
        return None
    return with_factors(nerf, lambda size: 1 - 2.0 * torch.randint(2, (size,), generator=generator))


def turned(nerf, generator):
    """Biases of sine neurons moved by multiples of pi, columns negated where it is an odd one."""
    if nerf.architecture.activation != "sine" or not nerf.architecture.bias:
        return None
    matrices, biases = network_layers(nerf)
    for number in range(len(matrices) - 1):
        turns = torch.randint(-2, 3, biases[number].shape, generator=generator).to(biases[number])
        biases[number] += turns * torch.pi
        matrices[number + 1] *= 1 - 2 * (turns % 2)
    return with_layers(nerf, matrices, biases)


def padding_moved(nerf, generator):
    """Constants moved between the padding columns, which all read ones, and to the bias."""
    used = nerf.architecture.encoding_dim
    if nerf.architecture.input_dim - used < (1 if nerf.architecture.bias else 2):
        return None
    matrices, biases = network_layers(nerf)
    change = torch.randn(matrices[0][:, used:].shape, generator=generator).to(matrices[0])
    if biases[0] is None:
        change -= change.mean(dim=1, keepdim=True)
    else:
        biases[0] -= change.sum(dim=1)
    matrices[0][:, used:] += change
    return with_layers(nerf, matrices, biases)


def unused_changed(nerf, generator):
    """Output rows that are neither colour nor density."""
    matrices, biases = network_layers(nerf)
    matrices[-1][4:] += torch.randn(matrices[-1][4:].shape, generator=generator)
    return with_layers(nerf, matrices, biases)


def features_shifted(nerf, generator):
    """A constant added to the features, and taken back by the bias or the first padding column."""
    architecture = nerf.architecture
    if not architecture.bias and architecture.encoding_dim == architecture.input_dim:
        return None
    matrices, biases = network_layers(nerf)
    tables = {}
    for key, rows, columns in table_groups(nerf):
        shift = torch.randn(columns.stop - columns.start, generator=generator).to(matrices[0])
        table = tables.setdefault(key, nerf.tensors[key].reshape(-1, len(shift)).clone())
        table[rows] += shift
        constant = matrices[0][:, columns] @ shift * (3 if key == "triplane" else 1)
        (matrices[0][:, architecture.encoding_dim] if biases[0] is None else biases[0]).sub_(constant)
    if not tables:
        return None
    return with_layers(nerf, matrices, biases, {key: t.view_as(nerf.tensors[key]) for key, t in tables.items()})


def planes_shared(nerf, generator):
    """Functions of one axis moved from one plane of that axis to the other."""
    if "triplane" not in nerf.tensors:
        return None
    planes = nerf.tensors["triplane"].clone()
    x, y, z = torch.randn(3, *planes.shape[2:], generator=generator)[:, :, : planes.shape[3]].to(planes)
    planes[0] += x[None] + y[:, None]  # rows carry the second axis of planes xy, xz, yz, columns the first
    planes[1] += z[:, None] - x[None]
    planes[2] -= y[None] + z[:, None]
    return Nerf(nerf.architecture, {**nerf.tensors, "triplane": planes})


SYMMETRIES = {
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


CASES = [
    (architecture, name)
    for architecture in ARCHITECTURES
    for name, function in SYMMETRIES.items()
    if function(Nerf.random(architecture), torch.Generator()) is not None
]
"""Architectures with the names of their symmetries."""
