"""NeRF weights to graphs to embeddings, and everything that makes and trains that.

The public names are imported on first use, so that ``import gmn_encoder`` stays quick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .lazy import lazy_names

if TYPE_CHECKING:
    from .architectures import (
        PAPER_ARCHITECTURES,
        HashArchitecture,
        MlpArchitecture,
        NerfArchitecture,
        TriplaneArchitecture,
        parse_architecture,
    )
    from .config import GmnConfig
    from .decoder import DecoderConfig, NerfDecoder
    from .encoder import GmnEncoder
    from .graph import build_parameter_graph, parameter_graph
    from .nerf import Nerf, NerfBatch
    from .nerf_io import find_nerfs, load_nerf, save_nerf
    from .siglip import SiglipLoss, siglip_loss

_MODULES = {
    "PAPER_ARCHITECTURES": "architectures",
    "HashArchitecture": "architectures",
    "MlpArchitecture": "architectures",
    "NerfArchitecture": "architectures",
    "TriplaneArchitecture": "architectures",
    "parse_architecture": "architectures",
    "GmnConfig": "config",
    "DecoderConfig": "decoder",
    "NerfDecoder": "decoder",
    "GmnEncoder": "encoder",
    "build_parameter_graph": "graph",
    "parameter_graph": "graph",
    "Nerf": "nerf",
    "NerfBatch": "nerf",
    "find_nerfs": "nerf_io",
    "load_nerf": "nerf_io",
    "save_nerf": "nerf_io",
    "SiglipLoss": "siglip",
    "siglip_loss": "siglip",
}

__all__ = [
    "PAPER_ARCHITECTURES",
    "DecoderConfig",
    "GmnConfig",
    "GmnEncoder",
    "HashArchitecture",
    "MlpArchitecture",
    "Nerf",
    "NerfArchitecture",
    "NerfBatch",
    "NerfDecoder",
    "SiglipLoss",
    "TriplaneArchitecture",
    "build_parameter_graph",
    "find_nerfs",
    "load_nerf",
    "parameter_graph",
    "parse_architecture",
    "save_nerf",
    "siglip_loss",
]

__getattr__, __dir__ = lazy_names(__name__, _MODULES)
