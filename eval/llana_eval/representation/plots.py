"""Pictures of the embedding space: a point an embedding, a colour a class, a marker a family (paper figure 3)."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gmn_encoder.embeddings.records import EmbeddingSet
from gmn_encoder.extras import require
from gmn_encoder.files import StrPath, atomic_path

from ..classes import CLASS_IDS, class_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Method = Literal["tsne", "umap", "pca"]
METHODS: tuple[Method, ...] = ("tsne", "umap", "pca")
NAMES = {"tsne": "t-SNE", "umap": "UMAP", "pca": "PCA"}
REDUCED = 50  # principal components that t-SNE and UMAP see, as is usual for wide embeddings
COLOURS = (
    "#e6194b", "#3cb44b", "#b8a000", "#4363d8", "#f58231", "#911eb4", "#20b2c8",
    "#f032e6", "#8db600", "#e88fa8", "#008080", "#a67bd8", "#7a4a1c",
)  # fmt: skip
"""Colours of the classes in label order; more classes begin again."""
MARKERS = "o^sDPX*v"


def project(values: Tensor, *, method: Method = "tsne", seed: int = 0, perplexity: float = 30.0) -> np.ndarray:
    """Points ``(n, 2)`` for embeddings ``(n, D)``.

    Args:
        values: embeddings; they are not normalised, as in the paper's other uses of them.
        method: "tsne", "umap" (where umap-learn is installed) or "pca".
        seed: the seed of t-SNE and UMAP; equal calls give equal points on one machine.
        perplexity: t-SNE's perplexity, lowered for few points; UMAP takes it as its number of neighbours.

    Raises:
        ValueError: less than 4 embeddings, NaN, an unknown method, a perplexity that is not positive.
        ImportError: the library is not installed.
    """
    if method not in METHODS:
        raise ValueError(f"method is {method!r}; expected one of {', '.join(METHODS)}")
    if values.ndim != 2 or len(values) < 4:
        raise ValueError(f"embeddings have shape {list(values.shape)}; expected (n, D) with 4 or more")
    if not bool(values.isfinite().all()):
        raise ValueError("the embeddings have NaN or infinity; embed them again")
    if not perplexity > 0:
        raise ValueError(f"perplexity is {perplexity}; expected a number above 0")
    centred = values.double().cpu()
    centred = centred - centred.mean(dim=0)
    components = min(REDUCED if method != "pca" else 2, *centred.shape)
    reduced = _principal(centred, components)
    if method == "pca":
        return reduced if components == 2 else np.pad(reduced, ((0, 0), (0, 2 - components)))
    neighbours = min(perplexity, (len(values) - 1) / 3)
    if method == "umap":
        umap = require("umap", "umap")
        return umap.UMAP(n_neighbors=max(2, round(neighbours)), random_state=seed, n_jobs=1).fit_transform(reduced)
    manifold = require("sklearn.manifold", "eval")
    return manifold.TSNE(perplexity=neighbours, init="pca", random_state=seed).fit_transform(reduced.astype(np.float32))


def sample_objects(members: EmbeddingSet, count: int, *, seed: int = 0) -> EmbeddingSet:
    """The embeddings of `count` random objects, in every family that has them. Raises `ValueError` for a count below 1."""
    if count < 1:
        raise ValueError(f"{count} objects asked for; expected 1 or more")
    objects = sorted(set(members.object_ids))
    chosen = {objects[i] for i in np.random.default_rng(seed).permutation(len(objects))[:count]}
    return members.select([row for row, key in enumerate(members.object_ids) if key in chosen])


def _principal(centred: Tensor, components: int) -> np.ndarray:
    """Coordinates along the first principal components, signs fixed so that equal data gives equal pictures."""
    _, directions = torch.linalg.eigh(centred.T @ centred)
    directions = directions[:, -components:].flip(1)
    largest = directions.abs().argmax(dim=0)
    directions = directions * directions[largest, torch.arange(components)].sign()
    return (centred @ directions).numpy()


def embedding_figure(points: np.ndarray, members: EmbeddingSet, *, title: str = "") -> Figure:
    """A matplotlib figure of points ``(n, 2)``; classes are coloured in the order of the class table, others after them.

    Raises:
        ValueError: other numbers of points and embeddings.
        ImportError: matplotlib is not installed.
    """
    if points.shape != (len(members), 2):
        raise ValueError(
            f"points have shape {list(points.shape)}; expected ({len(members)}, 2), one for each embedding"
        )
    figure_module = require("matplotlib.figure", "eval")
    order = [*CLASS_IDS, *sorted(set(members.class_ids) - set(CLASS_IDS))]
    classes = [class_id for class_id in order if class_id in set(members.class_ids)]
    families = list(dict.fromkeys(members.families))
    figure = figure_module.Figure(figsize=(10, 8), layout="constrained")
    axes = figure.subplots()
    class_ids, family_names = np.array(members.class_ids), np.array(members.families)
    area = float(np.clip(20000 / len(members), 4, 40))
    shuffled = np.random.default_rng(0).permutation(len(members))  # else the last class covers the others
    for f, family in enumerate(families):
        rows = shuffled[family_names[shuffled] == family]
        colours = [_colour(order.index(class_id)) for class_id in class_ids[rows]]
        marker = MARKERS[f % len(MARKERS)]
        axes.scatter(*points[rows].T, c=colours, marker=marker, s=area, linewidths=0, alpha=0.75)
    axes.set(xticks=[], yticks=[], title=title)
    axes.set_aspect("equal", adjustable="datalim")
    named = [(class_name(class_id), _colour(order.index(class_id)), "o") for class_id in classes]
    _legend(figure, named, "class", "outside right upper")
    marked = [(family, "#404040", MARKERS[f % len(MARKERS)]) for f, family in enumerate(families)]
    _legend(figure, marked, "family", "outside right lower")
    return figure


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


def _legend(figure: Any, entries: Sequence[tuple[str, str, str]], title: str, place: str) -> None:
    lines = require("matplotlib.lines", "eval")
    handles = [
        lines.Line2D([], [], linestyle="", marker=marker, color=colour, label=name, markersize=7)
        for name, colour, marker in entries
    ]
    figure.legend(handles=handles, title=title, loc=place, frameon=False)


def check_figure_file(path: StrPath) -> str:
    """The format of a figure's file. Raises `ValueError` for a name that is neither .png, .pdf nor .svg."""
    suffix = str(path).rpartition(".")[2].lower()
    if suffix not in ("png", "pdf", "svg"):
        raise ValueError(f"{path}: unknown kind of picture; expected .png, .pdf or .svg")
    return suffix


def save_figure(figure: Figure, path: StrPath) -> None:
    """Write a figure, atomically."""
    kind = check_figure_file(path)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=kind, dpi=150)


def figure_picture(figure: Figure, *, dpi: int = 90) -> Image.Image:
    """A figure as a picture, for a page."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return Image.open(buffer).convert("RGB")
