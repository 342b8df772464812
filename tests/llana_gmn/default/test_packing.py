"""The NeRFs that ship, put together again from directories of fits; here from what ships itself."""

import json
import shutil

import pytest

from gmn_encoder import load_nerf
from gmn_encoder.fitting.output import FIT_NAME
from llana_gmn.default.objects import default_nerfs_path, default_objects
from llana_gmn.default.packing import choose_objects, pack_nerfs

FAMILIES = ("mlp", "triplane", "hash")


@pytest.fixture
def fits(tmp_path):
    """``(procedural, real, manifest)``: two objects of each kind."""
    shipped = default_nerfs_path()
    entries = []
    for kind in ("procedural", "real"):
        root = tmp_path / kind
        objects = [each for each in default_objects() if each.kind == kind][:2]
        for family in FAMILIES:
            for each in objects:
                there = root.joinpath(family, each.class_id, each.nerf_id)
                shutil.copytree(shipped.joinpath(family, each.class_id, each.nerf_id), there)
                if kind == "real":
                    record = json.loads((there / FIT_NAME).read_text())
                    entries.append({"file": f"/elsewhere/{record['source']}", "name": each.nerf_id, "licence": "CC0"})
                    (there / FIT_NAME).write_text(json.dumps({**record, "source": f"/somewhere/{record['source']}"}))
        (root / "test.txt").write_text("".join(f"{each.class_id}/{each.nerf_id}\n" for each in objects))
    texts = tmp_path / "procedural" / "language" / "test" / "texts"
    texts.mkdir(parents=True)
    members = [each.nerf_id for each in default_objects() if each.kind == "procedural"][:2]
    (texts / "brief.json").write_text(json.dumps([{"object_id": name} for name in (*members, "another")]))
    (tmp_path / "manifest.json").write_text(json.dumps(entries))
    return tmp_path / "procedural", tmp_path / "real", tmp_path / "manifest.json"


def test_what_is_packed_is_read_as_what_ships(fits, tmp_path):
    procedural, real, manifest = fits
    given = {"procedural": procedural, "real": real, "manifests": [str(manifest)], "out": tmp_path / "packed"}
    objects = pack_nerfs(**given, per_class=1)
    assert default_objects(tmp_path / "packed") == objects
    assert {each.kind: each.attribution for each in objects} == {
        "procedural": "",
        "real": f"{objects[-1].nerf_id}, CC0",
    }
    for each in objects:
        for family in FAMILIES:
            there = tmp_path / "packed" / family / each.class_id / each.nerf_id
            assert load_nerf(there).family == family
            assert sorted(path.name for path in there.iterdir()) == [
                "fit.json",
                "grid.pth",
                "nerf_weights.pth",
                "train",
            ]
            assert "somewhere" not in (there / FIT_NAME).read_text()  # no path of the machine that fitted it
    names = {each.nerf_id for each in objects if each.kind == "procedural"}
    texts = json.loads((tmp_path / "packed/language/test/texts/brief.json").read_text())
    assert {each["object_id"] for each in texts} == names
    other = next(each for each in default_objects() if each.kind == "real" and each not in objects)
    (tmp_path / "held.txt").write_text(f"{other.class_id}/{other.nerf_id}\n")
    packed = pack_nerfs(**given, held_out=tmp_path / "held.txt")
    assert [each.nerf_id for each in packed if each.kind == "real"] == [other.nerf_id]


def test_the_choice_is_seeded_and_of_each_class():
    objects = [(class_id, f"{i}") for class_id in "ba" for i in range(9)] + [("c", "0")]
    chosen = choose_objects(objects, 2)
    assert [class_id for class_id, _ in chosen] == ["a", "a", "b", "b", "c"]
    assert chosen == choose_objects(objects[::-1], 2)
