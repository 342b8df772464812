"""Configuration of nf2vec's encoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ...files import brief
from ..config import MAX_LAYERS, MAX_WIDTH, SavedConfig


@dataclass(frozen=True, kw_only=True)
class Nf2vecConfig(SavedConfig):
    """Sizes of an `Nf2vecEncoder`; the defaults are the released encoder's (docs/released_format.md#nf2vec).

    Attributes:
        nerf_hidden_dim: width of the layers of the NeRFs it reads, which is the length of a row.
        nerf_frequencies: octaves of the coordinate features of those NeRFs. The released weights were trained on 24; they do not
            show the number.
        hidden_dims: units of the layers before the last.
        embedding_dim: units of the last layer, size of the embedding.
    """

    model_type: ClassVar[str] = "nf2vec"
    whitened: ClassVar[bool] = False

    nerf_hidden_dim: int = 64
    nerf_frequencies: int = 24
    hidden_dims: tuple[int, ...] = (512, 512, 1024, 1024)
    embedding_dim: int = 1024

    def __post_init__(self) -> None:
        if not isinstance(self.hidden_dims, list | tuple) or len(self.hidden_dims) > MAX_LAYERS:
            raise ValueError(f"Nf2vecConfig.hidden_dims must be a list of widths, got {brief(self.hidden_dims)}")
        object.__setattr__(self, "hidden_dims", tuple(self.hidden_dims))
        sizes = {name: getattr(self, name) for name in ("nerf_hidden_dim", "nerf_frequencies", "embedding_dim")}
        for name, value in [*sizes.items(), *(("hidden_dims", value) for value in self.hidden_dims)]:
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"Nf2vecConfig.{name} must be made of positive integers, got {brief(value)}")
            if value > MAX_WIDTH:
                raise ValueError(f"Nf2vecConfig.{name} must be at most {MAX_WIDTH}, got {brief(value)}")
        if self.nerf_hidden_dim < 16:
            raise ValueError(
                f"Nf2vecConfig.nerf_hidden_dim must be at least 16, the rows of a NeRF's output, got {self.nerf_hidden_dim}"
            )
