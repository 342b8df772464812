"""One data set of procedural objects and meshes: near-twins stay together, and nothing held out is trained on."""

import json

import pytest

from gmn_encoder import Nerf, save_nerf
from gmn_encoder.datasets import PairedDataset
from gmn_encoder.fitting.training_set import held_out_meshes, make_training_set

ENTRIES = [
    {"file": f"{category}/{category}_{kind}_{twin}.glb", "name": f"{kind} {category} {twin}", "category": category}
    for category in ("chair", "tree")
    for kind in ("old", "new", "red")
    for twin in range(2)
]


def test_near_twins_are_held_out_together():
    chosen = held_out_meshes(ENTRIES, 5)
    assert len(chosen) == 4  # whole pairs, and no more than five
    assert len({name.rsplit("_", 1)[0] for _, name in chosen}) == 2
    assert held_out_meshes(list(reversed(ENTRIES)), 5) == chosen


def test_training_set(tmp_path):
    made = {"train": ["chair-1", "chair-2"], "val": ["chair-3"], "test": ["chair-4"]}
    real = [f"chair_{kind}_{twin}" for kind in ("old", "new", "red") for twin in range(2)]
    nerf = Nerf.random("MLP-nano")
    for family in ("mlp", "triplane", "hash"):
        for root, names in (("made", [n for ids in made.values() for n in ids]), ("real", real)):
            for name in names:
                save_nerf(nerf, tmp_path / root / family / "03001627" / name)
    for split, names in made.items():
        (tmp_path / "made" / f"{split}.txt").write_text("".join(f"03001627/{name}\n" for name in names))
    (tmp_path / "manifest.json").write_text(json.dumps(ENTRIES))
    out = tmp_path / "set"
    given = {"real": tmp_path / "real", "manifests": [str(tmp_path / "manifest.json")], "out": out, "held_out": 8}
    counts = make_training_set(procedural=tmp_path / "made", **given)
    assert counts["val"] == counts["test"] == 1
    assert counts["train"] + counts["real_test"] == 2 + len(real)
    train = PairedDataset(out, split="train").object_ids
    held = PairedDataset(out, split=out / "real_test.txt").object_ids
    assert len(held) > 0 and not set(train).intersection(held)
    assert {(c, n) for c, n in held} <= set(held_out_meshes(ENTRIES, 8))
    with pytest.raises(FileNotFoundError):
        make_training_set(procedural=tmp_path / "real", **given)
    assert PairedDataset(out, split="train").object_ids == train
