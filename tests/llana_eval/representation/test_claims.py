"""What the encoder is measured by, on a handful of random NeRFs with random encoders."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image

from gmn_encoder import GmnConfig, GmnEncoder, Nerf, save_nerf
from gmn_encoder.fitting.output import nerf_directory
from gmn_encoder.nerfs.architectures import NANO_ARCHITECTURES
from gmn_encoder.training.representation.recipe import load_recipe
from llana_eval.representation import claims, senses, short_runs
from llana_eval.representation.measures import (
    explained_variance,
    linear_probe,
    mean_recall,
    object_colours,
    probed_share,
)
from llana_eval.representation.unseen import unseen_architectures

CLASSES = {"02691156": "airplane", "03001627": "chair"}
PROBES = {"hidden_dim": 8, "embedding_dim": 12, "num_layers": 2, "probes": 64, "probe_dim": 16, "token_grid": 2}


def test_linear_probes():
    """Ridge regression in either form; labels that the embeddings tell, and the variance that is explained."""
    generator = torch.Generator().manual_seed(0)
    x, w = torch.randn(40, 5, generator=generator), torch.randn(5, 2, generator=generator)
    found = linear_probe(x, x @ w, x, strength=30)
    assert 0.5 < explained_variance(found, x @ w) < 1  # the ridge shrinks
    assert explained_variance(x @ w, x @ w) == 1
    assert explained_variance((x @ w).mean(dim=0).expand(40, 2), x @ w) == pytest.approx(0, abs=1e-6)
    few = linear_probe(x[:4], (x @ w)[:4], x, strength=30)  # fewer rows than columns: the other system
    standard = (x[:4].double() - x[:4].double().mean(0)) / (x[:4].double().std(0) + 1e-6)
    system = standard.T @ standard + 30 * torch.eye(5, dtype=torch.float64)
    centred = (x @ w)[:4].double() - (x @ w)[:4].double().mean(0)
    torch.testing.assert_close(
        few[:4], standard @ torch.linalg.solve(system, standard.T @ centred) + (x @ w)[:4].double().mean(0)
    )
    labels = ["a" if value > 0 else "b" for value in x[:, 0]]
    assert probed_share(x, labels, x, labels, strength=30) > 90


def test_recall_over_pairs():
    one = torch.eye(4)
    assert mean_recall({"a": one, "b": one}, {"a": one, "b": one}) == 100
    assert mean_recall({"c": one.roll(1, 0)}, {"a": one, "b": one}) == 0


def test_colours_of_pictures(tmp_path):
    """Only what is opaque counts; the dominant colour is that of most pixels, not the mean."""
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[:2] = (204, 40, 38, 255)
    pixels[2] = (250, 250, 250, 255)
    pixels[3:] = (40, 96, 200, 10)
    (tmp_path / "train").mkdir()
    Image.fromarray(pixels).save(tmp_path / "train" / "00.png")
    mean, name = object_colours(tmp_path)
    assert name == "red"
    torch.testing.assert_close(mean, torch.tensor([658, 330, 326], dtype=torch.float64) / 3 / 255)
    pixels[..., 3] = 0
    Image.fromarray(pixels).save(tmp_path / "train" / "00.png")
    with pytest.raises(ValueError, match="no picture shows anything"):
        object_colours(tmp_path)


def test_invariances():
    """Probes are blind to what leaves the field alone; the released graph network only to the order of neurons."""
    torch.manual_seed(0)
    alone = GmnEncoder(GmnConfig(**PROBES, graph=False)).eval()
    graph = GmnEncoder(GmnConfig(hidden_dim=8, embedding_dim=12, num_layers=2)).eval()
    nerfs = {"mlp": [Nerf.random("MLP-nano", seed=seed) for seed in range(3)]}
    table = senses.invariance_table({"probes": alone.encode, "graph": graph.encode}, nerfs)
    rows = {row[0]: [float(cell) for cell in row[2:]] for row in table.rows}
    assert rows["rescaled"][0] < 1e-2 < rows["rescaled"][1]
    assert max(rows["permuted"]) < 0.3
    assert "negated" not in rows  # no sines


def test_cost_and_resolution():
    cost = senses.cost_table(["MLP-nano"], points=(16, 64))
    assert all(cell > 0 for cell in cost.rows[0][1:])
    nerf = Nerf.random("HASH-nano", seed=1)
    solid = Nerf(nerf.architecture, {**nerf.tensors, "mlp_base.params": nerf.tensors["mlp_base.params"] * 5})
    ((_, few, many),) = senses.resolution_table({"hash": [solid]}, points=(16, 4096)).rows
    assert few < many


@pytest.fixture
def measured(tmp_path):
    """Two classes of two objects in each split, a mesh that is trained on and one that is not."""
    data = tmp_path / "set"
    lists = {
        split: [f"{c}/{n}-00000000{s}{i}" for c, n in CLASSES.items() for i in range(2)]
        for s, split in enumerate(("train", "val", "test"))
    }
    lists["train"] += ["02691156/own__plane", "window/own__window"]
    lists["real_test"] = ["03001627/own__chair", "02691156/own__jet"]
    for split, names in lists.items():
        data.mkdir(exist_ok=True)
        (data / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
        for architecture in NANO_ARCHITECTURES.values():
            for number, name in enumerate(names):
                path = save_nerf(
                    Nerf.random(architecture, seed=len(split) * 10 + number),
                    nerf_directory(data, architecture, *name.split("/")),
                )
                (path.parent / "train").mkdir()
                colour = np.full((4, 4, 4), 255, np.uint8)
                colour[..., 0] = 50 * number
                Image.fromarray(colour).save(path.parent / "train" / "00.png")
    other = unseen_architectures()["HASH-16H"]
    for name in lists["test"]:
        path = save_nerf(
            Nerf.random(other, seed=3), nerf_directory(tmp_path / "variants" / "HASH-16H", other, *name.split("/"))
        )
        (path.parent / "fit.json").write_text(json.dumps({"architecture": other.to_dict()}))
    torch.manual_seed(0)
    GmnEncoder(GmnConfig(**PROBES)).save_pretrained(tmp_path / "both")
    for name in ("probes", "other"):
        GmnEncoder(GmnConfig(**PROBES, graph=False)).save_pretrained(tmp_path / name)
    encoders = f"both={tmp_path / 'both'},probes={tmp_path / 'probes'},probes={tmp_path / 'other'}"
    return claims.Claims(
        data=data,
        variants=tmp_path / "variants",
        encoders=encoders,
        out=tmp_path / "docs" / "claims.md",
        detailed=tmp_path / "variants",
    )


def test_every_claim_has_a_row(measured, monkeypatch):
    monkeypatch.setattr(claims, "cost_table", lambda: senses.cost_table(["MLP-nano"], points=(16,)))
    tables = claims.measure_claims(measured)
    names = [column.name for column in tables[0].columns]
    assert names == ["on objects never seen", "raw field", "both", "both, graph term", "probes"]
    rows = {row[0]: row[1:] for row in tables[0].rows}
    assert {
        "recall@1, six pairs of families",
        "recall@1, HASH-16H among the families",
        "recall@1, meshes held out",
    } <= rows.keys()
    assert {"class, same family", "mean colour, R2", "dominant colour of 11"} <= rows.keys()
    assert any(name.startswith("class of 2 meshes held out, from both") for name in rows)
    assert all("±" in row[-1] for row in rows.values())  # two runs
    assert [row[:2] for row in tables[1].rows] == [("all", 4), (unseen_architectures()["HASH-16H"].name, 4)]
    assert measured.out.read_text().count("**") == 10
    with pytest.raises(ValueError, match="expected name=directory"):
        claims.measure_claims(claims.Claims(data=measured.data, encoders="nowhere", raw=False, out=measured.out))


def test_what_was_measured_is_kept(measured, monkeypatch):
    """A second call measures only what the record lacks, and its tables have the rest too; other objects are refused."""
    monkeypatch.setattr(claims, "cost_table", lambda: senses.cost_table(["MLP-nano"], points=(16,)))
    one = dataclasses.replace(measured, encoders=measured.encoders.split(",")[1], raw=False, detailed=None)
    before = claims.measure_claims(dataclasses.replace(one, variants=None))
    added = []
    monkeypatch.setattr(claims.Record, "add", lambda self, group, method, encoder, rows: added.extend(rows))
    claims.measure_claims(one)
    assert added == ["recall@1, HASH-16H among the families"]
    monkeypatch.undo()
    again = claims.measure_claims(dataclasses.replace(one, variants=None, encoders=""))
    assert [table.markdown() for table in again] == [table.markdown() for table in before]
    (measured.data / "real_test.txt").write_text("03001627/own__chair\n")
    with pytest.raises(ValueError, match=r"claims.json: its figures are of other objects"):
        claims.measure_claims(one)


def test_nerfs_of_other_sizes_are_sought(measured):
    """Each counts by the share of families in which its own object is the nearest one; what is known is left out."""
    objects = claims.Objects.of(measured.data, None, measured.data / "hash")
    found = claims.seek(claims.raw_field, objects)
    assert len(found) == 4
    assert min(found.values()) > 33  # the gallery of its own family holds the NeRF itself
    assert claims.seek(claims.raw_field, objects, set(found)) == {}
    runs = [{"MLP/a/1": 100.0, "MLP/a/2": 0.0, "TRI/a/1": 50.0}]
    assert claims.paper_table({"x": runs, "y": [{"TRI/a/1": 100.0}]}).rows == (
        ("all", 3, "50.0", "–"),  # noqa: RUF001 (the dash of tables)
        ("MLP", 2, "50.0", "–"),  # noqa: RUF001
        ("TRI", 1, "50.0", "100.0"),
    )


def test_short_runs(measured, monkeypatch, tmp_path):
    """A short run is trained once, measured, and its column stands beside the others'; the settings of all are understood."""
    for recipe, settings in short_runs.RUNS.values():
        load_recipe(recipe, settings)
    monkeypatch.setattr(claims, "cost_table", lambda: senses.cost_table(["MLP-nano"], points=(16,)))
    small = ("epochs=1", "batch_size=3", "hidden_dim=8", "readout_dim=12", "embedding_dim=12", "regression_weight=0")
    monkeypatch.setitem(short_runs.RUNS, "tiny", ("probes_graph", (*short_runs.RUNS["graph canonical"][1], *small)))
    short = dataclasses.replace(
        measured, encoders="", raw=False, variants=None, detailed=None, short=tmp_path / "runs", short_names="tiny"
    )
    table = claims.measure_claims(short)[-1]
    assert [column.name for column in table.columns] == ["on objects never seen", "tiny"]
    assert table.rows[0][0] == "recall@1, six pairs of families"
    assert (tmp_path / "runs" / "tiny-0" / "last" / "model.safetensors").is_file()
    with pytest.raises(ValueError, match="no short run 'tin'; expected one of 'L_C and points'"):
        claims.measure_claims(dataclasses.replace(short, short_names="tin"))


def test_unseen_architectures_change_one_size_each():
    found = unseen_architectures()
    assert len(found) == len(set(found.values())) == 10
    for name, architecture in found.items():
        nano = NANO_ARCHITECTURES[f"{name.partition('-')[0]}-nano"].to_dict()
        assert sum(nano[size] != value for size, value in architecture.to_dict().items()) == 1, name
