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
from ..rendering.marching import STEP
from ..seeds import derived_seed
from .output import FIT_NAME, is_complete, nerf_directory, split_of, write_fit, write_language, write_splits
from .presets import FitSettings
from .sources import PosedImages, Source, check_ids
from .trainer import Trainer, held_out_psnr

logger = logging.getLogger(__name__)

CHECKPOINTS = ".fit"

Report = Callable[[Source, NerfArchitecture, Mapping[str, Any]], None]
Progress = Callable[[str, int, int, str], None]


@dataclass(kw_only=True)
class FitJob:
    """What `run` needs to know.

    Attributes:
        out: directory of the output.
        settings: of each architecture that is to be fitted.
        seed: everything random follows from it, the object's ids and the architecture's name.
        batch: NeRFs at once.
        device: where; the default device if left out.
        resume: keep what is finished, continue what is not.
        checkpoint_seconds: between checkpoints.
        on_error: called with every object that failed; the others go on.
        on_done: called with the record of every NeRF written.
        on_skip: called with every NeRF that was finished before.
        progress: called with a description, iterations done, all iterations, and a note with the PSNR of the rays.
    """

    out: StrPath
    settings: Mapping[NerfArchitecture, FitSettings]
    seed: int = 0
    batch: int = 1
    device: torch.device | str | None = None
    resume: bool = True
    checkpoint_seconds: float = 60.0
    on_error: Callable[[Exception], None] = field(default=lambda error: logger.error("%s", error))
    on_done: Report = field(default=lambda *_: None)
    on_skip: Report = field(default=lambda *_: None)
    progress: Progress = field(default=lambda *_: None)

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
                loaded[source.name] = source.load()
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
        trainer = Trainer(architecture, objects, settings, seeds=seeds, initial_seeds=initial, device=self.device)
        checkpoint = Path(self.out, CHECKPOINTS, f"{self._batch_key(trainer, seeds)}.pth")
        before = {"seconds": 0.0, "cpu_seconds": 0.0}
        if self.resume and checkpoint.is_file():
            try:
                state, _ = read_tensors(checkpoint)
                trainer.load_state_dict(state)
                before = {name: float(state[name]) for name in before}
            except (ValueError, KeyError, RuntimeError) as error:
                logger.warning("%s: cannot be continued from (%s): starting again", checkpoint, error)
        saved = time.perf_counter()
        text = architecture.name if len(objects) > 1 else f"{architecture.name} {objects[0].nerf_id}"
        text += f" and {len(objects) - 1} more" if len(objects) > 1 else ""
        while not trainer.done:
            trainer.step()
            if trainer.iteration % 10 == 0 or trainer.done:
                psnr = float(-10 * torch.log10(trainer.loss.clamp(min=1e-10)).mean())
                self.progress(text, trainer.iteration, settings.iterations, f"{psnr:.1f} dB")
            if time.perf_counter() - saved > self.checkpoint_seconds and not trainer.done:
                spent = {
                    "seconds": before["seconds"] + time.perf_counter() - started,
                    "cpu_seconds": before["cpu_seconds"] + time.process_time() - cpu_started,
                }
                try:
                    write_pth_content({**trainer.state_dict(), **spent}, checkpoint)
                except OSError as error:
                    logger.warning("no checkpoint: %s", error)
                saved = time.perf_counter()
        share = {
            "seconds": (before["seconds"] + time.perf_counter() - started) / len(objects),
            "cpu_seconds": (before["cpu_seconds"] + time.process_time() - cpu_started) / len(objects),
        }
        self._write_batch(trainer, sources, seeds, initial, share)
        checkpoint.unlink(missing_ok=True)

    def _write_batch(
        self,
        trainer: Trainer,
        sources: list[Source],
        seeds: list[int],
        initial: list[int],
        share: Mapping[str, float],
    ) -> None:
        grids = trainer.grids()
        for number, (source, posed) in enumerate(zip(sources, trainer.objects, strict=True)):
            try:
                nerf = trainer.nerf(number)
                moved = (nerf.to(trainer.device), grids[number].to(trainer.device))
                held_out = posed.held_out[: trainer.settings.measured_views]
                cameras = posed.held_out_cameras[: len(held_out)].to(trainer.device)
                psnr, rendered = held_out_psnr(*moved, held_out, cameras)
                record = {
                    "architecture": trainer.architecture.to_dict(),
                    "name": trainer.architecture.name,
                    "class_id": posed.class_id,
                    "nerf_id": posed.nerf_id,
                    "source": posed.source,
                    "notes": list(posed.notes),
                    "settings": trainer.settings.to_dict(),
                    "seed": self.seed,
                    "object_seed": seeds[number],
                    "initial_seed": initial[number],
                    "views": len(posed.images),
                    "width": posed.cameras.width,
                    "height": posed.cameras.height,
                    "held_out_views": len(psnr),
                    "psnr": sum(psnr) / len(psnr) if psnr else None,
                    "psnr_each": psnr,
                    "psnr_of": "held-out views, whole images over white, 8-bit truth, step of the released renderer",
                    "step": STEP,
                    **share,
                    "nerfs_at_once": len(trainer),
                    "device": device_name(trainer.device),
                    "threads": torch.get_num_threads(),
                    "torch": torch.__version__,
                }
                write_fit(
                    nerf_directory(self.out, trainer.architecture, posed.class_id, posed.nerf_id),
                    posed,
                    nerf,
                    grids[number],
                    record=record,
                    rendered=rendered.cpu(),
                    shared=self._sibling(trainer.architecture, posed),
                )
                self.on_done(source, trainer.architecture, record)
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

    def _batch_key(self, trainer: Trainer, seeds: Sequence[int]) -> str:
        """A name that only a batch with the same views, settings and seeds has."""
        digest = hashlib.sha256()
        description = [trainer.architecture.to_dict(), trainer.settings.to_dict(), list(seeds), str(trainer.device)]
        digest.update(json.dumps(description).encode())
        for posed in trainer.objects:
            digest.update(posed.images.numpy().tobytes())
            digest.update(posed.cameras.camera_to_world.numpy().tobytes())
        return digest.hexdigest()[:32]

    def _write_sets(self, sources: Sequence[Source]) -> None:
        """Split lists and texts of the procedural objects that are there in every family."""
        members = []
        for source in sources:
            if source.thing is not None and source.index is not None:
                places = [nerf_directory(self.out, a, source.class_id, source.nerf_id) for a in self.settings]
                if all(is_complete(place) for place in places):
                    members.append((split_of(source.index), source))
        if not members:
            return
        write_splits(self.out, [(split, source.class_id, source.nerf_id) for split, source in members])
        write_language(self.out, [(split, source.thing()) for split, source in members if source.thing], seed=self.seed)


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def _named(error: Exception, source: Source) -> Exception:
    """The error, its message starting with the source's name."""
    text = str(error) or type(error).__name__
    path = source.name.split(" ")[-1] if source.thing is not None else source.name
    if path in text:
        return error
    return type(error)(f"{source.name}: {text}") if isinstance(error, ValueError) else OSError(f"{source.name}: {text}")
