"""Answers of the demo marked right or wrong: questions with one right answer about the NeRFs that ship, by family.

The truth stands beside the texts, ``language/<list>/truth`` (`gmn_encoder.fitting.set_language`); NeRFs of a user have none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gmn_encoder.datasets import ObjectId
from gmn_encoder.embeddings.records import EmbeddingSet
from gmn_encoder.fitting.set_language import QUESTIONS_NAME, TRUTH_NAME, read_truth
from gmn_encoder.objects.truth import ObjectTruth
from gmn_encoder.progress import Progress
from llana_gmn.inference.caption import caption_nerfs

from ..captioning.marking import (
    KINDS,
    Question,
    colour_pair,
    confusion_table,
    is_right,
    named_category,
    read_questions,
)
from ..tables import Cell, Column, Table
from .common import OPTIONS

_TOPICS = ("name", "main colour", "is it", "is it not", "is not colour")
"""What the demo asks about, and whatever is counted."""


@dataclass(frozen=True)
class MarkedAnswer:
    """One answer of the demo: the NeRF's family and object, the question, the answer, and whether it is right."""

    family: str
    object_id: ObjectId
    question: Question
    answer: str
    right: bool
    category: str
    named: str | None

    def record(self) -> dict[str, Any]:
        """For `answers_html`."""
        return {
            "object_id": f"{self.object_id[1]} as {self.family}",
            "question": self.question.question,
            "ground_truth": " or ".join(self.question.expected[:3]),
            "model_output": self.answer,
            "scores": {},
            "right": self.right,
        }


@dataclass(frozen=True, eq=False)
class Marking:
    """The truth of the objects that ship, and what is asked about them."""

    truths: dict[ObjectId, ObjectTruth]
    questions: dict[ObjectId, list[Question]]

    @classmethod
    def find(cls, nerfs: Path) -> Marking:
        """What stands beside the NeRFs; empty where nothing does. Raises `ValueError` for files that are broken."""
        truths: dict[ObjectId, ObjectTruth] = {}
        questions: dict[ObjectId, list[Question]] = {}
        for file in sorted((nerfs / "language").glob(f"*/truth/{TRUTH_NAME}")):
            truths.update(((each.class_id, each.nerf_id), each) for each in read_truth(nerfs, file.parent.parent.name))
            for each in read_questions(file.parent / QUESTIONS_NAME):
                if each.topic in _TOPICS or each.kind == "count":
                    questions.setdefault((each.class_id, each.nerf_id), []).append(each)
        return cls(truths, questions)

    def ask(
        self, model: Any, processor: Any, family: str, members: EmbeddingSet, progress: Progress
    ) -> list[MarkedAnswer]:
        """The questions about a family's NeRFs, each in a conversation of its own, answered and marked."""
        asked = [
            (object_id, value, each)
            for object_id, value in zip(members.object_ids, members.values, strict=True)
            for each in self.questions.get(object_id, ())
            if object_id in self.truths
        ]
        if not asked:
            return []
        shown, texts = [value for _, value, _ in asked], [each.question for _, _, each in asked]
        found = []
        for place, answer in caption_nerfs(model, processor, shown, question=texts, **OPTIONS):
            object_id, _, each = asked[place]
            category = self.truths[object_id].name.category
            right = is_right(each.kind, each.expected, answer, category=category)
            named = named_category(answer, category, each.expected) if each.kind == "name" else None
            found.append(MarkedAnswer(family, object_id, each, answer, right, category, named))
            progress(f"marking answers about {family}", len(found), len(asked))
        return found


def marked_tables(answers: Sequence[MarkedAnswer]) -> list[Table]:
    """Shares of right answers by family, and what things and colours were called; none without answers."""
    if not answers:
        return []
    kinds = [kind for kind in KINDS if any(each.question.kind == kind for each in answers)]
    rows: list[Sequence[Cell]] = []
    families = list(dict.fromkeys(each.family for each in answers))
    for family in families:
        own = [each for each in answers if each.family == family]
        rows.append([family, len(own), *(_share(own, kind) for kind in kinds)])
    if len(families) > 1:
        rows.append(["all", len(answers), *(_share(answers, kind) for kind in kinds)])
    columns: list[str | Column] = ["Family", "answers", *(Column(f"{kind} (%)", digits=1) for kind in kinds)]
    note = "Each answer is marked against what is known and measured of the object; no model judges."
    named = [(each.category, each.named) for each in answers if each.question.kind == "name"]
    coloured = [each for each in answers if each.question.kind == "main colour"]
    colours = [colour_pair(each.question.expected, each.answer) for each in coloured]
    return [
        Table("Right answers", columns, rows, note=note),
        confusion_table("What things were called", named),
        confusion_table("What main colours were called", colours, what="colours"),
    ]


def _share(answers: Iterable[MarkedAnswer], kind: str) -> float | None:
    right = [each.right for each in answers if each.question.kind == kind]
    return 100 * sum(right) / len(right) if right else None
