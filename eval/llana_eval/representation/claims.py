"""What the encoder is good for, on objects that it never saw, beside what each of its parts is good for alone: one table.

    llana-gmn train-encoder --data SET --out RUNS/probes --config probes
    llana-gmn train-encoder --data SET --out RUNS/both --config probes_graph --init RUNS/probes/last
    python scripts/encoder_claims.py --data SET --encoders probes=RUNS/probes/last,both=RUNS/both/best

The set is that of ``scripts/make_training_set.py``, whose NeRFs all start from first weights of their own. With ``--variants DIR
--objects 650`` the test objects of ``procedural:650`` are fitted in architectures that nobody trains on, and from second first
weights, before they are measured. A method that was trained several times, from several seeds, is named several times.
``--short RUNS`` trains what `short_runs` says, and measures it. The tables are made of all that was ever measured into the same
``--out``: the JSON beside it is the record, and what stands in it is not measured again.

Shapes: N NeRFs, D embedding, K points.
"""

from __future__ import annotations

import functools
import json
import logging
import statistics
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gmn_encoder.datasets import ObjectId, PairedDataset
from gmn_encoder.embeddings.neighbours import nearest
from gmn_encoder.encoders.base import NerfEncoder, load_encoder
from gmn_encoder.encoders.gmn.encoder import GmnEncoder
from gmn_encoder.files import file_digest, write_bytes
from gmn_encoder.nerfs.architectures import paper_families
from gmn_encoder.nerfs.fields import BOX_MAX
from gmn_encoder.nerfs.probing import visible_field
from gmn_encoder.nerfs.record import Nerf, NerfBatch
from gmn_encoder.training.checkpoint import TRAINER_NAME, read_checkpoint
from gmn_encoder.training.representation.batches import TrainingBatch
from gmn_encoder.training.representation.model import TrainedModel
from gmn_encoder.training.representation.recipe import Recipe
from gmn_encoder.training.representation.validation import Validation

from ..tables import MISSING, Cell, Column, Table
from .claim_objects import Objects, load_fit
from .claim_record import Record
from .measures import STRENGTHS, explained_variance, linear_probe, mean_recall, probed_share
from .senses import Embed, cost_table, invariance_table, resolution_table
from .short_runs import RUNS, train_short
from .unseen import fit_unseen

logger = logging.getLogger(__name__)

_HEADER = """# What the encoder is good for: all tables

Made by `scripts/encoder_claims.py`; what it says is in [results.md](results.md). Nano NeRFs from first weights of their own:
{test} procedural objects and {real} meshes that no method was trained on; linear probes learnt from {train} procedural objects
and {real_train} meshes of the same classes. Recall, classes and dominant colours in percent; mean ± half the range where a
method has several runs. Measured {dates}; what a method lacks was not measured of it.
"""
_CLAIMS, _SHORT, _PAPER = "claims", "short", "paper"

_SHORT_NOTE = """L_C, L_R and both: probes alone, recipe `probes` with 15 epochs of 32 objects a step, fields asked at every
step, and 8 rays of each NeRF where it renders; points: the point regression. Graph networks: recipe `probes_graph` without
probes, 2 epochs of 12 objects a step, as it is and with one option each. Seed 0."""

FIELD_SIDE = 16
_BATCH, _SOME = 32, 13


@dataclass(frozen=True, kw_only=True)
class Claims:
    """What is measured, and where it is found.

    Attributes:
        data: data set of `fitting.training_set`.
        encoders: ``name=directory`` of each encoder, separated by commas; of equal names, the mean and the spread are told.
        out: file of the tables; the figures themselves go beside it, as JSON (`claim_record.Record`).
        variants: directory of other NeRFs of the test objects, ``NAME/.../class/id``; a name that lacks one is left out. None:
            without them.
        objects: the N of ``procedural:N`` of `data`, whose test objects are fitted for `variants` first; 0: those that are there.
        raw: whether the field on a grid of 16 points along each axis is measured too, with nothing learnt.
        detailed: directory of NeRFs of test objects at the paper's sizes, as many as there are: they are sought among the
            families, and it is told how much of them their answers at some points say; None: without them.
        decoder: checkpoint of a training run whose decoder is measured.
        short: directory of the runs of `short_runs`, which are trained and measured; None: without them.
        short_data: data set that these are trained on; None: `data`.
        short_names: which of them, separated by commas; none: all.
    """

    data: Path
    encoders: str = ""
    out: Path = Path("docs/encoder_claims.md")
    variants: Path | None = None
    objects: int = 0
    raw: bool = True
    detailed: Path | None = None
    decoder: Path | None = None
    short: Path | None = None
    short_data: Path | None = None
    short_names: str = ""


def measure_claims(claims: Claims) -> list[Table]:
    """Measure what the record beside `Claims.out` lacks; all tables, also written there.

    Raises:
        ValueError: encoders that are not named, unknown short runs, or a record of other objects.
    """
    if claims.variants and claims.objects:
        fit_unseen(claims.variants, claims.objects)
    objects = Objects.of(claims.data, claims.variants, claims.detailed)
    record = Record(claims.out.with_suffix(".json"), objects.digest)
    if claims.raw:
        _measure_into(record, _CLAIMS, "raw field", "", raw_field, objects)
    first: dict[str, Embed] = {}
    fingerprints: list[str] = []
    for each in filter(None, claims.encoders.split(",")):
        name, separator, directory = each.partition("=")
        if not separator:
            raise ValueError(f"--encoders has {each!r}; expected name=directory")
        encoder = load_encoder(directory)
        fingerprints.append(encoder.fingerprint())
        for variant, embed in methods(name, encoder).items():
            logger.info("%s: %s", variant, directory)
            _measure_into(record, _CLAIMS, variant, fingerprints[-1], embed, objects)
            first.setdefault(variant, embed)
    if claims.decoder and not record.rows(_CLAIMS, "decoder", digest := file_digest(claims.decoder / TRAINER_NAME)):
        record.add(_CLAIMS, "decoder", digest, decoder_psnr(claims.decoder, claims.data))
    if claims.short:
        _measure_short(record, claims, objects)
    tables = _tables(record, objects, first, fingerprints)
    counts = objects.counts()
    text = [_HEADER.format(**counts, dates=" and ".join(record.dates())), *(table.markdown() for table in tables)]
    claims.out.parent.mkdir(parents=True, exist_ok=True)
    write_bytes("\n".join(text).encode(), claims.out)
    return tables


def _measure_into(record: Record, group: str, method: str, encoder: str, embed: Embed, objects: Objects) -> None:
    """What the record lacks of a method; at the paper's sizes too, but of short runs."""
    for rows in measure(embed, objects, record.rows(group, method, encoder)):
        record.add(group, method, encoder, rows)
    if group == _CLAIMS and (rows := seek(embed, objects, record.rows(_PAPER, method, encoder))):
        record.add(_PAPER, method, encoder, rows)


def _measure_short(record: Record, claims: Claims, objects: Objects) -> None:
    for name in filter(None, claims.short_names.split(",")) if claims.short_names else RUNS:
        logger.info("short run %s", name)
        encoder = load_encoder(train_short(name, claims.short_data or claims.data, claims.short or ""))
        _measure_into(record, _SHORT, name, encoder.fingerprint(), methods(name, encoder)[name], objects)


def _tables(
    record: Record, objects: Objects, encoders: Mapping[str, Embed], fingerprints: Sequence[str]
) -> list[Table]:
    """All tables of a record: of its figures, and those of `senses`, made anew where what they are of changed."""
    some = {family: objects.nerfs(family, objects.test[:_SOME]) for family in paper_families()}
    detailed: dict[str, list[Nerf]] = {}
    for nerf in map(load_fit, objects.detailed):
        detailed.setdefault(f"{nerf.family}, the paper's sizes", []).append(nerf)
    named = [path.parts[-4:] for path in objects.detailed]
    made = [
        record.table("invariances", fingerprints, lambda: invariance_table(encoders, some)),
        record.table("cost", "the paper's sizes", cost_table),
        record.table("resolution", named, lambda: resolution_table({**some, **detailed})),
    ]
    tables = [claims_table(record.found(_CLAIMS), "What embeddings of objects never seen are good for")]
    if found := record.found(_PAPER):
        tables.append(paper_table(found))
    tables += made
    if found := record.found(_SHORT):
        found = {name: found[name] for name in RUNS if name in found}
        tables.append(claims_table(found, "Short runs: losses, and graph networks without probes", note=_SHORT_NOTE))
    return tables


def methods(name: str, encoder: NerfEncoder) -> dict[str, Embed]:
    """An encoder's embeddings; of one with both senses, what its graph network adds, alone, too."""
    found: dict[str, Embed] = {name: lambda nerfs: encoder.encode(nerfs, batch_size=_BATCH)}
    if isinstance(encoder, GmnEncoder) and encoder.probes is not None and (head := encoder.head) is not None:

        def of_graph(nerfs: Sequence[Nerf]) -> Tensor:
            def step(batch: NerfBatch) -> Tensor:
                reading = encoder.read(batch)
                return head(reading.readouts, reading.families)

            return encoder.in_batches(step, nerfs, shape=(encoder.embedding_dim,), batch_size=_BATCH)

        found[f"{name}, graph term"] = of_graph
    return found


def raw_field(nerfs: Sequence[Nerf]) -> Tensor:
    """What NeRFs show at the centres of `FIELD_SIDE` cells along each axis, nothing learnt: ``(N, 4 * FIELD_SIDE ** 3)``."""
    centres = ((torch.arange(FIELD_SIDE) + 0.5) / FIELD_SIDE * 2 - 1) * BOX_MAX
    points = torch.cartesian_prod(centres, centres, centres)
    return torch.cat([visible_field(NerfBatch.stack([nerf]), points).flatten(1) for nerf in nerfs])


def measure(embed: Embed, objects: Objects, known: Collection[str] = ()) -> Iterator[dict[str, float]]:
    """Everything that a method is measured by, a few rows at a time; recall and shares in percent.

    Args:
        embed: the method.
        objects: what it is measured on.
        known: rows that are left out.
    """
    families = paper_families()

    @functools.cache
    def of(members: Sequence[ObjectId]) -> dict[str, Tensor]:
        return {family: embed(objects.nerfs(family, members)) for family in families}

    if (name := "recall@1, six pairs of families") not in known:
        yield {name: mean_recall(of(objects.test), of(objects.test))}
    for variant, paths in objects.others.items():
        if (name := f"recall@1, {variant} among the families") not in known:
            yield {name: mean_recall({variant: embed([load_fit(path) for path in paths])}, of(objects.test))}
    if (name := "recall@1, meshes held out") not in known:
        yield {name: mean_recall(of(objects.real), of(objects.real))}
    if _PROBED in known:
        return
    train, test = of(objects.train), of(objects.test)
    strength = _strength(objects, train, of(objects.val))
    yield _classes(objects, train, test, of(objects.real), of(objects.real_train), strength)
    yield _colours(objects, train, test, strength)


_PROBED = "dominant colour of 11"
"""The last row: where it is known, so is all that linear probes tell."""


def seek(embed: Embed, objects: Objects, known: Collection[str] = ()) -> dict[str, float]:
    """The share of families, in percent, among whose NeRFs of the test objects that of its own object is the nearest one.

    Args:
        embed: the method.
        objects: what is sought, `Objects.detailed`, each by its architecture, class and name.
        known: what is left out.
    """
    paths = {f"{load_fit(path).architecture.name}/{'/'.join(path.parts[-2:])}": path for path in objects.detailed}
    paths = {name: path for name, path in paths.items() if name not in known}
    if not paths:
        return {}
    queries = torch.cat([embed([load_fit(path)]) for path in paths.values()])
    right = torch.tensor(objects.rows(list(paths.values())))
    galleries = [embed(objects.nerfs(family, objects.test)) for family in paper_families()]
    hits = torch.stack([nearest(queries, gallery, 1)[1][:, 0] == right for gallery in galleries])
    return dict(zip(paths, (100 * hits.double().mean(dim=0)).tolist(), strict=True))


def _strength(objects: Objects, train: Mapping[str, Tensor], val: Mapping[str, Tensor]) -> float:
    """The strength of linear probes that finds most classes of the validation objects, within families."""
    labels, expected = ([class_id for class_id, _ in members] for members in (objects.train, objects.val))

    def right(strength: float) -> float:
        return sum(probed_share(train[f], labels, val[f], expected, strength=strength) for f in train)

    return max(STRENGTHS, key=right)


def _classes(
    objects: Objects,
    train: Mapping[str, Tensor],
    test: Mapping[str, Tensor],
    real: Mapping[str, Tensor],
    real_train: Mapping[str, Tensor],
    strength: float,
) -> dict[str, float]:
    """Linear probes of the class: within a family and across, and of the held-out meshes that have one of the classes."""
    labels, expected = ([class_id for class_id, _ in members] for members in (objects.train, objects.test))
    share = {(a, b): probed_share(train[a], labels, test[b], expected, strength=strength) for a in train for b in test}
    found = {
        "class, same family": statistics.fmean(value for (a, b), value in share.items() if a == b),
        "class, other family": statistics.fmean(value for (a, b), value in share.items() if a != b),
    }
    rows = [row for row, (class_id, _) in enumerate(objects.real) if class_id in set(labels)]
    if rows and objects.real_train:
        expected = [objects.real[row][0] for row in rows]
        made, other = torch.cat(list(train.values())), torch.cat(list(real_train.values()))
        others = labels * len(train) + [class_id for class_id, _ in objects.real_train] * len(real_train)
        for name, known, taught in (
            ("procedural objects", made, labels * len(train)),
            ("both kinds of objects", torch.cat([made, other]), others),
        ):
            shares = [probed_share(known, taught, each[rows], expected, strength=strength) for each in real.values()]
            found[f"class of {len(rows)} meshes held out, from {name}"] = statistics.fmean(shares)
    return found


def _colours(
    objects: Objects, train: Mapping[str, Tensor], test: Mapping[str, Tensor], strength: float
) -> dict[str, float]:
    """Linear probes of the object's mean colour and of its dominant one, in the same family."""
    truth = [objects.colours(members) for members in (objects.train, objects.test)]
    means = [torch.stack([mean for mean, _ in each]) for each in truth]
    names = [[name for _, name in each] for each in truth]
    found = {f: linear_probe(train[f], means[0], test[f], strength=strength) for f in train}
    shares = [probed_share(train[f], names[0], test[f], names[1], strength=strength) for f in train]
    return {
        "mean colour, R2": statistics.fmean(explained_variance(each, means[1]) for each in found.values()),
        _PROBED: statistics.fmean(shares),
    }


def decoder_psnr(checkpoint: Path, data: Path) -> dict[str, float]:
    """PSNR of rays that hit the object, decoded from the embeddings of test objects, and of the mean of these embeddings.

    Args:
        checkpoint: directory of a training run's checkpoint, with its ``trainer.pth``.
        data: the data set.
    """
    content = read_checkpoint(checkpoint / TRAINER_NAME, ("encoder", "decoder"))
    recipe = Recipe.from_dict(json.loads(content["recipe"]), source=checkpoint).changed(watch=(), validation_objects=0)
    model = TrainedModel(recipe).eval()
    model.encoder.load_state_dict(content["encoder"])
    if model.decoder is None:
        raise ValueError(f"{checkpoint}: its recipe trains no decoder; expected the loss r or a point regression")
    model.decoder.load_state_dict(content["decoder"])
    validation = Validation(PairedDataset(data, recipe.families, split="test"), recipe)
    seen: list[Tensor] = []
    own = model.embed

    def keep(batch: TrainingBatch) -> Tensor:
        seen.append(own(batch))
        return seen[-1]

    model.embed = keep  # type: ignore[method-assign]
    found = {"decoder's PSNR of rays, dB": validation.run(model)["psnr"]}
    mean = torch.cat(seen).mean(dim=0)
    model.embed = lambda batch: mean.expand(len(batch), -1)  # type: ignore[method-assign]
    return found | {"the same from the mean embedding, dB": validation.run(model)["psnr"]}


def claims_table(found: Mapping[str, Sequence[Mapping[str, float]]], title: str, *, note: str = "") -> Table:
    """A row for each measure; several runs of a method as mean ± half the range."""
    names = list(dict.fromkeys(name for runs in found.values() for run in runs for name in run))
    names.sort(key=_order)
    columns = (Column("on objects never seen"), *(Column(name) for name in found))
    rows = tuple(
        (name, *(_cell([run[name] for run in runs if name in run], name) for runs in found.values())) for name in names
    )
    return Table(title, columns, rows, note)


def _order(name: str) -> tuple[int, str]:
    """Other NeRFs of the test objects together, by name; all else as it is measured."""
    other = name.endswith(" among the families")
    return (1, name) if other else (0 if name.endswith("pairs of families") else 2, "")


def _cell(values: Sequence[float], name: str) -> str:
    digits = 2 if "R2" in name else 1
    if not values:
        return MISSING
    spread = f" ± {(max(values) - min(values)) / 2:.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.{digits}f}{spread}"


def paper_table(found: Mapping[str, Sequence[Mapping[str, float]]]) -> Table:
    """A row for each architecture whose NeRFs were sought (`seek`), and one for all of them."""
    sought = list(dict.fromkeys(name for runs in found.values() for run in runs for name in run))
    groups: dict[str, list[str]] = {"all": sought}
    for name in sorted(sought, key=lambda name: name.split("/")):
        groups.setdefault(name.partition("/")[0], []).append(name)

    def cell(runs: Sequence[Mapping[str, float]], names: Sequence[str]) -> str:
        whole = [run for run in runs if run.keys() >= set(names)]
        return _cell([statistics.fmean(run[name] for name in names) for run in whole], "")

    rows: list[tuple[Cell, ...]] = [
        (name, len(of), *(cell(runs, of) for runs in found.values())) for name, of in groups.items()
    ]
    columns = ["architecture", "NeRFs", *found]
    return Table("Recall@1 of NeRFs of the paper's own sizes among the nano NeRFs of all test objects", columns, rows)
