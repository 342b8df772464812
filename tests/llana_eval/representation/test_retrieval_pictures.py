import numpy as np
import pytest
import torch
from PIL import Image

from gmn_encoder import Nerf, save_nerf
from gmn_encoder.embeddings.records import EmbeddingSet
from gmn_encoder.rendering.occupancy import OccupancyGrid, write_occupancy
from llana_eval.representation.retrieval_pictures import FOUND, GalleryRow, draw_gallery, gallery_rows, locate, view

CHAIR = "03001627"


def members(family, values, paths=None):
    names = tuple((CHAIR, f"n{i}") for i in range(len(values)))
    return EmbeddingSet(torch.tensor(values), names, (family,) * len(values), tuple(paths or [""] * len(values)))


QUERIES = members("MLP", [[1.0, 0.0], [0.0, 1.0]])
GALLERY = members("TRI", [[1.0, 0.1], [1.0, 0.2], [-1.0, 0.0]])


def test_rows_by_hand(tmp_path):
    first, second = gallery_rows(QUERIES, GALLERY, rows=5, neighbours=2, data=tmp_path)
    assert first.query == tmp_path / "mlp" / CHAIR / "n0" and first.label == "MLP chair"
    assert [(path.name, hit) for path, _, hit in first.neighbours] == [("n0", True), ("n1", False)]
    assert first.neighbours[0][0].parent.parent.name == "triplane" and first.neighbours[0][1] == "0.995 chair"
    # cos([0, 1], [1, 0.2]) = 0.196, [1, 0.1] 0.0995, [-1, 0] 0
    assert [(path.name, hit) for path, _, hit in second.neighbours] == [("n1", True), ("n0", False)]


def test_a_set_does_not_find_itself_and_few_items_are_all_shown(tmp_path):
    rows = gallery_rows(GALLERY, GALLERY, neighbours=9, data=tmp_path)
    assert [[path.name for path, _, _ in row.neighbours] for row in rows] == [["n1", "n2"], ["n0", "n2"], ["n1", "n0"]]


def test_draw_is_seeded(tmp_path):
    many = members("MLP", torch.randn(50, 3).tolist())
    drawn = [[row.query.name for row in gallery_rows(many, GALLERY_3D, data=tmp_path, seed=seed)] for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2] and len(set(drawn[0])) == 8


GALLERY_3D = members("TRI", [[1.0, 0.0, 0.0]])


def test_places_of_nerfs(tmp_path):
    file = tmp_path / "mlp" / CHAIR / "n0" / "nerf_weights.pth"
    file.parent.mkdir(parents=True)
    file.touch()
    assert locate(members("MLP", [[1.0]], [str(file)]), 0, None) == file.parent
    with pytest.raises(
        ValueError, match="nothing says where NeRF 03001627/n0 of MLP is; name the data set with --data"
    ):
        locate(QUERIES, 0, None)
    unseen = members("triplane_unseen/16_resolution", [[1.0]])
    assert locate(unseen, 0, "nerf").parts == ("nerf", "triplane_unseen", "16_resolution", CHAIR, "n0")


def test_view_is_the_first_image_on_white_or_a_rendering(tmp_path):
    (tmp_path / "a" / "train").mkdir(parents=True)
    picture = Image.new("RGBA", (20, 20), (255, 0, 0, 0))  # transparent but for the left half
    picture.paste((255, 0, 0, 255), (0, 0, 10, 20))
    picture.save(tmp_path / "a" / "train" / "00.png")
    shown = view(tmp_path / "a", size=20)
    assert shown.getpixel((2, 10)) == (255, 0, 0) and shown.getpixel((17, 10)) == (255, 255, 255)
    save_nerf(Nerf.random("MLP-32H"), tmp_path / "b")
    occupied = torch.zeros(1, 96, 96, 96, dtype=torch.bool)
    occupied[:, 40:56, 40:56, 40:56] = True
    write_occupancy(OccupancyGrid(occupied), tmp_path / "b" / "grid.pth")
    assert view(tmp_path / "b", size=16).size == (16, 16)
    (tmp_path / "c" / "train").mkdir(parents=True)
    (tmp_path / "c" / "train" / "00.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"00.png: is no picture"):
        view(tmp_path / "c")


def test_picture_frames_what_was_found_and_goes_on_past_a_missing_nerf(tmp_path):
    for name, colour in (("q", "yellow"), ("hit", "blue")):
        (tmp_path / name / "train").mkdir(parents=True)
        Image.new("RGB", (8, 8), colour).save(tmp_path / name / "train" / "00.png")
    row = GalleryRow(tmp_path / "q", "query", ((tmp_path / "gone", "0.9", False), (tmp_path / "hit", "0.8", True)))
    counts = []
    errors = draw_gallery([row], tmp_path / "g.png", size=32, progress=lambda *given: counts.append(given[1:]))
    assert len(errors) == 1 and "gone" in errors[0] and counts == [(1, 3), (2, 3), (3, 3)]
    pixels = np.array(Image.open(tmp_path / "g.png").convert("RGB"))
    # Left of the blue view stands a green frame; nothing else is green.
    blue = np.argwhere((pixels == (0, 0, 255)).all(axis=-1))
    green = (pixels == FOUND).all(axis=-1)
    assert len(blue) == 32 * 32 and green[blue[:, 0].min(), blue[:, 1].min() - 4 : blue[:, 1].min()].all()
    assert green.sum() == 40 * 40 - 32 * 32


def test_bad_input(tmp_path):
    with pytest.raises(ValueError, match="a gallery of 0 rows and 10 neighbours"):
        gallery_rows(QUERIES, GALLERY, rows=0, data=tmp_path)
    with pytest.raises(ValueError, match="no rows for a gallery"):
        draw_gallery([], tmp_path / "g.png")
