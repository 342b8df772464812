"""A good input of each kind, which readers and commands must do their work on."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

from .registry import Kind

_WRITERS: dict[str, Callable[[Path], Path]] = {}


def good(*kinds: Kind) -> Callable[[Callable], Callable]:
    """Register the writer of a good input."""

    def add(write: Callable[[Path], Path]) -> Callable[[Path], Path]:
        _WRITERS.update(dict.fromkeys(kinds, write))
        return write

    return add


def write(kind: str, folder: Path) -> Path:
    """Write the good input of a kind into an empty folder and return what a user would name."""
    return _WRITERS[kind](folder)


@good("nerf")
def nerf(folder: Path) -> Path:
    from gmn_encoder.nerfs.files import save_nerf
    from gmn_encoder.nerfs.record import Nerf

    return save_nerf(Nerf.random("HASH-nano"), folder / "good.pth")


@good("encoder")
def encoder(folder: Path) -> Path:
    from gmn_encoder import GmnConfig, GmnEncoder

    GmnEncoder(GmnConfig(hidden_dim=8, embedding_dim=16, num_layers=2)).save_pretrained(folder / "good-encoder")
    return folder / "good-encoder"


@good("model")
def model(folder: Path) -> Path:
    from llana_gmn.assembly.tiny import tiny_model

    language_model, processor = tiny_model()
    language_model.save_pretrained(folder / "good-model")
    processor.save_pretrained(folder / "good-model")
    return folder / "good-model"


@good("embeddings")
def embeddings(folder: Path) -> Path:
    import torch

    from gmn_encoder.embeddings.files import write_embeddings
    from gmn_encoder.embeddings.records import EmbeddingSet

    ids = tuple(("chair", f"n{i}") for i in range(4))
    write_embeddings(EmbeddingSet(torch.randn(4, 16), ids, ("MLP",) * 4, ("",) * 4), folder / "good.safetensors")
    return folder / "good.safetensors"


@good("dataset")
def dataset(folder: Path) -> Path:
    from gmn_encoder.nerfs.files import save_nerf
    from gmn_encoder.nerfs.record import Nerf

    for family, name in (("mlp", "MLP-nano"), ("hash", "HASH-nano")):
        for number in range(2):
            save_nerf(Nerf.random(name, seed=number), folder / "good-data" / family / "chair" / f"n{number}")
    for split in ("train", "val", "test"):
        (folder / "good-data" / f"{split}.txt").write_text("chair/n0\nchair/n1\n")
    return folder / "good-data"


@good("occupancy")
def occupancy(folder: Path) -> Path:
    import torch

    from gmn_encoder.rendering.occupancy import OccupancyGrid, write_occupancy

    write_occupancy(OccupancyGrid(torch.rand(96, 96, 96) > 0.9), folder / "grid.pth")
    return folder / "grid.pth"


@good("mesh")
def mesh(folder: Path) -> Path:
    corners = [(x, y, z) for x in (0, 1) for y in (0, 1) for z in (0, 1)]
    faces = ["1 2 4 3", "5 7 8 6", "1 5 6 2", "3 4 8 7", "1 3 7 5", "2 6 8 4"]
    lines = [*(f"v {x} {y} {z}" for x, y, z in corners), *(f"f {face}" for face in faces)]
    (folder / "good.obj").write_text("\n".join(lines) + "\n")
    return folder / "good.obj"


@good("images", "cameras")
def images(folder: Path) -> Path:
    from PIL import Image, ImageDraw

    from gmn_encoder.rendering.camera_files import write_cameras
    from gmn_encoder.rendering.cameras import sphere

    place = folder / "good-images"
    (place / "train").mkdir(parents=True)
    for view in range(8):
        picture = Image.new("RGBA", (32, 32))
        ImageDraw.Draw(picture).ellipse((8, 8, 23, 23), (200, 10 * view, 20, 255))
        picture.save(place / "train" / f"{view:02d}.png")
    write_cameras(sphere(8, size=32), place / "transforms.json")
    return place


@functools.cache
def small_encoder(folder: Path) -> Path:
    """A good encoder beside other good inputs, for commands that want one."""
    place = folder / "helpers"
    place.mkdir(parents=True, exist_ok=True)
    return encoder(place)


@functools.cache
def small_model(folder: Path) -> Path:
    """A good language model beside other good inputs, for commands that want one."""
    place = folder / "helpers"
    place.mkdir(parents=True, exist_ok=True)
    return model(place)
