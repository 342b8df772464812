"""A whole run of fits: sources in, NeRF directories out, batch after batch, one family after the other on the same views.

A run that was killed continues: finished directories of the same source, settings and seed are kept (`inputs.py`), the batch in
work is continued from its last checkpoint (``<out>/.fit/``), with the weights that an uninterrupted run would have reached (CPU,
same machine, as many threads). Several runs may share a directory: each NeRF is fitted by one of them at a time.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..digests import DIGESTS_NAME, Digests, digest_of
from ..files import StrPath, read_json, read_tensors, write_json, write_pth_content
from ..locks import BeingWrittenError, output_lock
from ..nerfs.architectures import NerfArchitecture
from ..progress import Progress, no_progress
from ..rendering.marching import STEP
from ..rendering.psnr import psnr_of_error
from ..seeds import derived_seed
from .inputs import are_same_files, are_stored_views, files_of, views_digest
from .kept_views import read_views, write_views
from .measure import held_out_psnr
from .output import FIT_NAME, is_complete, nerf_directory, preview, split_of, write_fit, write_language, write_splits
from .photometric import PhotometricFit
from .posed_images import PosedImages
from .presets import FitSettings
from .quality import shortfall
from .sources import Source, check_ids

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
        resume: whether to keep what is finished, if its source, settings and seed are still the same, and to continue what is
            not.
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
    _digests: Digests = field(default_factory=Digests, init=False, repr=False)
    _current: set[Path] = field(default_factory=set, init=False, repr=False)
    _inputs: dict[str, dict[str, Any]] = field(default_factory=dict, init=False, repr=False)
    _opening: dict[str, float] = field(default_factory=dict, init=False, repr=False)
    _changed: int = field(default=0, init=False, repr=False)

    def run(self, sources: Iterable[Source]) -> None:
        """Fit every source in every architecture. Raises `ValueError` for a batch under one."""
        if self.batch < 1:
            raise ValueError(f"batch is {self.batch}; expected at least 1 NeRF at a time")
        sources = list(sources)
        self._digests = Digests(Path(self.out, CHECKPOINTS, DIGESTS_NAME))
        self._current, self._inputs, self._opening, self._changed = set(), {}, {}, 0
        valid = []
        for source, problem in check_ids(sources):
            if problem:
                self.on_error(ValueError(problem))
            else:
                valid.append(source)
        for start in range(0, len(valid), self.batch):
            self._fit_objects(valid[start : start + self.batch])
            self._forget_views(valid[start : start + self.batch])
            if self._current:
                self._digests.save()
        if self._changed:
            total = len(self._current)
            logger.warning("%s: %d of %d NeRFs had changed and were fitted again", self.out, self._changed, total)
        self._write_sets(valid)

    def _fit_objects(self, sources: Sequence[Source]) -> None:
        """All architectures of some sources."""
        loaded: dict[str, PosedImages] = {}
        open_: dict[NerfArchitecture, list[Source]] = {}
        for architecture in self.settings:
            open_[architecture] = [source for source in sources if not self._finished(architecture, source, loaded)]
        for source in sources:
            if source.name in loaded or not any(source in each for each in open_.values()):
                continue
            try:
                loaded[source.name] = self._open(source)
            except (ValueError, OSError, ImportError, MemoryError) as error:
                self.on_error(_named(error, source))
        for architecture, waiting in open_.items():
            ready = [source for source in waiting if source.name in loaded]
            sizes = {name: (posed.cameras.width, posed.cameras.height) for name, posed in loaded.items()}
            ready.sort(key=lambda source: sizes[source.name])
            for _, group in itertools.groupby(ready, key=lambda source: sizes[source.name]):
                members = list(group)
                with self._held(architecture, members, loaded) as mine:
                    if mine:
                        self._fit_batch(architecture, mine, [loaded[source.name] for source in mine])

    def _open(self, source: Source) -> PosedImages:
        files = files_of(source, self._digests)
        kept = None if source.render is None or not files else self._kept_views(files)
        posed = None if kept is None or not self.resume else read_views(kept)
        if posed is None:
            started = time.process_time()
            posed = source.open(self.device, self.progress)
            self._opening[source.name] = time.process_time() - started
            if kept is not None:
                write_views(posed, kept)
        self._inputs[source.name] = {**files, "views": views_digest(posed)} if files else {}
        return posed

    def _kept_views(self, files: Mapping[str, Any]) -> Path:
        return Path(self.out, CHECKPOINTS, f"views-{digest_of(files)[:32]}.pth")

    def _forget_views(self, sources: Sequence[Source]) -> None:
        """Remove the views of sources whose NeRFs are all there."""
        for source in sources:
            places = {nerf_directory(self.out, each, source.class_id, source.nerf_id) for each in self.settings}
            if source.render is not None and places <= self._current:
                inputs = self._inputs.get(source.name, {})
                files = {name: value for name, value in inputs.items() if name != "views"}
                self._kept_views(files or files_of(source, self._digests)).unlink(missing_ok=True)

    @contextlib.contextmanager
    def _held(
        self, architecture: NerfArchitecture, sources: Sequence[Source], loaded: dict[str, PosedImages]
    ) -> Iterator[list[Source]]:
        """Those of some sources that nobody else is fitting, or has fitted meanwhile, for the time of a block."""
        with contextlib.ExitStack() as held:
            mine = []
            for source in sources:
                directory = nerf_directory(self.out, architecture, source.class_id, source.nerf_id)
                name = f"{'-'.join(directory.relative_to(self.out).parts)}.lock"
                try:
                    held.enter_context(output_lock(directory, file=Path(self.out, CHECKPOINTS, name)))
                except (BeingWrittenError, OSError) as error:
                    self.on_error(error)
                    continue
                record, _ = self._look(architecture, source, loaded)
                if record is None:
                    mine.append(source)
                else:
                    self._keep(architecture, source, record)
            yield mine

    def _finished(self, architecture: NerfArchitecture, source: Source, loaded: dict[str, PosedImages]) -> bool:
        """Whether a NeRF is there, of this source, settings and seed. What had to be opened to know is put into `loaded`."""
        record, reason = self._look(architecture, source, loaded)
        if record is not None:
            self._keep(architecture, source, record)
            return True
        if reason:
            self._changed += 1
            name = f"{architecture.name} {source.class_id}/{source.nerf_id}"
            logger.warning("%s: %s since it was fitted; it is fitted again", name, reason)
        return False

    def _keep(self, architecture: NerfArchitecture, source: Source, record: Mapping[str, Any]) -> None:
        self._current.add(nerf_directory(self.out, architecture, source.class_id, source.nerf_id))
        self.on_skip(source, architecture, record)

    def _look(
        self, architecture: NerfArchitecture, source: Source, loaded: dict[str, PosedImages]
    ) -> tuple[dict[str, Any] | None, str]:
        """The record of a NeRF that is finished and as it would be now; or None, and what changed where one is finished."""
        directory = nerf_directory(self.out, architecture, source.class_id, source.nerf_id)
        if not self.resume or not is_complete(directory):
            return None, ""
        try:
            record = read_json(directory / FIT_NAME)
        except (OSError, ValueError):
            return None, ""
        if record.get("settings") != self.settings[architecture].to_dict() or record.get("seed") != self.seed:
            return None, "the settings or the seed changed"
        inputs = record.get("inputs") or {}
        if source.path is None or are_same_files(source, inputs, self._digests):
            return record, ""
        try:
            if source.name not in loaded:
                loaded[source.name] = self._open(source)
        except (ValueError, OSError, ImportError, MemoryError):
            return None, f"{source.name} changed"  # what is wrong with it is said when it is opened to be fitted to
        posed, now = loaded[source.name], self._inputs[source.name]
        same = inputs["views"] == now["views"] if "views" in inputs else are_stored_views(directory, posed)
        if not same:
            return None, f"{source.name} changed"
        write_json({**record, "inputs": now}, directory / FIT_NAME)
        return record, ""

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
                    "inputs": self._inputs[source.name],
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
                    "opening_cpu_seconds": self._opening.get(source.name),  # None: views of a run that was killed
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
                self._current.add(nerf_directory(self.out, fit.architecture, posed.class_id, posed.nerf_id))
                self.on_done(source, fit.architecture, record)
            except (ValueError, OSError) as error:
                self.on_error(_named(error, source))

    def _sibling(self, architecture: NerfArchitecture, posed: PosedImages) -> Path | None:
        """The directory of another family of the same object from a fit of the same views."""
        for other in self.settings:
            directory = nerf_directory(self.out, other, posed.class_id, posed.nerf_id)
            first, same = self.settings[other], self.settings[architecture]
            if directory in self._current and (first.views, first.size) == (same.views, same.size):
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
