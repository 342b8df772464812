"""Short trainings of the parts of an encoder, so that what each loss, sense and option is worth can be told in minutes.

Each is a recipe that ships, with changes: the recipe `probes` with other losses, and the graph network of `probes_graph` without
probes, as it is and with one of its options at a time. A graph network takes more than ten times as long as probes for the
same NeRFs: it is given fewer objects a step and fewer steps, which comes to about the same minutes of a core.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gmn_encoder.encoders.gmn.config import GmnConfig
from gmn_encoder.files import StrPath
from gmn_encoder.training.checkpoint import LAST
from gmn_encoder.training.loop import Reports
from gmn_encoder.training.representation.recipe import load_recipe
from gmn_encoder.training.representation.task import encoder_training

_SHORT = ("validate_every=1000", "validation_objects=13", "watch=[]", "checkpoint_seconds=30")
_PROBES = (*_SHORT, "epochs=15", "batch_size=96", "field_grid=0")
_BY_ITSELF = (*_PROBES, "regression_weight=0")
# The rendering loss takes the place of the point regression, beside which the contrastive loss has a third of the weight.
_RENDERED = (*_BY_ITSELF, "rays=8", "samples=96", "points=16", "cached_rays=8", "candidate_rays=100")
_GRAPH = (
    *_SHORT,
    "probes=0",
    "freeze=''",
    "augment=false",
    "augment_colour=0",
    "field_grid=0",
    "epochs=2",
    "batch_size=36",
)

RUNS: dict[str, tuple[str, tuple[str, ...]]] = {
    "L_C and points": ("probes", _PROBES),
    "L_C": ("probes", _BY_ITSELF),
    "L_R": ("probes", (*_RENDERED, "loss=r")),
    "L_R+C": ("probes", (*_RENDERED, "loss=rc", "contrastive_weight=0.33")),
    "graph": ("probes_graph", _GRAPH),
    **{f"graph {name}": ("probes_graph", (*_GRAPH, f"{name}=true")) for name in GmnConfig.OPTIONS},
}
"""Name -> recipe and its changes. The first is the recipe `probes` itself, with fewer epochs."""


def train_short(name: str, data: StrPath, out: StrPath, *, seed: int = 0, changes: Sequence[str] = ()) -> Path:
    """Train one of `RUNS`, or go on with it; what is finished is not trained again.

    Args:
        name: of the run.
        data: data set of `fitting.training_set`.
        out: directory of all runs; this one has its own in it.
        seed: of first weights and batches.
        changes: ``key=value`` each, on top of those of the run.

    Returns:
        the directory of the trained encoder.

    Raises:
        ValueError: no such run, or a run that was begun with other settings or data.
    """
    if name not in RUNS:
        raise ValueError(f"there is no short run {name!r}; expected one of {', '.join(map(repr, RUNS))}")
    recipe, settings = RUNS[name]
    directory = Path(out) / f"{name} {seed}".replace(" ", "-")
    loop = encoder_training(
        load_recipe(recipe, (*settings, f"seed={seed}", *changes)), data, out=directory, reports=Reports()
    )
    loop.run()
    return directory / LAST
