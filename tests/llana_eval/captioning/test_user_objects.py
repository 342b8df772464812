"""Objects that somebody brings: fitted, asked about, and marked, with a tiny model that knows nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gmn_encoder.fitting import fit_cache
from gmn_encoder.fitting.output import FIT_NAME
from gmn_encoder.fitting.presets import preset
from gmn_encoder.fitting.single import fit_architecture
from gmn_encoder.nerfs.files import save_nerf
from gmn_encoder.nerfs.record import Nerf
from llana_eval.captioning import user_objects
from llana_eval.captioning.user_objects import UserObjects, ask_about_objects, read_user_objects
from tests.encoder.fitting.test_single import CUBE
from tests.llana_gmn.conftest import tiny_folder  # noqa: F401 (fixture)

ENTRIES = [
    {"source": "cube.ply", "names": ["dice", "cube"], "colours": ["red"], "is_not": "airplane"},
    {"source": "lamp.ply", "up": "-y", "names": ["lamp"], "category": "lamp", "colours": ["blue"], "is_not": "sofa"},
]


@pytest.fixture
def listed(tmp_path, monkeypatch):
    """A list, its sources, and the directions of up that they were fitted with; what comes out are random NeRFs."""
    asked = {}

    def fit(path, out, *, families, quality, placement, **_):
        asked[Path(path).name] = placement and placement.up
        for family in families:
            directory = Path(out, family, "own", Path(path).stem)
            save_nerf(Nerf.random(fit_architecture(family, quality), seed=1), directory)
            record = {"settings": preset(quality, family).to_dict(), "notes": ["it was read so"]}
            (directory / FIT_NAME).write_text(json.dumps(record))

    monkeypatch.setattr(fit_cache, "fit_object", fit)
    for name in ("cube", "lamp"):
        (tmp_path / f"{name}.ply").write_text(CUBE)
    (tmp_path / "list.json").write_text(json.dumps(ENTRIES))
    return tmp_path / "list.json", asked


def test_what_was_said_stands_beside_the_truth(listed, tmp_path, tiny_folder, monkeypatch):  # noqa: F811
    path, asked = listed
    given = {"root": tmp_path, "objects": path, "model": tiny_folder, "cache": tmp_path / "cache", "new_tokens": 3}
    table = ask_about_objects(UserObjects(**given, families=["mlp", "hash"]))
    assert asked == {"cube.ply": None, "lamp.ply": (0.0, -1.0, 0.0)}
    assert [row[:2] for row in table.rows if row[0]] == [
        ("cube.ply", "MLP"), ("cube.ply", "HASH"), ("lamp.ply", "MLP"), ("lamp.ply", "HASH")
    ]  # fmt: skip
    assert [row[2:4] for row in table.rows[:5]] == [
        ("Describe this object briefly.", "dice or cube"),
        ("What is this object?", "dice or cube"),
        ("What is its main colour?", "red"),
        ("Is it a dice?", "yes"),
        ("Is it an airplane?", "no"),
    ]
    assert {row[5] for row in table.rows} == {"wrong"} and table.note.startswith("0 of 20 answers are right.")
    assert "lamp.ply: it was read so." in table.note

    def converse(model, processor, nerfs, questions, **_):
        said = {"What is its main colour?": "Dark blue.", "Is it a sofa?": "No.", "Is it a lamp?": "Yes, it is."}
        return [(place, [said.get(each, "A lamp.") for each in turns]) for place, turns in enumerate(questions)]

    monkeypatch.setattr(user_objects, "converse", converse)
    table = ask_about_objects(UserObjects(**given))
    assert [row[5] for row in table.rows[5:]] == ["right"] * 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colours": ["crimson"]}, "'crimson' is no basic colour"),
        ({"names": []}, "has no names or no colours"),
        ({"colour": "red"}, "unknown setting 'colour'"),
    ],
)
def test_lists_that_are_none(tmp_path, change, message):
    (tmp_path / "list.json").write_text(json.dumps([ENTRIES[0] | change]))
    with pytest.raises(ValueError, match=f"list.json: is no list of objects .*{message}"):
        read_user_objects(tmp_path / "list.json")
    with pytest.raises(FileNotFoundError, match="expected a JSON list of objects"):
        read_user_objects(tmp_path / "none.json")


def test_the_list_that_ships_can_be_read():
    found = read_user_objects(Path(__file__).parents[3] / "scripts/recipes/user_objects.json")
    assert len(found) == 5 and all(each.chat for each in found)
