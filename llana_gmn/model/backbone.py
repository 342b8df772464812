"""A causal language model in two parts, a body and a head, and its own way from one to the other.

The multimodal model holds the body in `LlanaGmnModel` and the head beside it, as the models of transformers do. What stands
between them differs: Gemma 2 caps its logits, Granite and Cohere scale them, mixtures of experts add to the loss. None of that is
written down here again: the backbone's own `forward` runs, and where it calls its body it calls the multimodal one.

Shapes: B prompts, L tokens, H hidden size of the backbone, V vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

HEAD = "lm_head"
"""The head's name in the multimodal model, whatever its backbone calls it."""


@dataclass(frozen=True)
class CausalForward:
    """`forward` of a causal language model whose parts stand elsewhere.

    Attributes:
        cls: the class of the causal language model.
        body, head: names of its two parts.
        values: its other attributes (numbers, strings), such as a scale of the logits.
        arguments: named arguments of its `forward`.
    """

    cls: type[PreTrainedModel]
    body: str
    head: str
    values: dict[str, Any]
    arguments: frozenset[str]

    def __call__(self, owner: PreTrainedModel, body: Callable[..., Any], **inputs: Any) -> Any:
        """The output of the causal language model.

        Args:
            owner: the model that has the head, whose text configuration is the backbone's.
            body: what runs in the body's place.
            **inputs: arguments of `forward`. One that is None, and that the backbone does not know, is left out.
        """
        parts = {self.body: _Body(body, owner.get_decoder()), self.head: owner.get_output_embeddings()}
        stand_in = _StandIn(owner, {**self.values, **parts, "config": owner.config.get_text_config()})
        return self.cls.forward(
            stand_in, **{key: value for key, value in inputs.items() if value is not None or key in self.arguments}
        )


class _StandIn:
    """What the causal model's `forward` finds as `self`."""

    def __init__(self, owner: PreTrainedModel, values: dict[str, Any]) -> None:
        self._owner, self._values = owner, values

    def __getattr__(self, name: str) -> Any:
        values = self.__dict__["_values"]
        return values[name] if name in values else getattr(self.__dict__["_owner"], name)


class _Body:
    """What it finds as its body; parts of the body that it calls directly (OPT's decoder) are the body too."""

    def __init__(self, run: Callable[..., Any], module: nn.Module) -> None:
        self._run, self._module = run, module

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._run(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.__dict__["_module"], name)
        return _Body(self._run, value) if isinstance(value, nn.Module) else value


def take_apart(causal: PreTrainedModel) -> tuple[PreTrainedModel, nn.Module, CausalForward]:
    """Body, head, and the `forward` that goes from one to the other.

    Raises `ValueError` for a model that is not a body with one linear layer behind it.
    """
    name = type(causal).__name__
    body, head = causal.base_model, causal.get_output_embeddings()
    children = dict(causal.named_children())
    parts = (
        [key for key, module in children.items() if module is body],
        [key for key, module in children.items() if module is head],
    )
    own = [*causal._parameters, *causal._buffers, *(key for key in children if children[key] not in (body, head))]
    if not isinstance(body, PreTrainedModel) or not isinstance(head, nn.Module) or not all(parts) or own:
        raise ValueError(
            f"{name} cannot be a backbone: expected a body and one linear layer behind it, found "
            f"{', '.join([*children, *causal._parameters, *causal._buffers])}; choose another causal language model"
        )
    plain = {key: value for key, value in vars(causal).items() if isinstance(value, bool | int | float | str)}
    values = {key: value for key, value in plain.items() if not key.startswith("_") and key != "training"}
    arguments = frozenset(inspect.signature(causal.forward).parameters)
    return body, head, CausalForward(type(causal), parts[0][0], parts[1][0], values, arguments)


def tied_weights(causal: PreTrainedModel, forward: CausalForward, body: str) -> dict[str, str]:
    """Which weights a backbone ties, head to body, under the names they have in the multimodal model.

    Args:
        body: where the body stands there.
    """

    def renamed(key: str) -> str:
        for old, new in ((forward.head, HEAD), (forward.body, body)):
            if key == old or key.startswith(f"{old}."):
                return new + key.removeprefix(old)
        return key

    tied = causal._tied_weights_keys or {}
    return {renamed(target): renamed(source) for target, source in tied.items()}


def put_together(config: PreTrainedConfig, body: PreTrainedModel, head: nn.Module) -> PreTrainedModel:
    """The causal language model of a body and a head, which it shares."""
    import torch

    with torch.device("meta"):
        causal = AutoModelForCausalLM.from_config(config)
    forward = take_apart(causal)[2]
    setattr(causal, forward.body, body)
    setattr(causal, forward.head, head)
    return causal.train(body.training)
