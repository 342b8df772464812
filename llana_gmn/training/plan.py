"""What a run will do, before it does it: what learns, how many steps and tokens, roughly how much memory."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from ..data.dataset import ConversationDataset
from .recipe import TrainingRecipe
from .sampler import SeededSampler, padded_tokens
from .stages import dtype_bytes, trainable_parameters, what_learns


@dataclass(frozen=True)
class TrainingPlan:
    """A run in numbers.

    Attributes:
        learns: parts of the model that learn, in words.
        trainable: number of parameters that learn.
        parameters: number of all, those of the encoder among them.
        samples, eval_samples: sizes of the training and the evaluation set.
        composition: conversations by variant and type; with `pack` a sample holds several.
        problems: entries left out, by kind.
        odd: entries that are unusual or cut and used all the same, by kind.
        processes: devices that train together.
        steps, steps_per_epoch: optimizer steps of the whole run and of one epoch.
        tokens: tokens of one epoch.
        supervised: those of them that are learned from.
        padded: tokens of one epoch that are computed on, with padding.
        memory: bytes a device, by use; an estimate, see `estimate_memory`.
    """

    learns: str
    trainable: int
    parameters: int
    samples: int
    eval_samples: int
    composition: dict[str, int]
    problems: dict[str, int]
    odd: dict[str, int]
    processes: int
    steps: int
    steps_per_epoch: int
    tokens: int
    supervised: int
    padded: int
    memory: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def to_text(self) -> str:
        """Lines for a terminal."""
        share = 100 * self.trainable / max(self.parameters, 1)
        what = ", ".join(f"{count:,} {name}" for name, count in self.composition.items())
        memory = ", ".join(f"{name} {_bytes(size)}" for name, size in self.memory.items())
        lines = [
            f"learns      {self.trainable:,} of {self.parameters:,} parameters ({share:.2f} %): {self.learns}",
            f"samples     {self.samples:,} ({what}); {self.eval_samples:,} held out",
            f"steps       {self.steps:,}, {self.steps_per_epoch:,} an epoch, on {self.processes} process(es)",
            f"tokens      {self.tokens:,} an epoch, {self.supervised:,} of them answers; "
            f"{100 * (1 - self.tokens / max(self.padded, 1)):.0f} % padding",
            f"memory      about {_bytes(sum(self.memory.values()))} a device ({memory})",
        ]
        lines += [f"left out    {count:,} with {kind}" for kind, count in sorted(self.problems.items())]
        lines += [f"as LLaNA    {count:,} with {kind}" for kind, count in sorted(self.odd.items())]
        if self.problems or self.odd:
            lines.append("            (dialogues; listed in problems.txt)")
        return "\n".join(lines)


def make_plan(
    model: Any,
    recipe: TrainingRecipe,
    train: ConversationDataset,
    *,
    evaluation: ConversationDataset | None = None,
    processes: int = 1,
) -> TrainingPlan:
    """The plan of a run with a prepared model (`stages.prepare`) and its data."""
    step = recipe.batch_size * recipe.accumulation * processes
    # As the Trainer counts: whole batches of each process, accumulated.
    batches = math.ceil(len(train) / (recipe.batch_size * processes))
    per_epoch = max(math.ceil(batches / recipe.accumulation), 1)
    steps = recipe.max_steps or math.ceil(recipe.epochs * per_epoch)
    sampler = make_sampler(train, recipe, processes)
    trainable, parameters = trainable_parameters(model)
    found = Counter(_name(each, train.sample(i)[1]) for i in range(len(train)) for each in train.packed_dialogues(i))
    listed = [*train.problems, *(evaluation.problems if evaluation is not None else ())]
    return TrainingPlan(
        learns=what_learns(recipe),
        trainable=trainable,
        parameters=parameters,
        samples=len(train),
        eval_samples=0 if evaluation is None else len(evaluation),
        composition=dict(sorted(found.items())),
        problems=dict(Counter(problem.kind for problem in listed if problem.left_out)),
        odd=dict(Counter(problem.kind for problem in listed if not problem.left_out)),
        processes=processes,
        steps=steps,
        steps_per_epoch=per_epoch,
        tokens=int(train.lengths.sum()),
        supervised=int(train.supervised.sum()),
        padded=padded_tokens(train.lengths, sampler, step // recipe.accumulation),
        memory=estimate_memory(model, recipe, longest=int(train.lengths.max()), processes=processes),
    )


def make_sampler(dataset: ConversationDataset, recipe: TrainingRecipe, processes: int) -> SeededSampler:
    batch = recipe.batch_size * processes if recipe.group_by_length else None
    return SeededSampler(dataset.lengths, seed=recipe.seed, batch=batch)


def estimate_memory(model: Any, recipe: TrainingRecipe, *, longest: int, processes: int = 1) -> dict[str, int]:
    """Bytes a device, roughly: weights, gradients, AdamW's two moments, and activations of the longest batch.

    Activations are those of a Llama: about 16 hidden and 4 intermediate vectors a token and layer where all are kept, one a
    layer (and one layer's all) with gradient checkpointing; and the logits three times in float32. DeepSpeed and FSDP share
    weights, gradients and moments among the devices according to their settings, which this does not read.
    """
    trainable, _ = trainable_parameters(model)
    text = model.config.get_text_config()
    layers, hidden = int(text.num_hidden_layers), int(text.hidden_size)
    inner = int(getattr(text, "intermediate_size", None) or 4 * hidden)
    tokens = recipe.batch_size * longest
    width = 2 if recipe.bf16 or recipe.dtype in ("bfloat16", "float16") else 4
    layer = tokens * (16 * hidden + 4 * inner) * width
    kept = layers * tokens * hidden * width + layer if recipe.gradient_checkpointing else layers * layer
    return {
        "weights": dtype_bytes(model),
        "gradients": 4 * trainable,
        "AdamW": 8 * trainable,
        "activations": kept + 3 * 4 * tokens * int(text.vocab_size),
    }


def _name(dialogue: Any, variant: str) -> str:
    return f"{dialogue.kind or 'dialogue'} {variant}".strip()


def _bytes(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"
