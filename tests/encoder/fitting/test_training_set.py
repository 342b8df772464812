"""One data set of procedural objects and meshes: near-twins stay together, and nothing held out is trained on."""

import dataclasses
import json

import pytest
import torch

from gmn_encoder import Nerf, load_nerf, save_nerf
from gmn_encoder.datasets import PairedDataset
from gmn_encoder.fitting.set_language import TRUTH_NAME, KnownObjects, read_truth
from gmn_encoder.fitting.training_set import held_out_meshes, make_training_set, recolourings
from gmn_encoder.nerfs.recolouring import Recolouring
from gmn_encoder.objects.measuring import Measurements
from gmn_encoder.objects.mesh_changes import MeshChange, copied_from

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


@pytest.fixture
def given(tmp_path, monkeypatch):
    """Fits of procedural objects and of meshes, which are measured without looking."""
    real = [f"chair_{kind}_{twin}" for kind in ("old", "new", "red") for twin in range(2)]
    made = [f"chair-{seed:09d}" for seed in range(4)]
    nerf = Nerf.random("MLP-nano")
    for family in ("mlp", "triplane", "hash"):
        for root, names in (("made", made), ("real", real)):
            for name in names:
                save_nerf(nerf, tmp_path / root / family / "03001627" / name)
    (tmp_path / "manifest.json").write_text(json.dumps(ENTRIES))
    measured = Measurements([(0.8, 0.1, 0.1, 1.0)], (1.0, 1.0, 1.0), True)
    monkeypatch.setattr(KnownObjects, "_measure", lambda *_: measured)
    return {
        "procedural": tmp_path / "made",
        "real": tmp_path / "real",
        "manifests": [str(tmp_path / "manifest.json")],
        "out": tmp_path / "set",
        "held_out": 8,
        "test_seeds": 1,
        "val_seeds": 1,
        "twins": 2,
    }


def test_training_set(given):
    counts = make_training_set(**given)
    out = given["out"]
    assert counts["val"] == counts["test"] == 1
    assert counts["train"] / 3 + counts["real_test"] == 2 + 6  # each with two twins
    train = PairedDataset(out, split="train").object_ids
    held = PairedDataset(out, split=out / "real_test.txt").object_ids
    assert len(held) > 0 and not {name.partition("_c")[0] for _, name in train}.intersection(name for _, name in held)
    assert set(held) <= set(held_out_meshes(ENTRIES, 8))
    with pytest.raises(ValueError, match="is not named like a procedural object"):
        make_training_set(**given | {"procedural": given["real"]})
    assert PairedDataset(out, split="train").object_ids == train


def test_real_objects_for_validation_are_held_out_with_their_near_twins(given):
    counts = make_training_set(**given | {"held_out": 2, "real_val": 0.25})
    ids = {
        name: PairedDataset(given["out"], split=given["out"] / f"{name}.txt").object_ids for name in ("train", "val")
    }
    real = {name: (given["out"] / f"{name}.txt").read_text().split() for name in ("real_val", "real_test")}
    assert counts["real_val"] == counts["real_test"] == 2 and counts["train"] / 3 == 2 + 2  # each with two twins
    groups = {name: {line.rpartition("_")[0] for line in lines} for name, lines in real.items()}
    trained = {f"{class_id}/{nerf_id.partition('_c')[0]}".rpartition("_")[0] for class_id, nerf_id in ids["train"]}
    assert not groups["real_val"] & (groups["real_test"] | trained)
    assert len(read_truth(given["out"], "real_val")) == counts["real_val"]
    make_training_set(**given | {"real_val": 0.0})
    assert not (given["out"] / "real_val.txt").exists()
    with pytest.raises(ValueError, match=r"real_val is 1.0; expected a share"):
        make_training_set(**given | {"real_val": 1.0})


def test_twins_are_recoloured_and_told_of_in_their_own_colours(given):
    make_training_set(**given)
    out, first = given["out"], ("03001627", "chair-000000002")
    points = torch.rand(20, 3) - 0.5
    rgb, density = load_nerf(out / "mlp" / first[0] / first[1]).query(points)
    truth = {each.nerf_id: each for each in read_truth(out, "train")}
    assert truth[first[1]].main_colours == ("red",)
    for number in recolourings(first, 2):
        name = f"{first[1]}_c{number:02d}"
        own_rgb, own_density = load_nerf(out / "mlp" / first[0] / name).query(points)
        torch.testing.assert_close(own_rgb, Recolouring.numbered(number).colours(rgb), atol=1e-6, rtol=0)
        assert torch.equal(own_density, density)
        assert truth[name].recolouring == number
        assert (
            truth[name].colours
            == Measurements([(0.8, 0.1, 0.1, 1.0)], (1, 1, 1), True).recoloured(Recolouring.numbered(number)).colours
        )
    brief = json.loads((out / "language/train/texts/conversations_brief.json").read_text())
    assert {each["object_id"] for each in brief} == set(truth)
    questions = json.loads((out / "language/test/truth/questions.json").read_text())
    assert {each["nerf_id"] for each in questions} == {"chair-000000000"} and all(
        each["expected"] for each in questions
    )


def test_truth_that_is_missing_or_broken_is_named(given):
    with pytest.raises(FileNotFoundError, match="expected the truth that make_training_set writes"):
        read_truth(given["out"], "test")
    make_training_set(**given)
    file = given["out"] / "language/test/truth" / TRUTH_NAME
    file.write_text("[3]")
    with pytest.raises(ValueError, match=r"objects.json: is no truth of objects"):
        read_truth(given["out"], "test")


def test_what_nothing_is_known_of_is_refused(tmp_path):
    with pytest.raises(ValueError, match="other/thing: nothing is known of it"):
        KnownObjects([], tmp_path).truth(("other", "thing"))


def test_measurements_are_kept_and_made_again_when_they_are_old(tmp_path):
    known = KnownObjects([], tmp_path)
    truth, _ = known.truth(("03001627", "chair-000000003"))
    file = tmp_path / "03001627/chair-000000003.json"
    kept = json.loads(file.read_text())
    file.write_text(json.dumps(kept | {"extents": [1, 1, 1]}))
    assert known.truth(("03001627", "chair-000000003"))[0].extents == (1, 1, 1)
    file.write_text(json.dumps(kept | {"extents": [1, 1, 1], "version": 0}))
    assert dataclasses.replace(known.truth(("03001627", "chair-000000003"))[0]) == truth


def test_copies_of_what_is_trained_on_are_trained_on(given, tmp_path):
    nerf = Nerf.random("MLP-nano")
    for family in ("mlp", "triplane", "hash"):
        for seed in (0, 2):
            save_nerf(nerf, tmp_path / "copies" / family / "03001627" / f"chair-{seed:09d}_v1")
    make_training_set(**given, copies=[str(tmp_path / "copies")])
    train = {name for _, name in PairedDataset(given["out"], split="train").object_ids}
    assert "chair-000000002_v1" in train and "chair-000000000_v1" not in train  # that one's own is for the test
    truth = {each.nerf_id: each for each in read_truth(given["out"], "train")}["chair-000000002_v1"]
    assert truth.name.category == "chair" and truth.kind == "procedural"


def test_the_truth_of_a_copy_is_measured_on_the_copy_as_it_faces_forward(tmp_path):
    known, own_id = KnownObjects([], tmp_path), ("04256520", "sofa-000000003")
    own, subject = known.truth(own_id)
    copy, nothing = known.truth((own_id[0], f"{own_id[1]}_v1"))
    change = MeshChange.drawn(*own_id, 1)
    assert subject is not None and nothing is None
    x, y, z = (side * factor for side, factor in zip(own.extents, change.stretched, strict=True))
    assert copy.extents == pytest.approx((x / max(x, y, z), y / max(x, y, z), z / max(x, y, z)), abs=1e-3)
    assert copy.counts == own.counts and copy.symmetric == own.symmetric
    assert copied_from(copy.nerf_id) == (own_id[1], 1) and copied_from("a_b") == ("a_b", 0)
