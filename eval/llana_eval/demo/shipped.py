"""The main job on what ships: embed NeRFs of three families, describe them, answer questions, retrieve, score, report.

No object of it was trained on. A procedural object has references to score against; a real one has its class.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gmn_encoder.embeddings.cache import EmbeddingCache
from gmn_encoder.embeddings.records import EmbeddingSet, join_embeddings
from gmn_encoder.files import StrPath
from gmn_encoder.nerfs.architectures import FAMILY_NAMES
from llana_gmn.caption import caption_nerfs
from llana_gmn.defaults import DefaultObject, default_objects

from ..captioning.answer_page import Picture, write_gallery
from ..captioning.benchmark import ANSWER_NAME, answer, load_benchmark, result_records
from ..captioning.class_naming import NamedObject, class_words, named_class, naming_accuracy
from ..captioning.scoring import score_captions
from ..captioning.tasks import load_task
from ..classes import class_name
from ..representation.plots import embedding_figure, figure_picture, project
from ..representation.retrieval_benchmark import retrieval_table, run_retrieval
from ..representation.retrieval_pictures import gallery_picture, gallery_rows
from ..tables import Column, Table

QUESTION = "Describe this object briefly."
METRICS = ("bleu-1", "rouge-l")

Progress = Callable[[str, int, int], Any]


@dataclass(frozen=True)
class DemoResult:
    """What a demo found: the tables of its report, the path of that, and the seconds that it took."""

    tables: tuple[Table, ...]
    report: Path
    seconds: float


def run_demo(
    model: Any, processor: Any, nerfs: Path, out: StrPath, *, progress: Progress = lambda what, done, total: None
) -> DemoResult:
    """Do everything and write ``<out>/report.html``; embeddings stay in `out` and are not made again.

    Args:
        model, processor: of `load_model`.
        nerfs: directory with ``objects.json`` and the families' NeRFs, see `llana_gmn.defaults`.
        out: directory to write to.
        progress: hears what is done, how much of it, and of how much.

    Raises:
        FileNotFoundError, ValueError: NeRFs or texts that are missing or broken.
    """
    started = time.perf_counter()
    out, objects = Path(out), default_objects(nerfs)
    kinds = {(each.class_id, each.nerf_id): each for each in objects}
    sets = embed_families(model, nerfs, out, progress)
    rows, page, places = [], [], []
    for directory, family in _families(nerfs).items():
        members = sets[family]
        captions = _describe(model, processor, members.values, f"describing {family}", progress)
        without = _describe(model, processor, torch.zeros(1, members.values.shape[1]), "without a NeRF", progress)
        answers, records, questioned = _ask(model, processor, nerfs, directory, progress)
        rows.append(_row(family, members, captions, without[0], kinds, answers))
        for path, object_id, caption in zip(members.paths, members.object_ids, captions, strict=True):
            about = kinds[object_id]
            page.append(_record(about, family, caption))
            places.append(Path(path))
        page += records
        places += questioned
    columns: list[str | Column] = ["Family", *(Column(name, digits=1) for name in _COLUMNS)]
    note = (
        "Shares of descriptions that name the class, and scores of answers to questions about the procedural objects."
    )
    tables = (
        Table("Unseen objects", columns, rows, note=note),
        retrieval_table(run_retrieval(sets), method="this encoder"),
    )
    write_gallery(
        out / "report.html",
        "Talking to NeRFs",
        page,
        places,
        tables=tables,
        pictures=[_space(sets, progress), *_galleries(sets, progress)],
        count=90,
        progress=lambda done, total: progress("writing the report", done, total),
    )
    return DemoResult(tables, out / "report.html", time.perf_counter() - started)


_COLUMNS = (
    "class named, procedural (%)", "class named, real (%)", "without a NeRF (%)", "answers, BLEU-1", "answers, ROUGE-L",
)  # fmt: skip


def embed_families(
    model: Any, nerfs: Path, out: Path, progress: Progress = lambda what, done, total: None
) -> dict[str, EmbeddingSet]:
    """Embeddings of each family's NeRFs, by the paper's name, kept in the cache ``<out>/embeddings``.

    Raises:
        FileNotFoundError, ValueError: as of `run_demo`.
    """
    sets, families = {}, _families(nerfs)
    cache = EmbeddingCache(out / "embeddings", model.nerf_encoder, batch_size=16)
    for number, (directory, name) in enumerate(families.items(), 1):
        sets[name] = cache.embed_family(nerfs / directory)
        if sets[name].problems:
            raise ValueError(sets[name].problems[0])
        progress("embedding the NeRFs that ship", number, len(families))
    return sets


def _families(nerfs: Path) -> dict[str, str]:
    """Directory -> the paper's name, of the families that are there: a program may know more."""
    return {directory: name for directory, name in FAMILY_NAMES.items() if (nerfs / directory).is_dir()}


def _space(sets: dict[str, EmbeddingSet], progress: Progress) -> Picture:
    """All embeddings in the plane."""
    members = join_embeddings(sets.values())
    figure = embedding_figure(project(members.values), members)
    note = f"The {len(members)} embeddings: a point a NeRF, a colour a class, a marker a family."
    progress("drawing the embeddings", 1, 1)
    return Picture("t-SNE of the embeddings", figure_picture(figure), note)


def _galleries(sets: dict[str, EmbeddingSet], progress: Progress) -> list[Picture]:
    """Some objects of each family and their nearest NeRFs of the next one."""
    names = list(sets)
    pictures = []
    for number, queries in enumerate(names):
        gallery = names[(number + 1) % len(names)]
        rows = gallery_rows(sets[queries], sets[gallery], rows=4, neighbours=5, seed=number)
        found = sum(any(right for _, _, right in row.neighbours) for row in rows)
        note = (
            "Left, framed blue: the query. Then the nearest by the cosine of embeddings, the query's own object framed green: "
            f"it is among the first five of {found} of these {len(rows)} queries."
        )
        pictures.append(Picture(f"Retrieval: {queries} looks for {gallery}", gallery_picture(rows)[0], note))
        progress("drawing retrieval", number + 1, len(names))
    return pictures


def _describe(model: Any, processor: Any, embeddings: Any, what: str, progress: Progress) -> list[str]:
    captions = []
    found = caption_nerfs(model, processor, list(embeddings), question=QUESTION, batch_size=32, max_new_tokens=48)
    for _, caption in found:
        captions.append(caption)
        progress(what, len(captions), len(embeddings))
    return captions


def _ask(
    model: Any, processor: Any, nerfs: Path, directory: str, progress: Progress
) -> tuple[dict[str, float], list[dict[str, Any]], list[Path]]:
    """Scores, records and NeRFs of the questions about a family's procedural objects."""
    benchmark = load_benchmark(load_task("single_round"), nerfs, family=directory)
    given = {}
    for record in answer(model, processor, benchmark.items, batch_size=32, max_new_tokens=48):
        given[record[ANSWER_NAME]] = record
        progress(f"answering questions about {FAMILY_NAMES[directory]}", len(given), len(benchmark.items))
    scored = score_captions(result_records(benchmark, given), metrics=METRICS)
    return scored["overall_scores"], scored["results"], [item.nerf for item in benchmark.items]


def _row(
    family: str,
    members: EmbeddingSet,
    captions: Sequence[str],
    without: str,
    kinds: dict[tuple[str, str], DefaultObject],
    scores: dict[str, float],
) -> list[Any]:
    words = class_words()
    shares: list[float | None] = []
    for kind in ("procedural", "real"):
        chosen = [i for i, object_id in enumerate(members.object_ids) if kinds[object_id].kind == kind]
        named = [
            NamedObject(members.object_ids[i][1], family, class_name(members.object_ids[i][0]), members.values[i])
            for i in chosen
        ]
        said = [captions[i] for i in chosen]
        shares.append(100 * naming_accuracy(named, said, words)["accuracy"] if chosen else None)
    guess = named_class(without, words)
    blind = sum(class_name(class_id) == guess for class_id in members.class_ids) / len(members)
    return [family, *shares, 100 * blind, *(float(scores[name]) for name in METRICS)]


def _record(about: DefaultObject, family: str, caption: str) -> dict[str, Any]:
    reference = class_name(about.class_id) + (f" ({about.attribution})" if about.attribution else "")
    return {
        "object_id": f"{about.nerf_id} as {family}",
        "question": QUESTION,
        "ground_truth": reference,
        "model_output": caption,
        "scores": {},
    }
