"""The training loop: epochs of batches through a task's losses, on one process or several, with checkpoints and exact resume.

Source: the paper's Appendix B (AdamW, one-cycle schedule) and docs/released_format.md#encoder-training. Nothing random depends on
what was drawn
before: batches follow from seed, epoch and object. So a run that was killed and started again ends, on the CPU and with as many
threads, with the same bits as one that was not.

What is trained is a `TrainingTask`; the loop knows nothing of it but its losses, its metrics and its state.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from ..files import StrPath
from ..progress import Progress, no_progress
from ..seeds import derived_seed
from .checkpoint import BEST, LAST, TRAINER_NAME, check_same_run, read_checkpoint, write_checkpoint
from .metrics import METRICS_NAME, append_metrics, forget_metrics_after
from .recipe import RunRecipe

if TYPE_CHECKING:
    from accelerate import Accelerator

logger = logging.getLogger(__name__)

_LOG_EVERY = 10  # steps between reads of the loss on a GPU, which wait for it, and between agreements of processes


class DivergedError(ValueError):
    """The loss is not a number any more."""


class StepLosses(Protocol):
    """What a model gives for a batch."""

    @property
    def total(self) -> Tensor:
        """What is minimised, a scalar."""
        ...

    def parts(self) -> dict[str, Tensor]:
        """What it is made of, scalars by name."""
        ...


class TrainingTask(Protocol):
    """What is trained, on what, and how good it is.

    Attributes:
        steps_per_epoch: batches that each process sees in an epoch.
        data_digest: names the objects that it is trained on: a run is continued with the same ones.
        best_metric: name of the metric that makes a checkpoint the best.
        lower_is_better: whether its lowest value does.
    """

    steps_per_epoch: int
    data_digest: str
    best_metric: str
    lower_is_better: bool

    @property
    def model(self) -> nn.Module:
        """Gives the `StepLosses` of a batch."""
        ...

    def parameter_groups(self) -> list[dict[str, Any]]:
        """What the optimiser is given, each group with its rate ``lr``."""
        ...

    def batches(self, epoch: int, *, first: int = 0) -> Iterator[Any]:
        """This process' batches of an epoch from step `first` on."""
        ...

    def validate(self, progress: Progress) -> dict[str, float]:
        """Metrics of the model on objects that it does not train on, the same on every process."""
        ...

    def state(self) -> dict[str, Any]:
        """State dicts of the parts of the model, by name."""
        ...

    def load_state(self, content: Mapping[str, Any]) -> None:
        """Put the parts of a checkpoint of the same recipe into the model."""
        ...

    def begin(self) -> str | None:
        """Make the start of a run that continues none; returns a sentence about it, if there is one to say."""
        ...

    def save(self, directory: Path) -> None:
        """Write what others open, beside the checkpoint."""
        ...


@dataclass(frozen=True)
class TrainingResult:
    """How a run ended.

    Attributes:
        finished: whether all epochs are done; otherwise `max_seconds` were over.
        step: steps done.
        steps: steps in all.
        seconds: duration of this run.
        metrics: metrics of the last validation.
    """

    finished: bool
    step: int
    steps: int
    seconds: float
    metrics: Mapping[str, float]


@dataclass(kw_only=True)
class Reports:
    """What the loop tells while it works.

    Attributes:
        progress: receives the stages "training", with the losses so far as its note, and "validating".
        on_validation: receives epochs done and the metrics.
        on_start: receives a sentence about what is begun or continued.
    """

    progress: Progress = no_progress
    on_validation: Callable[[int, Mapping[str, float]], None] = field(default=lambda *_: None)
    on_start: Callable[[str], None] = field(default=lambda *_: None)


class TrainingLoop:
    """A training run.

    Args:
        task: the training task; its model is moved to the accelerator's device.
        recipe: the settings of the run; a continued one has those of the one before.
        out: directory of checkpoints and metrics.
        accelerator: accelerate's `Accelerator`, with device, processes and trackers.
        resume: whether to continue what is in `out`.
        reports: callbacks, see `Reports`.

    Raises:
        ValueError: a checkpoint that is of another run or of none, in one sentence; what the task's `begin` raises.
    """

    def __init__(
        self,
        task: TrainingTask,
        recipe: RunRecipe,
        *,
        out: StrPath,
        accelerator: Accelerator,
        resume: bool = True,
        reports: Reports | None = None,
    ) -> None:
        self.task, self.recipe, self.out, self.reports = task, recipe, Path(out), reports or Reports()
        self.accelerator: Any = accelerator
        self.steps = recipe.epochs * task.steps_per_epoch
        self.step, self.best = 0, -math.inf
        self.metrics: dict[str, float] = {}
        self._last: dict[str, float] = {}
        self._saved = 0.0
        task.model.to(self.accelerator.device)
        found = self.out / LAST / TRAINER_NAME
        content = read_checkpoint(found, task.state()) if resume and found.is_file() else None
        if content is not None:
            check_same_run(found, content, recipe, data=task.data_digest, processes=self.accelerator.num_processes)
            task.load_state(content)
        elif (said := task.begin()) is not None:
            self.reports.on_start(said)
        groups = task.parameter_groups()
        self.optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
        # Made before `prepare_model`: it writes the first rate and momentum into the optimiser.
        self.scheduler = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer,
            max_lr=[group["lr"] for group in groups],
            total_steps=max(2, -(-self.steps // recipe.accumulation)),
            pct_start=recipe.warmup,
        )
        if content is not None:
            self._continue(content)
        self.wrapped = self.accelerator.prepare_model(task.model)

    def _continue(self, content: Mapping[str, Any]) -> None:
        self.optimizer.load_state_dict(content["optimizer"])
        self.scheduler.load_state_dict(content["scheduler"])
        self.step, self.best = int(content["step"]), float(content["best"])
        self.metrics = dict(json.loads(content["metrics"]))
        if self.accelerator.is_main_process:
            forget_metrics_after(self.out / METRICS_NAME, self.step)
        self.reports.on_start(f"continuing at step {self.step} of {self.steps}")

    def run(self) -> TrainingResult:
        """Train to the end, or to a checkpoint once `max_seconds` are over.

        Raises:
            DivergedError: the loss is not finite; the last checkpoint is from before.
            OSError: the last checkpoint of the run cannot be written.
        """
        started = self._saved = time.monotonic()
        per_epoch = self.task.steps_per_epoch
        self.task.model.train()
        stopped = False
        while self.step < self.steps and not stopped:
            epoch = self.step // per_epoch
            for batch in self.task.batches(epoch, first=self.step % per_epoch):
                self._report(self._step(batch))
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

    def _step(self, batch: Any) -> StepLosses:
        """One batch: backwards always, a step of the optimiser when enough gradients have come together."""
        recipe = self.recipe
        # What a model draws itself, as dropout does, follows from seed and step too.
        torch.manual_seed(derived_seed(recipe.seed, "step", self.step, self.accelerator.process_index))
        last = (self.step + 1) % recipe.accumulation == 0 or self.step + 1 == self.steps
        if not last:
            with self.accelerator.no_sync(self.wrapped):
                losses = self.wrapped(batch)
                (losses.total / recipe.accumulation).backward()
        else:
            losses = self.wrapped(batch)
            (losses.total / recipe.accumulation).backward()
            if recipe.clip_norm:
                torch.nn.utils.clip_grad_norm_(self.task.model.parameters(), recipe.clip_norm)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            self.scheduler.step()
        self.step += 1
        return losses

    def _report(self, losses: StepLosses) -> None:
        if self.accelerator.device.type != "cpu" and self.step % _LOG_EVERY:
            return
        parts = {"loss": losses.total, **losses.parts()}
        numbers = torch.stack([part.detach().float() for part in parts.values()]).tolist()
        self._last = values = dict(zip(parts, numbers, strict=True))
        if not math.isfinite(values["loss"]):
            raise DivergedError(self._diverged(f"the loss is {values['loss']}"))
        note = " ".join(f"{key} {value:.4f}" for key, value in values.items())
        self.reports.progress(f"training: {note}", self.step, self.steps)
        if self.step % _LOG_EVERY == 0:
            logged = {f"train/{key}": value for key, value in values.items()}
            self.accelerator.log({**logged, "lr": self.scheduler.get_last_lr()[0]}, step=self.step)

    def _diverged(self, what: str) -> str:
        kept = self.out / LAST / TRAINER_NAME
        good = f"{kept} is from before" if kept.is_file() else "nothing was saved yet"
        return f"{what} at step {self.step}; {good}; lower learning_rate or set clip_norm=1"

    def _end_epoch(self, epoch: int) -> None:
        done = epoch + 1
        if done % self.recipe.validate_every and done != self.recipe.epochs:
            return
        self.task.model.eval()
        self.metrics = self.task.validate(self.reports.progress)
        self.task.model.train()
        self.accelerator.log({f"val/{key}": value for key, value in self.metrics.items()}, step=self.step)
        if self.accelerator.is_main_process:
            train = {key: round(value, 6) for key, value in self._last.items()}
            record = {"epoch": done, "step": self.step, **self.metrics, "train": train}
            append_metrics(self.out / METRICS_NAME, record)
        value = self.metrics.get(self.task.best_metric)
        score = -math.inf if value is None else -value if self.task.lower_is_better else value
        if score > self.best:
            self.best = score
            self._save(BEST)
        self.reports.on_validation(done, self.metrics)

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
        if not all(bool(torch.isfinite(parameter).all()) for parameter in self.task.model.parameters()):
            raise DivergedError(self._diverged("a weight is not finite"))
        progress = {
            "recipe": json.dumps(self.recipe.to_dict(), sort_keys=True),
            "data": self.task.data_digest,
            "processes": self.accelerator.num_processes,
            "step": self.step,
            "steps": self.steps,
            "epoch": self.step // self.task.steps_per_epoch,
            "best": self.best,
            "metrics": json.dumps(self.metrics),
            f"best_{self.task.best_metric}": -self.best if self.task.lower_is_better else self.best,
        }
        write_checkpoint(
            self.out / name,
            self.task.state(),
            optimizer=self.optimizer,
            scheduler=self.scheduler,
            progress=progress,
        )
        self.task.save(self.out / name)


def gather_rows(rows: list[Any]) -> list[Any]:
    """The rows of all processes in one list, on every process; the rows themselves where there is one."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return rows
    everyone: list[list[Any]] = [[] for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather_object(everyone, rows)
    return [row for part in everyone for row in part]
