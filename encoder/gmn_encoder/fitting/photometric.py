"""Photometric training of many NeRFs of one architecture at once.

Every iteration draws rays of each NeRF, marches them through its occupied voxels, queries all NeRFs with stacked weights,
composites over a random background for each ray (which is what teaches opacity) and takes a step of Adam on the squared error.
NeRFs share nothing but the call: each has its own random numbers, its own rays and its own loss, so that one fitted alone and one
fitted among others get the same weights, up to rounding.

Occupied voxels start as the visual hull. Every `refine_every` iterations they become those of the hull where the density is
noticeable and that light reached lately, with their neighbours: samples then lie about surfaces, neither in front nor behind.

Shapes: B NeRFs, R rays, S samples, G voxels along an axis.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..nerfs.architectures import NerfArchitecture
from ..nerfs.record import Nerf
from ..rendering.compositing import composite, render_weights
from ..rendering.marching import march_rays, step_length
from ..rendering.occupancy import DENSITY_THRESHOLD, OccupancyGrid
from ..rendering.render import batch_field
from ..rendering.voxels import RESOLUTION, numbers_at, points_in_voxels, voxels_of_numbers, world_from_unit
from .field import TrainedBatch
from .posed_images import PosedImages
from .presets import FitSettings
from .surroundings import Surroundings
from .training_views import DrawnRays, TrainingViews

_LEAST_RAYS, _MOST_RAYS = 256, 8192  # of a NeRF in an iteration; fewer where `samples` is under 8 times the least
_LIT = 1e-3  # transmittance from which a voxel counts as seen
_QUERY = 1 << 14  # points of each NeRF in a query without gradients: their features stay in cache


class PhotometricFit:
    """B NeRFs that are fitted to views.

    Args:
        architecture: the one that all of them have.
        objects: views that each is fitted to, images of one size.
        settings: everything else that changes the weights.
        seeds: seed of each object's random numbers.
        initial_seeds: seed of each object's first weights; `seeds` if left out.
        device: the device that the fit runs on; the default device if left out.

    Raises:
        ValueError: no object, images of different sizes, numbers of seeds and objects that differ.
    """

    def __init__(
        self,
        architecture: NerfArchitecture,
        objects: Sequence[PosedImages],
        settings: FitSettings,
        *,
        seeds: Sequence[int],
        initial_seeds: Sequence[int] | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        self.architecture, self.objects, self.settings = architecture, list(objects), settings
        self.device = torch.empty(0, device=device).device
        initial_seeds = list(initial_seeds) if initial_seeds is not None else list(seeds)
        if not self.objects or len(self.objects) != len(seeds) or len(seeds) != len(initial_seeds):
            raise ValueError(f"{len(self.objects)} objects and {len(seeds)} seeds; expected one seed for each object")
        self.views = TrainingViews(self.objects, self.device)
        self.hull = self.views.hull
        starts = [architecture.initial_tensors(seed=seed, frequencies=settings.frequencies) for seed in initial_seeds]
        self.tensors = {
            key: torch.stack([start[key] for start in starts]).to(self.device).requires_grad_() for key in starts[0]
        }
        self.generators = [torch.Generator(self.device).manual_seed(seed) for seed in seeds]
        self.optimizer = torch.optim.Adam(
            [{"params": [tensor], "rate": self._rate(key)} for key, tensor in self.tensors.items()],
            betas=(0.9, 0.99),
            eps=1e-15,
        )
        self.surroundings = {
            number: Surroundings(seeds[number], self.device)
            for number, each in enumerate(self.objects)
            if each.surrounded
        }
        self.iteration = 0
        self.occupied = self.hull
        self._lit = torch.zeros_like(self.hull.binary)
        self._lit_before = torch.ones_like(self.hull.binary)
        self.rays_each = [self._least_rays] * len(self.objects)
        self.loss = torch.zeros(len(self.objects), device=self.device)

    def __len__(self) -> int:
        return len(self.objects)

    @property
    def done(self) -> bool:
        return self.iteration >= self.settings.iterations

    def _rate(self, key: str) -> float:
        encoding = key in self.architecture.encoding_keys
        return self.settings.encoding_rate if encoding else self.settings.learning_rate

    @property
    def _least_rays(self) -> int:
        return max(1, min(_LEAST_RAYS, self.settings.samples // 8))

    @property
    def batch(self) -> TrainedBatch:
        return TrainedBatch(self.architecture, self.tensors, self.settings.frequencies)

    @property
    def step_length(self) -> float:
        """Length of a marching step in this iteration, world units."""
        fine = self.iteration >= self.settings.fine_from * self.settings.iterations
        return step_length(self.settings.steps_per_diagonal * (self.settings.fine_factor if fine else 1))

    def step(self) -> None:
        """One iteration; `loss` ``(B,)`` is then the mean squared error of each NeRF's rays."""
        drawn = self.views.draw(self.rays_each, self.generators)
        samples = march_rays(drawn.rays, self.occupied, step=self.step_length, jitter=drawn.jitter)
        nerf_index = drawn.owner[samples.ray_index]
        xyz = samples.positions(drawn.rays)
        batch = self.batch
        rgb, density = batch_field(batch)(xyz, nerf_index)
        seen = composite(rgb, density, samples, background=self._behind(drawn))
        error = (seen.colour - drawn.target).square().mean(dim=-1)
        each = torch.stack([part.mean() for part in error.split(self.rays_each)])
        loss = each.sum()
        if self.settings.empty_points:
            loss = loss + self.settings.empty_weight * self._fog(batch)
        self._set_rates()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        for around in self.surroundings.values():
            around.step(self._rate_factor())
        self.loss = each.detach()
        with torch.no_grad():
            if self.iteration % 2:
                lit = render_weights(density.detach(), samples)[1] >= _LIT
                self._lit.view(-1)[self._numbers_at(xyz, nerf_index)[lit]] = True
            self.iteration += 1
            if self.iteration % self.settings.refine_every == 0 or self.iteration == 8:
                self._adapt_rays(drawn.owner, samples.counts)
            if self.iteration % self.settings.refine_every == 0:
                self._refine()

    def _behind(self, drawn: DrawnRays) -> Tensor:
        """Colours ``(R, 3)`` behind the box: backgrounds as drawn, or surroundings where they are learnt."""
        if not self.surroundings:
            return drawn.background
        parts = list(drawn.background.split(self.rays_each))
        first = 0
        for number, count in enumerate(self.rays_each):
            if number in self.surroundings:
                rays = drawn.rays[first : first + count]
                parts[number] = self.surroundings[number].behind(rays, jitter=drawn.jitter[first : first + count])
            first += count
        return torch.cat(parts)

    def _fog(self, batch: TrainedBatch) -> Tensor:
        """Opacity of a step at random points outside the hulls, where nothing may be: the sum of the NeRFs' means."""
        size = (self.settings.empty_points, 3)
        xyz = torch.stack([torch.rand(size, generator=g, device=self.device) for g in self.generators])
        xyz = world_from_unit(xyz)
        nerfs = torch.arange(len(self), device=self.device)[:, None].expand(xyz.shape[:2])
        inside = self.hull.binary.view(-1)[self._numbers_at(xyz.flatten(0, 1), nerfs.flatten())].view(xyz.shape[:2])
        opacity = 1 - torch.exp(-batch.query(xyz)[1][..., 0] * self.step_length)
        return opacity.masked_fill(inside, 0).mean(dim=1).sum()

    def _numbers_at(self, xyz: Tensor, nerf_index: Tensor) -> Tensor:
        """Numbers ``(S,)`` of the voxels of points ``(S, 3)`` in the grids of all NeRFs laid out flat."""
        return nerf_index * RESOLUTION**3 + numbers_at(xyz, RESOLUTION)

    def _rate_factor(self) -> float:
        """Share of the peak rates in this iteration: linear rise, then a cosine down to `last_rate`."""
        settings, done = self.settings, self.iteration / self.settings.iterations
        factor = settings.last_rate + (1 - settings.last_rate) * 0.5 * (1 + math.cos(math.pi * done))
        return factor * min(1.0, (self.iteration + 1) / (settings.warmup + 1))

    def _set_rates(self) -> None:
        factor = self._rate_factor()
        for group in self.optimizer.param_groups:
            group["lr"] = group["rate"] * factor

    def _adapt_rays(self, owner: Tensor, counts: Tensor) -> None:
        """As many rays as give about `samples` samples."""
        total = torch.bincount(owner, weights=counts.double(), minlength=len(self)).tolist()
        self.rays_each = [
            int(min(max(self.settings.samples * rays / max(found, 1.0), self._least_rays), _MOST_RAYS))
            for rays, found in zip(self.rays_each, total, strict=True)
        ]

    def _refine(self) -> None:
        """Look at the density: what is occupied from now on."""
        dense = self._dense(self.hull.binary, points=1)
        lit = OccupancyGrid(self._lit | self._lit_before).dilated(1)
        occupied = OccupancyGrid(dense & lit.binary).dilated(1).binary & self.hull.binary
        # A NeRF without any dense voxel has yet to find out: it keeps the hull.
        none = ~occupied.flatten(1).any(dim=1)
        self.occupied = OccupancyGrid(torch.where(none[:, None, None, None], self.hull.binary, occupied))
        self._lit_before, self._lit = self._lit, torch.zeros_like(self._lit)

    @torch.no_grad()
    def _dense(self, within: Tensor, *, points: int, threshold: float = DENSITY_THRESHOLD) -> Tensor:
        """Bool ``(B, G, G, G)``: voxels of `within` where the density, at random points in them, exceeds the threshold.

        While a NeRF is still foggy its mean density is the threshold.
        """
        counts = within.flatten(1).sum(dim=1)
        result, longest = torch.zeros_like(within), int(counts.max())
        flat = torch.zeros(len(self), max(longest, 1), dtype=torch.int64, device=self.device)
        for nerf in range(len(self)):
            numbers = within[nerf].flatten().nonzero()[:, 0]
            flat[nerf, : len(numbers)] = numbers
        voxels = voxels_of_numbers(flat, RESOLUTION)
        highest = torch.zeros(flat.shape, device=self.device)
        for _ in range(points):
            offset = torch.zeros(*flat.shape, 3, device=self.device)
            for nerf, generator in enumerate(self.generators):
                count = int(counts[nerf])
                offset[nerf, :count] = torch.rand(count, 3, generator=generator, device=self.device)
            xyz = points_in_voxels(voxels, offset, RESOLUTION)
            parts = [self.batch.query(part)[1][..., 0] for part in xyz.split(_QUERY, dim=1)]
            highest = torch.maximum(highest, torch.cat(parts, dim=1))
        for nerf in range(len(self)):
            count = int(counts[nerf])
            values = highest[nerf, :count]
            limit = min(threshold, float(values.mean())) if count else threshold
            result[nerf].view(-1)[flat[nerf, :count]] = values > limit
        return result

    def nerf(self, number: int) -> Nerf:
        """A NeRF as it is now, on the CPU. Raises `ValueError` if its training has diverged."""
        tensors = {key: tensor[number].detach().cpu().clone() for key, tensor in self.tensors.items()}
        return Nerf(self.architecture, tensors)

    def nerfs(self) -> list[Nerf]:
        return [self.nerf(number) for number in range(len(self))]

    def grids(self) -> list[OccupancyGrid]:
        """What is occupied now, as the released grids: the density in the hull, looked `grid_points` times, with neighbours."""
        states = [generator.get_state() for generator in self.generators]
        dense = (
            OccupancyGrid(self._dense(self.hull.binary, points=self.settings.grid_points)).dilated(1).binary
            & self.hull.binary
        )
        for generator, state in zip(self.generators, states, strict=True):
            generator.set_state(state)
        return [OccupancyGrid(each.cpu()) for each in dense]

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next iterations depend on besides what the fit was made with."""
        state: dict[str, Any] = {"iteration": self.iteration, "rays_each": list(self.rays_each)}
        for key, tensor in self.tensors.items():
            moments = self.optimizer.state.get(tensor, {})
            state |= {f"tensor.{key}": tensor.detach().cpu().clone()}
            state |= {f"adam.{key}.{name}": value.detach().cpu().clone() for name, value in moments.items()}
        for name in ("occupied", "_lit", "_lit_before"):
            value = getattr(self, name)
            binary = value.binary if isinstance(value, OccupancyGrid) else value
            state[name] = binary.flatten().nonzero()[:, 0].to(torch.int32).cpu()
        for number, each in self.surroundings.items():
            state |= {f"surroundings.{number}.{key}": value for key, value in each.training_state().items()}
        return state | {"generators": [generator.get_state() for generator in self.generators]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken; the fit must have been made with the same arguments."""
        self.iteration, self.rays_each = int(state["iteration"]), [int(count) for count in state["rays_each"]]
        for key, tensor in self.tensors.items():
            with torch.no_grad():
                tensor.copy_(state[f"tensor.{key}"])
            prefix = f"adam.{key}."
            moments = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
            self.optimizer.state[tensor] = {
                name: value.clone() if name == "step" else value.to(self.device) for name, value in moments.items()
            }
        for number, each in self.surroundings.items():
            prefix = f"surroundings.{number}."
            each.load_training_state({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
        grids = {}
        for name in ("occupied", "_lit", "_lit_before"):
            grids[name] = torch.zeros_like(self.hull.binary)
            grids[name].view(-1)[state[name].to(self.device, torch.int64)] = True
        self.occupied = OccupancyGrid(grids["occupied"])
        self._lit, self._lit_before = grids["_lit"], grids["_lit_before"]
        for generator, value in zip(self.generators, state["generators"], strict=True):
            generator.set_state(value)
