"""One data set from fits of procedural objects and of other people's meshes, in which the held-out meshes have no near-twins.

    python scripts/make_training_set.py --procedural DATA --real REAL --manifests MANIFEST.json --out SET

What is written: links to the NeRFs; NeRFs of their own for the recoloured twins of those that are trained on; lists
(``train.txt``, ``val.txt`` and ``test.txt`` of the procedural objects with the real ones that are trained on, and the real ones
that are not, ``real_test.txt`` and ``real_val.txt``); and the language about them with its truth (``language/<list>``, see
`set_language`). Measurements of the objects are kept beside the set and not made again.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..datasets import SPLITS, ObjectId, PairedDataset
from ..files import atomic_directory, read_json, write_json
from ..nerfs.architectures import paper_families
from ..nerfs.files import load_nerf, save_nerf
from ..nerfs.recolouring import COUNT, Recolouring, recolour
from ..objects.mesh_changes import copied_from
from ..objects.names import near_twins
from ..objects.procedural.dice import Dice
from ..objects.truth import twin_id
from ..progress import Progress, no_progress
from ..rendering.occupancy import GRID_NAME
from ..seeds import derived_seed
from .output import FIT_NAME
from .set_language import KnownObjects, write_set_language
from .sources import source_ids

REAL_TEST, REAL_VAL = "real_test.txt", "real_val.txt"


def held_out_meshes(entries: Iterable[Mapping[str, Any]], count: int) -> list[ObjectId]:
    """About `count` meshes to hold out, whole groups of near-twins: same category, and the same name but for digits.

    The choice follows from categories and names alone, so it stays when meshes of other groups come or go.

    Args:
        entries: a manifest's: "file", "name" and "category" each.
        count: most meshes that are held out.
    """
    groups: dict[tuple[str, str], list[ObjectId]] = {}
    for entry in entries:
        groups.setdefault(near_twins(entry), []).append(_mesh_id(entry))
    chosen: list[ObjectId] = []
    for _, members in sorted(groups.items(), key=lambda item: hashlib.sha256(repr(item[0]).encode()).hexdigest()):
        if len(chosen) + len(members) <= count:
            chosen += members
    return sorted(chosen)


def _mesh_id(entry: Mapping[str, Any]) -> ObjectId:
    return source_ids(Path(entry["file"]).with_suffix(""))


def make_training_set(
    *,
    procedural: Path,
    real: Path,
    manifests: Sequence[str],
    out: Path,
    copies: Sequence[str] = (),
    held_out: int = 100,
    real_val: float = 0.08,
    test_seeds: int = 5,
    val_seeds: int = 5,
    twins: int = 3,
    seed: int = 0,
    measured: Path | None = None,
    progress: Progress = no_progress,
) -> dict[str, int]:
    """Write the data set, whole or not at all; an earlier one is replaced.

    Args:
        procedural: what ``llana-gmn fit procedural:N`` wrote, or has written so far.
        real: what ``llana-gmn fit manifest:FILE`` wrote from the meshes of the manifests.
        manifests: JSON lists of the meshes, see `held_out_meshes`; the meshes stand beside them.
        out: the new directory.
        copies: what ``llana-gmn fit --copies N`` wrote of the same objects; copies of those that are trained on are trained on.
        held_out: most meshes that are held out for the test.
        real_val: share of the others that is held out for validation, near-twins together; 0 for none.
        test_seeds: procedural objects of the first so many seeds are for the test.
        val_seeds: those of the next so many for validation.
        twins: recolourings of each object that is trained on, each a new object (`nerfs.recolouring`).
        seed: seed of recolourings and wording.
        measured: directory where measurements are kept; None for ``measured`` beside `out`.

    Returns:
        number of objects in each list.

    Raises:
        FileNotFoundError, ValueError: fits or meshes that are missing, or a share that is none.
    """
    if not 0 <= real_val < 1:
        raise ValueError(f"real_val is {real_val}; expected a share of the real objects, 0 or more and below 1")
    families = paper_families()
    entries = [entry for file in manifests for entry in json.loads(Path(file).read_text(encoding="utf-8"))]
    for_test = set(held_out_meshes(entries, held_out))
    rest = [each for each in entries if _mesh_id(each) not in for_test]
    for_val = set(held_out_meshes(rest, round(real_val * len(rest))))
    made, others = PairedDataset(procedural, families).object_ids, PairedDataset(real, families).object_ids
    lists: dict[str, list[ObjectId]] = {split: [] for split in SPLITS}
    for each in made:
        number = procedural_seed(each)
        lists["test" if number < test_seeds else "val" if number < test_seeds + val_seeds else "train"].append(each)
    lists["train"] += [each for each in others if each not in for_test | for_val]
    lists[Path(REAL_TEST).stem] = [each for each in others if each in for_test]
    if for_val:
        lists[Path(REAL_VAL).stem] = [each for each in others if each in for_val]
    places = {each: root for root, members in ((procedural, made), (real, others)) for each in members}
    for root in map(Path, copies):
        trained_on = set(lists["train"])
        for each in PairedDataset(root, families).object_ids:
            if (each[0], copied_from(each[1])[0]) in trained_on and each not in trained_on:
                lists["train"].append(each)
                places[each] = root
    known = KnownObjects(manifests, measured or out.parent / "measured")
    shown = {name: [(each, 0) for each in ids] for name, ids in lists.items()}
    shown["train"] += [(each, number) for each in lists["train"] for number in recolourings(each, twins, seed=seed)]
    with atomic_directory(out, replace=True) as folder:
        write_set_language(folder / "language", shown, known, seed=seed, progress=progress)
        for done, (each, number) in enumerate(item for members in shown.values() for item in members):
            for family in families:
                _place_nerf((places[each] / family).joinpath(*each), folder / family, each, number)
            progress("placing NeRFs", done + 1, sum(map(len, shown.values())))
        for name, members in shown.items():
            lines = [f"{class_id}/{twin_id(nerf_id, number)}\n" for (class_id, nerf_id), number in members]
            (folder / f"{name}.txt").write_text("".join(lines))
    return {name: len(members) for name, members in shown.items()}


def procedural_seed(object_id: ObjectId) -> int:
    """The seed of a procedural object. Raises `ValueError` for the name of another."""
    found = re.fullmatch(r"[a-z]+-(\d{9})", object_id[1])
    if not found:
        raise ValueError(
            f"{'/'.join(object_id)}: is not named like a procedural object; expected such as chair-000000012"
        )
    return int(found.group(1))


def recolourings(object_id: ObjectId, count: int, *, seed: int = 0) -> list[int]:
    """The numbers of `count` different recolourings of an object, none of which leaves it as it is."""
    dice = Dice(derived_seed(seed, "recolourings", *object_id))
    return sorted(dice.shuffled(range(1, COUNT))[:count])


def _place_nerf(source: Path, family: Path, object_id: ObjectId, number: int) -> None:
    """A link to a NeRF, or a directory with the recoloured one, its voxels and where it comes from."""
    place = family / object_id[0] / twin_id(object_id[1], number)
    place.parent.mkdir(parents=True, exist_ok=True)
    if number == 0:
        place.symlink_to(source.resolve())
        return
    record = read_json(source / FIT_NAME) if (source / FIT_NAME).is_file() else {}
    place.mkdir()
    save_nerf(recolour(load_nerf(source, record.get("architecture")), Recolouring.numbered(number)), place)
    if (source / GRID_NAME).is_file():
        (place / GRID_NAME).symlink_to((source / GRID_NAME).resolve())
    kept = {key: record[key] for key in ("architecture", "name", "class_id", "source") if key in record}
    write_json(
        {**kept, "nerf_id": place.name, "recoloured_from": object_id[1], "recolouring": number}, place / FIT_NAME
    )
