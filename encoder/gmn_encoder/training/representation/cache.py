"""NeRFs and their teacher rays, kept in memory up to a budget.

An entry follows from the seed, the NeRF's name and how often it has been refreshed, never from what was in the cache: so a
continued run sees the entries that an uninterrupted one would have. What does not fit is made again when it is asked for;
nothing is thrown out for it, since each epoch asks for everything once, in another order.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...datasets import NerfEntry
from ...nerfs.probing import FieldError, field_grid
from ...nerfs.record import Nerf, NerfBatch
from ...seeds import generator_for
from .rays import RayTargets, teacher_targets
from .recipe import Recipe

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Example:
    """A NeRF and its teacher rays; none where nothing is rendered. On the CPU.

    `field` is the NeRF on a grid, float16 ``(side ** 3, 4)`` as of `nerfs.probing.field_grid`; None: it is asked itself.
    """

    nerf: Nerf
    targets: RayTargets | None
    field: Tensor | None = None

    @property
    def nbytes(self) -> int:
        tensors = sum(tensor.nbytes for tensor in self.nerf.tensors.values())
        tensors += self.field.nbytes if self.field is not None else 0
        return tensors + (self.targets.nbytes if self.targets is not None else 0)


class ExampleCache:
    """Makes and keeps `Example`s, for several threads at a time.

    Args:
        recipe: sizes of what is rendered, and the memory to take.
        purpose: a word from which random numbers follow: training and validation draw different rays.
        device: the device that teachers are rendered on.
        renders: whether rays are made; the recipe's `renders` if left out.
    """

    def __init__(
        self,
        recipe: Recipe,
        *,
        purpose: str = "train",
        device: torch.device | str = "cpu",
        renders: bool | None = None,
    ) -> None:
        self._renders = recipe.renders if renders is None else renders
        self._recipe, self._purpose, self._device = recipe, purpose, torch.device(device)
        self._kept: dict[NerfEntry, tuple[int, Example]] = {}
        self._lock = threading.Lock()
        self._warned: set[str] = set()
        self.nbytes = 0

    def load(self, entry: NerfEntry) -> Nerf:
        """The NeRF, of the architecture that the recipe says its family has."""
        known = self._recipe.architectures
        return entry.load(known.get(_family(entry, known)))

    def examples(self, entries: Sequence[NerfEntry], generations: Sequence[int]) -> list[Example]:
        """One for each entry, as refreshed so many times.

        Raises:
            FileNotFoundError, ValueError: a NeRF, its grid or its cameras are missing or broken; the message names the file.
        """
        found: list[Example | None] = []
        with self._lock:
            for entry, generation in zip(entries, generations, strict=True):
                age, example = self._kept.get(entry, (-1, None))
                found.append(example if age == generation else None)
        missing = [i for i, example in enumerate(found) if example is None]
        nerfs = {i: self.load(entries[i]) for i in missing}
        # On a GPU NeRFs of one architecture are rendered together. On the CPU each on its own, which is as fast and gives the
        # same last bits whoever else is missing.
        groups: dict[object, list[int]] = {}
        for i in missing:
            groups.setdefault(nerfs[i].architecture if self._device.type != "cpu" else i, []).append(i)
        for group in groups.values():
            made = self._make([nerfs[i] for i in group], [(entries[i], generations[i]) for i in group])
            for i, example in zip(group, made, strict=True):
                found[i] = example
                self._keep(entries[i], generations[i], example)
        return [example for example in found if example is not None]

    def _make(self, nerfs: list[Nerf], keys: list[tuple[NerfEntry, int]]) -> list[Example]:
        recipe = self._recipe
        fields = [self._field(nerf) for nerf in nerfs]
        if not self._renders:
            return [Example(nerf, None, field) for nerf, field in zip(nerfs, fields, strict=True)]
        targets = teacher_targets(
            nerfs,
            [entry.grid() for entry, _ in keys],
            [entry.cameras() for entry, _ in keys],
            [generator_for(recipe.seed, self._purpose, entry_name(entry), age) for entry, age in keys],
            rays=max(recipe.cached_rays, recipe.rays),
            candidates=recipe.candidate_rays,
            step=recipe.step_length,
            device=self._device,
        )
        for (entry, _), each in zip(keys, targets, strict=True):
            if not len(each) and str(entry.path) not in self._warned:
                self._warned.add(str(entry.path))
                logger.warning(
                    "%s: none of %d random rays hits anything; it is trained without foreground colours",
                    entry.path,
                    recipe.candidate_rays,
                )
        return [Example(*each) for each in zip(nerfs, targets, fields, strict=True)]

    def _field(self, nerf: Nerf) -> Tensor | None:
        side = self._recipe.field_grid
        if not side or self._purpose != "train":
            return None
        try:
            return field_grid(NerfBatch.stack([nerf]), side)[0]
        except FieldError as error:
            raise ValueError(f"{nerf.name}: {error.problem}") from error

    def _keep(self, entry: NerfEntry, generation: int, example: Example) -> None:
        with self._lock:
            before = self._kept.pop(entry, None)
            if before is not None:
                self.nbytes -= before[1].nbytes
            if self.nbytes + example.nbytes <= self._recipe.cache_gib * 2**30:
                self._kept[entry] = generation, example
                self.nbytes += example.nbytes


def _family(entry: NerfEntry, families: Iterable[str]) -> str:
    """Which of the families a NeRF stands in; a family may be a directory in a directory."""
    directory = entry.path.parent.parent.as_posix()
    return next((family for family in families if f"/{directory}".endswith(f"/{family}")), "")


def entry_name(entry: NerfEntry) -> str:
    """Family, class and name of a NeRF: what its random numbers follow from, wherever the data set lies."""
    return "/".join(entry.path.parts[-3:])
