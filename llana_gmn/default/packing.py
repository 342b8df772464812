"""Putting together the NeRFs that ship (`objects`): held-out procedural objects and real ones, in all families.

Weights, occupancy grids, one view and the record of each fit are kept.

    python scripts/pack_default_nerfs.py --procedural DATA --real REAL --manifests MANIFEST.json --held-out SET/real_test.txt \
        --out llana_gmn/default/nerfs
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gmn_encoder.datasets import ObjectId, PairedDataset, read_split
from gmn_encoder.files import atomic_directory, read_json, write_json
from gmn_encoder.fitting.output import FIT_NAME
from gmn_encoder.nerfs.architectures import FAMILIES
from gmn_encoder.nerfs.files import WEIGHTS_NAME
from gmn_encoder.objects import CLASS_IDS
from gmn_encoder.rendering.occupancy import GRID_NAME, read_occupancy, write_occupancy

from .objects import OBJECTS_NAME, DefaultObject

_VIEW = Path("train", "00.png")
_TEXTS = Path("language", "test", "texts")


def pack_nerfs(
    *,
    procedural: Path,
    real: Path,
    manifests: Sequence[str],
    out: Path,
    held_out: Path | None = None,
    per_class: int = 2,
) -> list[DefaultObject]:
    """Write the directory of NeRFs that ships, whole or not at all; an earlier one is replaced.

    Args:
        procedural: directory that ``llana-gmn fit procedural:N`` wrote; only its test split is taken.
        real: directory that ``llana-gmn fit`` wrote from meshes that other people made.
        manifests: JSON lists of the meshes: "file", "name", "author", "licence", "source" each.
        out: the new directory.
        held_out: list of the real objects that nothing was trained on, of which those of the 13 classes are taken; None: all.
        per_class: number of objects of each class and kind, a seeded choice.

    Returns:
        the objects.
    """
    entries = {_mesh(each["file"]): each for manifest in manifests for each in _read_list(Path(manifest))}
    made = choose_objects(PairedDataset(procedural, FAMILIES, split="test").object_ids, per_class)
    found = PairedDataset(real, FAMILIES).object_ids
    if held_out is not None:
        known, unseen = set(CLASS_IDS.values()), set(read_split(held_out))
        found = [each for each in found if each in unseen and each[0] in known]
    others = choose_objects(found, per_class)
    objects = [DefaultObject(*each, "procedural") for each in made]
    objects += [
        DefaultObject(*each, "real", attribution(real.joinpath(next(iter(FAMILIES)), *each), entries))
        for each in others
    ]
    with atomic_directory(out, replace=True) as folder:
        for root, members in ((procedural, made), (real, others)):
            for object_id in members:
                _copy(root, folder, object_id)
        ids = {nerf_id for _, nerf_id in made}
        for file in sorted((procedural / _TEXTS).glob("*.json")):
            kept = [each for each in _read_list(file) if each["object_id"].split("/")[-1] in ids]
            write_json(kept, folder / _TEXTS / file.name)
        (folder / "test.txt").write_text("".join(f"{each.class_id}/{each.nerf_id}\n" for each in objects))
        write_json([asdict(each) for each in objects], folder / OBJECTS_NAME)
    return objects


def choose_objects(object_ids: Sequence[ObjectId], per_class: int) -> list[ObjectId]:
    """`per_class` objects of each class, or all it has; a seeded choice, sorted."""
    dice, chosen = random.Random(0), []
    for class_id in sorted({each[0] for each in object_ids}):
        members = sorted(each for each in object_ids if each[0] == class_id)
        chosen += sorted(dice.sample(members, min(per_class, len(members))))
    return chosen


def attribution(nerf: Path, manifest: Mapping[str, Mapping[str, Any]]) -> str:
    """Name, author, licence and source of the mesh that a NeRF was fitted from, by ``class/file`` of the manifest."""
    entry = manifest[_mesh(read_json(nerf / FIT_NAME)["source"])]
    return ", ".join(str(entry[key]) for key in ("name", "author", "licence", "source") if entry.get(key))


def _read_list(file: Path) -> list[dict[str, Any]]:
    return json.loads(file.read_text(encoding="utf-8"))


def _mesh(path: str) -> str:
    """``class/file`` of a mesh, without the directories of the machine that it lies on."""
    return "/".join(Path(path).parts[-2:])


def _copy(root: Path, out: Path, object_id: ObjectId) -> None:
    for family in FAMILIES:
        here, there = root.joinpath(family, *object_id), out.joinpath(family, *object_id)
        there.joinpath(_VIEW).parent.mkdir(parents=True)
        for name in (WEIGHTS_NAME, _VIEW):
            shutil.copyfile(here / name, there / name)
        record = read_json(here / FIT_NAME)
        write_json({**record, "source": _mesh(record["source"])}, there / FIT_NAME)
        write_occupancy(read_occupancy(here / GRID_NAME), there / GRID_NAME)
