"""Commands that take NeRFs take what NeRFs can be fitted to as well: fitted once, kept, and called by the user's names."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path

import pytest
import torch

from gmn_encoder.embeddings.files import read_embeddings
from gmn_encoder.fitting import fit_cache
from gmn_encoder.fitting.output import FIT_NAME
from gmn_encoder.fitting.presets import preset
from gmn_encoder.fitting.single import fit_architecture
from gmn_encoder.fitting.sources import is_source, sources_below
from gmn_encoder.nerfs.files import save_nerf
from gmn_encoder.nerfs.record import Nerf
from llana_gmn.commands import main
from llana_gmn.commands.base import InputErrors
from llana_gmn.commands.foreign_arguments import OpenedNerf, open_nerfs
from tests.encoder.fitting.test_single import CUBE, image_folder
from tests.encoder.nerfs.importers.files import blob_checkpoint
from tests.llana_gmn.model.test_numbers import loud


@pytest.fixture
def fits(monkeypatch):
    """Paths of the fits that were made; what comes out are random NeRFs, and of "loud" names ones that say no numbers."""
    made = []

    def fit(path, out, *, families, quality, **_):
        made.append(Path(path).name)
        if "refused" in Path(path).name:
            raise ValueError(f"{path}: shows no object")
        for family in families:
            nerf = Nerf.random(fit_architecture(family, quality), seed=len(made))
            directory = Path(out, family, "own", Path(path).stem)
            save_nerf(loud(nerf, 3e38) if "loud" in Path(path).name else nerf, directory)
            (directory / FIT_NAME).write_text(json.dumps({"settings": preset(quality, family).to_dict()}))

    monkeypatch.setattr(fit_cache, "fit_object", fit)
    return made


@pytest.fixture
def objects(tmp_path):
    """A checkpoint, a mesh and an image folder, beside each other."""
    (tmp_path / "things").mkdir()
    (tmp_path / "things" / "cube.ply").write_text(CUBE)
    image_folder(tmp_path / "things" / "cup", size=16)
    blob_checkpoint(tmp_path / "things" / "blob.ckpt")
    return tmp_path / "things"


def arguments(tmp_path, quality="nano"):
    return Namespace(cache=str(tmp_path / "cache"), fit_quality=quality, up=None)


def test_what_there_is_something_to_fit_to(objects, tmp_path, nerfs):
    assert all(is_source(path) for path in objects.iterdir())
    save_nerf(nerfs[0], objects / "cup")  # a NeRF beside the views that it was fitted to
    others = [objects, objects / "cup", save_nerf(nerfs[1], tmp_path / "a.safetensors"), tmp_path / "absent"]
    assert not any(is_source(path) for path in others)
    assert [path.name for path in sources_below(objects)] == ["blob.ckpt", "cube.ply", "cup"]


def test_paths_become_the_nerfs_that_are_fitted_to_them_once(objects, tmp_path, nerfs, fits):
    errors = InputErrors("chat")
    own = str(save_nerf(nerfs[0], tmp_path / "own.safetensors"))
    opened = open_nerfs([own, str(objects), "absent"], arguments(tmp_path), errors)
    assert [nerf.name for nerf in opened] == [
        own,
        *(str(objects / name) for name in ("blob.ckpt", "cube.ply", "cup")),
        "absent",
    ]
    assert [nerf.path for nerf in opened if nerf.path == nerf.name] == [own, "absent"]
    assert fits == ["blob.ckpt", "cube.ply", "cup"] and not errors.messages
    assert open_nerfs([own, str(objects), "absent"], arguments(tmp_path), errors) == opened and len(fits) == 3
    (objects / "cup" / "train" / "00.png").write_bytes((objects / "cup" / "train" / "01.png").read_bytes() + b"\0")
    again = open_nerfs([str(objects)], arguments(tmp_path), errors)
    assert fits[3:] == ["cup"] and again[:2] == opened[1:3] and again[2] != opened[3]
    with pytest.raises(ValueError, match="--fit-quality is 'best'; expected one of nano, quick"):
        open_nerfs([own], arguments(tmp_path, "best"), errors)


def test_captions_and_embeddings_are_of_the_users_names(objects, tmp_path, tiny_folder, fits, capsys):
    for name in ("loud.ply", "a_refused.ply"):  # the others, before and after, are captioned
        (objects / name).write_text(CUBE)
    cached = ["--cache", str(tmp_path / "cache")]
    out = tmp_path / "captions.jsonl"
    asked = ["caption", "--model", str(tiny_folder), str(objects), "--out", str(out), "--max-new-tokens", "2"]
    assert main([*asked, *cached]) == 1
    said = capsys.readouterr().err
    assert f"{objects / 'loud.ply'}: its field is NaN" in said and f"{objects / 'a_refused.ply'}: shows no" in said
    assert str(tmp_path / "cache") not in said
    written = [json.loads(line) for line in out.read_text().splitlines()]
    names = [str(objects / name) for name in ("blob.ckpt", "cube.ply", "cup")]
    assert [record["nerf"] for record in written] == names and all(record["sha256"] for record in written)
    before = len(fits)
    for name in ("loud.ply", "a_refused.ply"):
        (objects / name).unlink()
    assert main([*asked, *cached]) == 0 and "3 captions, 0 new" in capsys.readouterr().err
    out = tmp_path / "embeddings.npz"
    assert main(["embed", str(objects), "--encoder", str(tiny_folder), "--out", str(out), *cached]) == 0
    assert len(fits) == before
    members = read_embeddings(out)
    assert list(members.paths) == names
    assert members.object_ids == (("own", "blob"), ("own", "cube"), ("own", "cup"))
    assert main(["embed", "absent.splat", "--encoder", str(tiny_folder), "--out", str(tmp_path / "b.npz")]) == 1
    assert "absent.splat: no such file" in capsys.readouterr().err


def test_a_chat_shows_them(objects, tmp_path, tiny_folder, fits, capsys):
    name = str(objects / "cube.ply")
    asked = ["chat", "--model", str(tiny_folder), "--nerf", name, "--question", "What?", "--max-new-tokens", "2"]
    assert main([*asked, "--cache", str(tmp_path / "cache")]) == 0
    assert f"[{name}]" in capsys.readouterr().err and fits == ["cube.ply"]


def test_errors_are_about_the_name(tmp_path):
    nerf = OpenedNerf("a.splat", str(tmp_path / "x"))
    assert str(nerf.renamed(ValueError(f"{tmp_path}/x/nerf_weights.pth: is odd"))) == "a.splat: is odd"
    error = OSError("b: is odd")
    assert OpenedNerf("b", "b").renamed(error) is error


def test_several_families_come_from_the_same_views_and_only_what_lacks_is_fitted(objects, tmp_path, fits, monkeypatch):
    families = ("mlp", "hash")
    cache = fit_cache.FitCache(tmp_path / "cache", families=families)
    places = cache.nerfs(objects / "cube.ply")
    assert list(places) == ["mlp", "hash"] and places["mlp"].parents[2] == places["hash"].parents[2]
    asked = []
    monkeypatch.setattr(fit_cache, "fit_object", lambda path, out, *, families, **_: asked.append(families))
    (places["hash"] / FIT_NAME).write_text('{"settings": {}}')  # those of another version
    assert cache.nerfs(objects / "cube.ply") == places and asked == [["hash"]]
    white = fit_cache.FitCache(tmp_path / "cache", families=families, background=torch.ones(3))
    assert white.places(objects / "cube.ply") != places
