"""How often a model's answers are right, on objects that it was not trained on, marked against the truth; beside baselines.

    python scripts/language_claims.py --model MODEL --data SET --out claims
    python scripts/language_claims.py --model MODEL --data SET --other OTHER --variants shared=FITS --objects 40

SET is what ``scripts/make_training_set.py`` wrote: NeRFs, texts and the truth of every object. Each NeRF is read once. Rows of
the table are lists of objects: procedural ones, real ones of the 13 classes, all real ones, and the same procedural objects in
the variants. Baselines: the same model shown nothing, the caption of the nearest NeRF that was trained on, and other models.
Nothing is drawn at random but the objects of ``--objects``, by ``--seed``.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gmn_encoder.datasets import NerfDataset, ObjectId
from gmn_encoder.embeddings.cache import EmbeddingCache
from gmn_encoder.embeddings.neighbours import nearest
from gmn_encoder.embeddings.records import EmbeddingSet
from gmn_encoder.files import write_json
from gmn_encoder.fitting.set_language import QUESTIONS_NAME, read_truth
from gmn_encoder.nerfs.architectures import FAMILY_NAMES
from gmn_encoder.objects.procedural.catalogue import CLASS_NAMES
from gmn_encoder.objects.procedural.dice import Dice
from gmn_encoder.objects.truth import ObjectTruth
from gmn_encoder.seeds import derived_seed
from llana_gmn.checkpoints.loading import load_model
from llana_gmn.data.sources import LanguageData, fitted_architecture
from llana_gmn.inference.caption import caption_nerfs

from ..pages import write_tables
from ..representation.retrieval_benchmark import run_retrieval
from ..tables import Cell, Column, Table
from .marking import KINDS, Question, confusion_table, is_right, named_category, read_questions

logger = logging.getLogger(__name__)

SPLITS = ("test", "real_test")
_DESCRIBE = "Describe this object briefly."
_PERCENT = 100.0


@dataclass(frozen=True, kw_only=True)
class LanguageClaims:
    """What is measured, and where it is found.

    Attributes:
        model: directory of the model.
        data: directory of the set.
        out: stem of the tables and of the JSON with all answers; None: nothing is written.
        other: directories of other models, for their rows.
        variants: ``NAME=DIR`` each: the procedural test objects fitted otherwise, a directory that holds
            ``<class_id>/<nerf_id>``, at whatever depth.
        splits: lists of objects to ask about.
        families: directories of NeRFs to ask about; none for all.
        objects: most objects of a list; 0 for all.
        train_objects: most training objects to copy captions from.
        questions: most questions about a NeRF, of kinds by turns; 0 for all.
        batch_size: answers made at a time.
        new_tokens: longest answer.
        seed: seed of the choice of objects.
        cache: directory of embeddings; None for ``.embeddings`` in the set.
    """

    model: Path
    data: Path
    out: Path | None = None
    other: Sequence[str] = ()
    variants: Sequence[str] = ()
    splits: Sequence[str] = SPLITS
    families: Sequence[str] = ()
    objects: int = 0
    train_objects: int = 600
    questions: int = 0
    batch_size: int = 32
    new_tokens: int = 24
    seed: int = 0
    cache: Path | None = None


@dataclass(frozen=True)
class Marked:
    """One answer, marked.

    Attributes:
        method: which model, or baseline, said it.
        split, variant: the list of the object, and the family or variant of its NeRF.
        class_id, nerf_id, category: the object.
        kind, question, expected, answer: what was asked, what is right and what was said.
        right: whether it is.
        named: the category that the answer names, of questions for the name.
    """

    method: str
    split: str
    variant: str
    class_id: str
    nerf_id: str
    category: str
    kind: str
    question: str
    expected: Sequence[str]
    answer: str
    right: bool
    named: str | None = None


@dataclass(frozen=True, eq=False)
class _Members:
    """The NeRFs of a list in a family or variant, with what is asked about each."""

    split: str
    variant: str
    rows: EmbeddingSet
    truths: Sequence[ObjectTruth]
    questions: Sequence[Sequence[Question]]


def measure_language(options: LanguageClaims) -> list[Table]:
    """Ask, mark and tabulate; ``<out>.md``, ``.tex``, ``.html`` and ``.json`` are written where `out` says.

    Raises:
        FileNotFoundError, ValueError: a model, set or variant that is missing or broken.
    """
    started = time.perf_counter()
    marked: list[Marked] = []
    retrieval: list[Sequence[Cell]] = []
    for number, path in enumerate([options.model, *map(Path, options.other)]):
        model, processor = load_model(path)
        say = _Speaker(model, processor, options)
        asked = [_members(options, model, split) for split in options.splits]
        groups = [each for members in asked for each in members]
        if number == 0:
            groups += [_variant(options, model, text) for text in options.variants]
        name = "model" if number == 0 else f"other: {path.name}"
        for members in groups:
            marked += _mark(name, members, say.answers(members))
            logger.info("%s, %s as %s: %.0f s", name, members.split, members.variant, time.perf_counter() - started)
        if number == 0:
            marked += [each for members in groups for each in _mark("no NeRF", members, say.blind(members))]
            marked += _nearest_captions(options, model, groups)
            retrieval = _retrieval(options, model)
        del model, processor, say
    tables = language_tables(marked, seconds=time.perf_counter() - started, seed=options.seed)
    if retrieval:
        recall: list[str | Column] = ["queries/gallery", "objects", Column("recall@1 (%)", digits=1)]
        tables.append(Table("Retrieval across families, test objects", recall, retrieval))
    if options.out is not None:
        write_tables(tables, options.out)
        settings = {key: str(value) for key, value in asdict(options).items()}
        write_json({"settings": settings, "answers": [asdict(each) for each in marked]}, f"{options.out}.json")
    return tables


class _Speaker:
    """A model with the options that it answers with."""

    def __init__(self, model: Any, processor: Any, options: LanguageClaims) -> None:
        self._model, self._processor, self._options = model, processor, options

    def ask(self, shown: Sequence[Tensor], questions: Sequence[str]) -> list[str]:
        settings: dict[str, Any] = {"batch_size": self._options.batch_size, "max_new_tokens": self._options.new_tokens}
        return [text for _, text in caption_nerfs(self._model, self._processor, shown, question=questions, **settings)]

    def answers(self, members: _Members) -> list[str]:
        values = zip(members.rows.values, members.questions, strict=True)
        pairs = [(value, question.question) for value, questions in values for question in questions]
        return self.ask([value for value, _ in pairs], [text for _, text in pairs])

    def blind(self, members: _Members) -> list[str]:
        """The answers without a NeRF: each question is asked once, for nothing else can change its answer."""
        texts = [question.question for questions in members.questions for question in questions]
        different = list(dict.fromkeys(texts))
        nothing = torch.zeros_like(members.rows.values[0])
        found = dict(zip(different, self.ask([nothing] * len(different), different), strict=True))
        return [found[text] for text in texts]


def _members(options: LanguageClaims, model: Any, split: str) -> list[_Members]:
    """The objects of a list in each family."""
    truths = _some(read_truth(options.data, split), options.objects, options.seed)
    asked = _questions(options, split)
    found = []
    for family in options.families or [name for name in FAMILY_NAMES if (options.data / name).is_dir()]:
        nerfs = NerfDataset(options.data / family, options.data / f"{split}.txt")
        paths = {entry.object_id: entry.path for entry in nerfs}
        known = [each for each in truths if (each.class_id, each.nerf_id) in paths]
        rows = _embed(options, model, [paths[each.class_id, each.nerf_id] for each in known], FAMILY_NAMES[family])
        found.append(_with_questions(split, FAMILY_NAMES[family], rows, known, asked))
    return found


def _variant(options: LanguageClaims, model: Any, text: str) -> _Members:
    """The procedural test objects as ``NAME=DIR`` has them."""
    name, equals, directory = text.partition("=")
    if not equals or not Path(directory).is_dir():
        raise ValueError(f"{text}: is no variant; expected NAME=DIR with a directory of NeRFs")
    truths = _some(read_truth(options.data, "test"), options.objects, options.seed)
    paths = {
        (path.parent.parent.name, path.parent.name): path.parent
        for path in Path(directory).rglob("*.pth")
        if path.name != "grid.pth"
    }
    known = [each for each in truths if (each.class_id, each.nerf_id) in paths]
    if not known:
        raise ValueError(
            f"{directory}: holds none of the test objects of {options.data}; expected <class_id>/<nerf_id>"
        )
    rows = _embed(options, model, [paths[each.class_id, each.nerf_id] for each in known], name)
    return _with_questions("test", name, rows, known, _questions(options, "test"))


def _with_questions(
    split: str,
    variant: str,
    rows: EmbeddingSet,
    truths: Sequence[ObjectTruth],
    asked: Mapping[ObjectId, Sequence[Question]],
) -> _Members:
    places = {object_id: row for row, object_id in enumerate(rows.object_ids)}
    kept = [each for each in truths if (each.class_id, each.nerf_id) in places]
    rows = rows.select([places[each.class_id, each.nerf_id] for each in kept])
    return _Members(split, variant, rows, kept, [asked.get((each.class_id, each.nerf_id), ()) for each in kept])


def _questions(options: LanguageClaims, split: str) -> dict[ObjectId, list[Question]]:
    file = options.data / "language" / split / "truth" / QUESTIONS_NAME
    found: dict[ObjectId, list[Question]] = {}
    for each in read_questions(file):
        found.setdefault((each.class_id, each.nerf_id), []).append(each)
    return {key: asked[: options.questions or None] for key, asked in found.items()}


def _embed(
    options: LanguageClaims, model: Any, paths: Sequence[Path], family: str, *, tokens: bool = True
) -> EmbeddingSet:
    """What the model reads of NeRFs, or with `tokens` off one vector each."""
    several = tokens and model.config.vectors_per_nerf > 1
    cache = EmbeddingCache(options.cache or options.data / ".embeddings", model.nerf_encoder, tokens=several)
    return cache.embed(paths, family=family, architecture=fitted_architecture(paths))


def _some(truths: Sequence[ObjectTruth], count: int, seed: int) -> list[ObjectTruth]:
    """At most so many, drawn by seed."""
    if not count or count >= len(truths):
        return list(truths)
    return Dice(derived_seed(seed, "objects")).shuffled(truths)[:count]


def _mark(method: str, members: _Members, answers: Sequence[str], kinds: Iterable[str] = KINDS) -> list[Marked]:
    """Marks of the answers to all questions, in their order; of some kinds only."""
    pairs = [(truth, each) for truth, asked in zip(members.truths, members.questions, strict=True) for each in asked]
    found = []
    for (truth, asked), answer in zip(pairs, answers, strict=True):
        if asked.kind not in kinds:
            continue
        category = truth.name.category
        right = is_right(asked.kind, asked.expected, answer, category=category)
        named = named_category(answer, category, asked.expected) if asked.kind == "name" else None
        about = (members.split, members.variant, truth.class_id, truth.nerf_id, category)
        found.append(Marked(method, *about, asked.kind, asked.question, asked.expected, answer, right, named))
    return found


def _nearest_captions(options: LanguageClaims, model: Any, groups: Sequence[_Members]) -> list[Marked]:
    """The brief description of the nearest NeRF that was trained on, as the answer to what it can answer."""
    dialogues, _ = LanguageData(options.data).dialogues("train", ["brief_description"])
    captions = {each.object_ids[0]: each.turns[0][1] for each in dialogues if each.object_ids}
    train = [each for each in read_truth(options.data, "train") if not each.recolouring]
    train = _some(train, options.train_objects, options.seed)
    values, texts = [], []
    for family in [name for name in FAMILY_NAMES if (options.data / name).is_dir()]:
        paths = [options.data / family / each.class_id / each.nerf_id for each in train]
        rows = _embed(options, model, [path for path in paths if path.is_dir()], FAMILY_NAMES[family])
        values.append(rows.values)
        texts += [captions[nerf_id] for _, nerf_id in rows.object_ids]
    gallery = torch.cat(values).flatten(1).float()
    found = []
    for members in groups:
        place = nearest(members.rows.values.flatten(1).float(), gallery, 1)[1][:, 0].tolist()
        answers = [texts[row] for row, asked in zip(place, members.questions, strict=True) for _ in asked]
        found += _mark("nearest caption", members, answers, ("name", "main colour"))
    return found


def _retrieval(options: LanguageClaims, model: Any) -> list[Sequence[Cell]]:
    """Recall@1 of each pair of families on the procedural test objects."""
    families = [name for name in FAMILY_NAMES if (options.data / name).is_dir()]
    if len(families) < 2:
        return []
    sets = {}
    for family in families:
        paths = [entry.path for entry in NerfDataset(options.data / family, options.data / "test.txt")]
        sets[FAMILY_NAMES[family]] = _embed(options, model, paths, FAMILY_NAMES[family], tokens=False)
    results = [each for each in run_retrieval(sets, ks=(1,)) if each.queries != each.gallery]
    rows: list[Sequence[Cell]] = [[each.name, each.num_queries, _PERCENT * each.recall[1]] for each in results]
    mean = sum(each.recall[1] for each in results) / len(results)
    return [*rows, ["mean", results[0].num_queries, _PERCENT * mean]]


_GROUPS: dict[str, Callable[[Marked], bool]] = {
    "procedural": lambda each: each.split == "test",
    "real, 13 classes": lambda each: each.split == "real_test" and each.category in CLASS_NAMES,
    "real, all": lambda each: each.split == "real_test",
}


def language_tables(marked: Sequence[Marked], *, seconds: float, seed: int = 0) -> list[Table]:
    """Shares of right answers by method and list, by family or variant, and what things were called instead.

    Args:
        marked: all marked answers.
        seconds: time that it took. seed: seed of the choice of objects; both for the note.
    """
    columns: list[str | Column] = ["objects", "method", "NeRFs", *(Column(f"{kind} (%)", digits=1) for kind in KINDS)]
    own = [each for each in marked if each.variant in FAMILY_NAMES.values()]
    rows: list[Sequence[Cell]] = []
    for group, holds in _GROUPS.items():
        for method in dict.fromkeys(each.method for each in marked):
            members = [each for each in own if holds(each) and each.method == method]
            if members:
                rows.append([group, method, *_shares(members)])
    note = f"Answers marked against the truth of each object; seed {seed}, {seconds:.0f} s."
    tables = [Table("Right answers on held-out objects", columns, rows, note=note)]
    own_rows: list[Sequence[Cell]] = []
    for group, holds in _GROUPS.items():
        members = [each for each in marked if each.method == "model" and holds(each)]
        for variant in dict.fromkeys(each.variant for each in members):
            own_rows.append([group, variant, *_shares([each for each in members if each.variant == variant])])
    tables.append(Table("The model by family and variant", ["objects", "as", *columns[2:]], own_rows))
    named = [each for each in own if each.method == "model" and each.kind == "name"]
    for split in dict.fromkeys(each.split for each in named):
        pairs = [(each.category, each.named) for each in named if each.split == split]
        tables.append(confusion_table(f"What things were called, {split}", pairs))
    return tables


def _shares(members: Sequence[Marked]) -> list[Cell]:
    """Number of NeRFs, and the share of right answers of each kind in per cent."""
    cells: list[Cell] = [len({(each.variant, each.class_id, each.nerf_id) for each in members})]
    for kind in KINDS:
        right = [each.right for each in members if each.kind == kind]
        cells.append(_PERCENT * sum(right) / len(right) if right else None)
    return cells
