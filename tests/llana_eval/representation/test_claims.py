"""The paper's claims, measured on a handful of random NeRFs with a random encoder."""

import json

import pytest

from gmn_encoder import Nerf, save_nerf
from gmn_encoder.fitting.output import nerf_directory
from gmn_encoder.nerfs.architectures import NANO_ARCHITECTURES
from llana_eval.representation import claims
from llana_eval.tables import Table

CLASSES = ("02691156", "03001627")


def write_nerfs(root, architectures, names, *, seed=0):
    for architecture in architectures:
        for number, name in enumerate(names):
            nerf = Nerf.random(architecture, seed=seed + number)
            save_nerf(nerf, nerf_directory(root, architecture, *name.split("/")))


@pytest.fixture
def measured(tmp_path, small_encoder):
    """Settings on two classes of two objects in each split, and two real objects."""
    for number, split in enumerate(("train", "val", "test")):
        names = [f"{class_id}/{split}-{i}" for class_id in CLASSES for i in range(2)]
        write_nerfs(tmp_path / "data", NANO_ARCHITECTURES.values(), names, seed=10 * number)
        (tmp_path / "data" / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
    write_nerfs(tmp_path / "real", NANO_ARCHITECTURES.values(), [f"{CLASSES[0]}/own", "unknown/own"], seed=50)
    for loss in ("r", "rc"):
        small_encoder.save_pretrained(tmp_path / "runs" / loss / "best")
    return claims.Claims(
        data=tmp_path / "data",
        runs=tmp_path / "runs",
        work=tmp_path / "work",
        out=tmp_path / "out",
        real=tmp_path / "real",
        losses="r,rc",
        objects=4,
        epochs=1,
        batch_size=4,
    )


def test_every_claim_has_a_table_with_rows_of_each_loss(measured, monkeypatch):
    def random_in_place_of_fits(out, objects, *, batch):
        names = (measured.data / "test.txt").read_text().split()
        write_nerfs(out, claims.unseen_architectures().values(), names, seed=90)

    monkeypatch.setattr(claims, "fit_unseen", random_in_place_of_fits)
    tables = claims.measure_claims(measured)
    assert list(tables) == [
        "classification",
        "unseen architectures",
        "real objects, classification",
        "retrieval",
        "real objects, retrieval",
    ]
    for table in tables.values():
        assert {"L_R", "L_R+C"} <= {row[0] for row in table.rows}
        assert len(set(table.rows)) == len(table.rows)  # the random baseline stands once
    names = [column["name"] for column in tables["unseen architectures"].to_dict()["columns"]]
    assert set(claims.unseen_architectures()) <= set(names)
    content = json.loads((measured.out / "encoder_claims.json").read_text())
    assert content["classifier"]["epochs"] == 1
    assert {kind: Table.from_dict(each).markdown() for kind, each in content["tables"].items()} == {
        kind: table.markdown() for kind, table in tables.items()
    }
    text = (measured.out / "encoder_claims.md").read_text()
    assert text.count("The paper's, at its sizes and on ShapeNet:") == len(claims.PUBLISHED)
    assert sorted(path.name for path in measured.out.glob("*.png")) == ["tsne_r.png", "tsne_rc.png"]


def test_unseen_architectures_change_one_size_each():
    found = claims.unseen_architectures()
    assert len(found) == len(set(found.values())) == 10
    for name, architecture in found.items():
        nano = NANO_ARCHITECTURES[f"{name.partition('-')[0]}-nano"].to_dict()
        assert sum(nano[size] != value for size, value in architecture.to_dict().items()) == 1, name
