"""Language for a data set of fits: what is known of each object, measured once, in words and as the truth behind them.

language/<list>/texts/conversations_brief.json, conversations_complex.json      docs/released_format.md#shapenerf-text
language/<list>/texts/conversations_comparison.json                            the same about two objects
language/<list>/truth/objects.json                                             `ObjectTruth.to_dict` of each, in order
language/<list>/truth/questions.json                                           questions whose answers can be marked
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..datasets import ObjectId
from ..files import StrPath, read_json, write_json
from ..nerfs.recolouring import Recolouring
from ..objects.comparisons import COMPARISON_NAME, comparison_entries
from ..objects.dialogues import entries_of, marked_questions
from ..objects.language import BRIEF_NAME, COMPLEX_NAME
from ..objects.measuring import VERSION, Measurements, measure
from ..objects.mesh import Mesh
from ..objects.mesh_changes import MeshChange, copied_from, upright
from ..objects.mesh_files import load_mesh
from ..objects.names import manifest_name, procedural_name
from ..objects.procedural.catalogue import CLASS_IDS, ProceduralObject, generate
from ..objects.truth import ObjectTruth, known_parts, recoloured_subject, twin_id
from ..progress import Progress, no_progress
from .sources import source_ids

TRUTH_NAME = "objects.json"
QUESTIONS_NAME = "questions.json"

_CLASS_NAMES = {class_id: name for name, class_id in CLASS_IDS.items()}


class KnownObjects:
    """Objects that more is known of than their NeRFs: procedural ones, and meshes with a manifest.

    Args:
        manifests: JSON lists of meshes: "file" (beside the list), "name", "category" and "up_axis" each.
        measured: directory where measurements are kept, a file an object.

    Raises:
        FileNotFoundError, ValueError: a manifest that is missing or no JSON.
    """

    def __init__(self, manifests: Sequence[StrPath], measured: StrPath) -> None:
        self._measured = Path(measured)
        self._entries: dict[ObjectId, tuple[Path, Mapping[str, Any]]] = {}
        for manifest in map(Path, manifests):
            for entry in json.loads(manifest.read_text(encoding="utf-8")):
                file = manifest.parent / entry["file"]
                self._entries[source_ids(file.with_suffix(""))] = file, entry

    def truth(self, object_id: ObjectId, recolouring: int = 0) -> tuple[ObjectTruth, ProceduralObject | None]:
        """The truth of an object's NeRF, recoloured or not, and the procedural object if it is one as it was made.

        Raises `ValueError` or `FileNotFoundError` for an object that nothing is known of.
        """
        own_id, copy = object_id, 0
        if object_id not in self._entries:
            nerf_id, copy = copied_from(object_id[1])
            own_id = object_id[0], nerf_id
        change = MeshChange.drawn(*own_id, copy) if copy else MeshChange()
        if own_id in self._entries:
            file, entry = self._entries[own_id]
            subject, name = None, manifest_name(entry)
            measured = self._measure(
                object_id,
                lambda: change.apply(upright(load_mesh(file, up="y"), str(entry.get("up_axis", "y"))), turn=False),
            )
        else:
            subject = made = _procedural(own_id)
            name = procedural_name(made)
            measured = self._measure(object_id, lambda: change.apply(made.mesh, turn=False) if copy else made.mesh)
        twin = Recolouring.numbered(recolouring)
        if recolouring:
            measured = measured.recoloured(twin)
            subject = None if subject is None else recoloured_subject(subject, twin)
        parts = {} if subject is None else known_parts(subject, looks=not change.recolouring)
        truth = ObjectTruth(
            object_id[0],
            twin_id(object_id[1], recolouring),
            "real" if own_id in self._entries else "procedural",
            name,
            measured.colours,
            measured.extents,
            measured.symmetric,
            recolouring=recolouring,
            **parts,
        )
        return truth, None if copy else subject  # what texts say of heights is not true of a stretched object

    def _measure(self, object_id: ObjectId, mesh: Callable[[], Mesh]) -> Measurements:
        file = self._measured / object_id[0] / f"{object_id[1]}.json"
        values = read_json(file) if file.is_file() else {}
        if values.get("version") != VERSION:
            values = measure(mesh()).to_dict()
            write_json(values, file)
        return Measurements.from_dict(values)


def _procedural(object_id: ObjectId) -> ProceduralObject:
    name, _, number = object_id[1].rpartition("-")
    if CLASS_IDS.get(name) != object_id[0] or not number.isdigit():
        raise ValueError(
            f"{'/'.join(object_id)}: nothing is known of it; expected a procedural object, or a mesh of one of the manifests"
        )
    return generate(name, int(number))


def write_set_language(
    out: Path,
    lists: Mapping[str, Sequence[tuple[ObjectId, int]]],
    known: KnownObjects,
    *,
    seed: int = 0,
    progress: Progress = no_progress,
) -> None:
    """Write texts and truth of every list.

    Args:
        out: the directory of the language.
        lists: name -> objects and the number of their recolouring.
        known: what is known of them.
        seed: seed of wording and choices.
        progress: receives objects done and all.

    Raises:
        ValueError, FileNotFoundError: an object that nothing is known of, or two of one name.
    """
    done, total = 0, sum(map(len, lists.values()))
    for name, members in lists.items():
        objects = []
        for object_id, number in members:
            objects.append(known.truth(object_id, number))
            done += 1
            progress("measuring", done, total)
        brief, rest = entries_of(objects, seed=seed)
        questions = [
            {"class_id": truth.class_id, "nerf_id": truth.nerf_id, **_question(asked)}
            for truth, _ in objects
            for asked in marked_questions(truth, seed=seed)
        ]
        write_json(brief, out / name / "texts" / BRIEF_NAME)
        write_json(rest, out / name / "texts" / COMPLEX_NAME)
        pairs = comparison_entries([truth for truth, _ in objects], seed=seed)
        write_json(pairs, out / name / "texts" / COMPARISON_NAME)
        write_json([truth.to_dict() for truth, _ in objects], out / name / "truth" / TRUTH_NAME)
        write_json(questions, out / name / "truth" / QUESTIONS_NAME)


def _question(asked: Any) -> dict[str, Any]:
    return {key: value for key, value in dataclasses.asdict(asked).items() if key != "answer"}


def read_truth(root: StrPath, split: str) -> list[ObjectTruth]:
    """The truth of the objects of a list, of a set that `make_training_set` wrote.

    Raises `FileNotFoundError` where the set has none, and `ValueError` for a file that is none.
    """
    file = Path(root, "language", split, "truth", TRUTH_NAME)
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file; expected the truth that make_training_set writes")
    try:
        return [ObjectTruth.from_dict(values) for values in json.loads(file.read_text(encoding="utf-8"))]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{file}: is no truth of objects ({error})") from error
