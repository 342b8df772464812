"""Everything that a training run is made of, in one record; a YAML file says the same.

Source: the paper's Appendix B for the defaults (FORMATS.md 2.9 and 6); the recipes that ship stand in ``recipes/``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from ...encoders.decoder import DecoderConfig
from ...encoders.gmn.config import GmnConfig
from ...files import StrPath
from ...nerfs.architectures import paper_families, parse_architecture
from ...nerfs.blocks import GraphLayout
from ...settings import parse_setting, read_yaml
from .rendering_loss import LossMode, RenderingLossConfig

Loss = Literal["r", "c", "rc"]
Precision = Literal["float32", "bfloat16"]
Selection = Literal["auto", "psnr", "recall", "siglip"]

RECIPES = Path(__file__).parent / "recipes"

# What may change when a run is continued: it changes no weights.
RUN_SETTINGS = frozenset({"workers", "cache_gib", "max_seconds", "checkpoint_seconds"})


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Settings of a training run; the defaults are the paper's.

    Attributes:
        loss: "r" rendering, "c" contrastive, "rc" both.
        families: directories of the data set that hold the same objects in several architectures; with one there are no pairs.
        architectures: by family, name or sizes of its NeRFs' architecture, where the files leave it open.
        seed: of initial weights, batches, rays and points.
        hidden_dim, embedding_dim, num_layers, layout: of the encoder, see `GmnConfig`.
        readout_dim: of the encoder's readout, where a head follows (`GmnConfig`); 0: no head.
        value_gain: the initial weights that read NeRF weights are so many times torch's: NeRF weights are small, and an encoder
            that hardly sees them takes long to tell NeRFs of one family apart.
        calibrate: fit the readout and head of a fresh encoder, and the input layers of the decoder, to examples (`calibration`).
        calibration_objects: the first so many objects of the training list are these examples, each in all families.
        active: share of the edges at which a unit of a calibrated embedding is on.
        decoder_dim, decoder_frequencies: of the decoder, see `DecoderConfig`.
        epochs: over the objects.
        batch_size: NeRFs in a step of one process; two of them make a pair.
        accumulation: steps whose gradients are added up for one step of the optimiser.
        learning_rate: the highest of the one-cycle schedule.
        body_rate: share of it at which the encoder learns, all but the learnt factor of its head; 0: only that factor learns,
            on what a random graph network sees.
        weight_decay: of AdamW.
        warmup: share of the steps over which the rate rises.
        clip_norm: gradients with a larger norm are shortened to it; 0: never.
        contrastive_weight: lambda, of the contrastive loss beside the rendering loss.
        temperature, shift: start of the two numbers that SigLIP learns.
        chunk_size: rows of SigLIP logits at a time; 0: all.
        rendering: "clean" or "released", see `rendering_loss`.
        foreground_weight, background_weight: of the rendering loss' terms.
        rays: of a NeRF in a step, all of which hit the object.
        samples: most samples on these rays that the decoder is asked for; rays beyond are left out (released: samples).
        points: of empty space in a step, for each NeRF.
        steps_per_diagonal: marching steps in the diagonal of the box; the released renderer takes 1024.
        cached_rays: rays that hit the object which are rendered at once and then drawn from.
        candidate_rays: pixels that are tried for them at most.
        refresh_epochs: epochs after which a NeRF's cached rays are rendered anew; 0: never.
        precision: what heavy products run in.
        compile: run the decoder through torch.compile.
        select: what makes a checkpoint the best: highest validation PSNR or recall@1, or lowest contrastive loss; "auto": the
            paper's choice, contrastive loss for "c", PSNR otherwise.
        validate_every: epochs between validations.
        validation_objects: of the validation list, the first so many; 0: all.
        workers: threads that prepare batches ahead; 0: none.
        cache_gib: memory of each process for NeRFs and their rays.
        checkpoint_seconds: between checkpoints.
        max_seconds: stop with a checkpoint after so long; 0: at the end.
    """

    loss: Loss = "rc"
    families: tuple[str, ...] = paper_families()
    architectures: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0

    hidden_dim: int = 128
    embedding_dim: int = 1024
    num_layers: int = 4
    layout: GraphLayout = "released"
    readout_dim: int = 0
    value_gain: float = 1.0
    calibrate: bool = False
    calibration_objects: int = 64
    active: float = 0.1
    decoder_dim: int = 1024
    decoder_frequencies: int = 24

    epochs: int = 250
    batch_size: int = 8
    accumulation: int = 1
    learning_rate: float = 1e-4
    body_rate: float = 1.0
    weight_decay: float = 1e-2
    warmup: float = 0.3
    clip_norm: float = 0.0

    contrastive_weight: float = 0.02
    temperature: float = 10.0
    shift: float = -10.0
    chunk_size: int = 0

    rendering: LossMode = "clean"
    foreground_weight: float = 0.8
    background_weight: float = 0.2
    rays: int = 512
    samples: int = 25000
    points: int = 10000
    steps_per_diagonal: int = 1024
    cached_rays: int = 2048
    candidate_rays: int = 55000
    refresh_epochs: int = 25

    precision: Precision = "float32"
    compile: bool = False
    select: Selection = "auto"
    validate_every: int = 5
    validation_objects: int = 0
    workers: int = 2
    cache_gib: float = 8.0
    checkpoint_seconds: float = 60.0
    max_seconds: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "families", tuple(self.families))
        _check(self)

    @property
    def renders(self) -> bool:
        return "r" in self.loss

    @property
    def contrasts(self) -> bool:
        return "c" in self.loss

    @property
    def step_length(self) -> float:
        """Of marching, world units."""
        return 1.4 * 3**0.5 / self.steps_per_diagonal

    @property
    def selection(self) -> str:
        """`select` with "auto" resolved."""
        return self.select if self.select != "auto" else "psnr" if self.renders else "siglip"

    @property
    def encoder_config(self) -> GmnConfig:
        return GmnConfig(
            hidden_dim=self.hidden_dim,
            embedding_dim=self.embedding_dim,
            num_layers=self.num_layers,
            layout=self.layout,
            readout_dim=self.readout_dim or None,
        )

    @property
    def decoder_config(self) -> DecoderConfig:
        return DecoderConfig(
            embedding_dim=self.embedding_dim, hidden_dim=self.decoder_dim, frequencies=self.decoder_frequencies
        )

    @property
    def loss_config(self) -> RenderingLossConfig:
        return RenderingLossConfig(
            mode=self.rendering,
            foreground_weight=self.foreground_weight,
            background_weight=self.background_weight,
            step=self.step_length,
        )

    def to_dict(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "families": list(self.families), "architectures": dict(self.architectures)}

    def changed(self, **values: Any) -> Recipe:
        """A copy with other settings, given as YAML or Python values. Raises `ValueError` for unknown or unfit ones."""
        fields = {field.name: field for field in dataclasses.fields(self)}
        given: dict[str, Any] = {}
        for name, value in values.items():
            if name not in fields:
                raise ValueError(f"a recipe has no setting {name!r}; it has {', '.join(fields)}")
            kind = dict if name == "architectures" else type(fields[name].default)
            given[name] = _converted(name, value, kind)
        return dataclasses.replace(self, **given)


def load_recipe(source: StrPath | None = None, overrides: Iterable[str] = ()) -> Recipe:
    """A recipe from a YAML file or the name of one that ships, with ``key=value`` changes; without a source, the paper's.

    Raises:
        FileNotFoundError: no such file or name.
        ValueError: not YAML, or settings that are unknown or unfit; the message names the file.
    """
    recipe = Recipe()
    if source is not None:
        path = Path(source) if Path(source).is_file() else RECIPES / f"{source}.yaml"
        if not path.is_file():
            names = ", ".join(sorted(each.stem for each in RECIPES.glob("*.yaml")))
            raise FileNotFoundError(f"{source}: no such recipe file; expected a .yaml file or one of {names}")
        content = read_yaml(path)
        if not isinstance(content, Mapping):
            raise ValueError(f"{path}: holds a {type(content).__name__}; expected settings, name: value")
        try:
            recipe = recipe.changed(**{str(key): value for key, value in content.items()})
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
    return recipe.changed(**dict(map(parse_setting, overrides)))


def _converted(name: str, value: Any, kind: type) -> Any:
    """A YAML value as the type of its setting. (YAML takes 1e-4 for a word.)"""
    try:
        if kind is tuple:
            return tuple(value.split(",")) if isinstance(value, str) else tuple(str(each) for each in value)
        if kind is dict and isinstance(value, Mapping):
            return {str(key): each for key, each in value.items()}
        if kind is bool and isinstance(value, bool):
            return value
        if kind is int and not isinstance(value, bool) and float(value) == int(float(value)):
            return int(float(value))
        if kind is float and not isinstance(value, bool):
            return float(value)
        if kind is str and isinstance(value, str):
            return value
    except (TypeError, ValueError, OverflowError):
        pass
    words = {
        dict: "family: architecture",
        tuple: "a list of directories",
        bool: "true or false",
        int: "an integer",
        float: "a number",
        str: "a word",
    }
    raise ValueError(f"{name} is {value!r}; expected {words[kind]}")


_LEAST = {
    "epochs": 1,
    "batch_size": 1,
    "accumulation": 1,
    "rays": 1,
    "samples": 1,
    "steps_per_diagonal": 16,
    "cached_rays": 1,
    "calibration_objects": 1,
    "candidate_rays": 1,
    "validate_every": 1,
}
_NOT_NEGATIVE = [
    "seed",
    "readout_dim",
    "body_rate",
    "weight_decay",
    "clip_norm",
    "contrastive_weight",
    "chunk_size",
    "points",
    "refresh_epochs",
    "validation_objects",
    "workers",
    "cache_gib",
    "checkpoint_seconds",
    "max_seconds",
]


def _check(recipe: Recipe) -> None:
    choices: dict[str, tuple[Any, ...]] = {
        "loss": get_args(Loss),
        "precision": get_args(Precision),
        "select": get_args(Selection),
    }
    for name, allowed in choices.items():
        if getattr(recipe, name) not in allowed:
            raise ValueError(f"{name} is {getattr(recipe, name)!r}; expected one of {', '.join(allowed)}")
    for name, least in {**_LEAST, **dict.fromkeys(_NOT_NEGATIVE, 0)}.items():
        if not getattr(recipe, name) >= least:
            raise ValueError(f"{name} is {getattr(recipe, name)!r}; expected at least {least}")
    for name in ("learning_rate", "temperature", "value_gain"):
        if not getattr(recipe, name) > 0:
            raise ValueError(f"{name} is {getattr(recipe, name)!r}; expected a positive number")
    if not 0 < recipe.active < 1:
        raise ValueError(f"active is {recipe.active!r}; expected a share between 0 and 1")
    if 0 < recipe.readout_dim < recipe.embedding_dim:
        raise ValueError(
            f"readout_dim is {recipe.readout_dim}; expected 0 (no head) or at least embedding_dim = {recipe.embedding_dim}"
        )
    if not recipe.body_rate and not (recipe.readout_dim and recipe.calibrate):
        raise ValueError("body_rate is 0, which trains the encoder's head alone; set readout_dim and calibrate=true")
    if not 0 < recipe.warmup < 1:
        raise ValueError(f"warmup is {recipe.warmup!r}; expected a share of the steps between 0 and 1")
    if not recipe.families or len(set(recipe.families)) != len(recipe.families):
        raise ValueError(f"families are {list(recipe.families)}; expected different directories, at least one")
    for family, architecture in recipe.architectures.items():
        if family not in recipe.families:
            raise ValueError(f"architectures name {family!r}; expected families, {', '.join(recipe.families)}")
        try:
            parse_architecture(architecture)
        except (ValueError, TypeError) as error:
            raise ValueError(f"architectures, {family}: {error}") from error
    if recipe.contrasts and len(recipe.families) < 2:
        raise ValueError(f"loss {recipe.loss!r} needs pairs, and there is one family; use loss=r or name two families")
    if recipe.steps_per_diagonal > 16384:
        raise ValueError(f"steps_per_diagonal is {recipe.steps_per_diagonal}; expected at most 16384")
    if recipe.selection == "psnr" and not recipe.renders:
        raise ValueError("select is 'psnr', and loss 'c' renders nothing; use siglip or recall")
    if recipe.selection in ("siglip", "recall") and len(recipe.families) < 2:
        raise ValueError(f"select is {recipe.select!r}, and there is one family; use psnr")
    if recipe.selection == "siglip" and not recipe.contrasts:
        raise ValueError("select is 'siglip', and loss 'r' does not train it; use psnr or recall")
    _ = recipe.encoder_config, recipe.decoder_config, recipe.loss_config  # they check their parts
