"""How often a model's answers are right, on objects that it was not trained on, marked against the truth; beside baselines.

    python scripts/language_claims.py --model MODEL --data SET --out claims
    python scripts/language_claims.py --model MODEL --data SET --other OTHER --variants shared=FITS --objects 40

SET is what ``scripts/make_training_set.py`` wrote: NeRFs, texts and the truth of every object. Each NeRF is read once. Rows of
the table are lists of objects: procedural ones, real ones of the 13 classes, all real ones; the same procedural objects fitted
otherwise (``--variants``) have a table of their own, beside the set's NeRFs of the same objects and families. Baselines: the same
model shown nothing, the caption of the nearest NeRF that was trained on, and other models. Short descriptions are scored by the
words of the set's, and with ``--sbert-model`` and ``--simcse-model`` by their meaning. Nothing is drawn at random but the objects
of ``--objects``, by ``--seed``.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
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
from gmn_encoder.nerfs.files import find_nerfs, load_nerf
from gmn_encoder.objects.procedural.dice import Dice
from gmn_encoder.objects.truth import ObjectTruth
from gmn_encoder.seeds import derived_seed
from llana_gmn.checkpoints.loading import load_model
from llana_gmn.data.sources import LanguageData, fitted_architecture
from llana_gmn.inference.caption import caption_nerfs

from ..pages import write_tables
from ..representation.retrieval_benchmark import run_retrieval
from ..tables import Cell, Column, Table
from .language_tables import Described, Marked, description_table, language_tables
from .marking import KINDS, Question, is_right, named_category, read_questions
from .scoring import ScoreSettings, prepare
from .similarity import SBERT_NAME, SIMCSE_NAME

logger = logging.getLogger(__name__)

SPLITS = ("test", "real_test")
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
            ``<class_id>/<nerf_id>``, at whatever depth and in as many architectures as there are.
        splits: lists of objects to ask about.
        families: directories of NeRFs to ask about; none for all.
        objects: most objects of a list; 0 for all.
        train_objects: most training objects to copy captions from.
        questions: most questions about a NeRF, of kinds by turns; 0 for all.
        batch_size: answers made at a time.
        new_tokens: longest answer.
        describe_tokens: longest description; 0 to leave descriptions out.
        sbert_model, simcse_model: directory of the model that compares descriptions, or its name on a hub, such as the published
            `SBERT_MODEL` and `SIMCSE_MODEL`; none to leave the score out.
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
    describe_tokens: int = 48
    sbert_model: str = ""
    simcse_model: str = ""
    seed: int = 0
    cache: Path | None = None


@dataclass(frozen=True, eq=False)
class _Members:
    """The NeRFs of a list in one architecture, with what is asked about each; a variant is "" for the set's own."""

    split: str
    variant: str
    family: str
    architecture: str
    rows: EmbeddingSet
    truths: Sequence[ObjectTruth]
    questions: Sequence[Sequence[Question]]
    briefs: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class _About:
    """What is asked about the objects of a list, and the short descriptions that the set has of them."""

    questions: Mapping[ObjectId, Sequence[Question]]
    briefs: Mapping[str, tuple[str, str]]


def measure_language(options: LanguageClaims) -> list[Table]:
    """Ask, mark and tabulate; ``<out>.md``, ``.tex``, ``.html`` and ``.json`` are written where `out` says.

    Raises:
        FileNotFoundError, ValueError: a model, set or variant that is missing or broken.
        OSError: a model to compare descriptions by that cannot be loaded; found out before any work.
    """
    started = time.perf_counter()
    similarity = _similarity(options)
    marked: list[Marked] = []
    described: list[Described] = []
    retrieval: list[Sequence[Cell]] = []
    for number, path in enumerate([options.model, *map(Path, options.other)]):
        model, processor = load_model(path)
        say = _Speaker(model, processor, options)
        own = [each for split in options.splits for each in _members(options, model, split)]
        variants = [each for text in options.variants for each in _variant(options, model, text)] if not number else []
        name = "model" if number == 0 else f"other: {path.name}"
        for members in [*own, *variants]:
            marked += _mark(name, members, say.answers(members))
            done = f"{members.split} as {members.variant or members.architecture}"
            logger.info("%s, %s: %.0f s", name, done, time.perf_counter() - started)
        for members in own if options.describe_tokens else ():
            described += _describe(name, members, say.descriptions(members))
        if number == 0:
            marked += [each for members in own for each in _mark("no NeRF", members, say.blind(members))]
            if options.describe_tokens:
                described += [
                    each for members in own for each in _describe("no NeRF", members, say.blind_descriptions(members))
                ]
            for members, captions in zip(own, _nearest_captions(options, model, own), strict=True):
                repeated = [text for text, asked in zip(captions, members.questions, strict=True) for _ in asked]
                marked += _mark("nearest caption", members, repeated, ("name", "main colour"))
                described += _describe("nearest caption", members, captions) if options.describe_tokens else []
            retrieval = _retrieval(options, model)
        del model, processor, say
    tables = language_tables(marked, seconds=time.perf_counter() - started, seed=options.seed)
    if described:
        tables.append(description_table(described, models=similarity))
    if retrieval:
        recall: list[str | Column] = ["queries/gallery", "objects", Column("recall@1 (%)", digits=1)]
        tables.append(Table("Retrieval across families, test objects", recall, retrieval))
    if options.out is not None:
        write_tables(tables, options.out)
        settings = {key: str(value) for key, value in asdict(options).items()}
        answers = {"answers": [asdict(each) for each in marked], "descriptions": [asdict(each) for each in described]}
        write_json({"settings": settings, **answers}, f"{options.out}.json")
    return tables


def _similarity(options: LanguageClaims) -> dict[str, tuple[str, str]]:
    """What `description_table` compares by, each model loaded once to see that it is there."""
    asked = {SBERT_NAME: ("S-BERT", options.sbert_model), SIMCSE_NAME: ("SimCSE", options.simcse_model)}
    chosen = {metric: (name, model) for metric, (name, model) in asked.items() if model and options.describe_tokens}
    if chosen:
        given: dict[str, Any] = {f"{metric.partition('_')[0]}_model": model for metric, (_, model) in chosen.items()}
        prepare(ScoreSettings(tuple(chosen), **given))
    return chosen


class _Speaker:
    """A model with the options that it answers with."""

    def __init__(self, model: Any, processor: Any, options: LanguageClaims) -> None:
        self._model, self._processor, self._options = model, processor, options

    def ask(self, shown: Sequence[Tensor], questions: Sequence[str], *, tokens: int = 0) -> list[str]:
        longest = tokens or self._options.new_tokens
        settings: dict[str, Any] = {"batch_size": self._options.batch_size, "max_new_tokens": longest}
        return [text for _, text in caption_nerfs(self._model, self._processor, shown, question=questions, **settings)]

    def answers(self, members: _Members) -> list[str]:
        values = zip(members.rows.values, members.questions, strict=True)
        pairs = [(value, question.question) for value, questions in values for question in questions]
        return self.ask([value for value, _ in pairs], [text for _, text in pairs])

    def descriptions(self, members: _Members) -> list[str]:
        asked = [question for question, _ in members.briefs]
        return self.ask(list(members.rows.values), asked, tokens=self._options.describe_tokens)

    def blind(self, members: _Members) -> list[str]:
        """The answers without a NeRF."""
        return self._blind(members, [question.question for questions in members.questions for question in questions])

    def blind_descriptions(self, members: _Members) -> list[str]:
        """The descriptions of nothing."""
        asked = [question for question, _ in members.briefs]
        return self._blind(members, asked, tokens=self._options.describe_tokens)

    def _blind(self, members: _Members, texts: Sequence[str], *, tokens: int = 0) -> list[str]:
        """Each question is asked once, for nothing else can change its answer."""
        different = list(dict.fromkeys(texts))
        nothing = torch.zeros_like(members.rows.values[0])
        said = self.ask([nothing] * len(different), different, tokens=tokens)
        found = dict(zip(different, said, strict=True))
        return [found[text] for text in texts]


def _members(options: LanguageClaims, model: Any, split: str) -> list[_Members]:
    """The objects of a list in each family."""
    truths = _some(read_truth(options.data, split), options.objects, options.seed)
    about = _About(_questions(options, split), _briefs(options, split))
    found = []
    for family in options.families or [name for name in FAMILY_NAMES if (options.data / name).is_dir()]:
        nerfs = NerfDataset(options.data / family, options.data / f"{split}.txt")
        paths = {entry.object_id: entry.path for entry in nerfs}
        found += _by_architecture(options, model, split, "", paths, truths, about)
    return found


def _variant(options: LanguageClaims, model: Any, text: str) -> list[_Members]:
    """The procedural test objects as ``NAME=DIR`` has them, an entry for each architecture."""
    name, equals, directory = text.partition("=")
    if not equals or not Path(directory).is_dir():
        raise ValueError(f"{text}: is no variant; expected NAME=DIR with a directory of NeRFs")
    truths = _some(read_truth(options.data, "test"), options.objects, options.seed)
    about = _About(_questions(options, "test"), _briefs(options, "test"))
    folders: dict[Path, dict[ObjectId, Path]] = {}
    for path in find_nerfs(directory):
        folders.setdefault(path.parent.parent, {})[path.parent.name, path.name] = path
    found = [
        each
        for paths in folders.values()
        for each in _by_architecture(options, model, "test", name, paths, truths, about)
    ]
    if not found:
        raise ValueError(
            f"{directory}: holds none of the test objects of {options.data}; expected <class_id>/<nerf_id>"
        )
    return found


def _by_architecture(
    options: LanguageClaims,
    model: Any,
    split: str,
    variant: str,
    paths: Mapping[ObjectId, Path],
    truths: Sequence[ObjectTruth],
    about: _About,
) -> list[_Members]:
    """Those of some objects that have NeRFs, with their embeddings and what is asked about them."""
    known = [each for each in truths if (each.class_id, each.nerf_id) in paths]
    if not known:
        return []
    chosen = [paths[each.class_id, each.nerf_id] for each in known]
    architecture = fitted_architecture(chosen) or load_nerf(chosen[0]).architecture
    family = FAMILY_NAMES.get(architecture.family, architecture.family)
    rows = _embed(options, model, chosen, family)
    places = {object_id: row for row, object_id in enumerate(rows.object_ids)}
    kept = [each for each in known if (each.class_id, each.nerf_id) in places]
    rows = rows.select([places[each.class_id, each.nerf_id] for each in kept])
    ids = [(each.class_id, each.nerf_id) for each in kept]
    asked, briefs = [about.questions.get(each, ()) for each in ids], [about.briefs[each[1]] for each in ids]
    return [_Members(split, variant, family, architecture.name, rows, kept, asked, briefs)]


def _questions(options: LanguageClaims, split: str) -> dict[ObjectId, list[Question]]:
    file = options.data / "language" / split / "truth" / QUESTIONS_NAME
    found: dict[ObjectId, list[Question]] = {}
    for each in read_questions(file):
        found.setdefault((each.class_id, each.nerf_id), []).append(each)
    return {key: asked[: options.questions or None] for key, asked in found.items()}


def _briefs(options: LanguageClaims, split: str) -> dict[str, tuple[str, str]]:
    """Object -> the first short description that the set has of it: what was asked, and what was said."""
    dialogues, _ = LanguageData(options.data).dialogues(split, ["brief_description"])
    return {each.object_ids[0]: each.turns[0] for each in reversed(dialogues) if each.object_ids}


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
        nerf = (members.split, members.variant, members.family, members.architecture)
        about = (truth.class_id, truth.nerf_id, category)
        kind, question, expected = asked.kind, asked.question, asked.expected
        found.append(Marked(method, *nerf, *about, kind, question, expected, answer, right, named))
    return found


def _describe(method: str, members: _Members, texts: Sequence[str]) -> list[Described]:
    """Descriptions beside those of the set."""
    found = []
    for truth, (question, reference), text in zip(members.truths, members.briefs, texts, strict=True):
        record = {"object_id": truth.nerf_id, "question": question, "ground_truth": reference, "model_output": text}
        found.append(Described(method, members.split, members.family, truth.name.category, record))
    return found


def _nearest_captions(options: LanguageClaims, model: Any, groups: Sequence[_Members]) -> list[list[str]]:
    """For each NeRF of each group the short description of the nearest NeRF that was trained on."""
    captions = _briefs(options, "train")
    train = [each for each in read_truth(options.data, "train") if not each.recolouring]
    train = _some(train, options.train_objects, options.seed)
    values, texts = [], []
    for family in [name for name in FAMILY_NAMES if (options.data / name).is_dir()]:
        paths = [options.data / family / each.class_id / each.nerf_id for each in train]
        rows = _embed(options, model, [path for path in paths if path.is_dir()], FAMILY_NAMES[family])
        values.append(rows.values)
        texts += [captions[nerf_id][1] for _, nerf_id in rows.object_ids]
    gallery = torch.cat(values).flatten(1).float()
    places = [nearest(members.rows.values.flatten(1).float(), gallery, 1)[1][:, 0].tolist() for members in groups]
    return [[texts[row] for row in place] for place in places]


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
