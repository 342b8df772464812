"""A training run: from a recipe to a directory with a model or an adapter, through transformers' Trainer.

Source: docs/released_format.md#labels and #llana-training. The encoder is not run while training: objects come as embeddings. A
killed run continues from its last checkpoint and ends with the loss an uninterrupted one has: the order of samples follows from
seed and epoch (`sampler.py`), the Trainer restores optimizer, schedule and random states.

The run's directory: ``recipe.json``, ``inputs.json``, ``plan.json``, ``problems.txt``, ``samples.jsonl``, ``checkpoint-N/``, and
when it is done the result itself (an adapter, or a model) with its processor and ``report.json``.
"""

from __future__ import annotations

import logging
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, Trainer, TrainerCallback, set_seed

from gmn_encoder.encoders.base import NerfEncoder
from gmn_encoder.files import atomic_directory, atomic_path, read_json, write_json
from gmn_encoder.progress import Progress, no_progress

from ..assembly.assemble import assemble_on
from ..assembly.small import small_model, whiten_projector
from ..checkpoints.adapter_base import note_base
from ..checkpoints.backbone_adapters import complete_adapter, on_backbone
from ..checkpoints.encoders import open_encoder
from ..checkpoints.loading import adapter_base
from ..data.collator import ConversationCollator
from ..data.dataset import ConversationDataset
from ..data.sources import LanguageData
from ..model.hub import ADAPTER_CONFIG
from ..model.processing import LlanaGmnProcessor
from .arguments import training_arguments
from .callbacks import Report, SampleAnswers, Steps
from .inputs import check_same_inputs, run_inputs, write_inputs
from .plan import TrainingPlan, make_plan, make_sampler
from .precision import with_precision
from .processes import is_main_process, main_process_first, start_processes, world_size
from .recipe import NEW, TrainingRecipe
from .stages import compile_layers, load_for_training, prepare
from .warm_start import warm_projector

RECIPE_NAME = "recipe.json"
REPORT_NAME = "report.json"
PROBLEMS_NAME = "problems.txt"
INITIAL = "initial"
"""Folder of a run with the small model that it began with."""

_COMPILED_LENGTHS = 32
"""Lengths of batches are multiples of this where the backbone is compiled: few shapes."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingReport:
    """What a run came to.

    Attributes:
        output: the directory with the result.
        steps: optimizer steps, those before an interruption included.
        loss: mean training loss of the last logged interval.
        eval_loss: held-out loss of the last evaluation, None without one.
        seconds, samples_per_second: time and pace of this process's part of the run.
        history: everything that was logged.
    """

    output: str
    steps: int
    loss: float | None
    eval_loss: float | None
    seconds: float
    samples_per_second: float
    history: list[dict[str, Any]]


class ConversationTrainer(Trainer):
    """The Trainer, with our order of samples."""

    def __init__(self, *args: Any, recipe: TrainingRecipe, **kwargs: Any) -> None:
        self._recipe = recipe
        super().__init__(*args, **kwargs)

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        dataset: Any = self.train_dataset if train_dataset is None else train_dataset
        return make_sampler(dataset, self._recipe, self.args.world_size)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        super()._save(output_dir, state_dict=state_dict)
        directory = Path(output_dir or str(self.args.output_dir))
        _check_whole(directory)
        if (directory / ADAPTER_CONFIG).is_file():
            model: Any = self.accelerator.unwrap_model(self.model)
            complete_adapter(model.get_base_model(), directory)

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """The model's own loss; logits are made only where something is learned."""
        return super().compute_loss(model, {**inputs, "logits_at_labels": True, "use_cache": False}, *args, **kwargs)


class TrainingRun:
    """A run, prepared: model and data are there and can be looked at (`plan`) before anything is trained.

    Args:
        recipe: everything that decides what the run does.
        resume: whether to continue what `recipe.output` holds; otherwise it is begun anew.
        progress: receives how far embedding, tokenization and training are.
        report: receives what is logged.

    Raises:
        ValueError, FileNotFoundError: what is missing or does not go together, one sentence; another recipe's run in `output`.
    """

    def __init__(
        self,
        recipe: TrainingRecipe,
        *,
        resume: bool = True,
        progress: Progress = no_progress,
        report: Report | None = None,
    ) -> None:
        for name in ("data", "output"):
            if not getattr(recipe, name):
                raise ValueError(f"the recipe names no {name}; set {name}= to a directory")
        recipe = with_precision(recipe)
        self.recipe, self.output = recipe, Path(recipe.output)
        self._progress, self._report = progress, report
        self.resume = resume and check_same_run(recipe)
        # Before anything is loaded: what changes from now on differs from what is written down.
        self._inputs = run_inputs(recipe) if is_main_process() else {}
        if self.resume and is_main_process() and (note := check_same_inputs(recipe, self._inputs)):
            logger.warning("%s", note)
        start_processes(deepspeed=bool(recipe.deepspeed))
        with main_process_first():
            encoder = open_encoder(recipe.encoder) if recipe.encoder else None
            self.model, self.processor = self._model(encoder)
            self.data = LanguageData(
                Path(recipe.data),
                embeddings=recipe.embeddings,
                families=recipe.families,
                encoder=encoder if encoder is not None else self.model.nerf_encoder,
                cache=Path(recipe.cache) if recipe.cache else None,
                architectures=recipe.architectures,
            )
            self.train_set = self._load("train", positions=recipe.positions)
            if recipe.from_nothing and not self.model.config.encoder_config.whitened:
                table = self.train_set.table
                whiten_projector(self.model, table.values, table.families)
            self.eval_set = self._load(recipe.eval_split, limit=recipe.eval_limit) if recipe.eval_split else None
        attention = self.model.config.get_text_config()._attn_implementation
        if recipe.pack and attention not in (None, "sdpa"):
            raise ValueError(
                f"pack needs an attention that takes masks, sdpa, and this model's is {attention}; set pack: 0"
            )
        if recipe.warm_projector and not self.resume:
            warm_projector(self.model, self.train_set, steps=recipe.warm_projector, seed=recipe.seed, progress=progress)
        set_seed(recipe.seed)  # LoRA matrices begin at random
        self.model = prepare(self.model, recipe)
        if recipe.compile:
            compile_layers(self.model)
        self.plan: TrainingPlan = make_plan(
            self.model, recipe, self.train_set, evaluation=self.eval_set, processes=world_size()
        )

    def _model(self, encoder: NerfEncoder | None) -> tuple[Any, LlanaGmnProcessor]:
        if self.recipe.model != NEW:
            return load_for_training(self.recipe, encoder=encoder)
        start = self.recipe.new_model
        if start.backbone is not None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.recipe.seed)
                return assemble_on(
                    start.backbone,
                    encoder=encoder,
                    projector_hidden_sizes=start.projector_hidden_sizes,
                    nerf_tokens=start.nerf_tokens,
                    tokens_per_nerf=start.tokens_per_nerf,
                    dtype=self.recipe.dtype or "auto",
                )
        data = LanguageData(Path(self.recipe.data))
        dialogues, _ = data.dialogues("train", self.recipe.types)
        sizes = {name: value for name, value in asdict(start).items() if name != "backbone"}
        texts = [text for dialogue in dialogues for turn in dialogue.turns for text in turn]
        return small_model(texts, encoder=encoder, seed=self.recipe.seed, **sizes)

    def _load(self, split: str, *, limit: int = 0, positions: int = 0) -> ConversationDataset:
        recipe = self.recipe
        return self.data.load(
            split,
            recipe.types,
            processor=self.processor,
            max_length=min(recipe.max_length, self._context()),
            limit=limit,
            positions=positions,
            pack=recipe.pack,
            seed=recipe.seed,
            strict=recipe.strict,
            progress=self._progress,
        )

    def _context(self) -> int:
        return int(getattr(self.model.config.get_text_config(), "max_position_embeddings", None) or 1 << 30)

    def problems(self) -> list[str]:
        """One line for each entry that is left out, cut or unusual."""
        sets = [self.train_set, *([self.eval_set] if self.eval_set is not None else [])]
        return [str(problem) for dataset in sets for problem in dataset.problems]

    def train(self) -> TrainingReport:
        """Do it. Raises `ValueError` where the loss is no longer finite; checkpoints stay."""
        recipe = self.recipe
        if is_main_process():
            self._start()
        arguments = training_arguments(recipe, self.plan)
        trainer = ConversationTrainer(
            model=self.model,
            args=arguments,
            recipe=recipe,
            train_dataset=self.train_set,
            eval_dataset=self.eval_set,
            data_collator=ConversationCollator(
                self.processor.tokenizer.pad_token_id,
                self.processor.embedding_shape,
                _COMPILED_LENGTHS if recipe.compile else 8 if recipe.bf16 else 1,
            ),
            processing_class=self.processor,
            callbacks=self._callbacks(),
        )
        trainer.remove_callback(PrinterCallback)  # `Steps` reports
        check_engine(trainer, recipe)
        checkpoint = last_checkpoint(self.output) if self.resume else None
        started, begun = time.perf_counter(), 0 if checkpoint is None else _step_of(checkpoint)
        result = trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint is not None else None)
        seconds = time.perf_counter() - started
        trainer.save_model(str(self.output))
        if is_main_process() and (self.output / ADAPTER_CONFIG).is_file() and not on_backbone(self.output):
            note_base(self.output, adapter_base(self.output))
        history = [dict(entry) for entry in trainer.state.log_history]
        done = (result.global_step - begun) * recipe.batch_size * recipe.accumulation * self.plan.processes
        report = TrainingReport(
            output=str(self.output),
            steps=result.global_step,
            loss=_last(history, "loss"),
            eval_loss=_last(history, "eval_loss"),
            seconds=seconds,
            samples_per_second=done / seconds,
            history=history,
        )
        if is_main_process():
            write_json(asdict(report), self.output / REPORT_NAME)
        return report

    def _callbacks(self) -> list[TrainerCallback]:
        callbacks: list[TrainerCallback] = [Steps(self._progress, self._report)]
        if self.eval_set is not None and self.recipe.samples:
            path = self.output / "samples.jsonl"
            callbacks.append(SampleAnswers(self.eval_set, self.processor, path=path, count=self.recipe.samples))
        return callbacks

    def _start(self) -> None:
        """Clear what an earlier run left where this one begins anew, and write down what this one is."""
        if not self.resume:
            for old in [*self.output.glob("checkpoint-*"), self.output / INITIAL]:
                shutil.rmtree(old, ignore_errors=True)
            (self.output / "samples.jsonl").unlink(missing_ok=True)
        (self.output / REPORT_NAME).unlink(missing_ok=True)
        write_json(self.recipe.to_dict(), self.output / RECIPE_NAME)
        write_inputs(self.recipe, self._inputs)
        write_json(self.plan.to_dict(), self.output / "plan.json")
        with atomic_path(self.output / PROBLEMS_NAME) as temporary:
            temporary.write_text("".join(f"{line}\n" for line in self.problems()), encoding="utf-8")
        if self.recipe.from_nothing and not (self.output / INITIAL).is_dir():
            with atomic_directory(self.output / INITIAL) as directory:
                self.model.save_pretrained(directory)
                self.processor.save_pretrained(directory)


def check_same_run(recipe: TrainingRecipe) -> bool:
    """Whether `recipe.output` holds a run of this recipe.

    Raises `ValueError` where it holds one of another recipe, naming the first setting that differs.
    """
    recipe = with_precision(recipe)
    path = Path(recipe.output) / RECIPE_NAME
    if not path.is_file():
        return False
    earlier = TrainingRecipe.from_dict(read_json(path), source=str(path))
    if changed := earlier.differences(recipe):
        name, (then, now) = next(iter(changed.items()))
        raise ValueError(
            f"{recipe.output}: holds a run with {name}={then!r}, this one has {now!r}; "
            "continue with the same settings, begin anew (--no-resume), or choose another output"
        )
    return True


def finished(recipe: TrainingRecipe) -> bool:
    """Whether `recipe.output` holds the finished result of this recipe."""
    return check_same_run(recipe) and (Path(recipe.output) / REPORT_NAME).is_file()


def last_checkpoint(output: Path) -> Path | None:
    """The newest checkpoint that was written to its end: its ``trainer_state.json``, written last, is there."""
    found = [each for each in output.glob("checkpoint-*") if (each / "trainer_state.json").is_file()]
    return max(found, key=_step_of, default=None)


def _step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def _last(history: list[dict[str, Any]], key: str) -> float | None:
    return next((float(entry[key]) for entry in reversed(history) if key in entry), None)


def _check_whole(directory: Path) -> None:
    """Weights written from sharded parameters must have their full shapes; an empty tensor is a shard that was not gathered."""
    from safetensors import safe_open

    for file in directory.glob("*.safetensors"):
        with safe_open(file, framework="pt") as opened:
            empty = [key for key in opened.keys() if 0 in opened.get_slice(key).get_shape()]  # noqa: SIM118
        if empty:
            raise ValueError(
                f"{file}: {empty[0]} was saved empty; set stage3_gather_16bit_weights_on_model_save in the DeepSpeed settings"
            )


def check_engine(trainer: Trainer, recipe: TrainingRecipe) -> None:
    """Refuse to train with another engine than the recipe's: launchers fall back without a word."""
    found = str(trainer.accelerator.distributed_type).rpartition(".")[2].lower()
    wanted = "deepspeed" if recipe.deepspeed else "fsdp" if recipe.fsdp else None
    if wanted is not None and found != wanted:
        raise ValueError(
            f"the recipe asks for {wanted}, but the launcher set up {found}; launch it with torchrun (FSDP needs GPUs)"
        )
    if trainer.args.world_size != world_size():
        raise ValueError(
            f"{world_size()} processes were launched but the Trainer sees {trainer.args.world_size}; launch them with torchrun"
        )


__all__ = ["ConversationTrainer", "TrainingReport", "TrainingRun", "finished", "last_checkpoint"]
