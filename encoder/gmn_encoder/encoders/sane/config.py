"""Configuration of the SANE encoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from ...files import brief
from ..config import MAX_LAYERS, MAX_WIDTH, SavedConfig
from ..tokens.lattice import Lattice

TokenKind = Literal["rows", "values"]
RotationHead = Literal["attention", "moments"]


@dataclass(frozen=True, kw_only=True)
class SaneSizes:
    """Sizes of a `SaneEncoder`; the defaults are those of the report that took SANE to hash NeRFs.

    Attributes:
        tokens: "rows": raw weights, the rows of tables or planes around points and those of the network; "values": what the field
            shows at the points, which executes the NeRF.
        features: whether the interpolated features of tables and planes stand beside what is shown, which depend on the gauge of
            the file.
        points: number of points.
        lattice: where they are: "cube", evenly in the box; "shells", on spheres, which stay in the box when turned.
        token_dim: values of a token.
        window: neurons in a network token; each has room for token_dim / window weights.
        network_tokens: most network tokens of a NeRF.
        pose_tokens: tokens that carry the pose.
        width, heads, layers, feed_forward, dropout: the transformers', encoder and decoder.
        latent_dim: size of a latent, which is that of the embedding.
        projection: units of the two layers between the embedding and the contrastive loss.
        rotation_head: "attention": the report's, a transformer layer over the pose latents of two views; "moments": vectors that
            turn with the object, made of what is shown at the points, and the rotation between those of two views.
        moments: vectors of that head.
    """

    tokens: TokenKind = "rows"
    features: bool = False
    points: int = 380
    lattice: Lattice = "cube"
    token_dim: int = 256
    window: int = 4
    network_tokens: int = 128
    pose_tokens: int = 10
    width: int = 1024
    heads: int = 4
    layers: int = 4
    feed_forward: int = 4096
    dropout: float = 0.3
    latent_dim: int = 128
    projection: tuple[int, int] = (128, 64)
    rotation_head: RotationHead = "attention"
    moments: int = 32


@dataclass(frozen=True, kw_only=True)
class SaneConfig(SaneSizes, SavedConfig):
    """The configuration of a `SaneEncoder`, see `SaneSizes`."""

    model_type: ClassVar[str] = "sane"
    whitened: ClassVar[bool] = False

    def __post_init__(self) -> None:
        sizes = ("points", "token_dim", "window", "network_tokens", "pose_tokens", "width", "heads", "layers")
        for name in (*sizes, "feed_forward", "latent_dim", "moments"):
            value, most = getattr(self, name), MAX_LAYERS if name == "layers" else MAX_WIDTH
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
                raise ValueError(f"SaneConfig.{name} must be an integer in 1..{most}, got {brief(value)}")
        for name, kind in (("tokens", TokenKind), ("lattice", Lattice), ("rotation_head", RotationHead)):
            if getattr(self, name) not in get_args(kind):
                raise ValueError(
                    f"SaneConfig.{name} must be one of {', '.join(get_args(kind))}, got {brief(getattr(self, name))}"
                )
        object.__setattr__(self, "projection", tuple(self.projection))
        if len(self.projection) != 2 or not all(type(n) is int and 1 <= n <= MAX_WIDTH for n in self.projection):
            raise ValueError(f"SaneConfig.projection must be two positive integers, got {brief(self.projection)}")
        if not isinstance(self.features, bool):
            raise ValueError(f"SaneConfig.features must be true or false, got {brief(self.features)}")
        if isinstance(self.dropout, bool) or not isinstance(self.dropout, int | float) or not 0 <= self.dropout < 1:
            raise ValueError(f"SaneConfig.dropout must be in 0..1, got {brief(self.dropout)}")
        if self.token_dim % self.window:
            raise ValueError(f"SaneConfig.token_dim is {self.token_dim}; expected a multiple of window = {self.window}")
        if self.width % self.heads or self.latent_dim % 2:
            raise ValueError(
                f"SaneConfig has width {self.width}, {self.heads} heads and latent_dim {self.latent_dim}; expected a width "
                "that the heads share evenly, and an even latent_dim"
            )
        if self.tokens == "rows" and (self.features or self.rotation_head == "moments"):
            raise ValueError(
                "SaneConfig.tokens is 'rows', and features or rotation_head 'moments' ask the field; expected tokens 'values'"
            )

    @property
    def embedding_dim(self) -> int:
        return self.latent_dim

    @property
    def num_tokens(self) -> int:
        """Vectors that `encode_tokens` gives a NeRF: the embedding, and the latents of its pose."""
        return 1 + self.pose_tokens
