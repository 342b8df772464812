"""An encoder inside a larger model: it stays as it was saved, whatever is done to the rest."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from ..nerfs.record import Nerf
from .base import NerfEncoder


class FrozenLinear(nn.Module):
    """`nn.Linear`, but none: PEFT's "all-linear" and quantisers take what is one for a layer of the language model."""

    forward = nn.Linear.forward
    extra_repr = nn.Linear.extra_repr
    reset_parameters = nn.Linear.reset_parameters


class FrozenEncoder(nn.Module):
    """The mixin of `frozen`: float32, evaluation mode, no gradients.

    Weights are buffers, not parameters, under the names they always have. So they are saved and moved with the model, but no
    optimizer finds them, DeepSpeed neither casts nor partitions them, and unfreezing the model leaves them as they are.
    """

    kind: type
    """The encoder class that is frozen."""
    device: torch.device

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        super().train(False)
        for module in self.modules():
            buffers = dict(module._buffers)
            module._buffers.clear()  # they come after the weights, as in the state dict that fingerprints are made of
            if type(module) is nn.Linear:
                object.__setattr__(module, "__class__", FrozenLinear)
            for name, parameter in list(module._parameters.items()):
                if parameter is None:
                    continue
                # ZeRO-3 takes the parameters of a model apart while it is being built; this one is then loaded from a file.
                shape = getattr(parameter, "ds_shape", None)
                weights = parameter.detach() if shape is None else torch.zeros(shape, device=parameter.device)
                del module._parameters[name]
                module.register_buffer(name, weights)
            module._buffers.update(buffers)
            for name, buffer in module._buffers.items():
                # Built under a default dtype of half precision, it is float32 all the same.
                if buffer is not None and buffer.is_floating_point():
                    module._buffers[name] = buffer.float()

    def train(self, mode: bool = True) -> Self:
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Moves between devices go through, casts to half precision do not."""

        def keep_precision(tensor: Tensor) -> Tensor:
            result = fn(tensor)
            if result.dtype == tensor.dtype or result.dtype in (torch.float32, torch.float64):
                return result
            return torch.empty_like(result, dtype=tensor.dtype) if tensor.is_meta else tensor.to(result.device)

        return super()._apply(keep_precision, recurse)

    @torch.no_grad()
    def encode(self, nerfs: Sequence[Nerf], **options: Any) -> Tensor:
        with torch.autocast(self.device.type, enabled=False):
            return super().encode(nerfs, **options)  # type: ignore[misc]

    @torch.no_grad()
    def encode_tokens(self, nerfs: Sequence[Nerf], **options: Any) -> Tensor:
        with torch.autocast(self.device.type, enabled=False):
            return super().encode_tokens(nerfs, **options)  # type: ignore[misc]

    def __reduce__(self) -> tuple[Any, ...]:
        # Pickles look classes up by name, and `frozen` makes this one.
        return _unfilled, (self.kind,), self.__dict__


@functools.cache
def frozen(kind: type) -> type[Any]:
    """The class of an encoder kind's frozen instances; its instances are made from a configuration, as the kind's own.

    Args:
        kind: a torch module with the methods of `NerfEncoder`. The class of a frozen encoder is given back.
    """
    if issubclass(kind, FrozenEncoder):
        return kind
    name = f"Frozen{kind.__name__}"
    # Models that hold one read its `_no_split_modules`: classes that stay whole on one device.
    return type(name, (FrozenEncoder, kind), {"kind": kind, "_no_split_modules": [name], "__doc__": kind.__doc__})


def frozen_copy(encoder: NerfEncoder) -> Any:
    """A frozen encoder with the weights of another, on the device of that one."""
    copy = frozen(type(encoder))(encoder.config)
    copy.load_state_dict(encoder.state_dict())
    return copy.to(encoder.device)


def _unfilled(kind: type) -> Any:
    cls: Any = frozen(kind)
    return cls.__new__(cls)
