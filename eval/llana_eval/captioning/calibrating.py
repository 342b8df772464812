"""How sure a model is, measured: what the mean token probability of its answers is worth on objects that it was not trained on.

    python scripts/calibrate_model.py --model MODEL --data SET

Asks the questions of the validation objects, procedural and real, each object in one family by turns, marks the answers
(`marking`), and writes the points of `llana_gmn.inference.honesty.calibration` into the model's ``config.json``, with the
architectures of the NeRFs in SET as those it was trained on. SET is what ``scripts/make_training_set.py`` wrote.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gmn_encoder.datasets import NerfDataset, ObjectId
from gmn_encoder.files import read_json, write_json
from gmn_encoder.fitting.set_language import QUESTIONS_NAME, read_truth
from gmn_encoder.fitting.training_set import REAL_VAL
from gmn_encoder.nerfs.architectures import FAMILY_NAMES
from llana_gmn.checkpoints.loading import load_model
from llana_gmn.inference.caption import converse
from llana_gmn.inference.honesty import UNSURE, calibration, share_right

from ..tables import Cell, Column, Table
from .marking import Question, is_right, read_questions

logger = logging.getLogger(__name__)

VALIDATION = "val"


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What is asked.

    Attributes:
        model: directory of the model, whose ``config.json`` is written.
        data: directory of the set.
        splits: lists of objects that are asked about; one that the set lacks is left out, and that is said.
        questions: most questions in all, spread over the objects; 0 for all.
        batch_size: answers made at a time.
        new_tokens: longest answer.
        points: groups of answers that are looked at.
    """

    model: Path
    data: Path
    splits: Sequence[str] = (VALIDATION, Path(REAL_VAL).stem)
    questions: int = 0
    batch_size: int = 32
    new_tokens: int = 32
    points: int = 8


def calibrate(options: Calibration) -> Table:
    """Ask, mark, and write what was found into the model; also as a table.

    Raises:
        FileNotFoundError, ValueError: a model or a set that is missing or broken.
    """
    model, processor = load_model(options.model)
    families = [name for name in FAMILY_NAMES if (options.data / name).is_dir()]
    splits = [split for split in options.splits if (options.data / f"{split}.txt").is_file()]
    if missing := [split for split in options.splits if split not in splits]:
        logger.warning("%s has no list %s: it is left out", options.data, " and ".join(missing))
    paths: dict[ObjectId, Path] = {}
    categories: dict[ObjectId, str] = {}
    asked: list[Question] = []
    lists: dict[ObjectId, str] = {}
    trained_on: list[str] = []
    for split in splits:
        found, names = _paths(options.data, split, families)
        paths |= found
        trained_on = list(dict.fromkeys((*trained_on, *names)))
        lists |= dict.fromkeys(found, split)
        for each in read_truth(options.data, split):
            categories[each.class_id, each.nerf_id] = each.name.category
        file = options.data / "language" / split / "truth" / QUESTIONS_NAME
        asked += [each for each in read_questions(file) if (each.class_id, each.nerf_id) in found]
    if not asked:
        raise ValueError(
            f"{options.data}: has nothing to ask about in {' or '.join(options.splits)}; expected such lists"
        )
    if options.questions:
        asked = asked[:: max(len(asked) // options.questions, 1)]
    probabilities = [0.0] * len(asked)
    answers = converse(
        model,
        processor,
        [paths[each.class_id, each.nerf_id] for each in asked],
        [[each.question] for each in asked],
        batch_size=options.batch_size,
        max_new_tokens=options.new_tokens,
        placeholders=False,
        on_probability=probabilities.__setitem__,
    )
    right = [
        is_right(one.kind, one.expected, said, category=categories[one.class_id, one.nerf_id])
        for one, (_, (said,)) in zip(asked, answers, strict=True)
    ]
    points = calibration(probabilities, right, points=options.points)
    config = options.model / "config.json"
    write_json({**read_json(config), "confidence": points, "trained_on": trained_on}, config)
    model.config.confidence = points
    logger.info("%s: measured on %d answers, %d of them right", config, len(right), sum(right))
    return _table([lists[each.class_id, each.nerf_id] for each in asked], asked, probabilities, right, model.config)


def _paths(data: Path, split: str, families: Sequence[str]) -> tuple[dict[ObjectId, Path], list[str]]:
    """The NeRF of each object, its family by turns, and the names of the architectures."""
    found: dict[ObjectId, Path] = {}
    names = []
    for place, family in enumerate(families):
        entries = list(NerfDataset(data / family, data / f"{split}.txt"))
        if entries:
            names.append(entries[0].load().architecture.name)
        for number, entry in enumerate(entries):
            if number % len(families) == place:
                found[entry.object_id] = entry.path
    return found, names


def _table(
    lists: Sequence[str],
    asked: Sequence[Question],
    probabilities: Sequence[float],
    right: Sequence[bool],
    config: object,
) -> Table:
    rows: list[Sequence[Cell]] = []
    for split, kind in dict.fromkeys(zip(lists, (each.kind for each in asked), strict=True)):
        places = [i for i, each in enumerate(asked) if (lists[i], each.kind) == (split, kind)]
        unsure = [i for i in places if (share_right(config, probabilities[i]) or 0) < UNSURE]
        sure = [i for i in places if i not in unsure]
        shares = [100 * sum(right[i] for i in some) / len(some) if some else None for some in (places, sure, unsure)]
        rows.append([split, kind, len(places), shares[0], 100 * len(unsure) / len(places), *shares[1:]])
    columns = ["right (%)", "unsure (%)", "right where sure (%)", "right where unsure (%)"]
    return Table(
        "How sure the model is, validation objects",
        ["objects", "questions", "answers", *(Column(name, digits=1) for name in columns)],
        rows,
    )
