"""What embeddings are good for, as numbers: finding an object again, its class, its colour.

Linear probes are ridge regressions of standardised embeddings, of a strength that the caller chooses on other objects than those
that they are measured on. Shapes: N objects, D embedding, C classes.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from gmn_encoder.objects.colours import srgb_to_linear
from gmn_encoder.training.representation.validation import recall_at_1

STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)
"""Of a linear probe, to choose from."""

BASIC_COLOURS = {
    "black": (20, 20, 22), "white": (240, 240, 240), "grey": (134, 136, 140), "red": (200, 36, 36), "green": (52, 142, 64),
    "blue": (40, 96, 200), "yellow": (240, 204, 48), "brown": (118, 76, 46), "orange": (236, 124, 32),
    "purple": (124, 64, 164), "pink": (236, 140, 172),
}  # fmt: skip
"""The eleven basic colour terms (Berlin and Kay, 1969), each with an sRGB example of ours."""


def mean_recall(queries: Mapping[str, Tensor], galleries: Mapping[str, Tensor]) -> float:
    """Recall@1 in percent, the mean over all pairs of a query set and a gallery of another name, ``(N, D)`` each."""
    pairs = [(q, g) for q, g in itertools.product(queries, galleries) if q != g]
    return 100 * statistics.fmean(recall_at_1(queries[q], galleries[g]) for q, g in pairs)


def linear_probe(train: Tensor, targets: Tensor, test: Tensor, *, strength: float) -> Tensor:
    """Ridge regression of standardised embeddings ``(N, D)`` to targets ``(N, T)``, applied to ``(M, D)``: ``(M, T)``."""
    train, targets, test = train.double(), targets.double(), test.double()
    mean, spread = train.mean(dim=0), train.std(dim=0) + 1e-6
    train, test, middle = (train - mean) / spread, (test - mean) / spread, targets.mean(dim=0)
    if len(train) < train.shape[1]:  # the same solution by the smaller of the two systems
        system = train @ train.T + strength * torch.eye(len(train), dtype=torch.float64)
        return test @ (train.T @ torch.linalg.solve(system, targets - middle)) + middle
    system = train.T @ train + strength * torch.eye(train.shape[1], dtype=torch.float64)
    return test @ torch.linalg.solve(system, train.T @ (targets - middle)) + middle


def probed_share(
    train: Tensor, labels: Sequence[str], test: Tensor, expected: Sequence[str], *, strength: float
) -> float:
    """Share, in percent, of ``(M, D)`` whose label a linear probe finds that learnt the labels of ``(N, D)``."""
    names = sorted(set(labels))
    targets = F.one_hot(torch.tensor([names.index(each) for each in labels]), len(names))
    found = linear_probe(train, targets, test, strength=strength).argmax(dim=1).tolist()
    return 100 * statistics.fmean(names[place] == name for place, name in zip(found, expected, strict=True))


def explained_variance(found: Tensor, expected: Tensor) -> float:
    """R2 of predictions ``(N, T)``: 1 for exact ones, 0 for the mean."""
    expected = expected.to(found.dtype)
    return float(1 - (found - expected).square().mean() / (expected - expected.mean(dim=0)).square().mean())


def object_colours(directory: Path) -> tuple[Tensor, str]:
    """Mean sRGB colour ``(3,)`` of an object in the pictures that a NeRF was fitted to, 0..1, and its dominant colour.

    The dominant colour is the name of `BASIC_COLOURS` that most of these pixels are nearest to in CIELAB.
    """
    seen = []
    for file in sorted((directory / "train").glob("*.png")):
        with Image.open(file) as image:
            rgba = np.asarray(image.convert("RGBA")).reshape(-1, 4)
        seen.append(rgba[rgba[:, 3] >= 128, :3])
    if not sum(map(len, seen)):
        raise ValueError(f"{directory / 'train'}: no picture shows anything; expected pictures with opacity")
    pixels = np.concatenate(seen).astype(np.float64) / 255
    examples = _lab(np.array(list(BASIC_COLOURS.values())) / 255)
    nearest = np.square(_lab(pixels)[:, None] - examples).sum(axis=-1).argmin(axis=1)
    name = list(BASIC_COLOURS)[int(np.bincount(nearest, minlength=len(examples)).argmax())]
    return torch.tensor(pixels.mean(axis=0)), name


def _lab(srgb: np.ndarray) -> np.ndarray:
    """CIELAB (D65) of sRGB colours ``(N, 3)`` in 0..1."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = srgb_to_linear(srgb) @ to_xyz.T / (to_xyz.sum(axis=1))
    root = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    x, y, z = root.T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)
