"""The paper's claims about the losses, on data of our own: classification, retrieval, unseen architectures, another domain.

    llana-gmn fit procedural:910 --architecture MLP-nano,TRI-nano,HASH-nano --quality nano --batch 13 --out DATA
    llana-gmn fit MESHES... --architecture MLP-nano,TRI-nano,HASH-nano --quality nano --batch 13 --out REAL
    llana-gmn train-encoder --data DATA --out RUNS/rc --loss rc --config nano     (and r, c)
    python scripts/encoder_claims.py --data DATA --real REAL --runs RUNS --work WORK --out docs

Paper: Tables 2/15 and 3 (classification), 6/17 (retrieval), 4/16 (unseen architectures), 7/18 (another domain), Fig. 3.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from gmn_encoder.datasets import NerfDataset, ObjectId
from gmn_encoder.embeddings.cache import EmbeddingCache
from gmn_encoder.embeddings.records import EmbeddingSet, join_embeddings
from gmn_encoder.encoders.base import load_encoder
from gmn_encoder.files import write_bytes, write_json
from gmn_encoder.fitting.job import FitJob
from gmn_encoder.fitting.output import nerf_directory, split_of
from gmn_encoder.fitting.presets import preset
from gmn_encoder.fitting.sources import find_sources
from gmn_encoder.nerfs.architectures import FAMILY_NAMES, NANO_ARCHITECTURES, NerfArchitecture, parse_architecture
from gmn_encoder.objects import ViewSettings

from ..tables import Table, published_table
from .classification_benchmark import classification_table, evaluate_classifier, run_classification, training_sets
from .classifier_training import ClassifierOptions
from .plots import embedding_figure, project, save_figure
from .retrieval_benchmark import retrieval_table, run_retrieval

logger = logging.getLogger(__name__)

LOSSES = {"r": "L_R", "rc": "L_R+C", "c": "L_C"}
PUBLISHED = {"classification": 2, "retrieval": 17, "unseen architectures": 4, "real objects, retrieval": 18}
"""Kind of measurement -> number of the paper's table."""

CHANGES = {
    "MLP-nano": {"1L": {"hidden_layers": 1}, "16H": {"hidden_dim": 16}},
    "TRI-nano": {
        "1L": {"hidden_layers": 1}, "16H": {"hidden_dim": 16}, "8W": {"resolution": 8}, "2C": {"channels": 2},
    },
    "HASH-nano": {
        "1L": {"hidden_layers": 1}, "16H": {"hidden_dim": 16}, "2N": {"levels": 2}, "8T": {"log2_table_size": 8},
    },
}  # fmt: skip
"""What the paper's ten unseen architectures change (Table 14), made smaller as the nano ones are."""

_BATCH = 16


@dataclass(frozen=True, kw_only=True)
class Claims:
    """What is measured, and where it is found.

    Attributes:
        data: NeRFs of procedural objects with split lists.
        runs: directory of the encoders, ``<loss>/best`` each.
        work: directory for embeddings, unseen NeRFs and classifiers, which are not made again.
        out: directory for the t-SNE pictures and the tables.
        real: NeRFs of objects that other people made; None: without them.
        losses: names of the runs, separated by commas.
        objects: the N of ``procedural:N`` of `data`, for the unseen architectures; 0: without them.
        batch: NeRFs of unseen architectures that are fitted at once.
        epochs: epochs of the classifiers.
        learning_rate: learning rate of the classifiers; the released one, 1e-4, needs more data.
        batch_size: batch size of the classifiers.
    """

    data: Path
    runs: Path
    work: Path
    out: Path = Path("docs")
    real: Path | None = None
    losses: str = ",".join(LOSSES)
    objects: int = 0
    batch: int = 13
    epochs: int = 150
    learning_rate: float = 1e-3
    batch_size: int = 64

    @property
    def classifier(self) -> ClassifierOptions:
        return ClassifierOptions(epochs=self.epochs, learning_rate=self.learning_rate, batch_size=self.batch_size)


def measure_claims(claims: Claims) -> dict[str, Table]:
    """Kind of measurement -> a table with rows for each loss; classes and objects are those of the data.

    Also writes ``encoder_claims.md``, ``encoder_claims.json`` and a picture of each loss's test embeddings into `claims.out`.
    """
    if claims.objects:
        fit_unseen(claims.work / "unseen", claims.objects, batch=claims.batch)
    found = [measure_loss(loss, claims) for loss in claims.losses.split(",")]
    tables = {kind: _joined([tables[kind] for tables in found]) for kind in found[0]}
    text = []
    for kind, table in tables.items():
        text += [f"### {kind[0].upper()}{kind[1:]}\n", table.markdown()]
        if kind in PUBLISHED:
            published = published_table(PUBLISHED[kind]).markdown()
            text.append(f"The paper's, at its sizes and on ShapeNet:\n\n{published}")
    write_bytes("\n".join(text).encode(), claims.out / "encoder_claims.md")
    content = {kind: table.to_dict() for kind, table in tables.items()}
    write_json({"classifier": asdict(claims.classifier), "tables": content}, claims.out / "encoder_claims.json")
    return tables


def measure_loss(loss: str, claims: Claims) -> dict[str, Table]:
    """The tables of the encoder that one loss has trained, by kind, and its picture."""
    method, keep = LOSSES[loss], claims.work / loss
    cache = EmbeddingCache(keep, load_encoder(claims.runs / loss / "best"), batch_size=_BATCH)
    train, val, test = (embed_families(cache, claims.data, split) for split in ("train", "val", "test"))
    others: dict[str, dict[str, EmbeddingSet]] = {}
    if claims.objects:
        objects = NerfDataset(claims.data / next(iter(FAMILY_NAMES)), "test").object_ids
        others["unseen architectures"] = embed_unseen(cache, claims.work / "unseen", objects)
    if claims.real:
        others["real objects, classification"] = embed_families(cache, claims.real)
    runs, classes, chosen = [], {each for members in train.values() for each in members.class_ids}, training_sets(val)
    elsewhere: dict[str, list] = {kind: [] for kind in others}
    for name, members in training_sets(train).items():
        place = keep / "classifiers" / name
        runs.append(
            run_classification(members, chosen[name], test, trained_on=name, options=claims.classifier, out=place)
        )
        logger.info("%s: the classifier trained on %s is measured", method, name)
        for kind, sets in others.items():
            elsewhere[kind].append(evaluate_classifier(place, _of_classes(sets, classes)))
    tables = {"classification": classification_table(runs, method=method)}
    tables |= {kind: classification_table(each, method=method) for kind, each in elsewhere.items()}
    tables["retrieval"] = retrieval_table(run_retrieval(test), method=method)
    if claims.real:
        real = others["real objects, classification"]
        tables["real objects, retrieval"] = retrieval_table(run_retrieval(real), method=method)
    points = join_embeddings(test.values())
    figure = embedding_figure(project(points.values, seed=0), points, title=f"{method}, test objects")
    save_figure(figure, claims.out / f"tsne_{loss}.png")
    return tables


def unseen_architectures() -> dict[str, NerfArchitecture]:
    """Name -> architecture: fewer layers, narrower ones, smaller planes, fewer channels, levels and entries."""
    return {
        name.replace("nano", suffix): parse_architecture({**NANO_ARCHITECTURES[name].to_dict(), **change})
        for name, changes in CHANGES.items()
        for suffix, change in changes.items()
    }


def fit_unseen(out: Path, objects: int, *, batch: int) -> None:
    """Fit the test objects of ``procedural:<objects>`` in every unseen architecture."""
    settings = {each: preset("nano", each.family) for each in unseen_architectures().values()}
    first = next(iter(settings.values()))
    views = ViewSettings(n_views=first.views, size=first.size)
    sources = [s for s in find_sources(f"procedural:{objects}", settings=views) if split_of(s.index or 0) == "test"]
    FitJob(out=out, settings=settings, batch=batch).run(sources)


def embed_unseen(cache: EmbeddingCache, data: Path, objects: Sequence[ObjectId]) -> dict[str, EmbeddingSet]:
    """Name of an unseen architecture -> embeddings of its NeRFs of some objects."""
    sets = {}
    for name, architecture in unseen_architectures().items():
        paths = [nerf_directory(data, architecture, *each) for each in objects]
        sets[name] = _reported(cache.embed(paths, family=name, architecture=architecture))
    return sets


def embed_families(cache: EmbeddingCache, data: Path, split: str | None = None) -> dict[str, EmbeddingSet]:
    """Name of a family -> embeddings of its NeRFs in a split, or of all that are there."""
    return {name: _reported(cache.embed_family(data / family, split=split)) for family, name in FAMILY_NAMES.items()}


def _reported(members: EmbeddingSet) -> EmbeddingSet:
    for message in members.problems:
        logger.warning("%s", message)
    return members


def _of_classes(sets: Mapping[str, EmbeddingSet], classes: set[str]) -> dict[str, EmbeddingSet]:
    """Only the objects of classes that a classifier knows."""
    return {n: s.select([i for i, c in enumerate(s.class_ids) if c in classes]) for n, s in sets.items()}


def _joined(tables: Sequence[Table]) -> Table:
    """The rows of several losses in one table, in the order of the groups."""
    first = tables[0]
    rows = list(dict.fromkeys(tuple(row) for table in tables for row in table.rows))
    if first.group_by is not None:
        group = [each["name"] for each in first.to_dict()["columns"]].index(first.group_by)
        order = list(dict.fromkeys(row[group] for row in rows))
        rows.sort(key=lambda row: order.index(row[group]))
    return replace(first, rows=rows)
