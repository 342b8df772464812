"""What the encoder is good for, on objects that it never saw, beside what each of its parts is good for alone: one table.

    llana-gmn train-encoder --data SET --out RUNS/probes --config probes
    llana-gmn train-encoder --data SET --out RUNS/both --config probes_graph --init RUNS/probes/last
    python scripts/encoder_claims.py --data SET --encoders probes=RUNS/probes/last,both=RUNS/both/best

The set is that of ``scripts/make_training_set.py``, whose NeRFs all start from first weights of their own. With ``--variants DIR
--objects 650`` the test objects of ``procedural:650`` are fitted in architectures that nobody trains on, and from second first
weights, before they are measured. A method that was trained several times, from several seeds, is named several times.

Shapes: N NeRFs, D embedding, K points.
"""

from __future__ import annotations

import json
import logging
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gmn_encoder.datasets import ObjectId, PairedDataset
from gmn_encoder.embeddings.neighbours import nearest
from gmn_encoder.encoders.base import NerfEncoder, load_encoder
from gmn_encoder.encoders.gmn.encoder import GmnEncoder
from gmn_encoder.files import read_json, write_bytes, write_json
from gmn_encoder.fitting.output import FIT_NAME
from gmn_encoder.fitting.training_set import REAL_TEST
from gmn_encoder.nerfs.architectures import paper_families
from gmn_encoder.nerfs.fields import BOX_MAX
from gmn_encoder.nerfs.files import find_nerfs, load_nerf
from gmn_encoder.nerfs.probing import visible_field
from gmn_encoder.nerfs.record import Nerf, NerfBatch
from gmn_encoder.training.checkpoint import TRAINER_NAME, read_checkpoint
from gmn_encoder.training.representation.batches import TrainingBatch
from gmn_encoder.training.representation.model import TrainedModel
from gmn_encoder.training.representation.recipe import Recipe
from gmn_encoder.training.representation.validation import Validation

from ..tables import MISSING, Column, Table
from .measures import STRENGTHS, explained_variance, linear_probe, mean_recall, object_colours, probed_share
from .senses import Embed, cost_table, invariance_table, resolution_table
from .unseen import fit_unseen

logger = logging.getLogger(__name__)

_HEADER = """# What the encoder is good for: all tables

Made by `scripts/encoder_claims.py`; what it says is in [results.md](results.md). Nano NeRFs from first weights of their own:
{test} procedural objects and {real} meshes that no method was trained on; linear probes learnt from {train} procedural objects
and {real_train} meshes of the same classes. Recall, classes and dominant colours in percent; mean ± half the range where a
method has several runs.
"""

FIELD_SIDE = 16
_BATCH, _SOME = 32, 13


@dataclass(frozen=True, kw_only=True)
class Claims:
    """What is measured, and where it is found.

    Attributes:
        data: data set of `fitting.training_set`.
        encoders: ``name=directory`` of each encoder, separated by commas; of equal names, the mean and the spread are told.
        out: file of the tables; the figures themselves go beside it, as JSON.
        variants: directory of other NeRFs of the test objects, ``NAME/.../class/id``; a name that lacks one is left out. None:
            without them.
        objects: the N of ``procedural:N`` of `data`, whose test objects are fitted for `variants` first; 0: those that are there.
        raw: whether the field on a grid of 16 points along each axis is measured too, with nothing learnt.
        detailed: directory of NeRFs of test objects at the paper's sizes, as many as there are: they are sought among the
            families, and it is told how much of them their answers at some points say; None: without them.
        decoder: checkpoint of a training run whose decoder is measured.
    """

    data: Path
    encoders: str
    out: Path = Path("docs/encoder_claims.md")
    variants: Path | None = None
    objects: int = 0
    raw: bool = True
    detailed: Path | None = None
    decoder: Path | None = None


def measure_claims(claims: Claims) -> list[Table]:
    """All tables; also writes them to `Claims.out` and the figures as JSON beside it."""
    if claims.variants and claims.objects:
        fit_unseen(claims.variants, claims.objects)
    objects = Objects.of(claims.data, claims.variants, claims.detailed)
    found: dict[str, list[dict[str, float]]] = {}
    if claims.raw:
        found["raw field"] = [measure(raw_field, objects)]
    first: dict[str, Embed] = {}
    for each in claims.encoders.split(","):
        name, separator, directory = each.partition("=")
        if not separator:
            raise ValueError(f"--encoders has {each!r}; expected name=directory")
        for variant, embed in methods(name, load_encoder(directory)).items():
            logger.info("%s: %s", variant, directory)
            found.setdefault(variant, []).append(measure(embed, objects))
            first.setdefault(variant, embed)
    some = {family: objects.nerfs(family, objects.test[:_SOME]) for family in paper_families()}
    if claims.decoder:
        found.setdefault("decoder", []).append(decoder_psnr(claims.decoder, claims.data))
    tables = [
        claims_table(found),
        invariance_table(first, some),
        cost_table(),
        resolution_table({**some, **objects.detailed_by_family()}),
    ]
    claims.out.parent.mkdir(parents=True, exist_ok=True)
    counts = objects.counts()
    text = [_HEADER.format(**counts), *(table.markdown() for table in tables)]
    write_bytes("\n".join(text).encode(), claims.out)
    content = {"objects": counts, "found": found, "tables": [table.to_dict() for table in tables]}
    write_json(content, claims.out.with_suffix(".json"))
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


@dataclass(frozen=True)
class Objects:
    """The NeRFs that are measured on, by what they are for.

    Attributes:
        data: the data set.
        train, real_train: procedural and other people's objects that are trained on, as far as these have one of the classes.
        val: those that the strength of a method's linear probes is chosen on.
        test, real: those that are not.
        others: name -> other NeRFs of the test objects, in their order: other first weights, other architectures.
        detailed: NeRFs of some test objects at other sizes, with their directories.
    """

    data: Path
    train: tuple[ObjectId, ...]
    real_train: tuple[ObjectId, ...]
    val: tuple[ObjectId, ...]
    test: tuple[ObjectId, ...]
    real: tuple[ObjectId, ...]
    others: Mapping[str, Sequence[Path]]
    detailed: tuple[tuple[Path, Nerf], ...] = ()

    @classmethod
    def of(cls, data: Path, variants: Path | None = None, detailed: Path | None = None) -> Objects:
        """What a data set has, with other NeRFs of its test objects; directories as of `Claims`.

        Raises `FileNotFoundError` or `ValueError` for one without its lists.
        """
        families = paper_families()
        test = PairedDataset(data, families, split="test").object_ids
        classes = {class_id for class_id, _ in test}
        train = PairedDataset(data, families, split="train").object_ids
        procedural = {name.rpartition("-")[0] for _, name in test}
        made = tuple(each for each in train if each[1].rpartition("-")[0] in procedural)
        held = PairedDataset(data, families, split=str(data / REAL_TEST)).object_ids
        others: dict[str, list[Path]] = {}
        for each in sorted(variants.iterdir()) if variants else ():
            places = {(path.parent.name, path.name): path for path in find_nerfs(each)}
            if all(name in places for name in test):
                others[each.name] = [places[name] for name in test]
        return cls(
            data,
            made,
            tuple(each for each in train if each not in set(made) and each[0] in classes),
            tuple(PairedDataset(data, families, split="val").object_ids),
            tuple(test),
            tuple(held),
            others,
            tuple(
                (path, load_fit(path))
                for path in (find_nerfs(detailed) if detailed else ())
                if path.parts[-2:] in set(test)
            ),
        )

    def detailed_by_family(self) -> dict[str, list[Nerf]]:
        """Those of `detailed`, by the name of their family."""
        found: dict[str, list[Nerf]] = {}
        for _, nerf in self.detailed:
            found.setdefault(f"{nerf.family}, the paper's sizes", []).append(nerf)
        return found

    def counts(self) -> dict[str, int]:
        names = ("train", "real_train", "test", "real", "detailed")
        return {name: len(getattr(self, name)) for name in names}

    def nerfs(self, family: str, objects: Sequence[ObjectId]) -> list[Nerf]:
        """Those of some objects in a family."""
        return [load_fit(self.data.joinpath(family, *each)) for each in objects]


def load_fit(path: Path) -> Nerf:
    """A NeRF of ours, whose own record tells the architecture where its weights leave it open."""
    record = path / FIT_NAME
    values = read_json(record).get("architecture") if record.is_file() else None
    return load_nerf(path, values if isinstance(values, dict) else None)


def measure(embed: Embed, objects: Objects) -> dict[str, float]:
    """Everything that a method is measured by; recall and shares in percent."""
    families = paper_families()

    def of(members: Sequence[ObjectId]) -> dict[str, Tensor]:
        return {family: embed(objects.nerfs(family, members)) for family in families}

    test, real, train = of(objects.test), of(objects.real), of(objects.train)
    found = {"recall@1, six pairs of families": mean_recall(test, test)}
    for name, paths in objects.others.items():
        other = embed([load_fit(path) for path in paths])
        found[f"recall@1, {name} among the families"] = mean_recall({name: other}, test)
    if objects.detailed:
        queries = embed([nerf for _, nerf in objects.detailed])
        right = torch.tensor([objects.test.index((path.parent.name, path.name)) for path, _ in objects.detailed])
        hits = torch.stack([nearest(queries, gallery, 1)[1][:, 0] == right for gallery in test.values()])
        found[f"recall@1, {len(right)} NeRFs of the paper's sizes among the families"] = 100 * float(
            hits.float().mean()
        )
    found["recall@1, meshes held out"] = mean_recall(real, real)
    strength = _strength(objects, train, of(objects.val))
    classes = _classes(objects, train, test, real, of(objects.real_train), strength)
    return found | classes | _colours(objects, train, test, strength)


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
    family = next(iter(train))
    truth = [
        [object_colours(objects.data.joinpath(family, *each)) for each in members]
        for members in (objects.train, objects.test)
    ]
    means = [torch.stack([mean for mean, _ in each]) for each in truth]
    names = [[name for _, name in each] for each in truth]
    found = {f: linear_probe(train[f], means[0], test[f], strength=strength) for f in train}
    shares = [probed_share(train[f], names[0], test[f], names[1], strength=strength) for f in train]
    return {
        "mean colour, R2": statistics.fmean(explained_variance(each, means[1]) for each in found.values()),
        "dominant colour of 11": statistics.fmean(shares),
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


def claims_table(found: Mapping[str, Sequence[Mapping[str, float]]]) -> Table:
    """A row for each measure; several runs of a method as mean ± half the range."""
    names = list(dict.fromkeys(name for runs in found.values() for run in runs for name in run))

    def cell(runs: Sequence[Mapping[str, float]], name: str) -> str:
        values, digits = [run[name] for run in runs if name in run], 2 if "R2" in name else 1
        if not values:
            return MISSING
        spread = f" ± {(max(values) - min(values)) / 2:.{digits}f}" if len(values) > 1 else ""
        return f"{statistics.fmean(values):.{digits}f}{spread}"

    columns = (Column("on objects never seen"), *(Column(name) for name in found))
    rows = tuple((name, *(cell(runs, name) for runs in found.values())) for name in names)
    return Table("What embeddings of objects never seen are good for", columns, rows)
