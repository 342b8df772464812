"""A whole run of fits: sources in, NeRF directories out, batch after batch, one family after the other on the same views.

A run that was killed continues: finished directories with the same settings and seed are kept, the batch in work is continued
from its last checkpoint (``<out>/.fit/``), with the weights that an uninterrupted run would have reached (CPU, same
machine, as many threads).
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..files import StrPath, read_tensors, write_pth_content
from ..nerfs.architectures import NerfArchitecture
from ..progress import Progress, no_progress
from ..rendering.marching import STEP
from ..rendering.psnr import psnr_of_error
from ..seeds import derived_seed
from .measure import held_out_psnr
from .output import FIT_NAME, is_complete, nerf_directory, preview, split_of, write_fit, write_language, write_splits
from .photometric import PhotometricFit
from .presets import FitSettings
from .quality import shortfall
from .sources import PosedImages, Source, check_ids

logger = logging.getLogger(__name__)

CHECKPOINTS = ".fit"

Report = Callable[[Source, NerfArchitecture, Mapping[str, Any]], None]


@dataclass(kw_only=True)
class FitJob:
    """Settings and callbacks of `run`.

    Attributes:
        out: directory of the output.
        settings: the settings of each architecture that is to be fitted.
        seed: seed of everything random, together with the object's ids and the architecture's name.
        batch: number of NeRFs that are fitted at once.
        device: the device that fits run on; the default device if left out.
        resume: whether to keep what is finished and to continue what is not.
        checkpoint_seconds: seconds between checkpoints.
        least_psnr: dB on held-out views under which a fit has failed: an error, a picture of it under ``<out>/.fit``, and nothing
            else is written; None keeps whatever comes out.
        on_error: receives the error of every object that failed; the others go on.
        on_done: receives the record of every NeRF written.
        on_skip: receives the record of every NeRF that was finished before.
        progress: receives iterations done and all; its stage names the batch and ends with the PSNR of the rays.
    """

    out: StrPath
    settings: Mapping[NerfArchitecture, FitSettings]
    seed: int = 0
    batch: int = 1
    device: torch.device | str | None = None
    resume: bool = True
    checkpoint_seconds: float = 60.0
    least_psnr: float | None = None
    on_error: Callable[[Exception], None] = field(default=lambda error: logger.error("%s", error))
    on_done: Report = field(default=lambda *_: None)
    on_skip: Report = field(default=lambda *_: None)
    progress: Progress = no_progress

    def run(self, sources: Iterable[Source]) -> None:
        """Fit every source in every architecture. Raises `ValueError` for a batch under one."""
        if self.batch < 1:
            raise ValueError(f"batch is {self.batch}; expected at least 1 NeRF at a time")
        sources = list(sources)
        valid = []
        for source, problem in check_ids(sources):
            if problem:
                self.on_error(ValueError(problem))
            else:
                valid.append(source)
        for start in range(0, len(valid), self.batch):
            self._fit_objects(valid[start : start + self.batch])
        self._write_sets(valid)

    def _fit_objects(self, sources: Sequence[Source]) -> None:
        """All architectures of some sources."""
        open_: dict[NerfArchitecture, list[Source]] = {}
        for architecture in self.settings:
            open_[architecture] = [source for source in sources if not self._finished(architecture, source)]
        loaded: dict[str, PosedImages] = {}
        for source in sources:
            if not any(source in each for each in open_.values()):
                continue
            try:
                loaded[source.name] = source.open(self.device, self.progress)
            except (ValueError, OSError, ImportError, MemoryError) as error:
                self.on_error(_named(error, source))
        for architecture, waiting in open_.items():
            ready = [source for source in waiting if source.name in loaded]
            sizes = {name: (posed.cameras.width, posed.cameras.height) for name, posed in loaded.items()}
            ready.sort(key=lambda source: sizes[source.name])
            for _, group in itertools.groupby(ready, key=lambda source: sizes[source.name]):
                members = list(group)
                self._fit_batch(architecture, members, [loaded[source.name] for source in members])

    def _finished(self, architecture: NerfArchitecture, source: Source) -> bool:
        directory = nerf_directory(self.out, architecture, source.class_id, source.nerf_id)
        record = self._own_record(directory, architecture) if self.resume else None
        if record is not None:
            self.on_skip(source, architecture, record)
        return record is not None

    def _own_record(self, directory: Path, architecture: NerfArchitecture) -> dict[str, Any] | None:
        """The record of a NeRF that was finished with these settings and this seed, or None."""
        if not is_complete(directory):
            return None
        try:
            record = json.loads((directory / FIT_NAME).read_text(encoding="utf-8"))
            same = record["settings"] == self.settings[architecture].to_dict() and record["seed"] == self.seed
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return record if same else None

    def _fit_batch(self, architecture: NerfArchitecture, sources: list[Source], objects: list[PosedImages]) -> None:
        settings = self.settings[architecture]
        seeds = [derived_seed(self.seed, architecture.name, o.class_id, o.nerf_id) for o in objects]
        shared = derived_seed(self.seed, architecture.name, "initialisation")
        initial = [shared] * len(seeds) if settings.share_initialisation else seeds
        started, cpu_started = time.perf_counter(), time.process_time()
        fit = PhotometricFit(architecture, objects, settings, seeds=seeds, initial_seeds=initial, device=self.device)
        checkpoint = Path(self.out, CHECKPOINTS, f"{self._batch_key(fit, seeds)}.pth")
        before = {"seconds": 0.0, "cpu_seconds": 0.0}
        if self.resume and checkpoint.is_file():
            try:
                state, _ = read_tensors(checkpoint)
                fit.load_state_dict(state)
                before = {name: float(state[name]) for name in before}
            except (ValueError, KeyError, RuntimeError) as error:
                logger.warning("%s: cannot be continued from (%s): starting again", checkpoint, error)
        saved = time.perf_counter()
        text = architecture.name if len(objects) > 1 else f"{architecture.name} {objects[0].nerf_id}"
        text += f" and {len(objects) - 1} more" if len(objects) > 1 else ""
        while not fit.done:
            fit.step()
            if fit.iteration % 10 == 0 or fit.done:
                quality = float(psnr_of_error(fit.loss).mean())
                self.progress(f"{text}: {quality:.1f} dB", fit.iteration, settings.iterations)
            if time.perf_counter() - saved > self.checkpoint_seconds and not fit.done:
                spent = {
                    "seconds": before["seconds"] + time.perf_counter() - started,
                    "cpu_seconds": before["cpu_seconds"] + time.process_time() - cpu_started,
                }
                try:
                    write_pth_content({**fit.state_dict(), **spent}, checkpoint)
                except OSError as error:
                    logger.warning("no checkpoint: %s", error)
                saved = time.perf_counter()
        share = {
            "seconds": (before["seconds"] + time.perf_counter() - started) / len(objects),
            "cpu_seconds": (before["cpu_seconds"] + time.process_time() - cpu_started) / len(objects),
        }
        self._write_batch(fit, sources, seeds, initial, share)
        checkpoint.unlink(missing_ok=True)

    def _write_batch(
        self,
        fit: PhotometricFit,
        sources: list[Source],
        seeds: list[int],
        initial: list[int],
        share: Mapping[str, float],
    ) -> None:
        grids = fit.grids()
        for number, (source, posed) in enumerate(zip(sources, fit.objects, strict=True)):
            try:
                nerf = fit.nerf(number)
                moved = (nerf.to(fit.device), grids[number].to(fit.device))
                held_out = posed.held_out[: fit.settings.measured_views]
                cameras = posed.held_out_cameras[: len(held_out)].to(fit.device)
                known = None if posed.held_out_known is None else posed.held_out_known[: len(held_out)]
                behind = fit.surroundings[number].image if number in fit.surroundings else None
                psnr, rendered = held_out_psnr(*moved, held_out, cameras, known=known, behind=behind)
                if problem := shortfall(psnr, self.least_psnr):
                    shown = Path(
                        self.out, CHECKPOINTS, f"poor-{fit.architecture.name}-{posed.class_id}-{posed.nerf_id}.png"
                    )
                    shown.parent.mkdir(parents=True, exist_ok=True)
                    preview(rendered.cpu(), held_out).save(shown)
                    raise ValueError(f"{source.name}: {problem} ({shown} shows it above the images)")
                record = {
                    "architecture": fit.architecture.to_dict(),
                    "name": fit.architecture.name,
                    "class_id": posed.class_id,
                    "nerf_id": posed.nerf_id,
                    "source": posed.source,
                    "notes": list(posed.notes),
                    **({"placement": posed.placement.to_dict()} if posed.placement else {}),
                    "settings": fit.settings.to_dict(),
                    "seed": self.seed,
                    "object_seed": seeds[number],
                    "initial_seed": initial[number],
                    "views": len(posed.images),
                    "width": posed.cameras.width,
                    "height": posed.cameras.height,
                    "held_out_views": len(psnr),
                    "psnr": sum(psnr) / len(psnr) if psnr else None,
                    "psnr_each": psnr,
                    "psnr_of": "held-out views, whole images"
                    f"{'' if posed.surrounded else ' over white'}, 8-bit truth, step of the released renderer",
                    "step": STEP,
                    **share,
                    "nerfs_at_once": len(fit),
                    "device": device_name(fit.device),
                    "threads": torch.get_num_threads(),
                    "torch": torch.__version__,
                }
                write_fit(
                    nerf_directory(self.out, fit.architecture, posed.class_id, posed.nerf_id),
                    posed,
                    nerf,
                    grids[number],
                    record=record,
                    rendered=rendered.cpu(),
                    shared=self._sibling(fit.architecture, posed),
                )
                self.on_done(source, fit.architecture, record)
            except (ValueError, OSError) as error:
                self.on_error(_named(error, source))

    def _sibling(self, architecture: NerfArchitecture, posed: PosedImages) -> Path | None:
        """The directory of another family of the same object from a fit of the same views."""
        for other in self.settings:
            directory = nerf_directory(self.out, other, posed.class_id, posed.nerf_id)
            if other == architecture or self._own_record(directory, other) is None:
                continue
            first, same = self.settings[other], self.settings[architecture]
            if (first.views, first.size) == (same.views, same.size):
                return directory
        return None

    def _batch_key(self, fit: PhotometricFit, seeds: Sequence[int]) -> str:
        """A name that only a batch with the same views, settings and seeds has."""
        digest = hashlib.sha256()
        description = [fit.architecture.to_dict(), fit.settings.to_dict(), list(seeds), str(fit.device)]
        digest.update(json.dumps(description).encode())
        for posed in fit.objects:
            digest.update(posed.images.numpy().tobytes())
            digest.update(posed.cameras.camera_to_world.numpy().tobytes())
        return digest.hexdigest()[:32]

    def _write_sets(self, sources: Sequence[Source]) -> None:
        """Split lists and texts of the procedural objects that are there in every family."""
        members = []
        for source in sources:
            if source.procedural is not None and source.index is not None:
                places = [nerf_directory(self.out, a, source.class_id, source.nerf_id) for a in self.settings]
                if all(is_complete(place) for place in places):
                    members.append((split_of(source.index), source))
        if not members:
            return
        write_splits(self.out, [(split, source.class_id, source.nerf_id) for split, source in members])
        write_language(
            self.out, [(split, source.procedural()) for split, source in members if source.procedural], seed=self.seed
        )


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def _named(error: Exception, source: Source) -> Exception:
    """The error, its message starting with the source's name."""
    text = str(error) or type(error).__name__
    path = source.name.split(" ")[-1] if source.procedural is not None else source.name
    if path in text:
        return error
    return type(error)(f"{source.name}: {text}") if isinstance(error, ValueError) else OSError(f"{source.name}: {text}")
