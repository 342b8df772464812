"""How good a model is on NeRFs it has not seen: PSNR of the decoder's rays, retrieval across families, contrastive loss.

Source: docs/released_format.md#rendering-loss (PSNR of rays that hit the object, against the teacher), #retrieval (retrieval:
cosine nearest neighbour among another family's embeddings; found if it is the same object). Here every object has fixed rays and
a white background, and a NeRF's PSNR is its own: the mean is over NeRFs.

Shapes: N objects, D embedding.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ...datasets import NerfDataset, PairedDataset
from ...embeddings.neighbours import nearest
from ...progress import Progress, no_progress
from ...rendering.compositing import composite
from ...rendering.psnr import psnr
from ...seeds import generator_for
from .batches import TrainingBatch, rendering_batch, stack_by_architecture
from .cache import ExampleCache, entry_name
from .model import TrainedModel
from .pairs import Member, epoch_batches
from .rays import draw
from .recipe import Recipe
from .rendering_loss import target_colour


class Validation:
    """Metrics of a model on some objects.

    Args:
        data: the objects in the recipe's families.
        recipe: the training's settings; its `validation_objects` is the number of objects taken.
        watched: NeRFs of the same objects that are not trained on, by name: from other first weights, in other architectures.
        device: the model's device.
        process, processes: number of this process and of all, which share the objects; `gather` brings the shares together.
        gather: function that takes a list of each process and returns all of them in one, on every process.
    """

    def __init__(
        self,
        data: PairedDataset,
        recipe: Recipe,
        *,
        watched: Mapping[str, NerfDataset] | None = None,
        device: torch.device | str = "cpu",
        process: int = 0,
        processes: int = 1,
        gather: Callable[[list[Any]], list[Any]] = list,
    ) -> None:
        self.recipe, self._device, self._gather = recipe, torch.device(device), gather
        self._families = {**data.families, **(watched or {})}
        self._watched = tuple(watched or ())
        self._objects = data.object_ids[: recipe.validation_objects or len(data)]
        self._share = range(process, len(self._objects), processes)
        self._cache = ExampleCache(recipe, purpose="validation", device=device, renders=recipe.decodes)

    @torch.no_grad()
    def run(self, model: TrainedModel, *, progress: Progress = no_progress) -> dict[str, float]:
        """The metrics: ``psnr``, ``recall@1`` and ``siglip`` as far as they are defined, and those of each family or pair.

        Args:
            model: the model, in any mode; it is left in it.
            progress: receives the NeRFs done and all.
        """
        names = list(self._families)
        known = [name for name in names if name not in self._watched]
        members = [(family, number) for family in range(len(names)) for number in self._share]
        rows: list[tuple[Member, list[float], float | None]] = []
        for start in range(0, len(members), self.recipe.batch_size):
            chunk = members[start : start + self.recipe.batch_size]
            batch = self._batch(chunk)
            embeddings = model.embed(batch)
            quality = self._psnr(model, embeddings, batch) if batch.rendering is not None else [None] * len(chunk)
            rows += zip(chunk, embeddings.float().cpu().tolist(), quality, strict=True)
            progress("validating", start + len(chunk), len(members))
        rows = sorted(self._gather(rows), key=lambda row: row[0])
        table = torch.tensor([row[1] for row in rows]).view(len(names), len(self._objects), -1)
        metrics: dict[str, float] = {}
        for family, name in enumerate(names):
            rated = [row[2] for row in rows if row[0][0] == family and row[2] is not None]
            if rated:
                metrics[f"psnr/{name}"] = statistics.fmean(rated)
        if metrics:
            metrics = {
                "psnr": statistics.fmean(value for name, value in metrics.items() if name[5:] in known),
                **metrics,
            }
        of_family = dict(zip(names, table, strict=True))
        metrics |= cross_family_recall({name: of_family[name] for name in known})
        for name in self._watched:
            found = {gallery: recall_at_1(of_family[name], of_family[gallery]) for gallery in known}
            metrics[f"recall@1/{name}"] = statistics.fmean(found.values())
        return metrics | self._siglip(model, table[: len(known)])

    def _batch(self, members: list[Member]) -> TrainingBatch:
        families = list(self._families.values())
        entries = [families[family].entry(self._objects[number]) for family, number in members]
        examples = self._cache.examples(entries, [0] * len(entries))
        nerfs, order = stack_by_architecture(examples)
        if not self.recipe.decodes or any(example.targets is None for example in examples):
            return TrainingBatch(nerfs, order, None).to(self._device)
        draws = [
            draw(
                example.targets,
                generator_for(self.recipe.seed, "validation", entry_name(entry)),
                rays=self.recipe.rays,
                samples=self.recipe.samples,
                points=0,
                step=self.recipe.step_length,
                released=False,
            )
            for example, entry in zip(examples, entries, strict=True)
            if example.targets is not None
        ]
        rendering = rendering_batch(examples, draws, torch.ones(len(members), 3), self.recipe.step_length)
        return TrainingBatch(nerfs, order, rendering).to(self._device)

    def _psnr(self, model: TrainedModel, embeddings: Tensor, batch: TrainingBatch) -> list[float | None]:
        """PSNR of each NeRF; None for one without rays."""
        rendering = batch.rendering
        if rendering is None or rendering.rays.nerf_index is None:
            return [None] * len(batch)
        white = rendering.background[0]
        seen = composite(*model.query(embeddings, rendering), rendering.samples, background=white).colour
        target = target_colour(rendering.colour, rendering.opacity, white)
        counts = torch.bincount(rendering.rays.nerf_index, minlength=len(batch)).tolist()
        pairs = zip(seen.split(counts), target.split(counts), strict=True)
        return [float(psnr(a, b)) if len(a) else None for a, b in pairs]

    def _siglip(self, model: TrainedModel, table: Tensor) -> dict[str, float]:
        """The contrastive loss over batches of the embeddings ``(F, N, D)`` as in training."""
        if not self.recipe.contrasts:
            return {}
        table = table.to(self._device)
        epoch = epoch_batches(
            table.shape[1],
            len(table),
            batch_size=self.recipe.batch_size,
            seed=self.recipe.seed,
            epoch=0,
            every_family=self.recipe.sampling == "all",
        )
        total = objects = 0.0
        for (members,) in epoch:
            rows = torch.stack([table[family, number] for family, number in members])
            count = len(members) // self.recipe.views
            total += float(model.contrast(rows.unflatten(0, (count, -1)))) * count
            objects += count
        return {"siglip": total / objects}


def cross_family_recall(embeddings: dict[str, Tensor]) -> dict[str, float]:
    """How often the nearest neighbour in another family is the same object.

    Args:
        embeddings: ``(N, D)`` of the same objects in the same order, for each family.

    Returns:
        ``recall@1/QUERY>GALLERY`` for each ordered pair of families and their mean ``recall@1``, in 0..1; nothing for one
        family. Of equally near neighbours the first counts.
    """
    result = {}
    for query, gallery in itertools.permutations(embeddings, 2):
        result[f"recall@1/{query}>{gallery}"] = recall_at_1(embeddings[query], embeddings[gallery])
    return {"recall@1": statistics.fmean(result.values()), **result} if result else {}


def recall_at_1(queries: Tensor, gallery: Tensor) -> float:
    """Share of embeddings ``(N, D)`` whose nearest one of a gallery of the same objects ``(N, D)`` is the same object."""
    places = nearest(queries, gallery, 1)[1][:, 0]
    return float((places == torch.arange(len(places))).float().mean())
