"""Batches of a SANE run: each object in two views, from files at random and turned at random.

A batch follows from the recipe, the epoch and its number in the epoch alone. Shapes: B objects.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence

import torch

from ...ahead import ahead
from ...datasets import NerfEntry, ObjectId, PairedDataset
from ...nerfs.record import Nerf, NerfBatch
from ...nerfs.symmetries import permuted
from ...pose.rotations import multiply, quaternion_of_vector, random_rotations
from ...seeds import generator_for
from .losses import relative_rotation
from .model import SaneBatch, Side
from .recipe import SaneRecipe


class SaneBatches:
    """The batches of a data set under a recipe, for one of several processes.

    Args:
        data: the objects in the recipe's families.
        recipe: sizes and seed.
        device: the device that batches are moved to.
        process, processes: number of this process and of all, which share each step.
    """

    def __init__(
        self,
        data: PairedDataset,
        recipe: SaneRecipe,
        *,
        device: torch.device | str = "cpu",
        process: int = 0,
        processes: int = 1,
    ) -> None:
        self.data, self.recipe, self.device = data, recipe, torch.device(device)
        self.process, self.processes = process, processes
        self._load = functools.lru_cache(maxsize=recipe.cached_nerfs)(self._read)

    @property
    def steps_per_epoch(self) -> int:
        """Raises `ValueError` where there are fewer objects than a step of all processes needs."""
        steps = len(self.data) // (self.recipe.batch_size * self.processes)
        if not steps:
            raise ValueError(
                f"{len(self.data)} objects do not fill a step of {self.processes} processes with {self.recipe.batch_size} each; "
                "use smaller batches or fewer processes"
            )
        return steps

    def make(self, epoch: int, step: int) -> SaneBatch:
        """The batch of this process at a step; a last one that is not full is left out."""
        order = torch.randperm(len(self.data), generator=generator_for(self.recipe.seed, "epoch", epoch)).tolist()
        first = (step * self.processes + self.process) * self.recipe.batch_size
        objects = [self.data.object_ids[number] for number in order[first : first + self.recipe.batch_size]]
        generator = generator_for(self.recipe.seed, "views", epoch, step, self.process)
        families = torch.randint(len(self.recipe.families), (2, len(objects)), generator=generator).tolist()
        turns = random_rotations(2 * len(objects), generator).split(len(objects))
        sides = [self._side(objects, chosen, turn, generator) for chosen, turn in zip(families, turns, strict=True)]
        rotation = relative_rotation(sides[0].turns, sides[1].turns)
        if self.recipe.label_noise:  # beside the true rotation, never in its place
            angles = math.radians(self.recipe.label_noise) * torch.randn(len(objects), 3, generator=generator)
            rotation = multiply(quaternion_of_vector(angles), rotation)
        return SaneBatch(sides[0], sides[1], rotation).to(self.device)

    def fixed(self, objects: Sequence[ObjectId], *, apart: int = 1) -> Iterator[SaneBatch]:
        """The batches of a validation: the first view from each family in turn, the second from the one `apart` places on."""
        count = len(self.recipe.families)
        for start in range(0, len(objects), self.recipe.batch_size):
            chunk = objects[start : start + self.recipe.batch_size]
            generator = generator_for("validation", start)
            families = [(start + place) % count for place in range(len(chunk))]
            turns = random_rotations(2 * len(chunk), generator).split(len(chunk))
            sides = [
                self._side(chunk, chosen, turn, None)
                for chosen, turn in zip((families, [(f + apart) % count for f in families]), turns, strict=True)
            ]
            yield SaneBatch(sides[0], sides[1], relative_rotation(*turns)).to(self.device)

    def epoch(self, epoch: int, *, first: int = 0) -> Iterator[SaneBatch]:
        """The batches of an epoch from step `first` on, made ahead by the recipe's workers."""
        steps = range(first, self.steps_per_epoch)
        if not self.recipe.workers:
            yield from (self.make(epoch, step) for step in steps)
            return
        yield from ahead(lambda step: self.make(epoch, step), steps, workers=self.recipe.workers)

    def _read(self, family: int, object_id: ObjectId) -> Nerf:
        name = self.recipe.families[family]
        entry: NerfEntry = self.data.families[name].entry(object_id)
        return entry.load(self.recipe.architectures.get(name))

    def _side(
        self,
        objects: Sequence[ObjectId],
        families: Sequence[int],
        turns: torch.Tensor,
        generator: torch.Generator | None,
    ) -> Side:
        """A view of each object; with a generator, hidden neurons come in another order where the recipe says so."""
        nerfs = [self._load(family, each) for family, each in zip(families, objects, strict=True)]
        if generator is not None and self.recipe.permute and self.recipe.tokens == "rows":
            nerfs = [permuted(nerf, generator) for nerf in nerfs]
        groups: dict[object, list[int]] = {}
        for place, nerf in enumerate(nerfs):
            groups.setdefault(nerf.architecture, []).append(place)
        stacks = tuple(NerfBatch.stack(nerfs[place] for place in group) for group in groups.values())
        order = torch.tensor([place for group in groups.values() for place in group]).argsort()
        return Side(stacks, order, turns)
