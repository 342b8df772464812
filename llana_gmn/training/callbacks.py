"""What happens beside the steps of a run: progress, answers to held-out questions, and an end where the loss is not finite."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from gmn_encoder.files import StrPath, atomic_path
from gmn_encoder.progress import Progress

from ..data.dataset import ConversationDataset
from ..model.processing import LlanaGmnProcessor

Report = Callable[[Mapping[str, Any]], Any]
"""Receives what the Trainer logs: a mapping with ``step`` and numbers."""

logger = logging.getLogger(__name__)


class Steps(TrainerCallback):
    """Tells `progress` of every step and `report` of everything that is logged, and refuses to go on from a broken loss."""

    def __init__(self, progress: Progress, report: Report | None) -> None:
        self._progress, self._report = progress, report

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            self._progress("training", state.global_step, state.max_steps)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        logs = kwargs.get("logs") or {}
        loss = logs.get("loss")
        if loss is not None and not math.isfinite(float(loss)):
            raise ValueError(
                f"the loss is {loss} at step {state.global_step}; lower learning_rate, and continue from the last checkpoint"
            )
        if self._report is not None and state.is_world_process_zero:
            self._report({"step": state.global_step, **logs})


class SampleAnswers(TrainerCallback):
    """Answers held-out questions at every evaluation, greedily, and writes them to a JSONL file beside the references.

    Every process generates (sharded weights need all of them), one writes.

    Args:
        dataset: the data set that the questions come from: the first turn of `count` samples spread over it.
        path: the file, with one line ``{"step", "object_ids", "variant", "question", "reference", "answer"}`` an answer.
    """

    def __init__(
        self,
        dataset: ConversationDataset,
        processor: LlanaGmnProcessor,
        *,
        path: StrPath,
        count: int = 4,
        max_new_tokens: int = 64,
    ) -> None:
        self._processor, self._path, self._limit = processor, Path(path), max_new_tokens
        places = torch.linspace(0, len(dataset) - 1, min(count, len(dataset))).long().unique().tolist()
        self._asked = [(*dataset.sample(i), dataset[i]["nerfs"]) for i in places]

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        model = kwargs["model"]
        answers = answer(model, self._processor, self._asked, max_new_tokens=self._limit)
        if not state.is_world_process_zero:
            return
        known = self._before(state.global_step)
        with atomic_path(self._path) as temporary:
            lines = [*known]
            for (dialogue, variant, _), said in zip(self._asked, answers, strict=True):
                question, reference = dialogue.turns[0]
                record = {
                    "step": state.global_step,
                    "object_ids": dialogue.object_ids,
                    "variant": variant,
                    "question": question,
                    "reference": reference,
                    "answer": said,
                }
                lines.append(json.dumps(record, ensure_ascii=False))
            temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")

    def _before(self, step: int) -> list[str]:
        """What stands in the file from earlier steps; later ones are of a run that was cut off and is repeated."""
        if not self._path.is_file():
            return []
        lines = self._path.read_text(encoding="utf-8").splitlines()
        return [line for line in lines if json.loads(line)["step"] < step]


@torch.no_grad()
def answer(
    model: Any, processor: LlanaGmnProcessor, asked: Sequence[tuple[Any, str, Any]], *, max_new_tokens: int
) -> list[str]:
    """Greedy answers to the first question of each (dialogue, variant, embeddings)."""
    conversations = [dialogue.messages(list(embeddings))[:1] for dialogue, _, embeddings in asked]
    inputs = processor.apply_chat_template(
        conversations,
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs={"padding": True},
    )
    training = model.training
    model.eval()
    try:
        device = next(model.parameters()).device
        ids = model.generate(**inputs.to(device), do_sample=False, max_new_tokens=max_new_tokens, use_cache=True)
    finally:
        model.train(training)
    return processor.post_process(ids, inputs)
