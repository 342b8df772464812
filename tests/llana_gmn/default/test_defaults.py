"""What ships: NeRFs that the model has not seen, with their attribution, in the layout that everything reads."""

from __future__ import annotations

import pytest

from gmn_encoder.datasets import PairedDataset
from llana_gmn.default import objects as defaults


def test_default_nerfs_are_complete_held_out_and_attributed():
    objects = defaults.default_objects()
    pairs = PairedDataset(defaults.default_nerfs_path(), split="test")
    assert pairs.object_ids == [(each.class_id, each.nerf_id) for each in objects]
    for place in (0, len(pairs) - 1):
        assert {family: entry.load().architecture.name for family, entry in pairs[place].items()} == {
            "mlp": "MLP-nano", "triplane": "TRI-nano", "hash": "HASH-nano",
        }  # fmt: skip
    assert {each.kind for each in objects} == {"procedural", "real"}
    for each in objects:
        assert bool(each.attribution) == (each.kind == "real")


def test_procedural_ones_were_not_trained_on():
    """The first five of each class, as the model's card says."""
    procedural = [each for each in defaults.default_objects() if each.kind == "procedural"]
    assert len(procedural) == 26
    assert all(int(each.nerf_id.rsplit("-", 1)[1]) < 5 for each in procedural)


def test_what_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(defaults, "_DEFAULT", tmp_path)
    for function, flag in ((defaults.default_model_path, "--model"), (defaults.default_nerfs_path, "--nerfs")):
        with pytest.raises(
            FileNotFoundError, match=f"does not ship with this copy of the package; name one with {flag}"
        ):
            function()
    with pytest.raises(FileNotFoundError, match=r"objects.json: no such file"):
        defaults.default_objects(tmp_path)
    (tmp_path / "objects.json").write_text('[{"a": 1}]')
    with pytest.raises(ValueError, match="is no list of objects"):
        defaults.default_objects(tmp_path)
