from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from gmn_encoder.nerfs.files import load_nerf
from llana_gmn.web.gallery import Gallery, GalleryEntry, choose


def test_choice_is_even_over_classes_and_keeps_families_together():
    paths = [
        Path(f"/x/{family}/{name}") for family in ("hash", "mlp") for name in ("car/1", "car/2", "chair/1", "lamp/1")
    ]
    chosen = [str(path)[3:] for path in choose(paths, 7)]
    assert chosen == [
        "hash/car/1",
        "mlp/car/1",
        "hash/chair/1",
        "mlp/chair/1",
        "hash/lamp/1",
        "mlp/lamp/1",
        "hash/car/2",
    ]
    with pytest.raises(ValueError, match="limited to 0 NeRFs; expected at least 1"):
        choose(paths, 0)


def test_entries_have_names_pictures_and_the_models_embeddings(service):
    entries = service.gallery.entries
    assert sorted(entry.title for entry in entries) == sorted(
        f"{name}-1 · {family}" for name in ("car", "chair") for family in ("MLP", "tri-plane", "hash")
    )
    assert {entry.caption for entry in entries} >= {"chair · hash", "car · tri-plane"}
    for entry in entries:
        assert torch.allclose(entry.embedding, service.model.encode([load_nerf(entry.source)])[0], atol=1e-5)
    still = service.gallery.still(entries[0])
    picture = Image.open(still).convert("RGB")
    assert picture.getpixel((0, 0)) == (255, 255, 255)
    assert min(picture.convert("L").tobytes()) < 250  # something stands in it


def test_neighbours_are_the_nearest_by_cosine_without_itself(service):
    gallery = Gallery(service.model, service.folder / "other", service.isolation)
    nerf = service.gallery.entries[0].architecture, Path("nowhere")
    at = {"a": (1.0, 0.0), "b": (0.0, 2.0), "c": (5.0, 5.0), "d": (-1.0, 0.0)}
    gallery.entries = [GalleryEntry(key, key, "", *nerf, torch.tensor(place)) for key, place in at.items()]
    found = gallery.neighbours(gallery.entries[0], 2)
    # cos 45 degrees = 0.70711, then a right angle
    assert [(other.key, round(cosine, 5)) for other, cosine in found] == [("c", 0.70711), ("b", 0.0)]
    gallery.entries = [  # of tokens as of one long vector
        GalleryEntry(key, key, "", *nerf, torch.tensor([place, place])) for key, place in at.items()
    ]
    assert [(other.key, round(cosine, 5)) for other, cosine in gallery.neighbours(gallery.entries[0], 2)] == [
        ("c", 0.70711),
        ("b", 0.0),
    ]
    gallery.entries = [GalleryEntry(key, key, "", *nerf, torch.tensor(place)) for key, place in at.items()]
    own = GalleryEntry("mine", "mine", "", *nerf, torch.tensor((2.0, 0.1)))
    assert gallery.neighbours(gallery.entries[0], 1, among=[own])[0][0] is own


def test_broken_nerfs_are_named_and_left_out(service, gallery_path, tmp_path):
    (tmp_path / "hash" / "x" / "bad").mkdir(parents=True)
    (tmp_path / "hash" / "x" / "bad" / "nerf_weights.pth").write_text("no weights")
    gallery = Gallery(service.model, service.folder / "third", service.isolation)
    errors = []
    with pytest.raises(ValueError, match="none of its 1 NeRFs can be read"):
        gallery.fill(tmp_path, on_error=lambda path, error: errors.append((path.name, error)))
    assert errors[0][0] == "bad" and "bad" in str(errors[0][1])
    with pytest.raises(FileNotFoundError, match="no such directory; expected one with NeRFs"):
        gallery.fill(tmp_path / "none")
