"""Tables of marked answers: shares of right ones by method, list, family and variant, and what things and colours were called."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gmn_encoder.objects.procedural.catalogue import CLASS_NAMES

from ..tables import Cell, Column, Table
from .marking import KINDS, colour_pair, confusion_table
from .scoring import score_captions

_PERCENT = 100.0
_COMPARED = ("name", "main colour", "yes or no")
"""Kinds of questions that variants are compared by: those that every object has."""


@dataclass(frozen=True)
class Marked:
    """One answer, marked.

    Attributes:
        method: which model, or baseline, said it.
        split: the list of the object.
        variant: the name of the variant that its NeRF belongs to; "" for the set's own.
        family, architecture: of the NeRF.
        class_id, nerf_id, category: the object.
        kind, question, expected, answer: what was asked, what is right and what was said.
        right: whether it is.
        named: the category that the answer names, of questions for the name.
    """

    method: str
    split: str
    variant: str
    family: str
    architecture: str
    class_id: str
    nerf_id: str
    category: str
    kind: str
    question: str
    expected: Sequence[str]
    answer: str
    right: bool
    named: str | None = None

    @property
    def nerf(self) -> tuple[str, ...]:
        return (self.variant, self.architecture, self.class_id, self.nerf_id)

    @property
    def shape(self) -> tuple[str, str, str]:
        """What a variant and the set's own NeRF have in common: the object and the family."""
        return (self.family, self.class_id, self.nerf_id)


@dataclass(frozen=True)
class Described:
    """One short description beside that of the set: `method`, `split`, `family`, `category` as of `Marked`, and a record of
    `score_captions`."""

    method: str
    split: str
    family: str
    category: str
    record: Mapping[str, Any]


_Answer = Marked | Described

_GROUPS: dict[str, Callable[[_Answer], bool]] = {
    "procedural": lambda each: each.split == "test",
    "real, 13 classes": lambda each: each.split == "real_test" and each.category in CLASS_NAMES,
    "real, all": lambda each: each.split == "real_test",
}


def language_tables(marked: Sequence[Marked], *, seconds: float, seed: int = 0) -> list[Table]:
    """Shares of right answers by method and list, by family, of variants, and what things were called instead.

    Args:
        marked: all marked answers.
        seconds: time that it took. seed: seed of the choice of objects; both for the note.
    """
    own = [each for each in marked if not each.variant]
    kinds = [Column(f"{kind} (%)", digits=1) for kind in KINDS]
    rows: list[Sequence[Cell]] = []
    by_family: list[Sequence[Cell]] = []
    for group, holds in _GROUPS.items():
        for method in dict.fromkeys(each.method for each in own):
            members = [each for each in own if holds(each) and each.method == method]
            if members:
                rows.append([group, method, *_shares(members)])
        members = [each for each in own if holds(each) and each.method == "model"]
        for family in dict.fromkeys(each.family for each in members):
            by_family.append([group, family, *_shares([each for each in members if each.family == family])])
    note = f"Answers marked against the truth of each object; seed {seed}, {seconds:.0f} s."
    tables = [
        Table("Right answers on held-out objects", ["objects", "method", "NeRFs", *kinds], rows, note=note),
        Table("The model by family", ["objects", "family", "NeRFs", *kinds], by_family),
    ]
    if compared := variant_table([each for each in marked if each.method == "model"]):
        tables.append(compared)
    named = [each for each in own if each.method == "model" and each.kind == "name"]
    for split in dict.fromkeys(each.split for each in named):
        pairs = [(each.category, each.named) for each in named if each.split == split]
        tables.append(confusion_table(f"What things were called, {split}", pairs))
    asked = [each for each in own if each.method == "model" and each.kind == "main colour"]
    for split in dict.fromkeys(each.split for each in asked):
        pairs = [colour_pair(each.expected, each.answer) for each in asked if each.split == split]
        tables.append(confusion_table(f"What main colours were called, {split}", pairs, what="colours"))
    return tables


def variant_table(marked: Sequence[Marked]) -> Table | None:
    """Each variant beside the set's own NeRFs of the same objects in the same families, and the worst of its architectures.

    Args:
        marked: the answers of one model about both. The same questions are compared.

    Returns:
        a row for each variant, and one for each of its architectures where it has several; None without variants.
    """
    own = {(each.shape, each.question): each.right for each in marked if not each.variant}
    rows: list[Sequence[Cell]] = []
    notes = ["Shares of right answers, beside those about the set's own NeRFs of the same objects and families."]
    for variant in dict.fromkeys(each.variant for each in marked if each.variant):
        members = [each for each in marked if each.variant == variant and (each.shape, each.question) in own]
        architectures = list(dict.fromkeys(each.architecture for each in members))
        if not members:
            continue
        rows.append([variant, "all", *_compared(members, own)])
        if len(architectures) < 2:
            continue
        cells = {
            name: _compared([each for each in members if each.architecture == name], own) for name in architectures
        }
        rows += [[variant, name, *found] for name, found in cells.items()]
        for place, kind in enumerate(_COMPARED):
            known = {name: change for name, found in cells.items() if isinstance(change := found[3 + 3 * place], float)}
            if known:
                worst = min(known, key=known.__getitem__)
                notes.append(f"{variant}, {kind}: the worst is {worst} with {known[worst]:+.1f} points.")
    if not rows:
        return None
    columns: list[str | Column] = ["variant", "architecture", "NeRFs"]
    for kind in _COMPARED:
        columns += [Column(f"{kind} (%)", digits=1), Column(f"{kind}, own (%)", digits=1)]
        columns.append(Column(f"{kind}, points", digits=1))
    return Table("The same test objects fitted otherwise", columns, rows, note=" ".join(notes))


def _compared(members: Sequence[Marked], own: Mapping[tuple[tuple[str, str, str], str], bool]) -> list[Cell]:
    """Number of NeRFs; of each kind the share of right answers, that of the own NeRFs, and the difference in points."""
    cells: list[Cell] = [len({each.nerf for each in members})]
    for kind in _COMPARED:
        asked = [each for each in members if each.kind == kind]
        if not asked:
            cells += [None, None, None]
            continue
        here = _PERCENT * sum(each.right for each in asked) / len(asked)
        there = _PERCENT * sum(own[each.shape, each.question] for each in asked) / len(asked)
        cells += [here, there, here - there]
    return cells


def _shares(members: Sequence[Marked]) -> list[Cell]:
    """Number of NeRFs, and the share of right answers of each kind in per cent."""
    cells: list[Cell] = [len({each.nerf for each in members})]
    for kind in KINDS:
        right = [each.right for each in members if each.kind == kind]
        cells.append(_PERCENT * sum(right) / len(right) if right else None)
    return cells


_WORDS = {"bleu-1": "BLEU-1", "rouge-l": "ROUGE-L"}


def description_table(described: Sequence[Described], *, models: Mapping[str, tuple[str, str]]) -> Table:
    """Scores of short descriptions against the set's, by method and list.

    Args:
        described: the descriptions.
        models: metric of `score_captions` -> its name in the table and the model that it compares by, of those that are asked
            for.

    Raises:
        OSError: a model that cannot be loaded.
    """
    names = {metric: name for metric, (name, _) in models.items()} | _WORDS
    given: dict[str, Any] = {f"{metric.partition('_')[0]}_model": model for metric, (_, model) in models.items()}
    scored = score_captions([each.record for each in described], metrics=list(names), **given)["results"]
    rows: list[Sequence[Cell]] = []
    for group, holds in _GROUPS.items():
        for method in dict.fromkeys(each.method for each in described):
            pairs = zip(described, scored, strict=True)
            found = [record["scores"] for each, record in pairs if holds(each) and each.method == method]
            if found:
                means = [sum(float(each[metric]) for each in found) / len(found) for metric in names]
                rows.append([group, method, len(found), *means])
    said = [f"{name} by {'/'.join(Path(model).parts[-2:])}" for name, model in models.values()]
    note = f"Against one description of the set for each NeRF{'; ' if said else ''}{', '.join(said)}."
    columns: list[str | Column] = ["objects", "method", "NeRFs", *(Column(name, digits=1) for name in names.values())]
    return Table("Short descriptions", columns, rows, note=note)
