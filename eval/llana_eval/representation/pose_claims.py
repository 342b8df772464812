"""How well rotations between NeRFs are found, by search and by learnt heads, on objects turned and fitted anew.

    llana-gmn fit procedural:910 --architecture MLP-nano,TRI-nano,HASH-nano --quality nano --batch 13 --out DATA
    python scripts/pose_claims.py --data DATA --work WORK [--encoders values,rows --runs RUNS] [--real REAL --meshes MESHES]

Of each object one NeRF is the data set's, the other shows the same mesh turned at random, in the same family or another, from
other first weights (`fitting.turned_set`). Errors are geodesic angles. Symmetric objects count modulo their symmetry, which
is what the search finds between the object's hash NeRF and itself; an object without any such answer is called asymmetric.

Every pair is a line of ``WORK/pairs.jsonl``, and is not measured again.
"""

from __future__ import annotations

import json
import logging
import math
import statistics
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gmn_encoder import PoseEstimate, SaneEncoder, estimate_pose, load_nerf
from gmn_encoder.datasets import ObjectId, PairedDataset
from gmn_encoder.files import read_json, write_json
from gmn_encoder.fitting.turned_set import TURNS_NAME, fit_turned
from gmn_encoder.nerfs.record import Nerf
from gmn_encoder.pose.fields import Queryable
from gmn_encoder.pose.rotations import geodesic_angle, multiply, quaternion_of_vector

from ..tables import Table
from .pose_heads import HeldOut, rotation_table, tokens_table

logger = logging.getLogger(__name__)

FAMILIES = ("mlp", "triplane", "hash")
SYMMETRIC = 0.04
"""Mismatch of an object with itself, turned, under which the turn is called a symmetry: what fits of this size leave apart."""

_BARE = "procedural, without grids"
_ABOUT = 72  # places about the axis of a round object


@dataclass(frozen=True, kw_only=True)
class PoseClaims:
    """What is measured, and where it is found.

    Attributes:
        data: NeRFs of procedural objects with split lists, in three families.
        work: directory of the turned NeRFs and of the measured pairs.
        real: NeRFs of objects that other people made; None: without them.
        meshes: directory that the names of their mesh files are relative to.
        real_list: list of the real objects that count as held out; None: all.
        objects, real_objects: objects of each set, the first ones of the test list, every class in turn.
        without_grids: procedural objects that are searched once more, without the occupancy grids beside their weights.
        runs, encoders: directory of trained SANE encoders, and names of these separated by commas, ``<run>/best`` each.
    """

    data: Path
    work: Path
    real: Path | None = None
    meshes: Path = Path()
    real_list: Path | None = None
    objects: int = 30
    real_objects: int = 20
    without_grids: int = 10
    runs: Path | None = None
    encoders: str = ""


@dataclass(frozen=True)
class Pair:
    """A NeRF of an object and one of the same object turned."""

    set: str
    object_id: ObjectId
    families: tuple[str, str]
    paths: tuple[Path, Path]
    turn: Tensor

    @property
    def key(self) -> str:
        return "/".join((self.set, *self.object_id, *self.families))

    def fields(self) -> tuple[Queryable, Queryable]:
        nerfs = load_nerf(self.paths[0]), load_nerf(self.paths[1])
        return (BareField(nerfs[0]), BareField(nerfs[1])) if self.set == _BARE else nerfs


@dataclass(frozen=True)
class BareField:
    """A NeRF as a field alone: what lies beside its weights is not looked for."""

    nerf: Nerf

    def query(self, xyz: Tensor) -> tuple[Tensor, Tensor]:
        return self.nerf.query(xyz)


def measure_pose_claims(claims: PoseClaims) -> dict[str, Table]:
    """Fit what is missing, measure what is missing, and make the tables."""
    pairs = list(all_pairs(claims))
    rows = Rows(claims.work / "pairs.jsonl")
    for pair in pairs:
        symmetry = rows.get(f"{pair.set}/{'/'.join(pair.object_id)}/self", lambda pair=pair: self_symmetry(pair))
        rows.get(pair.key, lambda pair=pair, symmetry=symmetry: searched(pair, symmetry))
    bare = [replace(pair, set=_BARE) for pair in pairs if pair.set == "procedural"][: 2 * claims.without_grids]
    for pair in bare:
        symmetry = rows.get(f"procedural/{'/'.join(pair.object_id)}/self", dict)
        rows.get(pair.key, lambda pair=pair, symmetry=symmetry: searched(pair, symmetry))
    tables = {"search": search_table([*pairs, *bare], rows)}
    if claims.runs is not None and claims.encoders:
        encoders = {
            name: SaneEncoder.from_pretrained(claims.runs / name / "best") for name in claims.encoders.split(",")
        }
        objects = held_out(pairs, rows, claims.work)
        tables["heads"] = rotation_table(objects, encoders)
        tables["tokens"] = tokens_table(objects, encoders)
    write_json({name: table.markdown() for name, table in tables.items()}, claims.work / "tables.json")
    return tables


class Rows:
    """Measured lines by their key, in a file that grows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        self._known: dict[str, dict[str, Any]] = {row["key"]: row for row in map(json.loads, lines)}

    def get(self, key: str, measure: Any) -> dict[str, Any]:
        """The line of a key, measured where it is not there."""
        if key not in self._known:
            started = time.process_time()
            row = {"key": key, **measure(), "cpu_seconds": time.process_time() - started}
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            self._known[key] = row
            logger.info("%s", {name: value for name, value in row.items() if name not in ("answers", "quaternion")})
        return self._known[key]


def all_pairs(claims: PoseClaims) -> Iterator[Pair]:
    """Two pairs of each object, one within a family and one across two, the families in turn."""
    chosen = {"procedural": (claims.data, _test_objects(claims.data, claims.objects), Path())}
    if claims.real is not None:
        chosen["real"] = (claims.real, _real_objects(claims), claims.meshes)
    for name, (data, objects, meshes) in chosen.items():
        out = claims.work / name
        fit_turned(data, out, objects, families=FAMILIES, meshes=meshes, batch=10)
        turns = read_json(out / TURNS_NAME)
        for number, each in enumerate(objects):
            first, others = FAMILIES[number % 3], (FAMILIES[number % 3], FAMILIES[(number + 1) % 3])
            for second in others:
                paths = (data.joinpath(first, *each), out.joinpath(second, *each))
                yield Pair(name, each, (first, second), paths, torch.tensor(turns["/".join(each)]))


def _test_objects(data: Path, count: int) -> list[ObjectId]:
    """The first objects of the test list of each class in turn."""
    by_class: dict[str, list[ObjectId]] = {}
    for each in sorted(PairedDataset(data, FAMILIES, split="test").object_ids):
        by_class.setdefault(each[0], []).append(each)
    longest = max(map(len, by_class.values()))
    return [members[n] for n in range(longest) for members in by_class.values() if n < len(members)][:count]


def _real_objects(claims: PoseClaims) -> list[ObjectId]:
    split = claims.real_list
    objects = list(PairedDataset(claims.real, FAMILIES, split=split).object_ids)  # type: ignore[arg-type]
    return objects[:: max(1, len(objects) // claims.real_objects)][: claims.real_objects]


def self_symmetry(pair: Pair) -> dict[str, Any]:
    """The turns that leave an object's hash NeRF nearly as it is, and the axis of a round one."""
    nerf = load_nerf(_hash_path(pair))
    found = estimate_pose(nerf, nerf)
    like = [each for each in (found.runner_up, *found.near_equal) if each and each.mismatch < SYMMETRIC]
    return {"answers": [list(each.quaternion) for each in like], "axis": found.axis}


def searched(pair: Pair, symmetry: Mapping[str, Any]) -> dict[str, Any]:
    """What the search finds for a pair."""
    found: PoseEstimate = estimate_pose(*pair.fields())
    answers = torch.tensor([found.quaternion, *(each.quaternion for each in found.near_equal)])
    errors = errors_modulo(answers, pair.turn, symmetry)
    return {
        "quaternion": list(found.quaternion),
        "error": float(errors[0]),
        "error_plain": math.degrees(float(geodesic_angle(answers[0], pair.turn))),
        "error_of_near_equal": float(errors.min()),
        "estimated_error": found.error,
        "mismatch": found.mismatch,
        "mismatch_of_runner_up": None if found.runner_up is None else found.runner_up.mismatch,
        "near_equal": len(found.near_equal),
        "asymmetric": not symmetry["answers"] and symmetry["axis"] is None,
    }


def errors_modulo(found: Tensor, true: Tensor, symmetry: Mapping[str, Any]) -> Tensor:
    """Degrees ``(N,)`` between quaternions ``(N, 4)`` and the nearest of a true one followed by none or one symmetry."""
    own = [torch.tensor([1.0, 0.0, 0.0, 0.0]), *(torch.tensor(each) for each in symmetry["answers"])]
    turns = torch.stack(own)
    if symmetry["axis"] is not None:
        angles = torch.arange(_ABOUT) * (2 * math.pi / _ABOUT)
        about = quaternion_of_vector(angles[:, None] * torch.tensor(symmetry["axis"]))
        turns = multiply(turns[:, None], about[None]).flatten(0, 1)
    truths = multiply(true[None], turns)
    return torch.rad2deg(geodesic_angle(found[:, None], truths[None])).amin(dim=1)


def search_table(pairs: Sequence[Pair], rows: Rows) -> Table:
    """Errors of the search, by set, symmetry and whether the families are the same."""
    lines = []
    for name in dict.fromkeys(pair.set for pair in pairs):
        for asymmetric in (True, False):
            for across in (False, True):
                measured = [
                    row
                    for pair in pairs
                    if pair.set == name and (pair.families[0] != pair.families[1]) == across
                    and (row := rows.get(pair.key, dict))["asymmetric"] >= asymmetric
                ]  # fmt: skip
                if measured:
                    kind = "asymmetric" if asymmetric else "all, modulo symmetry"
                    lines.append([name, kind, "across" if across else "within", *_error_cells(measured)])
    return Table("Search", ["set", "objects", "families", *_ERRORS], lines)


_ERRORS = ("pairs", "median", "mean", "under 10", "under 30", "best of near-equal, under 10", "CPU s")


def _error_cells(measured: Sequence[Mapping[str, Any]]) -> list[str]:
    errors = [row["error"] for row in measured]
    return [
        str(len(errors)),
        f"{statistics.median(errors):.1f}",
        f"{statistics.fmean(errors):.1f}",
        _share(errors, 10),
        _share(errors, 30),
        _share([row["error_of_near_equal"] for row in measured], 10),
        f"{statistics.fmean(row['cpu_seconds'] for row in measured):.1f}",
    ]


def _share(errors: Iterable[float], limit: float) -> str:
    values = list(errors)
    return f"{sum(each < limit for each in values) / len(values):.0%}"


def held_out(pairs: Sequence[Pair], rows: Rows, work: Path) -> HeldOut:
    """The objects of pairs as hash NeRFs, and the same turned."""
    first = {(pair.set, pair.object_id): pair for pair in pairs}
    symmetries = [rows.get(f"{pair.set}/{'/'.join(pair.object_id)}/self", dict) for pair in first.values()]
    turns = torch.stack([pair.turn for pair in first.values()])

    def errors(found: Tensor) -> list[float]:
        each = zip(found, turns, symmetries, strict=True)
        return [float(errors_modulo(guess[None], true, symmetry)) for guess, true, symmetry in each]

    return HeldOut(
        [load_nerf(_hash_path(pair)) for pair in first.values()],
        [load_nerf(work.joinpath(name, "hash", *object_id)) for name, object_id in first],
        turns,
        errors,
        [not each["answers"] and each["axis"] is None for each in symmetries],
    )


def _hash_path(pair: Pair) -> Path:
    return Path(str(pair.paths[0]).replace(f"/{pair.families[0]}/", "/hash/"))
