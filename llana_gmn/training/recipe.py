"""A recipe: every setting of a training run, in one place.

Source of the defaults: docs/released_format.md#llana-training. A recipe is a YAML file whose keys are the fields of
`TrainingRecipe`; the command line changes single ones (``learning_rate=1e-4``). What a run was made with stands in its directory
as ``recipe.json``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from gmn_encoder.files import StrPath
from gmn_encoder.settings import (
    Settings,
    require_integers,
    require_numbers,
    require_one_of,
    require_positive,
    require_shares,
)

from ..data.conversations import COMPARISON, CONVERSATION_TYPES

NEW = "new"
"""`TrainingRecipe.model` of a run that begins with a small model of its own."""

TRAINABLE = ("projector", "lora", "full")
STAGE_TYPES: dict[int, tuple[str, ...]] = {1: CONVERSATION_TYPES[:1], 2: CONVERSATION_TYPES[1:]}
"""Conversation types that the two stages learn from."""


@dataclass(frozen=True)
class NewModel:
    """Sizes of a small Llama that a run begins with (`TrainingRecipe.model` is "new").

    Attributes:
        vocab_size: tokens of a BPE tokenizer trained on the texts.
        hidden_size, intermediate_size, layers, heads: sizes of the Llama.
        max_position_embeddings: most tokens it reads.
        projector_hidden_sizes: widths of the layers between embedding and Llama.
        nerf_tokens: what of the encoder's stands for a NeRF, "global" or "all" (`LlanaGmnConfig.nerf_tokens`).
        tokens_per_nerf: number of tokens that a NeRF becomes (`LlanaGmnConfig.tokens_per_nerf`); None for one a vector.
        backbone: the language model, one of `NAMED_BACKBONES`, a directory or a name on the hub, whose own are all sizes but the
            projector's; None for a Llama from nothing.
    """

    vocab_size: int = 1024
    hidden_size: int = 256
    intermediate_size: int = 688
    layers: int = 4
    heads: int = 4
    max_position_embeddings: int = 512
    projector_hidden_sizes: tuple[int, ...] = (256, 256)
    nerf_tokens: str = "global"
    tokens_per_nerf: int | None = None
    backbone: str | None = None


@dataclass(frozen=True)
class TrainingRecipe(Settings):
    """All settings of a run.

    Attributes:
        stage: training stage: 1 aligns (projector and the two new token rows learn, the rest is frozen), 2 instructs.
        model: directory or hub name of a model, or an adapter (that of stage 1); "new" makes a small one (`new_model`).
        data: directory of texts and of embeddings or NeRFs (`LanguageData`).
        output: directory of the run, for checkpoints and the result itself.
        trainable: what learns: "projector", "lora" or "full"; None for the stage's own (projector, lora).
        token_rows: whether the input embeddings of the start and end token learn beside the projector. LLaNA trains them where
            it adds the tokens itself, and the projector alone from a checkpoint that has them.
        conversation_types: kinds of conversations that it learns from; None for the stage's own.
        embeddings: variant -> file of ``llana-gmn embed``.
        families: families of NeRFs to train on; None for all that are there.
        architectures: family -> name or sizes of its NeRFs, where they cannot be told from the files.
        encoder: encoder that embeds NeRFs where the model has none, and goes into a new model.
        cache: directory for the embeddings of NeRFs; None for one in `data`.
        positions: other positions that training NeRFs are seen in, for an encoder that asks the field: each NeRF as it is, or in
            one of so many, mirrored, turned a little and scaled (`data.positions`). 0 for none.
        eval_split: split that is evaluated on, or "" for none.
        eval_limit: most samples of it that are taken.
        strict: whether dialogues that are unusual or too long are left out, rather than used as LLaNA does.
        epochs, max_steps: length of the run; `max_steps` above 0 wins.
        batch_size: samples a device and step.
        accumulation: steps whose gradients are added.
        learning_rate, schedule, warmup_ratio, weight_decay, max_grad_norm: settings of AdamW.
        max_length: most tokens of a sample.
        pack: most tokens of a sample that holds several conversations about the same NeRF, each of which sees the NeRF and itself
            (`data.packed`): the prompt and the NeRF are paid for once. 0 for one conversation a sample.
        group_by_length: whether batches have samples of like lengths: less padding, another order.
        dtype: dtype that weights are loaded in; None for as they are saved.
        bf16: whether to compute in bfloat16 (autocast), and to load weights in it where `dtype` says nothing else; None for where
            the processor has it (`precision.bfloat16_is_fast`).
        warm_projector: steps in which the projector alone learns what the captions' words look like, before the first step
            through the language model (`warm_start`); 0 for none.
        compile: whether to compile the backbone's layers (torch.compile): a minute at the start, less time for every step.
        gradient_checkpointing: whether to recompute activations instead of keeping them.
        lora_rank, lora_alpha, lora_dropout: settings of the adapter.
        lora_targets: names of the backbone's linear layers that it adapts.
        deepspeed, fsdp: files of DeepSpeed or FSDP settings; a launcher's own count too.
        logging_steps, eval_steps, save_steps: steps from one log, evaluation or checkpoint to the next; evaluation and
            checkpoint 0: at every epoch's end.
        save_limit: most checkpoints that are kept.
        samples: held-out questions answered at every evaluation, into ``samples.jsonl``.
        workers: processes that load data.
        report_to: trackers, such as "tensorboard".
        seed: everything random follows from it.
        new_model: sizes of the model that a run begins with where `model` is "new".
    """

    MAY_CHANGE: ClassVar[frozenset[str]] = frozenset(
        {
            "output",
            "logging_steps",
            "eval_steps",
            "save_steps",
            "save_limit",
            "samples",
            "workers",
            "report_to",
            "cache",
        }
    )

    stage: int = 1
    model: str = ""
    data: str = ""
    output: str = ""
    trainable: str | None = None
    token_rows: bool = True
    conversation_types: tuple[str, ...] | None = None
    embeddings: dict[str, str] = field(default_factory=dict)
    families: tuple[str, ...] | None = None
    architectures: dict[str, Any] = field(default_factory=dict)
    encoder: str | None = None
    cache: str | None = None
    positions: int = 0
    eval_split: str = "val"
    eval_limit: int = 500
    strict: bool = False
    epochs: float = 3.0
    max_steps: int = 0
    batch_size: int = 16
    accumulation: int = 1
    learning_rate: float = 2e-3
    schedule: str = "cosine"
    warmup_ratio: float = 0.03
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    max_length: int = 2048
    pack: int = 0
    group_by_length: bool = False
    dtype: str | None = None
    bf16: bool | None = False
    warm_projector: int = 0
    compile: bool = False
    gradient_checkpointing: bool = False
    lora_rank: int = 128
    lora_alpha: int = 256
    lora_dropout: float = 0.05
    lora_targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    deepspeed: str | None = None
    fsdp: str | None = None
    logging_steps: int = 10
    eval_steps: int = 0
    save_steps: int = 0
    save_limit: int = 2
    samples: int = 4
    workers: int = 0
    report_to: tuple[str, ...] = ()
    seed: int = 0
    new_model: NewModel = field(default_factory=NewModel)

    def __post_init__(self) -> None:
        if self.trainable is None:
            object.__setattr__(self, "trainable", "projector" if self.stage == 1 else "lora")
        if self.conversation_types is None:
            object.__setattr__(self, "conversation_types", STAGE_TYPES.get(self.stage))
        self._check()

    @property
    def types(self) -> tuple[str, ...]:
        return self.conversation_types or STAGE_TYPES[self.stage]

    @property
    def from_nothing(self) -> bool:
        """Whether the run begins with random weights."""
        return self.model == NEW and self.new_model.backbone is None

    def _check(self) -> None:
        require_one_of(self, "stage", STAGE_TYPES)
        require_one_of(self, "trainable", TRAINABLE)
        unknown = [kind for kind in self.types if kind not in (*CONVERSATION_TYPES, COMPARISON)]
        if unknown or not self.types:
            raise ValueError(
                f"conversation_types has {unknown[0] if unknown else 'nothing'!r}; "
                f"expected some of {', '.join([*CONVERSATION_TYPES, COMPARISON])}"
            )
        require_integers(
            self, 1, "batch_size", "accumulation", "lora_rank", "lora_alpha", "logging_steps", "save_limit"
        )
        require_integers(self, 0, "max_steps", "eval_limit", "eval_steps", "save_steps", "samples", "workers", "seed")
        require_integers(self, 0, "pack", "positions", "warm_projector")
        require_numbers(self, 0, "weight_decay", "max_grad_norm")
        require_positive(self, "learning_rate", "epochs")
        require_shares(self, "warmup_ratio", "lora_dropout", zero=True)
        if self.deepspeed and self.fsdp:
            raise ValueError("deepspeed and fsdp are both set; expected one of them")
        if self.from_nothing and self.trainable != "full":
            raise ValueError("a new model has nothing to freeze; set trainable: full, or new_model.backbone")
        if self.trainable == "full" and not self.token_rows:
            raise ValueError(
                "trainable: full trains every row; leave token_rows out, or set trainable: projector or lora"
            )


def read_recipe(path: StrPath | None, changes: Sequence[str] = (), **fixed: Any) -> TrainingRecipe:
    """`TrainingRecipe.load`, which says where the recipes that ship stand if there is no such file."""
    try:
        return TrainingRecipe.load(path, changes, **fixed)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such recipe; those that ship stand in scripts/recipes") from None
