"""Everything that a training run is made of, in one record; a YAML file says the same.

Source: the paper's Appendix B for the defaults (docs/released_format.md#rendering-loss and #encoder-training); the recipes that
ship stand in ``recipes/``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from ...encoders.decoder import DecoderConfig
from ...encoders.gmn.config import GmnConfig
from ...files import StrPath
from ...nerfs.architectures import paper_families, parse_architecture
from ...nerfs.blocks import GraphLayout
from ...rendering.marching import step_length
from ...settings import require_integers, require_numbers, require_one_of, require_positive, require_shares
from ..recipe import RunRecipe, recipe_file, require_families
from .rendering_loss import LossMode, RenderingLossConfig

Loss = Literal["r", "c", "rc"]
Precision = Literal["float32", "bfloat16"]
Selection = Literal["auto", "psnr", "recall", "siglip"]
Sampling = Literal["pairs", "all"]
Contrastive = Literal["siglip", "infonce"]
Frozen = Literal["", "probes", "encoder"]

RECIPES = Path(__file__).parent / "recipes"


@dataclass(frozen=True, kw_only=True)
class Recipe(RunRecipe):
    """Settings of a run that trains an encoder; the defaults are the paper's. What `RunRecipe` has is said there.

    Attributes:
        loss: "r" rendering, "c" contrastive, "rc" both.
        families: directories of the data set that hold the same objects in several architectures; with one there are no pairs.
        architectures: name or sizes of the architecture of each family's NeRFs, where the files leave it open.
        hidden_dim, embedding_dim, num_layers, layout: the encoder's, see `GmnConfig`.
        canonical, standardised, bounded_positions, readout_per_kind: the encoder's options, see `GmnConfig`.
        readout_dim: units of the encoder's readout, where a head follows (`GmnConfig`); 0: no head.
        probes, probe_dim, token_grid, graph: the encoder's second sense, see `GmnConfig`.
        readout_families: families whose readouts are standardised each by itself, see `GmnConfig`.
        freeze: what stays as it starts: "probes", so that the graph network learns what to add to them; "encoder", so that only
            the decoder learns; or nothing, "".
        field_grid: points along each axis of the grid on which each NeRF is asked once, to be read between them at every step;
            0: NeRFs are asked at every step.
        sampling: "pairs", the paper's: an object of a batch comes in two families, every pair equally often; "all": in all
            families.
        contrastive: "siglip", the paper's, or "infonce": of all objects of the batch, which is the same one.
        regression_weight: weight of the point regression: what the decoder shows at random points against what the NeRF shows,
            colour times opacity and opacity; of the local tokens too, each in its cell. 0: none.
        regression_points: number of these points, of each NeRF in a step.
        surface_share: share of them that is drawn where the NeRF's grid is not empty (`field_grid`), the others in the whole box.
        augment: whether objects are moved, exactly, by asking their fields elsewhere: turned, stretched along each axis, shifted
            and mirrored, an object in all its families alike. The graph network sees the weights that there are.
        augment_turn: largest angle of the turn about the vertical, degrees.
        augment_colour: share of the objects that are coloured anew, exactly, an object in all its families alike: channels change
            places and are inverted.
        watch: directories of the data set that validation measures besides, such as the same objects from other first weights or
            in architectures that are not trained on; None: every one that holds all validation objects.
        value_gain: factor on the initial weights that read NeRF weights: NeRF weights are small, and an encoder
            that hardly sees them takes long to tell NeRFs of one family apart.
        decoder_dim, decoder_frequencies: the decoder's width and octaves, see `DecoderConfig`.
        body_rate: share of the learning rate at which the graph network learns; 0: it stays as it starts.
        contrastive_weight: lambda, the weight of the contrastive loss beside the rendering loss.
        temperature, shift: first values of the two numbers that SigLIP learns.
        chunk_size: rows of SigLIP logits at a time; 0: all.
        rendering: mode of the rendering loss, "clean" or "released", see `rendering_loss`.
        foreground_weight, background_weight: weights of the two terms of the rendering loss.
        rays: rays of a NeRF in a step, all of which hit the object.
        samples: largest number of samples on these rays; rays beyond are left out (released: samples).
        points: points of empty space in a step, for each NeRF.
        steps_per_diagonal: marching steps in the diagonal of the box; the released renderer takes 1024.
        cached_rays: rays that hit the object which are rendered at once and then drawn from.
        candidate_rays: largest number of pixels tried for them.
        refresh_epochs: epochs after which a NeRF's cached rays are rendered anew; 0: never.
        precision: dtype that heavy products run in.
        compile: whether to run the decoder through torch.compile.
        select: the metric that makes a checkpoint the best: highest validation PSNR or recall@1, or lowest contrastive loss;
            "auto": the paper's choice, contrastive loss for "c", PSNR otherwise.
        validation_objects: number of objects of the validation list that are measured on, the first ones; 0: all.
        cache_gib: memory of each process for NeRFs and their rays.
    """

    MAY_CHANGE: ClassVar[frozenset[str]] = RunRecipe.MAY_CHANGE | {"cache_gib"}

    loss: Loss = "rc"
    families: tuple[str, ...] = paper_families()
    architectures: Mapping[str, Any] = field(default_factory=dict)

    hidden_dim: int = 128
    embedding_dim: int = 1024
    num_layers: int = 4
    layout: GraphLayout = "released"
    canonical: bool = False
    standardised: bool = False
    bounded_positions: bool = False
    readout_per_kind: bool = False
    readout_dim: int = 0
    probes: int = 0
    probe_dim: int = 512
    token_grid: int = 4
    graph: bool = True
    readout_families: tuple[str, ...] = ()
    freeze: Frozen = ""
    field_grid: int = 0
    value_gain: float = 1.0
    decoder_dim: int = 1024
    decoder_frequencies: int = 24

    body_rate: float = 1.0

    sampling: Sampling = "pairs"
    contrastive: Contrastive = "siglip"
    contrastive_weight: float = 0.02
    temperature: float = 10.0
    shift: float = -10.0
    chunk_size: int = 0

    regression_weight: float = 0.0
    regression_points: int = 96
    surface_share: float = 0.0
    augment: bool = False
    augment_turn: float = 20.0
    augment_colour: float = 0.0
    watch: tuple[str, ...] | None = ()

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
    validation_objects: int = 0
    cache_gib: float = 8.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "families", tuple(self.families))
        object.__setattr__(self, "readout_families", tuple(self.readout_families))
        if self.watch is not None:
            object.__setattr__(self, "watch", tuple(self.watch))
        super().__post_init__()
        self._check()

    @property
    def renders(self) -> bool:
        return "r" in self.loss

    @property
    def contrasts(self) -> bool:
        return "c" in self.loss

    @property
    def decodes(self) -> bool:
        """Whether a decoder learns with the encoder."""
        return self.renders or self.regression_weight > 0

    @property
    def views(self) -> int:
        """Families in which an object comes into a batch; with one family there are no pairs."""
        return min(2, len(self.families)) if self.sampling == "pairs" else len(self.families)

    @property
    def step_length(self) -> float:
        """Length of a marching step, world units."""
        return step_length(self.steps_per_diagonal)

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
            canonical=self.canonical,
            standardised=self.standardised,
            bounded_positions=self.bounded_positions,
            readout_per_kind=self.readout_per_kind,
            readout_dim=self.readout_dim or None,
            probes=self.probes,
            probe_dim=self.probe_dim,
            token_grid=self.token_grid,
            graph=self.graph,
            readout_families=self.readout_families,
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

    def _check(self) -> None:
        require_integers(self, 1, "rays", "samples", "cached_rays", "candidate_rays")
        require_integers(self, 16, "steps_per_diagonal")
        require_integers(
            self, 0, "readout_dim", "chunk_size", "points", "refresh_epochs", "validation_objects", "field_grid"
        )
        require_integers(self, 1, "regression_points")
        require_numbers(self, 0, "body_rate", "contrastive_weight", "cache_gib", "regression_weight", "augment_turn")
        require_positive(self, "temperature", "value_gain")
        require_shares(self, "augment_colour", "surface_share", zero=True)
        for name, kind in (("loss", Loss), ("precision", Precision), ("select", Selection), ("sampling", Sampling)):
            require_one_of(self, name, get_args(kind))
        require_one_of(self, "contrastive", get_args(Contrastive))
        if 0 < self.readout_dim < self.embedding_dim:
            raise ValueError(
                f"readout_dim is {self.readout_dim}; expected 0 (no head) or at least embedding_dim = {self.embedding_dim}"
            )
        require_families(self.families)
        for family, architecture in self.architectures.items():
            if family not in (known := (*self.families, *(self.watch or ()))):
                raise ValueError(f"architectures name {family!r}; expected families, {', '.join(known)}")
            try:
                parse_architecture(architecture)
            except (ValueError, TypeError) as error:
                raise ValueError(f"architectures, {family}: {error}") from error
        if self.steps_per_diagonal > 16384:
            raise ValueError(f"steps_per_diagonal is {self.steps_per_diagonal}; expected at most 16384")
        if self.contrasts and len(self.families) < 2:
            raise ValueError(
                f"loss {self.loss!r} needs pairs, and there is one family; use loss=r or name two families"
            )
        require_one_of(self, "freeze", get_args(Frozen))
        if self.surface_share and not (self.field_grid and self.regression_weight):
            raise ValueError(
                "surface_share is about points of the regression, found on grids; set field_grid, such as 32"
            )
        for name in ("augment", "augment_colour"):
            if getattr(self, name) and not self.probes:
                raise ValueError(f"{name} is about what probes ask, and there are none; set probes, such as 1024")
        if self.field_grid == 1 or self.field_grid > 128:
            raise ValueError(f"field_grid is {self.field_grid}; expected 0 or 2..128 points along an axis")
        if self.selection == "psnr" and not self.decodes:
            raise ValueError("select is 'psnr', and loss 'c' renders nothing; use siglip or recall")
        if self.selection in ("siglip", "recall") and len(self.families) < 2:
            raise ValueError(f"select is {self.select!r}, and there is one family; use psnr")
        if self.selection == "siglip" and not self.contrasts:
            raise ValueError("select is 'siglip', and loss 'r' does not train it; use psnr or recall")
        _ = self.encoder_config, self.decoder_config, self.loss_config  # they check their parts


def load_recipe(source: StrPath | None = None, overrides: Iterable[str] = ()) -> Recipe:
    """A recipe from a YAML file or the name of one that ships, with ``key=value`` changes; without a source, the paper's.

    Raises:
        FileNotFoundError: no such file or name.
        ValueError: not YAML, or settings that are unknown or unfit; the message names the file.
    """
    return Recipe.load(None if source is None else recipe_file(source, RECIPES), overrides)
