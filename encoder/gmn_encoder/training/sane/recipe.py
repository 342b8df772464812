"""Settings of a run that trains a SANE encoder; the recipes that ship stand in ``recipes/``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from ...encoders.sane.config import RotationHead, SaneConfig, TokenKind
from ...encoders.tokens.lattice import Lattice
from ...files import StrPath
from ...nerfs.architectures import paper_families
from ...settings import require_integers, require_numbers, require_one_of, require_positive
from ..recipe import RunRecipe

Selection = Literal["rotation", "recall", "reconstruction"]

RECIPES = Path(__file__).parent / "recipes"

_ENCODER = (
    *(
        "tokens",
        "features",
        "points",
        "lattice",
        "token_dim",
        "window",
        "network_tokens",
        "pose_tokens",
        "width",
        "heads",
    ),
    *("layers", "feed_forward", "dropout", "latent_dim", "projection", "rotation_head", "moments"),
)


@dataclass(frozen=True, kw_only=True)
class SaneRecipe(RunRecipe):
    """What `RunRecipe` has is said there; `batch_size` counts objects, each of which comes in two views.

    Attributes:
        families: directories of the data set; each view of an object comes from one of them at random.
        architectures: name or sizes of the architecture of each family's NeRFs, where the files leave it open.
        tokens, features, points, lattice, token_dim, window, network_tokens, pose_tokens, width, heads, layers, feed_forward,
            dropout, latent_dim, projection, rotation_head, moments: the encoder's, see `SaneConfig`.
        reconstruction_weight, contrastive_weight, rotation_weight, latent_weight: weights of the four losses.
        temperature: that of NT-Xent.
        noise: deviation of the factor that each token value is multiplied with.
        permute: whether hidden neurons are put in another order for each view.
        label_noise: degrees, the deviation of what is added to the true rotation on each axis; drawn anew every time.
        blind: whether all token values are zero, so that positions alone are seen: the control beside every contrastive figure.
        select: the metric that makes a checkpoint the best.
        validation_objects: number of objects of the validation list that are measured on, the first ones; 0: all.
        cached_nerfs: NeRFs kept in memory.
    """

    families: tuple[str, ...] = paper_families()
    architectures: Mapping[str, Any] = field(default_factory=dict)

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

    reconstruction_weight: float = 0.4
    contrastive_weight: float = 0.05
    rotation_weight: float = 0.53
    latent_weight: float = 0.02
    temperature: float = 0.1
    noise: float = 0.1
    permute: bool = True
    label_noise: float = 0.1
    blind: bool = False

    select: Selection = "rotation"
    validation_objects: int = 0
    cached_nerfs: int = 4096

    def __post_init__(self) -> None:
        object.__setattr__(self, "families", tuple(self.families))
        object.__setattr__(self, "projection", tuple(self.projection))
        super().__post_init__()
        require_numbers(self, 0, "reconstruction_weight", "contrastive_weight", "rotation_weight", "latent_weight")
        require_numbers(self, 0, "noise", "label_noise")
        require_positive(self, "temperature")
        require_integers(self, 0, "validation_objects")
        require_integers(self, 1, "cached_nerfs")
        require_one_of(self, "select", get_args(Selection))
        if not self.families or len(set(self.families)) != len(self.families):
            raise ValueError(f"families are {list(self.families)}; expected different directories, at least one")
        if self.contrastive_weight and self.batch_size < 2:
            raise ValueError("batch_size is 1, and the contrastive loss compares objects; expected at least 2")
        _ = self.encoder_config  # which checks its part

    @property
    def encoder_config(self) -> SaneConfig:
        return SaneConfig(**{name: getattr(self, name) for name in _ENCODER})


def load_sane_recipe(source: StrPath | None = None, overrides: Iterable[str] = ()) -> SaneRecipe:
    """A recipe from a YAML file or the name of one that ships, with ``key=value`` changes; without a source, `sane-paper`.

    Raises:
        FileNotFoundError: no such file or name.
        ValueError: not YAML, or settings that are unknown or unfit; the message names the file.
    """
    source = "sane-paper" if source is None else source
    path = Path(source) if Path(source).is_file() else RECIPES / f"{source}.yaml"
    if not path.is_file():
        names = ", ".join(sorted(each.stem for each in RECIPES.glob("*.yaml")))
        raise FileNotFoundError(f"{source}: no such recipe file; expected a .yaml file or one of {names}")
    return SaneRecipe.load(path, overrides)
