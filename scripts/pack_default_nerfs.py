"""Put together the NeRFs that ship: held-out procedural objects and real ones, in all three families.

    python scripts/pack_default_nerfs.py --procedural DATA --real REAL --manifest MANIFEST.json --out llana_gmn/default/nerfs

DATA and REAL are directories that ``llana-gmn fit`` wrote; of DATA only the test split is taken. Weights, one view and the record
of each fit are kept; occupancy grids are found anew from the density where they are needed.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
from dataclasses import asdict
from pathlib import Path

from gmn_encoder.datasets import PairedDataset
from gmn_encoder.files import atomic_directory, write_json
from gmn_encoder.fitting.output import FIT_NAME
from gmn_encoder.nerfs.architectures import FAMILIES
from gmn_encoder.nerfs.files import WEIGHTS_NAME
from gmn_encoder.rendering.occupancy import GRID_NAME, read_occupancy, write_occupancy
from llana_gmn.defaults import OBJECTS_NAME, DefaultObject

_VIEW = Path("train", "00.png")


def choose(object_ids: list[tuple[str, str]], per_class: int) -> list[tuple[str, str]]:
    """`per_class` objects of each class, a seeded choice."""
    dice, chosen = random.Random(0), []
    for class_id in sorted({each[0] for each in object_ids}):
        members = sorted(each for each in object_ids if each[0] == class_id)
        chosen += sorted(dice.sample(members, min(per_class, len(members))))
    return chosen


def attribution(nerf: Path, manifest: dict[str, dict]) -> str:
    """Who made the mesh that a NeRF was fitted from."""
    source = Path(json.loads((nerf / FIT_NAME).read_text())["source"])
    entry = manifest["/".join(source.parts[-2:])]
    return ", ".join(str(entry[key]) for key in ("name", "author", "licence", "source") if entry.get(key))


def read_manifest(path: Path) -> dict[str, dict]:
    """Entries by ``class/file``."""
    return {"/".join(Path(each["file"]).parts[-2:]): each for each in json.loads(path.read_text())}


def copy(root: Path, out: Path, object_id: tuple[str, str]) -> None:
    for family in FAMILIES:
        here, there = root.joinpath(family, *object_id), out.joinpath(family, *object_id)
        there.mkdir(parents=True)
        for name in (WEIGHTS_NAME, FIT_NAME):
            shutil.copyfile(here / name, there / name)
        record = json.loads((there / FIT_NAME).read_text())
        record["source"] = "/".join(Path(record["source"]).parts[-2:])  # no path of the machine that fitted it
        write_json(record, there / FIT_NAME)
        write_occupancy(read_occupancy(here / GRID_NAME), there / GRID_NAME)
        (there / "train").mkdir()
        shutil.copyfile(here / _VIEW, there / _VIEW)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--procedural", type=Path, required=True)
    parser.add_argument("--real", type=Path, required=True)
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--per-class", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    manifest = read_manifest(arguments.manifest)
    objects = []
    with atomic_directory(arguments.out, replace=True) as out:
        made = choose(PairedDataset(arguments.procedural, FAMILIES, split="test").object_ids, arguments.per_class)
        for object_id in made:
            copy(arguments.procedural, out, object_id)
            objects.append(DefaultObject(*object_id, "procedural"))
        for object_id in choose(PairedDataset(arguments.real, FAMILIES).object_ids, arguments.per_class):
            copy(arguments.real, out, object_id)
            words = attribution(arguments.real.joinpath("hash", *object_id), manifest)
            objects.append(DefaultObject(*object_id, "real", words))
        texts, ids = Path("language", "test", "texts"), {nerf_id for _, nerf_id in made}
        (out / texts).mkdir(parents=True)
        for file in sorted((arguments.procedural / texts).glob("*.json")):
            entries = [each for each in json.loads(file.read_text()) if each["object_id"].split("/")[-1] in ids]
            write_json(entries, out / texts / file.name)
        (out / "test.txt").write_text("".join(f"{each.class_id}/{each.nerf_id}\n" for each in objects))
        write_json([asdict(each) for each in objects], out / OBJECTS_NAME)
    print(f"{len(objects)} objects in {arguments.out}")


if __name__ == "__main__":
    main()
