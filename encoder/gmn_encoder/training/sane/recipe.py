"""Settings of a run that trains a SANE encoder; the recipes that ship stand in ``recipes/``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from ...encoders.sane.config import SaneConfig, SaneSizes
from ...files import StrPath
from ...nerfs.architectures import paper_families
from ...settings import require_integers, require_numbers, require_one_of, require_positive
from ..recipe import RunRecipe, recipe_file, require_families

Selection = Literal["rotation", "recall", "reconstruction"]

RECIPES = Path(__file__).parent / "recipes"


@dataclass(frozen=True, kw_only=True)
class SaneRecipe(SaneSizes, RunRecipe):
    """What `SaneSizes` and `RunRecipe` have is said there; `batch_size` counts objects, each of which comes in two views.

    Attributes:
        families: directories of the data set; each view of an object comes from one of them at random.
        architectures: name or sizes of the architecture of each family's NeRFs, where the files leave it open.
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
        require_families(self.families)
        if self.contrastive_weight and self.batch_size < 2:
            raise ValueError("batch_size is 1, and the contrastive loss compares objects; expected at least 2")
        _ = self.encoder_config  # which checks its part

    @property
    def encoder_config(self) -> SaneConfig:
        return SaneConfig(**{each.name: getattr(self, each.name) for each in fields(SaneSizes)})


def load_sane_recipe(source: StrPath | None = None, overrides: Iterable[str] = ()) -> SaneRecipe:
    """A recipe from a YAML file or the name of one that ships, with ``key=value`` changes; without a source, `sane-paper`.

    Raises:
        FileNotFoundError: no such file or name.
        ValueError: not YAML, or settings that are unknown or unfit; the message names the file.
    """
    return SaneRecipe.load(recipe_file("sane-paper" if source is None else source, RECIPES), overrides)
