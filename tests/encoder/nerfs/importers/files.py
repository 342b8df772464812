"""Files of other programs, written as their formats say, and slow, plain evaluations of what they hold."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import torch

FOREIGN = Path(os.environ.get("LLANA_GMN_SHARED", Path(__file__).parents[5] / "shared")) / "foreign"
"""Real files of other programs, beside the checkout where they are."""


def blob_checkpoint(path, *, floor=False, radius=0.8, centre=(0.0, 0.0, 0.0)):
    """A krrish94 checkpoint of a soft ball whose colour is its place and, a little, the direction; with a floor of white below.

    Its density is ``300 relu(cos x + cos y + cos z - c)``: of width 8, with one octave.
    """
    state = {
        "layer1.weight": torch.zeros(8, 9),
        "layer1.bias": torch.zeros(8),
        "layers_xyz.0.weight": torch.eye(8),
        "layers_xyz.0.bias": torch.zeros(8),
        "fc_feat.weight": torch.eye(8),
        "fc_feat.bias": torch.zeros(8),
        "fc_alpha.weight": torch.zeros(1, 8),
        "fc_alpha.bias": torch.zeros(1),
        "layers_dir.0.weight": torch.zeros(4, 8 + 9),
        "layers_dir.0.bias": torch.zeros(4),
        "fc_rgb.weight": torch.zeros(3, 4),
        "fc_rgb.bias": torch.full((3,), -2.0),
    }
    first = state["layer1.weight"]
    for axis in range(3):  # cos(x - a) = cos a cos x + sin a sin x
        first[0, 6 + axis], first[0, 3 + axis] = math.cos(centre[axis]), math.sin(centre[axis])
        first[1 + axis, axis] = 1.0
        state["layer1.bias"][1 + axis] = 1.0
    state["layer1.bias"][0] = -3 + radius**2 / 2
    if floor:
        first[4, 2], state["layer1.bias"][4] = -1.0, -1.2
        state["fc_alpha.weight"][0, 4] = 300.0
        state["layers_dir.0.weight"][3, 4] = 1000.0
        state["fc_rgb.weight"][:, 3] = 10.0
    state["fc_alpha.weight"][0, 0] = 300.0
    for channel in range(3):
        state["layers_dir.0.weight"][channel, 1 + channel] = 1.0
        state["fc_rgb.weight"][channel, channel] = 2.0
    state["layers_dir.0.weight"][0, 8] = 0.5  # red by the direction's x
    torch.save({"iter": 7, "model_coarse_state_dict": state, "model_fine_state_dict": state}, path)
    return path


def grid_numbers(levels, table, features, u, *, extra=0, shift=0.5):
    """Reads of a hash grid at one point, corner by corner: ``levels`` of (scale, entries)."""
    values, first = [], 0
    for scale, entries in levels:
        stride_of = math.ceil(scale) + 1 + extra
        low = [math.floor(x * scale + shift) for x in u]
        part = [x * scale + shift - c for x, c in zip(u, low, strict=True)]
        total = np.zeros(features)
        for corner in range(8):
            cell = [c + (corner >> axis & 1) for axis, c in enumerate(low)]
            weight = math.prod(f if corner >> axis & 1 else 1 - f for axis, f in enumerate(part))
            index, stride = 0, 1
            for c in cell:
                if stride > entries:
                    break
                index, stride = index + c * stride, stride * stride_of
            if stride > entries:
                index = 0
                for c, prime in zip(cell, (1, 2654435761, 805459861), strict=True):
                    index ^= c * prime % 2**32
            row = first + index % entries
            total += weight * table[row]
        values.append(total)
        first += entries
    return np.concatenate(values)


def harmonics(d):
    """Real spherical harmonics of degrees 0 to 3 with the Condon-Shortley phase, from associated Legendre functions."""
    x, y, z = d
    values = []
    for degree in range(4):
        for order in range(-degree, degree + 1):
            m = abs(order)
            # P_l^m(z) / sin^m, as a derivative of the Legendre polynomial
            legendre = np.polynomial.legendre.Legendre.basis(degree).deriv(m)(z) if m else None
            legendre = np.polynomial.legendre.Legendre.basis(degree)(z) if m == 0 else legendre
            norm = math.sqrt((2 * degree + 1) / (4 * math.pi) * math.factorial(degree - m) / math.factorial(degree + m))
            power = complex(x, y) ** m
            angle = 1.0 if m == 0 else math.sqrt(2) * (-1) ** m * (power.real if order > 0 else power.imag)
            values.append(norm * legendre * angle)
    return np.array(values)


def network(values, matrices):
    hidden = np.asarray(values, dtype=np.float64)
    hidden = np.concatenate([hidden, np.ones(matrices[0].shape[1] - len(hidden))])
    for number, matrix in enumerate(matrices):
        hidden = matrix @ (np.maximum(hidden, 0) if number else hidden)
    return hidden


def tcnn_level_list(levels, base, growth, log2_table):
    found = []
    for level in range(levels):
        scale = base * growth**level - 1
        resolution = math.ceil(round(scale, 4)) + 1
        found.append((scale, min(-(-(resolution**3) // 8) * 8, 2**log2_table)))
    return found
