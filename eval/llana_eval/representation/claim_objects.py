"""The NeRFs that encoders are measured on (`claims`), by what they are for."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from gmn_encoder.datasets import ObjectId, PairedDataset
from gmn_encoder.digests import digest_of
from gmn_encoder.files import read_json
from gmn_encoder.fitting.output import FIT_NAME
from gmn_encoder.fitting.training_set import REAL_TEST
from gmn_encoder.nerfs.architectures import paper_families
from gmn_encoder.nerfs.files import find_nerfs, load_nerf
from gmn_encoder.nerfs.record import Nerf

from .measures import object_colours


@dataclass(frozen=True)
class Objects:
    """The NeRFs that are measured on, by what they are for.

    Attributes:
        data: the data set.
        train, real_train: procedural and other people's objects that are trained on, as far as these have one of the classes.
        val: those that the strength of a method's linear probes is chosen on.
        test, real: those that are not.
        others: name -> other NeRFs of the test objects, in their order: other first weights, other architectures.
        detailed: directories of NeRFs of some test objects at other sizes.
    """

    data: Path
    train: tuple[ObjectId, ...]
    real_train: tuple[ObjectId, ...]
    val: tuple[ObjectId, ...]
    test: tuple[ObjectId, ...]
    real: tuple[ObjectId, ...]
    others: Mapping[str, Sequence[Path]]
    detailed: tuple[Path, ...] = ()

    @classmethod
    def of(cls, data: Path, variants: Path | None = None, detailed: Path | None = None) -> Objects:
        """What a data set has, with other NeRFs of its test objects; directories as of `claims.Claims`.

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
            places = {path.parts[-2:]: path for path in find_nerfs(each)}
            if all(name in places for name in test):
                others[each.name] = [places[name] for name in test]
        found = find_nerfs(detailed) if detailed else ()
        return cls(
            data,
            made,
            tuple(each for each in train if each not in set(made) and each[0] in classes),
            tuple(PairedDataset(data, families, split="val").object_ids),
            tuple(test),
            tuple(held),
            others,
            tuple(path for path in found if path.parts[-2:] in set(test)),
        )

    @property
    def digest(self) -> str:
        """Names the objects of all lists, whatever directory they lie in."""
        return digest_of({name: getattr(self, name) for name in ("train", "real_train", "val", "test", "real")})

    def counts(self) -> dict[str, int]:
        names = ("train", "real_train", "test", "real", "detailed")
        return {name: len(getattr(self, name)) for name in names}

    def nerfs(self, family: str, objects: Sequence[ObjectId]) -> list[Nerf]:
        """Those of some objects in a family."""
        return [load_fit(self.data.joinpath(family, *each)) for each in objects]

    def colours(self, objects: Sequence[ObjectId]) -> list[tuple[Tensor, str]]:
        """`object_colours` of some objects."""
        return [_colours(self.data.joinpath(paper_families()[0], *each)) for each in objects]

    def rows(self, paths: Sequence[Path]) -> list[int]:
        """Which test object each of some directories has a NeRF of."""
        return [self.test.index((path.parent.name, path.name)) for path in paths]


@functools.lru_cache(maxsize=4096)
def load_fit(path: Path) -> Nerf:
    """A NeRF of ours, whose own record tells the architecture where its weights leave it open. Kept: methods share them."""
    record = path / FIT_NAME
    values = read_json(record).get("architecture") if record.is_file() else None
    return load_nerf(path, values if isinstance(values, dict) else None)


_colours = functools.lru_cache(maxsize=4096)(object_colours)
