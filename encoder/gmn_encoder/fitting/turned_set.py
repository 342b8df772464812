"""A data set's objects turned and fitted anew, for measuring poses: the same meshes, other rotations and first weights.

    <out>/<family>/<class_id>/<nerf_id>/    as `fit` leaves them
    <out>/turns.json                        class_id/nerf_id -> quaternion (w, x, y, z) of the object's turn

The meshes are turned before views are taken, so that the light stays where it was: shading differs, as it would of a real object.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from ..datasets import ObjectId
from ..files import StrPath, read_json, write_json
from ..nerfs.architectures import parse_architecture
from ..objects import Mesh, ViewSettings, generate, load_mesh
from ..objects.mesh_changes import upright
from ..pose.rotations import matrix_of, random_rotations
from ..progress import Progress, no_progress
from ..seeds import generator_for
from .job import FitJob
from .output import FIT_NAME
from .posed_images import PosedImages
from .presets import FitSettings
from .sources import Source, from_mesh

TURNS_NAME = "turns.json"
MANIFEST_NAME = "manifest.json"


def turned_mesh(mesh: Mesh, quaternion: Sequence[float]) -> Mesh:
    """A mesh turned about the origin by a unit quaternion ``(w, x, y, z)``."""
    turn = matrix_of(torch.tensor(quaternion)).numpy().T
    return replace(mesh, vertices=mesh.vertices @ turn, normals=mesh.normals @ turn)


def fit_turned(
    data: StrPath,
    out: StrPath,
    objects: Sequence[ObjectId],
    *,
    families: Sequence[str],
    meshes: StrPath = ".",
    seed: int = 1,
    batch: int = 13,
    progress: Progress = no_progress,
) -> None:
    """Fit turned objects with the settings that the ones of a data set were fitted with; finished ones are kept.

    Args:
        data: what `fit` wrote, of procedural objects or meshes.
        out: the new data set.
        objects: class and id of each.
        families: directories of `data`.
        meshes: directory that the names of mesh files in `data` are relative to; a `manifest.json` between it and a file says
            which way this stands.
        seed: of the turns and of the first weights.
        batch: NeRFs that are fitted at once.
        progress: receives what `FitJob`'s callback receives.

    Raises:
        FileNotFoundError, ValueError: objects that are missing, or whose mesh is.
    """
    turns = {"/".join(each): random_rotations(1, generator_for(seed, "turn", *each))[0].tolist() for each in objects}
    write_json(turns, Path(out, TURNS_NAME))
    records = {family: read_json(Path(data, family, *objects[0], FIT_NAME)) for family in families}
    settings = {
        parse_architecture(record["architecture"]): FitSettings(**record["settings"]) for record in records.values()
    }
    first = next(iter(settings.values()))
    views = ViewSettings(n_views=first.views, size=first.size)
    sources = []
    for each in objects:
        name = str(read_json(Path(data, families[0], *each, FIT_NAME))["source"])
        sources.append(_source(each, name, Path(meshes), turns["/".join(each)], views))
    errors: list[Exception] = []
    job = FitJob(out=out, settings=settings, seed=seed, batch=batch, on_error=errors.append, progress=progress)
    job.run(sources)
    if errors:
        raise errors[0]


def _source(each: ObjectId, name: str, meshes: Path, quaternion: Sequence[float], views: ViewSettings) -> Source:
    def load() -> PosedImages:
        mesh = _mesh(name, meshes)
        return from_mesh(turned_mesh(mesh, quaternion), *each, source=f"{name}, turned", settings=views)

    return Source(f"{name}, turned", *each, load)


def _mesh(name: str, meshes: Path) -> Mesh:
    if match := re.fullmatch(r"procedural (\w+)-(\d+)", name):
        return generate(match.group(1), int(match.group(2))).mesh
    return upright(load_mesh(meshes / name), _up_axis(name, meshes))


def _up_axis(name: str, meshes: Path) -> str:
    """What a list of meshes in a directory above the file says, as `fit manifest:FILE` reads it; y where none does."""
    for folder in Path(name).parents:
        manifest = meshes / folder / MANIFEST_NAME
        if manifest.is_file():
            axes = {entry["file"]: str(entry.get("up_axis", "y")) for entry in json.loads(manifest.read_bytes())}
            return axes.get(Path(name).relative_to(folder).as_posix(), "y")
    return "y"
