"""The card that goes to the Hugging Face hub with an encoder."""

from __future__ import annotations

from collections.abc import Iterable

from ..hub import card_header, table
from .base import EncoderConfig

_CARD = """
# {name}

An encoder of NeRFs, kind `{kind}`. {senses} It gives a vector of {size} numbers for each NeRF.

{sizes}

```python
from gmn_encoder import load_encoder, load_nerf

encoder = load_encoder("{name}")
embeddings = encoder.encode([load_nerf("path/to/nerf")])  # (1, {size})
```

`pip install llana-gmn` has the package. At the command line: `llana-gmn embed NERF --encoder {name} --out FILE`.

Embeddings are good for NeRFs of the kind that the encoder was trained on. What that was, how well it does, and the licence
(`unknown` above) are for whoever trained it to add here.
"""


_WEIGHTS_ONLY = (
    "It reads the weights of a NeRF, the small network that stores an object, and does not execute it; it needs no images and "
    "renders nothing."
)
_WITH_PROBES = (
    "It reads the weights of a NeRF, the small network that stores an object, and also executes the network at {probes:,} points "
    "of space; it needs no images and renders nothing."
)
_PROBES_ALONE = (
    "It executes a NeRF, the small network that stores an object, at {probes:,} points of space, and does not look at its "
    "weights; it needs no images and renders nothing."
)


def encoder_card(config: EncoderConfig, name: str, *, parameters: int, tags: Iterable[str] = ()) -> str:
    """The card of an encoder of any kind: what it reads, its sizes, how to load it.

    Args:
        config: its configuration.
        name: the repository's name.
        parameters: count of its weights.
        tags: tags beside those of every encoder.
    """
    values = {key: value for key, value in config.to_dict().items() if key != "model_type"}
    kind = config.model_type
    header = card_header(
        library_name="llana-gmn",
        pipeline_tag="feature-extraction",
        tags=["nerf", "weight-space", kind, *tags],
    )
    probes, graph = values.get("probes", 0), values.get("graph", True)
    if values.get("tokens") == "values":  # of a SANE encoder
        probes, graph = values["points"], values["features"]
    senses = (_WITH_PROBES if graph else _PROBES_ALONE).format(probes=probes) if probes else _WEIGHTS_ONLY
    sizes = table([("weights", f"{parameters:,}"), *values.items()], ("size", "value"))
    return header + _CARD.format(name=name, kind=kind, senses=senses, size=config.embedding_dim, sizes=sizes)
