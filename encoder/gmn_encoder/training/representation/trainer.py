"""The trainer: epochs of batches through the losses, on one process or several, with checkpoints and exact resume.

Source: the paper's Appendix B (AdamW, one-cycle schedule, 250 epochs) and FORMATS.md section 6. Nothing random depends on what
was drawn before: batches, rays and points follow from seed, epoch and object. So a run that was killed and started again ends,
on the CPU and with as many threads, with the same bits as one that was not.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ...datasets import PairedDataset
from ...files import StrPath, write_bytes
from ..checkpoint import (
    BEST,
    LAST,
    TRAINER_NAME,
    check_same_run,
    load_state,
    read_checkpoint,
    recipe_text,
    save_checkpoint,
    start_from,
)
from .batches import BatchMaker
from .model import Losses, TrainedModel
from .recipe import Recipe
from .validation import Validation

if TYPE_CHECKING:
    from accelerate import Accelerator

logger = logging.getLogger(__name__)

METRICS_NAME = "metrics.jsonl"
_LOG_EVERY = 10  # steps between looks at the loss on a GPU, which wait for it, and between agreements of processes


class DivergedError(ValueError):
    """The loss is not a number any more."""


@dataclass(frozen=True)
class TrainingResult:
    """How a run ended.

    Attributes:
        finished: all epochs are done; otherwise `max_seconds` were over.
        step, steps: done and in all.
        seconds: of this run.
        metrics: of the last validation.
    """

    finished: bool
    step: int
    steps: int
    seconds: float
    metrics: Mapping[str, float]


@dataclass(kw_only=True)
class Reports:
    """What the trainer tells while it works.

    Attributes:
        on_step: called with steps done, steps in all, and the losses so far as a line.
        on_batch: called with NeRFs validated and all that are to be.
        on_validation: called with epochs done and the metrics.
        on_start: called with a sentence about what is begun or continued.
    """

    on_step: Callable[[int, int, str], None] = field(default=lambda *_: None)
    on_batch: Callable[[int, int], None] = field(default=lambda *_: None)
    on_validation: Callable[[int, Mapping[str, float]], None] = field(default=lambda *_: None)
    on_start: Callable[[str], None] = field(default=lambda *_: None)


class Trainer:
    """A training run.

    Args:
        recipe: all settings.
        data: root of the data set: a directory for each of the recipe's families, and the lists train.txt and val.txt.
        out: where checkpoints and metrics go.
        accelerator: from the caller, who knows device and trackers; None: made here.
        resume: continue what is in `out`.
        init: checkpoint whose weights to start from, where there is nothing to continue.
        reports: see `Reports`.

    Raises:
        FileNotFoundError, ValueError: data, checkpoint or `init` that are missing or do not fit, in one sentence.
    """

    def __init__(
        self,
        recipe: Recipe,
        data: StrPath,
        *,
        out: StrPath,
        accelerator: Accelerator | None = None,
        resume: bool = True,
        init: StrPath | None = None,
        reports: Reports | None = None,
    ) -> None:
        self.recipe, self.out, self.reports = recipe, Path(out), reports or Reports()
        train, held_out = _members(data, recipe, "train"), _members(data, recipe, "val")
        self.accelerator: Any = accelerator or _default_accelerator()
        device, rank, size = (getattr(self.accelerator, n) for n in ("device", "process_index", "num_processes"))
        self.batches = BatchMaker(train, recipe, device=device, process=rank, processes=size)
        self.validation = Validation(
            held_out, recipe, device=device, process=rank, processes=size, gather=_gather if size > 1 else list
        )
        self.steps = recipe.epochs * self.batches.steps_per_epoch
        self.model = TrainedModel(recipe)
        self._data_digest = _digest(train)
        self.step, self.best = 0, -math.inf
        self.metrics: dict[str, float] = {}
        self._last: dict[str, float] = {}
        self._saved = 0.0
        found = self.out / LAST / TRAINER_NAME
        content = read_checkpoint(found) if resume and found.is_file() else None
        if content is not None:
            check_same_run(found, content, self._progress())
            load_state(self.model, content)
        elif init is not None:
            self.reports.on_start(f"starting from the {', '.join(start_from(self.model, init))} of {init}")
        self.model.to(device)
        if content is None and init is None and recipe.calibrate:
            self.model.calibrate(self.batches.examples(recipe.calibration_objects))
        self._prepare(content)

    def _prepare(self, content: Mapping[str, Any] | None) -> None:
        recipe = self.recipe
        groups = self.model.parameter_groups()
        optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
        # Made before `prepare`: it writes the first rate and momentum into the optimiser.
        self.scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=[group["lr"] for group in groups],
            total_steps=max(2, -(-self.steps // recipe.accumulation)),
            pct_start=recipe.warmup,
        )
        if content is not None:
            optimizer.load_state_dict(content["optimizer"])
            self.scheduler.load_state_dict(content["scheduler"])
            self.step, self.best = int(content["step"]), float(content["best"])
            self.metrics = dict(json.loads(content["metrics"]))
            self._forget_metrics_after(self.step)
            self.reports.on_start(f"continuing at step {self.step} of {self.steps}")
        self.optimizer = optimizer
        self.wrapped = self.accelerator.prepare_model(self.model)

    def run(self) -> TrainingResult:
        """Train to the end, or to a checkpoint once `max_seconds` are over.

        Raises:
            DivergedError: the loss is not finite; the last checkpoint is from before.
            OSError: the last checkpoint of the run cannot be written.
        """
        started = self._saved = time.monotonic()
        per_epoch = self.batches.steps_per_epoch
        self.model.train()
        stopped = False
        while self.step < self.steps and not stopped:
            epoch = self.step // per_epoch
            for batch in self.batches.epoch(epoch, first=self.step % per_epoch):
                losses = self._step(batch)
                self._report(losses)
                if self.step % per_epoch == 0:
                    self._end_epoch(epoch)
                stopped = self._is_over(started)
                if stopped:
                    break
                self._save_if_due()
        self._save(LAST)
        self.accelerator.wait_for_everyone()
        seconds = time.monotonic() - started
        return TrainingResult(self.step >= self.steps, self.step, self.steps, seconds, self.metrics)

    def _step(self, batch: Any) -> Losses:
        """One batch: backwards always, a step of the optimiser when enough gradients have come together."""
        recipe = self.recipe
        last = (self.step + 1) % recipe.accumulation == 0 or self.step + 1 == self.steps
        if not last:
            with self.accelerator.no_sync(self.wrapped):
                losses = self.wrapped(batch)
                (losses.total / recipe.accumulation).backward()
        else:
            losses = self.wrapped(batch)
            (losses.total / recipe.accumulation).backward()
            if recipe.clip_norm:
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), recipe.clip_norm)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            self.scheduler.step()
        self.step += 1
        return losses

    def _report(self, losses: Losses) -> None:
        if self.accelerator.device.type != "cpu" and self.step % _LOG_EVERY:
            return
        values = _values(losses)
        self._last = values
        if not math.isfinite(values["loss"]):
            raise DivergedError(self._diverged(f"the loss is {values['loss']}"))
        self.reports.on_step(self.step, self.steps, " ".join(f"{key} {value:.4f}" for key, value in values.items()))
        if self.step % _LOG_EVERY == 0:
            self.accelerator.log(
                {**{f"train/{k}": v for k, v in values.items()}, "lr": self.scheduler.get_last_lr()[0]}, step=self.step
            )

    def _diverged(self, what: str) -> str:
        kept = self.out / LAST / TRAINER_NAME
        good = f"{kept} is from before" if kept.is_file() else "nothing was saved yet"
        return f"{what} at step {self.step}; {good}; lower learning_rate or set clip_norm=1"

    def _end_epoch(self, epoch: int) -> None:
        done = epoch + 1
        if done % self.recipe.validate_every and done != self.recipe.epochs:
            return
        self.model.eval()
        self.metrics = self.validation.run(self.model, on_batch=self.reports.on_batch)
        self.model.train()
        self.accelerator.log({f"val/{key}": value for key, value in self.metrics.items()}, step=self.step)
        if self.accelerator.is_main_process:
            self._append_metrics(done)
        score = self._score()
        if score > self.best:
            self.best = score
            self._save(BEST)
        self.reports.on_validation(done, self.metrics)

    def _score(self) -> float:
        value = self.metrics.get({"psnr": "psnr", "recall": "recall@1", "siglip": "siglip"}[self.recipe.selection])
        if value is None:
            return -math.inf
        return -value if self.recipe.selection == "siglip" else value

    def _is_over(self, started: float) -> bool:
        limit = self.recipe.max_seconds
        if not limit:
            return False
        if self.accelerator.num_processes == 1:
            over = time.monotonic() - started >= limit
        elif self.step % _LOG_EVERY:
            return False
        else:  # all stop at the same step: the first process decides
            said = torch.tensor(
                [time.monotonic() - started >= limit], dtype=torch.int32, device=self.accelerator.device
            )
            torch.distributed.broadcast(said, 0)
            over = bool(said.item())
        return over and self.step % self.recipe.accumulation == 0

    def _save_if_due(self) -> None:
        due = time.monotonic() - self._saved >= self.recipe.checkpoint_seconds
        if due and self.step % self.recipe.accumulation == 0:
            try:
                self._save(LAST)
            except OSError as error:  # a full disk may have room again by the next time
                logger.warning("no checkpoint: %s", error)
            self._saved = time.monotonic()

    def _save(self, name: str) -> None:
        if not self.accelerator.is_main_process:
            return
        if not all(bool(torch.isfinite(parameter).all()) for parameter in self.model.parameters()):
            raise DivergedError(self._diverged("a weight is not finite"))
        save_checkpoint(
            self.out / name,
            self.model,
            optimizer=self.optimizer,
            scheduler=self.scheduler,
            progress=self._progress(),
        )

    def _progress(self) -> dict[str, Any]:
        per_epoch = self.batches.steps_per_epoch
        progress = {
            "recipe": recipe_text(self.recipe),
            "data": self._data_digest,
            "processes": self.accelerator.num_processes,
            "step": self.step,
            "steps": self.steps,
            "epoch": self.step // per_epoch,
            "best": self.best,
            "metrics": json.dumps(self.metrics),
        }
        if self.recipe.selection == "psnr":
            progress["best_psnr"] = self.best
        return progress

    def _append_metrics(self, epoch: int) -> None:
        record = {"epoch": epoch, "step": self.step, **self.metrics, "train": _values_of(self._last)}
        file = self.out / METRICS_NAME
        before = file.read_bytes() if file.is_file() else b""
        write_bytes(before + (json.dumps(record) + "\n").encode(), file)

    def _forget_metrics_after(self, step: int) -> None:
        """Drop lines that a killed run wrote after its last checkpoint: they are measured again."""
        file = self.out / METRICS_NAME
        if not file.is_file() or not self.accelerator.is_main_process:
            return
        lines = [line for line in file.read_text(encoding="utf-8").splitlines() if json.loads(line)["step"] <= step]
        write_bytes("".join(f"{line}\n" for line in lines).encode(), file)


def _default_accelerator() -> Accelerator:
    from accelerate import Accelerator

    return Accelerator()


def _values(losses: Losses) -> dict[str, float]:
    parts = {"loss": losses.total}
    if losses.rendering is not None:
        parts |= {"foreground": losses.rendering.foreground, "background": losses.rendering.background}
    if losses.contrastive is not None:
        parts["siglip"] = losses.contrastive
    numbers = torch.stack([part.detach().float() for part in parts.values()]).tolist()
    return dict(zip(parts, numbers, strict=True))


def _values_of(values: Mapping[str, float]) -> dict[str, float]:
    return {key: round(value, 6) for key, value in values.items()}


def _members(data: StrPath, recipe: Recipe, split: str) -> PairedDataset:
    members = PairedDataset(data, recipe.families, split=split)
    if not len(members):
        raise ValueError(f"{Path(data) / (split + '.txt')}: names no objects; expected lines class_id/nerf_id")
    return members


def _digest(data: PairedDataset) -> str:
    text = "\n".join("/".join(each) for each in data.object_ids)
    return hashlib.sha256(text.encode()).hexdigest()


def _gather(rows: list[Any]) -> list[Any]:
    everyone: list[list[Any]] = [[] for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather_object(everyone, rows)
    return [row for part in everyone for row in part]
