"""One data set from fits of procedural objects and of other people's meshes, in which the held-out meshes have no near-twins.

    python scripts/make_training_set.py --procedural DATA --real REAL --manifests MANIFEST.json --out SET

What is written are links to the NeRFs, and lists: ``train.txt``, ``val.txt`` and ``test.txt`` of the procedural objects with the
real ones that are trained on, and ``real_test.txt``, the real ones that are not.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..datasets import SPLITS, ObjectId, PairedDataset
from ..files import atomic_directory
from ..nerfs.architectures import paper_families
from .sources import source_ids

REAL_TEST = "real_test.txt"


def held_out_meshes(entries: Iterable[Mapping[str, Any]], count: int) -> list[ObjectId]:
    """About `count` meshes to hold out, whole groups of near-twins: same category, and the same name but for digits.

    The choice follows from categories and names alone, so it stays when meshes of other groups come or go.

    Args:
        entries: a manifest's: "file", "name" and "category" each.
        count: most meshes that are held out.
    """
    groups: dict[tuple[str, str], list[ObjectId]] = {}
    for entry in entries:
        name = re.sub(r"[\d_ ]+", "", str(entry["name"]).lower()).rstrip("s")
        groups.setdefault((str(entry["category"]), name), []).append(source_ids(Path(entry["file"]).with_suffix("")))
    chosen: list[ObjectId] = []
    for _, members in sorted(groups.items(), key=lambda item: hashlib.sha256(repr(item[0]).encode()).hexdigest()):
        if len(chosen) + len(members) <= count:
            chosen += members
    return sorted(chosen)


def make_training_set(
    *, procedural: Path, real: Path, manifests: Sequence[str], out: Path, held_out: int = 100
) -> dict[str, int]:
    """Write the data set, whole or not at all; an earlier one is replaced.

    Args:
        procedural: what ``llana-gmn fit procedural:N`` wrote, with its lists and texts.
        real: what ``llana-gmn fit`` wrote from the meshes of the manifests.
        manifests: JSON lists of the meshes, see `held_out_meshes`.
        out: the new directory.
        held_out: most meshes that are held out.

    Returns:
        number of objects in each list.

    Raises:
        FileNotFoundError, ValueError: fits or lists that are missing.
    """
    families = paper_families()
    entries = [entry for file in manifests for entry in json.loads(Path(file).read_text(encoding="utf-8"))]
    kept_back = set(held_out_meshes(entries, held_out))
    others = PairedDataset(real, families).object_ids
    lists = {split: list(PairedDataset(procedural, families, split=split).object_ids) for split in SPLITS}
    members = {procedural: [each for ids in lists.values() for each in ids], real: list(others)}
    lists["train"] += [each for each in others if each not in kept_back]
    lists[Path(REAL_TEST).stem] = [each for each in others if each in kept_back]
    with atomic_directory(out, replace=True) as folder:
        for root, ids in members.items():
            for family in families:
                for class_id, nerf_id in ids:
                    link = folder / family / class_id / nerf_id
                    link.parent.mkdir(parents=True, exist_ok=True)
                    link.symlink_to((root / family / class_id / nerf_id).resolve())
        if (texts := procedural / "language").is_dir():
            (folder / "language").symlink_to(texts.resolve())
        for name, ids in lists.items():
            (folder / f"{name}.txt").write_text("".join(f"{class_id}/{nerf_id}\n" for class_id, nerf_id in ids))
    return {name: len(ids) for name, ids in lists.items()}
