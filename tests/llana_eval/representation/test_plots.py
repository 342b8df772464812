import sys

import numpy as np
import pytest
import torch
from PIL import Image

from gmn_encoder.embeddings.records import EmbeddingSet
from llana_eval.representation.plots import COLOURS, embedding_figure, project, sample_objects, save_figure

CHAIR, TABLE = "03001627", "04379243"


def members(count=40):
    labels = torch.arange(count) % 2
    values = 6 * torch.eye(2, 70)[labels] + torch.randn(count, 70, generator=torch.Generator().manual_seed(0)) / 2
    ids = tuple(((CHAIR, TABLE)[label], f"n{i // 2}") for i, label in enumerate(labels.tolist()))
    return EmbeddingSet(values, ids, ("MLP", "HASH") * (count // 2), ("",) * count)


@pytest.mark.same_bits
@pytest.mark.parametrize("method", ["tsne", "pca"])
def test_projection_keeps_clusters_and_repeats_itself(method):
    values = members().values
    points = project(values, method=method, seed=3)
    assert points.shape == (40, 2) and np.array_equal(points, project(values, method=method, seed=3))
    centres = points[::2].mean(axis=0), points[1::2].mean(axis=0)
    nearer = np.linalg.norm(points - centres[0], axis=1) < np.linalg.norm(points - centres[1], axis=1)
    assert nearer[::2].mean() > 0.9 and nearer[1::2].mean() < 0.1


def test_pca_by_hand():
    # Points on a line in three dimensions, at distances 0, 3, 6, 12 from the first.
    line = torch.tensor([0.0, 3.0, 6.0, 12.0])[:, None] * torch.tensor([[1.0, 2.0, 2.0]]) / 3
    points = project(line, method="pca")
    assert points[:, 0] == pytest.approx(np.array([0, 3, 6, 12]) - 5.25) and points[:, 1] == pytest.approx(
        np.zeros(4), abs=1e-6
    )


def test_umap_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)  # as where it is not installed
    with pytest.raises(ImportError, match=r"pip install 'llana-gmn\[umap\]'"):
        project(members().values, method="umap")


@pytest.mark.slow  # its first use compiles for minutes
def test_umap_keeps_clusters():
    pytest.importorskip("umap")
    points = project(members().values, method="umap")
    assert np.linalg.norm(points[::2].mean(axis=0) - points[1::2].mean(axis=0)) > points[::2].std()


def test_figure_colours_classes_and_marks_families(tmp_path):
    some = members()
    figure = embedding_figure(np.arange(80.0).reshape(40, 2), some, title="t")
    mlp, hash_points = figure.axes[0].collections
    assert len(mlp.get_offsets()) == len(hash_points.get_offsets()) == 20
    assert not np.array_equal(mlp.get_paths()[0].vertices, hash_points.get_paths()[0].vertices)
    names = [[text.get_text() for text in legend.get_texts()] for legend in figure.legends]
    assert names == [["chair", "table"], ["MLP", "HASH"]]
    colours = [figure.legends[0].legend_handles[i].get_color() for i in range(2)]
    assert colours == [COLOURS[4], COLOURS[10]]  # their labels
    save_figure(figure, tmp_path / "f.png")
    with Image.open(tmp_path / "f.png") as picture:
        assert picture.size == (1500, 1200)


def test_sample_takes_objects_not_rows():
    some = sample_objects(members(), 5, seed=1)
    assert len(set(some.object_ids)) == 5
    assert all(members().object_ids.count(key) == some.object_ids.count(key) for key in some.object_ids)
    assert sample_objects(members(), 1000).object_ids == members().object_ids


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: project(members().values, method="isomap"), "method is 'isomap'; expected one of tsne, umap, pca"),
        (lambda: project(members(2).values), r"shape \[2, 70\]; expected \(n, D\) with 4 or more"),
        (lambda: project(members().values * torch.nan), "NaN or infinity"),
        (lambda: project(members().values, perplexity=0), "perplexity is 0"),
        (lambda: embedding_figure(np.zeros((3, 2)), members()), r"points have shape \[3, 2\]; expected \(40, 2\)"),
        (lambda: sample_objects(members(), 0), "0 objects asked for"),
        (lambda: save_figure(None, "f.jpg"), "f.jpg: unknown kind of picture; expected .png"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()
