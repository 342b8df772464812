"""An encoder kind from outside the package: moments of a NeRF's weights through linear layers, some tokens a NeRF, no graph."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from gmn_encoder.encoders.module import EncoderModule


@dataclass(frozen=True)
class MomentsConfig:
    model_type: ClassVar[str] = "moments"
    whitened: ClassVar[bool] = False

    embedding_dim: int = 20
    num_tokens: int = 2

    def to_dict(self) -> dict[str, Any]:
        return {"model_type": self.model_type, **dataclasses.asdict(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> MomentsConfig:
        return cls(embedding_dim=values["embedding_dim"], num_tokens=values["num_tokens"])


class MomentsEncoder(EncoderModule):
    config_class = MomentsConfig

    def __init__(self, config: MomentsConfig) -> None:
        super().__init__(config)
        self.tokens = nn.ModuleList(nn.Linear(2, config.embedding_dim) for _ in range(config.num_tokens))

    def embed_tokens(self, batch, *, dtype=None) -> Tensor:
        values = torch.cat([tensor.flatten(1) for tensor in batch.tensors.values()], dim=1)
        moments = torch.stack([values.mean(dim=1), values.std(dim=1)], dim=1)
        return torch.stack([layer(moments.to(layer.weight)) for layer in self.tokens], dim=1)

    def encode_tokens(self, nerfs, *, batch_size=8, dtype=None):
        step = functools.partial(self.embed_tokens, dtype=dtype)
        return self.in_batches(step, nerfs, shape=(self.config.num_tokens, self.embedding_dim), batch_size=batch_size)

    def encode(self, nerfs, *, batch_size=8, dtype=None):
        return self.encode_tokens(nerfs, batch_size=batch_size, dtype=dtype).mean(dim=1)
