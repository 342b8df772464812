"""The paper's claims about the losses, on data of our own: classification, retrieval, unseen architectures, another domain.

    llana-gmn fit procedural:910 --architecture MLP-nano,TRI-nano,HASH-nano --quality nano --batch 13 --out DATA
    llana-gmn fit MESHES... --architecture MLP-nano,TRI-nano,HASH-nano --quality nano --batch 13 --out REAL
    llana-gmn train-encoder --data DATA --out RUNS/rc --loss rc --config nano     (and r, c)
    python scripts/encoder_claims.py --data DATA --real REAL --runs RUNS --work WORK --out docs

Writes encoder_claims.md and .json, and a t-SNE picture of each loss's test embeddings. Embeddings, unseen NeRFs and classifiers
are kept in WORK and not made again. Classes and objects are those of the data: the table says how many.

Paper: Tables 2/15 and 3 (classification), 6/17 (retrieval), 4/16 (unseen architectures), 7/18 (another domain), Fig. 3.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from gmn_encoder import load_encoder
from gmn_encoder.datasets import NerfDataset
from gmn_encoder.embeddings.cache import EmbeddingCache
from gmn_encoder.embeddings.records import EmbeddingSet, join_embeddings
from gmn_encoder.files import write_bytes, write_json
from gmn_encoder.fitting.job import FitJob
from gmn_encoder.fitting.output import nerf_directory, split_of
from gmn_encoder.fitting.presets import preset
from gmn_encoder.fitting.sources import find_sources
from gmn_encoder.nerfs.architectures import FAMILY_NAMES, NANO_ARCHITECTURES, NerfArchitecture, parse_architecture
from gmn_encoder.objects import ViewSettings
from llana_eval.representation.classification_benchmark import (
    classification_table,
    evaluate_classifier,
    run_classification,
    training_sets,
)
from llana_eval.representation.classifier_training import ClassifierOptions
from llana_eval.representation.plots import embedding_figure, project, save_figure
from llana_eval.representation.retrieval_benchmark import retrieval_table, run_retrieval
from llana_eval.tables import Table, published_table

LOSSES = {"r": "L_R", "rc": "L_R+C", "c": "L_C"}
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


def unseen_architectures() -> dict[str, NerfArchitecture]:
    """Name -> architecture: fewer layers, narrower ones, smaller planes, fewer channels, levels and entries."""
    found = {}
    for name, changes in CHANGES.items():
        for suffix, change in changes.items():
            sizes = {**NANO_ARCHITECTURES[name].to_dict(), **change}
            found[name.replace("nano", suffix)] = parse_architecture(sizes)
    return found


def fit_unseen(out: Path, objects: int, batch: int) -> None:
    """The test objects in every unseen architecture."""
    settings = {each: preset("nano", each.family) for each in unseen_architectures().values()}
    first = next(iter(settings.values()))
    views = ViewSettings(n_views=first.views, size=first.size)
    sources = [s for s in find_sources(f"procedural:{objects}", settings=views) if split_of(s.index or 0) == "test"]

    def note(text: str, done: int, total: int, psnr: str) -> None:
        if done == total:
            print(f"  {text}: {psnr}", flush=True)

    FitJob(out=out, settings=settings, batch=batch, progress=note).run(sources)


def embed_unseen(cache: EmbeddingCache, out: Path, object_ids: list[tuple[str, str]]) -> dict[str, EmbeddingSet]:
    """Name of the architecture -> embeddings of the test objects."""
    sets = {}
    for name, architecture in unseen_architectures().items():
        paths = [nerf_directory(out, architecture, *each) for each in object_ids]
        sets[name] = cache.embed(paths, family=name, architecture=architecture)
        for message in sets[name].problems:
            print(message)
    return sets


def embed(cache: EmbeddingCache, data: Path, split: str | None) -> dict[str, EmbeddingSet]:
    sets = {}
    for family, name in FAMILY_NAMES.items():
        sets[name] = cache.embed_family(data / family, split=split)
        for message in sets[name].problems:
            print(message)
    return sets


def known_classes(sets: Mapping[str, EmbeddingSet], classes: set[str]) -> dict[str, EmbeddingSet]:
    """Only the objects of classes that a classifier knows."""
    return {n: s.select([i for i, c in enumerate(s.class_ids) if c in classes]) for n, s in sets.items()}


def measure(loss: str, arguments: argparse.Namespace, options: ClassifierOptions) -> dict[str, list[Table]]:
    """All tables of one loss, and its picture."""
    method, keep = LOSSES[loss], arguments.work / loss
    cache = EmbeddingCache(keep, load_encoder(arguments.runs / loss / "best"), batch_size=16)
    train, val, test = (embed(cache, arguments.data, split) for split in ("train", "val", "test"))
    real = embed(cache, arguments.real, None) if arguments.real else {}
    unseen = {}
    if arguments.objects:
        members = NerfDataset(arguments.data / "mlp", "test").object_ids
        unseen = embed_unseen(cache, arguments.work / "unseen", members)
    sizes = {"train": train, "val": val, "test": test, **({"real": real} if real else {})}
    print(f"{method}: " + ", ".join(f"{len(each['MLP'])} {name}" for name, each in sizes.items()), flush=True)
    runs, elsewhere, others = [], [], []
    classes = set(train["MLP"].class_ids)
    chosen = training_sets(val)
    for name, members in training_sets(train).items():
        runs.append(
            run_classification(
                members, chosen[name], test, trained_on=name, options=options, out=keep / "classifiers" / name
            )
        )
        print(
            f"  classifier on {name}: { ({k: round(100 * v.accuracy, 1) for k, v in runs[-1].tests.items()}) }",
            flush=True,
        )
        if real:
            elsewhere.append(evaluate_classifier(keep / "classifiers" / name, known_classes(real, classes)))
        if unseen:
            others.append(evaluate_classifier(keep / "classifiers" / name, unseen))
    tables = {"classification": [classification_table(runs, method=method)]}
    if others:
        tables["unseen architectures"] = [classification_table(others, method=method)]
    if elsewhere:
        tables["real objects, classification"] = [classification_table(elsewhere, method=method)]
    tables["retrieval"] = [retrieval_table(run_retrieval(test), method=method)]
    if real:
        tables["real objects, retrieval"] = [retrieval_table(run_retrieval(real), method=method)]
    everything = join_embeddings(test.values())
    figure = embedding_figure(project(everything.values, seed=0), everything, title=f"{method}, test objects")
    save_figure(figure, arguments.out / f"tsne_{loss}.png")
    return tables


def merged(tables: list[Table]) -> Table:
    """The rows of several losses in one table."""
    first, rows = tables[0], []
    for table in tables:
        rows += [row for row in table.rows if row not in rows]
    if first.group_by is not None:
        group = [column.name for column in first.columns].index(first.group_by)
        order = list(dict.fromkeys(row[group] for row in rows))
        rows.sort(key=lambda row: order.index(row[group]))
    return Table(first.title, first.columns, rows, note=first.note, group_by=first.group_by)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--real", type=Path, help="NeRFs of objects that other people made")
    parser.add_argument("--runs", type=Path, required=True, help="holds the encoders: r/best, rc/best, c/best")
    parser.add_argument("--losses", default="r,rc,c")
    parser.add_argument(
        "--objects", type=int, default=0, help="N of procedural:N, for the unseen architectures; 0: without them"
    )
    parser.add_argument("--batch", type=int, default=13)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("docs"))
    parser.add_argument("--epochs", type=int, default=150)
    parser.add_argument(
        "--learning-rate", type=float, default=1e-3, help="of the classifiers; 1e-4 as released needs more data"
    )
    parser.add_argument("--batch-size", type=int, default=64)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    if arguments.objects:
        fit_unseen(arguments.work / "unseen", arguments.objects, arguments.batch)
    options = ClassifierOptions(
        epochs=arguments.epochs, learning_rate=arguments.learning_rate, batch_size=arguments.batch_size
    )
    found = {loss: measure(loss, arguments, options) for loss in arguments.losses.split(",")}
    kinds = list(next(iter(found.values())))
    tables = {kind: merged([table for loss in found for table in found[loss][kind]]) for kind in kinds}
    paper = {"classification": 2, "retrieval": 17, "unseen architectures": 4, "real objects, retrieval": 18}
    text = []
    for kind, table in tables.items():
        text += [f"### {kind[0].upper()}{kind[1:]}\n", table.markdown()]
        if kind in paper:
            text += [f"The paper's, at its sizes and on ShapeNet:\n\n{published_table(paper[kind]).markdown()}"]
    write_bytes("\n".join(text).encode(), arguments.out / "encoder_claims.md")
    write_json(
        {"classifier": asdict(options), "tables": {kind: table.to_dict() for kind, table in tables.items()}},
        arguments.out / "encoder_claims.json",
    )
    print("\n".join(table.markdown() for table in tables.values()))


if __name__ == "__main__":
    main()
