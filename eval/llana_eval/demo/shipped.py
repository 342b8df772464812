"""The main job on what ships: embed NeRFs of three families, describe them, answer questions, retrieve, score, report.

No object of it was trained on. A procedural object has references to score against; a real one has its class.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from gmn_encoder.embeddings.records import EmbeddingSet, join_embeddings
from gmn_encoder.files import StrPath
from gmn_encoder.nerfs.architectures import FAMILY_NAMES
from gmn_encoder.progress import Progress, no_progress
from llana_gmn.default.objects import DefaultObject, default_objects

from ..captioning.answers import answers_html
from ..captioning.benchmark import answer, load_benchmark, result_records
from ..captioning.class_naming import NamedObject, class_words, named_class, naming_accuracy
from ..captioning.scoring import score_captions
from ..captioning.tasks import load_task
from ..captioning.user_objects import DESCRIBE
from ..classes import class_name
from ..pages import Picture, write_page
from ..representation.plots import embedding_figure, figure_picture, project
from ..representation.retrieval_benchmark import retrieval_table, run_retrieval
from ..representation.retrieval_pictures import gallery_picture, gallery_rows
from ..tables import Column, Table
from .common import OPTIONS, DemoResult, ask_about, embed_families, shipped_families
from .marked import MarkedAnswer, Marking, marked_tables

METRICS = ("bleu-1", "rouge-l")
_SHOWN = 120


def run_demo(model: Any, processor: Any, nerfs: Path, out: StrPath, *, progress: Progress = no_progress) -> DemoResult:
    """Do everything and write ``<out>/report.html``; embeddings stay in `out` and are not made again.

    Args:
        model, processor: a model and its processor, from `load_model`.
        nerfs: directory with ``objects.json`` and the families' NeRFs, see `llana_gmn.default.objects`.
        out: directory to write to.
        progress: receives what is being done, and how much of it.

    Raises:
        FileNotFoundError, ValueError: NeRFs or texts that are missing or broken.
    """
    started = time.perf_counter()
    out, objects = Path(out), default_objects(nerfs)
    marking = Marking.find(nerfs)
    marked: list[MarkedAnswer] = []
    kinds = {(each.class_id, each.nerf_id): each for each in objects}
    sets = embed_families(model, nerfs, out, progress)
    read = embed_families(model, nerfs, out, progress, tokens=True) if model.config.vectors_per_nerf > 1 else sets
    rows, page, places = [], [], []
    for directory, family in shipped_families(nerfs).items():
        members = sets[family]
        nothing = torch.zeros(1, *read[family].row_shape)
        captions, (without,) = (
            [text for (text,) in ask_about(model, processor, shown, [DESCRIBE], stage=stage, progress=progress)]
            for shown, stage in ((read[family].values, f"describing {family}"), (nothing, "without a NeRF"))
        )
        answers, records, questioned = _ask(model, processor, nerfs, directory, progress)
        rows.append(_row(family, members, captions, without, kinds, answers))
        for path, object_id, caption in zip(members.paths, members.object_ids, captions, strict=True):
            about = kinds[object_id]
            page.append(_record(about, family, caption))
            places.append(Path(path))
        page += records
        places += questioned
        asked = marking.ask(model, processor, family, read[family], progress)
        marked += asked
        page += [each.record() for each in asked]
        places += [Path(members.paths[members.object_ids.index(each.object_id)]) for each in asked]
    columns: list[str | Column] = ["Family", *(Column(name, digits=1) for name in _COLUMNS)]
    note = (
        "Shares of descriptions that name the class, and scores of answers to questions about the procedural objects."
    )
    tables = (
        *marked_tables(marked),
        Table("Unseen objects", columns, rows, note=note),
        retrieval_table(run_retrieval(sets), method="this encoder"),
    )
    pictures = [_space(sets, progress), *_galleries(sets, progress)]
    shown = answers_html(page, places, count=_SHOWN, progress=progress)
    write_page(out / "report.html", "Talking to NeRFs", tables=tables, pictures=pictures, more=shown)
    return DemoResult(tables, out / "report.html", time.perf_counter() - started)


_COLUMNS = (
    "class named, procedural (%)", "class named, real (%)", "without a NeRF (%)", "answers, BLEU-1", "answers, ROUGE-L",
)  # fmt: skip


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


def _ask(
    model: Any, processor: Any, nerfs: Path, directory: str, progress: Progress
) -> tuple[dict[str, float], list[dict[str, Any]], list[Path]]:
    """Scores, records and NeRFs of the questions about a family's procedural objects."""
    benchmark = load_benchmark(load_task("single_round"), nerfs, family=directory)
    given = {}
    for item, answers in answer(model, processor, benchmark.items, **OPTIONS):
        given[item.name] = answers
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
        "question": DESCRIBE,
        "ground_truth": reference,
        "model_output": caption,
        "scores": {},
    }
