"""Foreign fields as sources: the object is found, brought into the box, rendered and fitted to."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gmn_encoder.digests import Digests
from gmn_encoder.fitting import distil_object
from gmn_encoder.fitting.distil import read_foreign, render_placed, take_views
from gmn_encoder.fitting.distil_object import find_object
from gmn_encoder.fitting.fit_cache import FitCache
from gmn_encoder.fitting.inputs import content_of
from gmn_encoder.fitting.job import FitJob
from gmn_encoder.fitting.output import FIT_NAME
from gmn_encoder.fitting.placement import PlacementRequest
from gmn_encoder.fitting.presets import preset
from gmn_encoder.fitting.single import fit_architecture
from gmn_encoder.fitting.sources import find_sources
from gmn_encoder.nerfs.architectures import NANO_ARCHITECTURES
from gmn_encoder.nerfs.files import load_nerf, save_nerf
from gmn_encoder.nerfs.importers import ForeignField
from gmn_encoder.nerfs.record import Nerf
from gmn_encoder.objects import ViewSettings
from gmn_encoder.rendering.voxels import numbers_at, voxel_centers

from ..nerfs.importers.files import blob_checkpoint
from .conftest import TINY


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Balls(ForeignField):
    """Solid balls (x, y, z, radius), coloured by their height."""

    balls: tuple[tuple[float, float, float, float], ...]
    hard: float = 200.0

    def density(self, xyz):
        inside = torch.zeros(len(xyz), 1, dtype=torch.bool)
        for *centre, radius in self.balls:
            inside |= (xyz - xyz.new_tensor(centre)).norm(dim=-1, keepdim=True) < radius
        return inside * self.hard, torch.sigmoid(xyz)

    def colour(self, features, directions):
        return features


def balls(*each, **options):
    about = {"kind": "balls", "source": "balls", "box": ((-2.0,) * 3, (2.0,) * 3), "tensors": {"x": torch.zeros(1)}}
    return Balls(**{**about, **options}, balls=each)


@pytest.fixture(autouse=True)
def small_looks(monkeypatch):
    monkeypatch.setattr(distil_object, "_VIEWS", 12)
    monkeypatch.setattr(distil_object, "_COARSE", 48)


def test_an_object_is_found_whatever_floats_about():
    found = find_object(balls((0.3, -0.2, 0.1, 0.8), (1.8, 1.8, 1.8, 0.09)))
    np.testing.assert_allclose(found.placement.center, [0.3, -0.2, 0.1], atol=0.07)
    assert found.placement.scale == pytest.approx(0.62 / 0.8, rel=0.12)
    near = voxel_centers()[found.seen.binary[0]].norm(dim=-1)
    assert float(near.max()) < 0.66  # the floater is gone


def test_parts_of_an_object_that_do_not_touch_are_kept():
    found = find_object(balls((-0.6, 0, 0, 0.5), (0.8, 0, 0, 0.3)))
    np.testing.assert_allclose(found.placement.center, [0.0, 0, 0], atol=0.07)
    centres = found.placement.to_box(torch.tensor([[-0.6, 0, 0], [0.8, 0, 0]]))
    inside = found.solid.binary[0][tuple(((centres + 0.7) / 1.4 * 96).long().T)]
    assert inside.tolist() == [True, True]


def test_what_no_plausible_camera_sees_does_not_count():
    # A ball within a ball is solid, and one under the ground, behind a plate, is not there for cameras above.
    field = balls((0, 0, 0.3, 0.7), (0, 0, -1.0, 0.3), viewpoints="hemisphere")
    below = find_object(field).placement.to_box(torch.tensor([[0, 0, -1.0]]))
    hidden = balls((0, 0, 0, 1.2), (0, 0, 0, 0.4))
    found = find_object(hidden)
    seen, solid = found.seen.binary[0], found.solid.binary[0]
    assert not bool(seen[48, 48, 48]) and bool(solid[48, 48, 48])
    assert float(below[0, 2]) < -0.3


def test_a_backdrop_of_the_backgrounds_colour_is_left_out(tmp_path):
    from gmn_encoder.nerfs.importers import import_field

    field = import_field(blob_checkpoint(tmp_path / "a.ckpt", floor=True))
    points = torch.rand(4000, 3) * 4 - 2
    assert float((field.query(points)[1] > 1).float().mean()) > 0.2  # a fifth of the box is solid
    found = find_object(field)
    np.testing.assert_allclose(found.placement.center, [0, 0, 0], atol=0.13)
    assert found.placement.scale == pytest.approx(0.62 / 0.8, rel=0.14)
    assert any("background's colour" in note for note in found.notes)
    floor = found.placement.to_source(voxel_centers()[found.solid.binary[0]])[:, 2]
    assert float(floor.min()) > -1.1
    floored = find_object(replace(field, background=None))
    assert floored.placement.scale < 0.8 * found.placement.scale  # without the word, the floor is an object


def test_the_user_has_the_last_word():
    field = balls((0.3, -0.2, 0.1, 0.5))
    request = PlacementRequest(center=(0.3, -0.2, 0.0), scale=0.8, up=(0.0, 1.0, 0.0))
    found = find_object(field, request)
    assert (found.placement.center, found.placement.scale) == (request.center, 0.8)
    assert found.placement.up == request.up and found.placement.found_by == "the user"
    half = find_object(field, PlacementRequest(scale=0.8)).placement
    assert half.scale == 0.8 and half.center == pytest.approx((0.3, -0.2, 0.1), abs=0.07)


def test_no_object(tmp_path):
    with pytest.raises(ValueError, match=r"balls: holds no object: .*--center and --scale"):
        find_object(balls((0, 0, 0, 1.0), hard=1e-3))
    with pytest.raises(ValueError, match="holds no object"):
        find_object(balls((0, 0, 0, 0.5)), PlacementRequest(center=(1.5, 1.5, 1.5), scale=1.0))


def test_an_unbounded_scene_is_cut_to_its_central_region():
    field = balls((0, 0, 0, 0.5), (0, 0, -101.0, 100.0), box=((-1.0,) * 3, (1.0,) * 3), bounded=False)
    found = find_object(field)
    assert any("central region" in note for note in found.notes)
    assert float(voxel_centers()[found.seen.binary[0]].norm(dim=-1).max()) < 0.65


@pytest.mark.parametrize(("solid", "distance"), [(0.4, None), (0.1, 1.0)])
def test_ends_that_few_views_show_are_not_cut_off_in_an_unbounded_field(monkeypatch, solid, distance):
    monkeypatch.setattr(distil_object, "_SOLID", solid)

    class Block(Balls):
        def density(self, xyz):
            inside = ((xyz - xyz.new_tensor([0.1, 0.0, -0.1])).abs() < 0.4).all(dim=-1, keepdim=True)
            return inside * self.hard, torch.sigmoid(xyz)

    plain = balls(box=((-1.0,) * 3, (1.0,) * 3), bounded=False, viewpoints="hemisphere", camera_distance=distance)
    found = find_object(Block(**{name: getattr(plain, name) for name in plain.__dataclass_fields__}))
    signs = torch.cartesian_prod(*3 * [torch.tensor([-1.0, 1.0])])
    corners = found.placement.to_box(signs * 0.39 + torch.tensor([0.1, 0.0, -0.1]))
    assert found.seen.binary.flatten()[numbers_at(corners, found.seen.resolution)].all()


def test_views_are_those_of_the_field():
    """A ball of radius r seen from distance d covers a disc of radius f r / sqrt(d^2 - r^2)."""
    field = balls((0.5, 0.5, 0.5, 0.4))
    found = find_object(field, PlacementRequest(center=(0.5, 0.5, 0.5), scale=1.0))
    images, cameras = take_views(field, found, ViewSettings(n_views=3, size=64, seed=2))
    assert images.shape == (3, 64, 64, 4) and images.dtype == torch.uint8
    radius = float(cameras.focal[0, 0]) * 0.4 / (1.5**2 - 0.4**2) ** 0.5
    for image in images:
        assert int((image[..., 3] > 127).sum()) == pytest.approx(np.pi * radius**2, rel=0.05)
        assert int(image[32, 32, 3]) == 255
    # Straight opacity: colours are not darkened where little is seen.
    shown = images[images[..., 3] > 0]
    assert int(shown[:, :3].min()) > 255 * 0.45


def test_a_fields_own_pictures_are_taken_from_the_placed_camera():
    asked = []

    class Painter(Balls):
        def image(self, camera_to_world, focal, principal_point, width, height):
            asked.append(camera_to_world)
            return torch.full((height, width, 4), 0.5)

    plain = balls((1.0, 0, 0, 0.4))
    field = Painter(**{name: getattr(plain, name) for name in plain.__dataclass_fields__})
    found = find_object(field, PlacementRequest(center=(1.0, 0.0, 0.0), scale=0.5, up=(0.0, 1.0, 0.0)))
    _, cameras = take_views(plain, found, ViewSettings(n_views=1, size=8))
    images = render_placed(field, found, cameras)
    assert images[0, 0, 0].tolist() == [255, 255, 255, 128]
    middle = torch.tensor([1.0, 0, 0]) - asked[0][:3, 3]
    assert float(middle.norm()) == pytest.approx(1.5 / 0.5, rel=1e-4)
    torch.testing.assert_close(-asked[0][:3, 2], middle / middle.norm(), atol=1e-5, rtol=0)


def test_a_fit_says_where_the_object_was(tmp_path, monkeypatch):
    file = blob_checkpoint(tmp_path / "blob.ckpt")
    architecture = NANO_ARCHITECTURES["HASH-nano"]
    settings = replace(TINY, iterations=60, views=8, size=32)
    sources = list(find_sources(str(file), settings=ViewSettings(n_views=8, size=32), class_id="own"))
    errors, seen = [], set()
    job = FitJob(
        out=tmp_path / "out",
        settings={architecture: settings},
        on_error=errors.append,
        progress=lambda stage, *_: seen.add(stage.split(",")[0]),
    )
    job.run(sources)
    assert not errors and "looking for the object" in seen
    record = json.loads((tmp_path / "out/hash/own/blob/fit.json").read_text())
    assert record["placement"]["scale"] == pytest.approx(0.62 / 0.8, rel=0.14)
    assert "views are averaged" in record["notes"][-1]
    nerf = load_nerf(tmp_path / "out/hash/own/blob")
    middle, corner = nerf.query(torch.tensor([[0.0, 0, 0.3], [0.65, 0.65, 0.65]]))[1][:, 0].tolist()
    assert middle > corner


def test_a_directory_is_searched_for_fields(tmp_path):
    blob_checkpoint(tmp_path / "b.ckpt")
    blob_checkpoint(tmp_path / "c.tar")
    torch.save({"a": torch.zeros(1)}, tmp_path / "nothing.pth")
    assert [source.nerf_id for source in find_sources(str(tmp_path))] == ["b", "c"]


def test_fields_that_ask_for_code_are_refused_and_nothing_runs(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"model_fine_state_dict": Evil()}, tmp_path / "a.ckpt")
    (source,) = find_sources(str(tmp_path / "a.ckpt"))
    with pytest.raises(ValueError, match=r"a\.ckpt: .*code"):
        source.load()
    assert not (tmp_path / "ran").exists()


def test_a_cut_checkpoint_is_refused(tmp_path):
    file = blob_checkpoint(tmp_path / "a.ckpt")
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(ValueError, match=r"a\.ckpt: is no torch.save file, or cut short"):
        read_foreign(file, "own", "a")


class TestCache:
    @pytest.fixture
    def fitted(self, monkeypatch):
        calls = []

        def fit(path, out, *, families, quality, **_):
            calls.append((path, *families))
            for family in families:
                architecture = fit_architecture(family, quality)
                directory = out / family / "own" / path.stem
                save_nerf(Nerf.random(architecture), directory)
                (directory / FIT_NAME).write_text(json.dumps({"settings": preset(quality, family).to_dict()}))

        monkeypatch.setattr("gmn_encoder.fitting.fit_cache.fit_object", fit)
        return calls

    def test_fits_once_by_content_and_settings(self, tmp_path, fitted):
        file = blob_checkpoint(tmp_path / "a.ckpt")
        cache = FitCache(tmp_path / "cache")
        first = cache.opened(file)
        assert load_nerf(first).architecture == NANO_ARCHITECTURES["HASH-nano"]
        assert cache.opened(file) == first and len(fitted) == 1
        blob_checkpoint(file, radius=0.5)
        assert cache.opened(file) != first and len(fitted) == 2
        other = FitCache(tmp_path / "cache", placement=PlacementRequest(scale=1.0))
        assert other.places(file) != cache.places(file)

    def test_settings_beside_the_file_belong_to_its_content(self, tmp_path):
        file = blob_checkpoint(tmp_path / "run" / "a.ckpt") if (tmp_path / "run").mkdir() is None else None
        before = content_of(file, Digests())
        (tmp_path / "run" / "config.yml").write_text("dataset:\n  type: blender\n")
        assert content_of(file, Digests()) != before

    def test_other_paths_stay_as_they_are(self, tmp_path, fitted):
        (tmp_path / "x.npy").write_bytes(b"\x93NUMPY")
        cache = FitCache(tmp_path / "cache")
        assert cache.opened("nowhere") == Path("nowhere")
        assert cache.opened(tmp_path / "x.npy") == tmp_path / "x.npy"
        assert not fitted
