"""A recipe: every setting of a training run, in one place.

Source of the defaults: FORMATS.md 7.6. A recipe is a YAML file whose keys are the fields of `TrainingRecipe`; the command line
changes single ones (``learning_rate=1e-4``). What a run was made with stands in its directory as ``recipe.json``.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gmn_encoder.files import StrPath
from gmn_encoder.settings import parse_setting, read_yaml

from ..data.conversations import CONVERSATION_TYPES

NEW = "new"
"""`TrainingRecipe.model` of a run that begins with a small model of its own."""

TRAINABLE = ("projector", "lora", "full")
STAGE_TYPES: dict[int, tuple[str, ...]] = {1: CONVERSATION_TYPES[:1], 2: CONVERSATION_TYPES[1:]}
"""Conversation types that the two stages learn from."""

MAY_CHANGE = frozenset(
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
        "strict",
    }
)
"""Settings that a run may be continued with other values of: they do not change what is learned."""


@dataclass(frozen=True)
class NewModel:
    """Sizes of a small Llama that a run begins with (`TrainingRecipe.model` is "new").

    Attributes:
        vocab_size: of a BPE tokenizer trained on the texts.
        hidden_size, intermediate_size, layers, heads: of the Llama.
        max_position_embeddings: most tokens it reads.
        projector_hidden_sizes: between embedding and Llama.
    """

    vocab_size: int = 1024
    hidden_size: int = 256
    intermediate_size: int = 688
    layers: int = 4
    heads: int = 4
    max_position_embeddings: int = 512
    projector_hidden_sizes: tuple[int, ...] = (256, 256)


@dataclass(frozen=True)
class TrainingRecipe:
    """All settings of a run.

    Attributes:
        stage: 1 aligns (projector and the two new token rows learn, the rest is frozen), 2 instructs.
        model: directory or hub name of a model, or an adapter (that of stage 1); "new" makes a small one (`new_model`).
        data: directory of texts and of embeddings or NeRFs (`LanguageData`).
        output: directory of the run: checkpoints, and the result itself.
        trainable: "projector", "lora" or "full"; None for the stage's own (projector, lora).
        conversation_types: None for the stage's own.
        embeddings: variant -> file of ``llana-gmn embed``.
        families: of NeRFs to train on; None for all that are there.
        architectures: family -> name or sizes of its NeRFs, where they cannot be told from the files.
        encoder: embeds NeRFs where the model has none, and goes into a new model.
        cache: directory of embeddings of NeRFs; None for one in `data`.
        eval_split: "val", or "" for none; eval_limit: most samples of it.
        strict: an entry that cannot be used is an error.
        epochs, max_steps: how long; `max_steps` above 0 wins.
        batch_size: samples a device and step; accumulation: steps whose gradients are added.
        learning_rate, schedule, warmup_ratio, weight_decay, max_grad_norm: of AdamW.
        max_length: of a sample in tokens.
        group_by_length: batches of like lengths: less padding, another order.
        dtype: weights are loaded in it, None for as they are saved; bf16: computes in bfloat16 (autocast).
        gradient_checkpointing: recompute activations instead of keeping them.
        lora_rank, lora_alpha, lora_dropout, lora_targets: of the adapter; names of the backbone's linear layers.
        deepspeed, fsdp: files of DeepSpeed or FSDP settings; a launcher's own count too.
        logging_steps, eval_steps, save_steps, save_limit: how often; eval and save 0 for at every epoch's end.
        samples: held-out questions answered at every evaluation, into ``samples.jsonl``.
        workers: processes that load data. report_to: trackers, such as "tensorboard".
        seed: of everything.
    """

    stage: int = 1
    model: str = ""
    data: str = ""
    output: str = ""
    trainable: str | None = None
    conversation_types: tuple[str, ...] | None = None
    embeddings: dict[str, str] = field(default_factory=dict)
    families: tuple[str, ...] | None = None
    architectures: dict[str, Any] = field(default_factory=dict)
    encoder: str | None = None
    cache: str | None = None
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
    group_by_length: bool = False
    dtype: str | None = None
    bf16: bool = False
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
        _check_types(self)
        if self.stage not in STAGE_TYPES:
            raise ValueError(f"stage is {self.stage!r}; expected 1 or 2")
        if self.trainable is None:
            object.__setattr__(self, "trainable", "projector" if self.stage == 1 else "lora")
        if self.conversation_types is None:
            object.__setattr__(self, "conversation_types", STAGE_TYPES[self.stage])
        _check_values(self)

    @property
    def types(self) -> tuple[str, ...]:
        return self.conversation_types or STAGE_TYPES[self.stage]

    def to_dict(self) -> dict[str, Any]:
        """JSON values; the inverse of `from_dict`."""
        return typing.cast(dict[str, Any], _plain(dataclasses.asdict(self)))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, source: str = "the recipe") -> TrainingRecipe:
        """Raises `ValueError` for an unknown setting or a value of the wrong kind, naming it and `source`."""
        try:
            return cls(**_converted(cls, values))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{source}: {error}") from error

    def changes(self, other: TrainingRecipe) -> dict[str, tuple[Any, Any]]:
        """Settings that differ and change what is learned: name -> (here, there)."""
        mine, others = self.to_dict(), other.to_dict()
        return {key: (mine[key], others[key]) for key in mine if key not in MAY_CHANGE and mine[key] != others[key]}


def read_recipe(path: StrPath | None, changes: Sequence[str] = (), **fixed: Any) -> TrainingRecipe:
    """A recipe from a YAML file, with changes from the command line.

    Args:
        path: the file; None to begin with the defaults.
        changes: ``key=value`` with YAML values; ``new_model.layers=2`` reaches into a group.
        **fixed: settings that win over both.

    Raises:
        FileNotFoundError, ValueError: no such file, no such recipe; what is wrong is named.
    """
    values: Any = {}
    if path is not None:
        try:
            values = read_yaml(path)
        except FileNotFoundError:
            raise FileNotFoundError(f"{path}: no such recipe; those that ship stand in scripts/recipes") from None
        if values is not None and not isinstance(values, dict):
            raise ValueError(f"{path}: holds a {type(values).__name__}; expected settings, one 'name: value' a line")
    values = dict(values or {})
    for change in changes:
        name, value = parse_setting(change)
        *groups, last = name.split(".")
        inner = values
        for group in groups:
            inner[group] = dict(inner.get(group) or {})
            inner = inner[group]
        inner[last] = value
    return TrainingRecipe.from_dict(
        {**values, **{key: value for key, value in fixed.items() if value is not None}},
        source=str(path) if path is not None else "the settings",
    )


def _converted(cls: type, values: Mapping[str, Any]) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    known = {each.name for each in dataclasses.fields(cls)}
    if unknown := [key for key in values if key not in known]:
        raise ValueError(f"unknown setting {unknown[0]!r}; expected one of {', '.join(sorted(known))}")
    return {key: _convert(value, hints[key], key) for key, value in values.items()}


def _convert(value: Any, hint: Any, name: str) -> Any:
    """YAML says lists where a recipe has tuples, integers where it has numbers, and reads 2e-3 as text."""
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if value is None and type(None) in options:
        return None
    (kind, *_) = (option for option in options if option is not type(None))
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, Mapping):
            raise ValueError(f"{name} is {value!r}; expected a group of settings")
        return typing.cast(Any, kind)(**_converted(typing.cast(type, kind), value))
    if kind is float and isinstance(value, int | str) and not isinstance(value, bool):
        try:
            return float(value)
        except ValueError:
            raise ValueError(f"{name} is {value!r}; expected a number") from None
    if typing.get_origin(kind) is tuple:
        items = value.split(",") if isinstance(value, str) else value
        if not isinstance(items, list | tuple):
            raise ValueError(f"{name} is {value!r}; expected a list")
        return tuple(items)
    if typing.get_origin(kind) is dict and not isinstance(value, Mapping):
        raise ValueError(f"{name} is {value!r}; expected 'name: value' pairs")
    return value


def _check_types(recipe: TrainingRecipe) -> None:
    hints = typing.get_type_hints(type(recipe))
    for each in dataclasses.fields(recipe):
        value, hint = getattr(recipe, each.name), hints[each.name]
        for kind, name in ((bool, "true or false"), (int, "an integer"), (float, "a number"), (str, "text")):
            options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
            if kind not in options or (value is None and type(None) in options):
                continue
            if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
                raise ValueError(f"{each.name} is {value!r}; expected {name}")


def _check_values(recipe: TrainingRecipe) -> None:
    if recipe.trainable not in TRAINABLE:
        raise ValueError(f"trainable is {recipe.trainable!r}; expected one of {', '.join(TRAINABLE)}")
    unknown = [kind for kind in recipe.types if kind not in CONVERSATION_TYPES]
    if unknown or not recipe.types:
        raise ValueError(
            f"conversation_types has {unknown[0] if unknown else 'nothing'!r}; expected some of {', '.join(CONVERSATION_TYPES)}"
        )
    for name in ("batch_size", "accumulation", "lora_rank", "lora_alpha", "logging_steps", "save_limit"):
        if getattr(recipe, name) < 1:
            raise ValueError(f"{name} is {getattr(recipe, name)}; expected at least 1")
    for name in ("learning_rate", "epochs"):
        value = getattr(recipe, name)
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} is {value}; expected a number above 0")
    for name in (
        "max_steps",
        "eval_limit",
        "eval_steps",
        "save_steps",
        "samples",
        "workers",
        "weight_decay",
        "max_grad_norm",
    ):
        if getattr(recipe, name) < 0:
            raise ValueError(f"{name} is {getattr(recipe, name)}; expected at least 0")
    for name in ("warmup_ratio", "lora_dropout"):
        if not 0 <= getattr(recipe, name) < 1:
            raise ValueError(f"{name} is {getattr(recipe, name)}; expected 0 up to 1")
    if recipe.deepspeed and recipe.fsdp:
        raise ValueError("deepspeed and fsdp are both set; expected one of them")
    if recipe.model == NEW and recipe.trainable != "full":
        raise ValueError("a new model has nothing to freeze; set trainable: full")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
