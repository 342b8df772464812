"""Batches of a training run: NeRFs stacked by architecture, drawn rays and points, made ahead by threads.

A batch follows from the recipe, the epoch and its number in the epoch alone. Shapes: B NeRFs, R rays, S samples, P points.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...ahead import ahead
from ...datasets import NerfEntry, PairedDataset
from ...nerfs.fields import BOX_MAX
from ...nerfs.probing import GRID_SPAN
from ...nerfs.record import NerfBatch
from ...rendering.cameras import Rays
from ...rendering.samples import Samples
from ...seeds import generator_for
from .cache import Example, ExampleCache, entry_name
from .pairs import Member, epoch_batches
from .rays import Draw, draw, packed_samples
from .recipe import Recipe


@dataclass(frozen=True, eq=False)
class RenderingBatch:
    """Rays, samples and points at which the decoder is queried, and the teacher's colours there.

    Attributes:
        rays: R rays, with the NeRF of each.
        samples: S samples on these rays.
        colour, opacity: the teacher's colour and opacity along the rays, ``(R, 3)`` premultiplied and ``(R,)``.
        background: colour behind each NeRF, ``(B, 3)``.
        points, point_nerf: points of empty space and the NeRF of each, ``(P, 3)`` and ``(P,)``.
    """

    rays: Rays
    samples: Samples
    colour: Tensor
    opacity: Tensor
    background: Tensor
    points: Tensor
    point_nerf: Tensor

    def to(self, device: torch.device | str) -> RenderingBatch:
        rest = (self.colour, self.opacity, self.background, self.points, self.point_nerf)
        moved = (tensor.to(device, non_blocking=True) for tensor in rest)
        return RenderingBatch(self.rays.to(device), self.samples.to(device), *moved)


@dataclass(frozen=True, eq=False)
class PointBatch:
    """Where fields are asked and what becomes of the answers: objects are moved by asking elsewhere, and coloured anew.

    Attributes:
        linear, offset: ``(B, 3, 3)`` and ``(B, 3)``: what a moved NeRF shows at x is what it shows at ``linear x + offset``.
        points: points of the point regression ``(B, P, 3)``, of the moved NeRFs; P may be 0.
        channels, inverted: int64 and bool ``(B, 3)``: which channel each one of a recoloured NeRF is, and whether its complement.
    """

    linear: Tensor
    offset: Tensor
    points: Tensor
    channels: Tensor
    inverted: Tensor

    def to(self, device: torch.device | str) -> PointBatch:
        parts = (self.linear, self.offset, self.points, self.channels, self.inverted)
        return PointBatch(*(part.to(device, non_blocking=True) for part in parts))

    def recoloured(self, colour: Tensor, opacity: Tensor, owner: Tensor | None = None) -> Tensor:
        """Premultiplied colours of the recoloured NeRFs: the complement of a colour c is 1 - c, and seen so far ``opacity - c``.

        Args:
            colour, opacity: ``(B, K, 3)`` and ``(B, K, 1)``; with `owner`, ``(S, 3)`` and ``(S, 1)``.
            owner: the NeRF of each ``(S,)``.
        """
        channels, inverted = (
            (self.channels, self.inverted) if owner is None else (self.channels[owner], self.inverted[owner])
        )
        if owner is None:
            channels, inverted = channels[:, None].expand_as(colour), inverted[:, None]
        colour = colour.gather(-1, channels)
        return torch.where(inverted, opacity - colour, colour)

    def moved(self, xyz: Tensor) -> Tensor:
        """Where to ask the NeRFs themselves ``(B, K, 3)``, for points ``(K, 3)`` or ``(B, K, 3)`` of the moved ones."""
        return xyz @ self.linear.transpose(1, 2) + self.offset[:, None]

    def of_moved(self, xyz: Tensor, owner: Tensor) -> Tensor:
        """The inverse of `moved`, for points ``(S, 3)`` with the NeRF of each ``(S,)``."""
        inverse = torch.linalg.inv(self.linear)
        return torch.einsum("sij,sj->si", inverse[owner], xyz - self.offset[owner])


@dataclass(frozen=True, eq=False)
class TrainingBatch:
    """B NeRFs; those of an object stand side by side, sides A and B of pairs in turn.

    Attributes:
        nerfs: the NeRFs of each architecture.
        order: int64 ``(B,)``, the place of each NeRF of the batch among those of `nerfs`, one stack after the other.
        rendering: rays and points of the NeRFs; None where nothing is rendered.
        asked: where fields are asked; None: at the encoder's points.
        fields: the NeRFs on grids, float16 ``(B, side ** 3, 4)``; None: they are asked themselves.
    """

    nerfs: tuple[NerfBatch, ...]
    order: Tensor
    rendering: RenderingBatch | None
    asked: PointBatch | None = None
    fields: Tensor | None = None

    def __len__(self) -> int:
        return len(self.order)

    def by_stack(self, rows: Tensor) -> tuple[Tensor, ...]:
        """Values of the NeRFs ``(B, ...)`` as those of each of `nerfs`."""
        return rows[self.order.argsort()].split([len(each) for each in self.nerfs])

    def to(self, device: torch.device | str) -> TrainingBatch:
        nerfs = tuple(
            NerfBatch(each.architecture, {key: t.to(device, non_blocking=True) for key, t in each.tensors.items()})
            for each in self.nerfs
        )
        rendering, asked = (part.to(device) if part else None for part in (self.rendering, self.asked))
        fields = None if self.fields is None else self.fields.to(device, non_blocking=True)
        return TrainingBatch(nerfs, self.order.to(device), rendering, asked, fields)  # type: ignore[arg-type]


def stack_by_architecture(examples: Sequence[Example]) -> tuple[tuple[NerfBatch, ...], Tensor]:
    """The NeRFs in stacks of one architecture, and where each went ``(B,)``."""
    groups: dict[object, list[int]] = {}
    for i, example in enumerate(examples):
        groups.setdefault(example.nerf.architecture, []).append(i)
    stacks = tuple(NerfBatch.stack(examples[i].nerf for i in group) for group in groups.values())
    order = torch.empty(len(examples), dtype=torch.int64)
    order[torch.tensor([i for group in groups.values() for i in group])] = torch.arange(len(examples))
    return stacks, order


def rendering_batch(
    examples: Sequence[Example], draws: Sequence[Draw], background: Tensor, step: float
) -> RenderingBatch:
    """The rendering part of a batch from what was drawn of each NeRF."""
    targets = [example.targets for example in examples if example.targets is not None]

    def gathered(name: str) -> Tensor:
        return torch.cat([getattr(t, name)[d.rays] for t, d in zip(targets, draws, strict=True)])

    ray_counts = torch.tensor([len(each.rays) for each in draws])
    point_counts = torch.tensor([len(each.points) for each in draws])
    nerf = torch.arange(len(draws))
    rays = Rays(gathered("origins"), gathered("directions"), nerf.repeat_interleave(ray_counts))
    return RenderingBatch(
        rays,
        packed_samples(draws, step),
        gathered("colour"),
        gathered("opacity"),
        background,
        torch.cat([each.points for each in draws]),
        nerf.repeat_interleave(point_counts),
    )


_STRETCH, _SHIFT = 0.15, 0.04
_SEEN = 0.05  # opacity of a point of a grid that something is seen at


def asked_points(generators: Sequence[torch.Generator], recipe: Recipe) -> PointBatch:
    """Where to ask NeRFs, whose generators are equal where they are the same object: the same motion and points for these."""
    turn = math.radians(recipe.augment_turn)
    linear, offset, points, channels, inverted = [], [], [], [], []
    for generator in generators:
        drawn = torch.rand(8, generator=generator) * 2 - 1
        matrix, shift = torch.eye(3), torch.zeros(3)
        if recipe.augment:
            cosine, sine = math.cos(turn * float(drawn[0])), math.sin(turn * float(drawn[0]))
            matrix[:2, :2] = torch.tensor([[cosine, -sine], [sine, cosine]])
            stretch = 1 + _STRETCH * drawn[1:4]
            stretch[0] *= 1 if drawn[4] < 0 else -1
            matrix, shift = matrix * stretch, _SHIFT * drawn[5:8]
        linear.append(matrix)
        offset.append(shift)
        count = recipe.regression_points if recipe.regression_weight else 0
        points.append((torch.rand(count, 3, generator=generator) * 2 - 1) * BOX_MAX)
        recolour = float(torch.rand(1, generator=generator)) < recipe.augment_colour
        channels.append(torch.randperm(3, generator=generator) if recolour else torch.arange(3))
        inverted.append((torch.rand(3, generator=generator) < 0.5) & recolour)
    return PointBatch(*(torch.stack(part) for part in (linear, offset, points, channels, inverted)))


def _near_surfaces(
    asked: PointBatch, examples: Sequence[Example], generators: Sequence[torch.Generator], share: float
) -> PointBatch:
    """The points with a share of them where grids are not empty, within a cell of a point of the grid."""
    count = round(share * asked.points.shape[1])
    places = []
    for example, generator in zip(examples, generators, strict=True):
        if example.field is None:
            raise RuntimeError("an example without its grid in a run that draws from it")
        side = round(len(example.field) ** (1 / 3))
        found = (example.field[:, 3] > _SEEN).nonzero()[:, 0]
        found = found if len(found) else torch.arange(len(example.field))
        chosen = found[torch.randint(len(found), (count,), generator=generator)]
        cells = torch.stack([chosen // side**2, chosen // side % side, chosen % side], dim=1)
        cells = cells + torch.rand(count, 3, generator=generator) * 2 - 1
        places.append((cells / (side - 1) * 2 - 1) * GRID_SPAN)
    owner = torch.arange(len(examples)).repeat_interleave(count)
    near = asked.of_moved(torch.cat(places), owner).view(len(examples), count, 3)
    return replace(asked, points=torch.cat([near, asked.points[:, count:]], dim=1))


class BatchMaker:
    """The batches of a data set under a recipe, for one of several processes.

    Args:
        data: the objects in the recipe's families.
        recipe: sizes, seed and loss.
        device: the device that teachers are rendered on and batches are moved to.
        process, processes: number of this process and of all, which share each step.
    """

    def __init__(
        self,
        data: PairedDataset,
        recipe: Recipe,
        *,
        device: torch.device | str = "cpu",
        process: int = 0,
        processes: int = 1,
    ) -> None:
        self.data, self.recipe, self.device = data, recipe, torch.device(device)
        self.process, self.processes = process, processes
        self.cache = ExampleCache(recipe, device=device)
        self._families = list(data.families.values())
        self._plan: tuple[int, list[list[list[Member]]]] = (-1, [])
        self.steps_per_epoch = len(self.plan(0))

    def plan(self, epoch: int) -> list[list[list[Member]]]:
        """For each step of an epoch the members of every process' batch."""
        kept, plan = self._plan
        if kept != epoch:
            plan = epoch_batches(
                len(self.data),
                len(self._families),
                batch_size=self.recipe.batch_size,
                seed=self.recipe.seed,
                epoch=epoch,
                processes=self.processes,
                every_family=self.recipe.sampling == "all",
            )
            self._plan = epoch, plan
        return plan

    def make(self, epoch: int, step: int) -> TrainingBatch:
        """The batch of this process at a step."""
        members = self.plan(epoch)[step][self.process]
        entries = [self._entry(member) for member in members]
        examples = self.cache.examples(entries, [self._generation(member, epoch) for member in members])
        nerfs, order = stack_by_architecture(examples)
        rendering = self._rendering(examples, entries, epoch) if self.recipe.renders else None
        asked = None
        if self.recipe.augment or self.recipe.augment_colour or self.recipe.regression_weight:
            generators = [generator_for(self.recipe.seed, "asked", *entry.object_id, epoch) for entry in entries]
            asked = asked_points(generators, self.recipe)
            if self.recipe.surface_share:
                asked = _near_surfaces(asked, examples, generators, self.recipe.surface_share)
        fields = [example.field for example in examples if example.field is not None]
        return TrainingBatch(nerfs, order, rendering, asked, torch.stack(fields) if fields else None).to(self.device)

    def epoch(self, epoch: int, *, first: int = 0) -> Iterator[TrainingBatch]:
        """The batches of an epoch from step `first` on, made ahead by the recipe's workers."""
        steps = range(first, len(self.plan(epoch)))
        if not self.recipe.workers:
            yield from (self.make(epoch, step) for step in steps)
            return
        yield from ahead(lambda step: self.make(epoch, step), steps, workers=self.recipe.workers)

    def _entry(self, member: Member) -> NerfEntry:
        family, number = member
        return self._families[family].entry(self.data.object_ids[number])

    def _generation(self, member: Member, epoch: int) -> int:
        """How often the NeRF's rays have been refreshed: not all in the same epoch."""
        every = self.recipe.refresh_epochs
        return (epoch + sum(member) % every) // every if every else 0

    def _rendering(self, examples: list[Example], entries: list[NerfEntry], epoch: int) -> RenderingBatch:
        recipe = self.recipe
        released = recipe.rendering == "released"
        draws, colours = [], []
        for example, entry in zip(examples, entries, strict=True):
            generator = generator_for(recipe.seed, "draw", entry_name(entry), epoch)
            colours.append(torch.rand(3, generator=generator))
            if example.targets is None:
                raise RuntimeError("an example without rays in a run that renders")
            draws.append(
                draw(
                    example.targets,
                    generator,
                    rays=recipe.rays,
                    samples=recipe.samples,
                    points=recipe.points,
                    step=recipe.step_length,
                    released=released,
                )
            )
        # The released code puts the first NeRF's background behind all of them.
        background = torch.stack([colours[0]] * len(colours) if released else colours)
        return rendering_batch(examples, draws, background, recipe.step_length)
