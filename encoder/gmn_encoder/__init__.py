"""NeRF weights to graphs to embeddings, and everything that makes and trains that.

The public names are imported on first use, so that ``import gmn_encoder`` stays quick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .lazy import lazy_names

if TYPE_CHECKING:
    from .encoders.base import NerfEncoder, load_encoder, register_encoder
    from .encoders.decoder import DecoderConfig, NerfDecoder
    from .encoders.gmn.config import GmnConfig
    from .encoders.gmn.encoder import GmnEncoder
    from .encoders.gmn.graph import build_parameter_graph, parameter_graph
    from .encoders.nf2vec.config import Nf2vecConfig
    from .encoders.nf2vec.encoder import Nf2vecEncoder
    from .encoders.sane.config import SaneConfig
    from .encoders.sane.encoder import SaneEncoder
    from .nerfs.architectures import PAPER_ARCHITECTURES, NerfArchitecture, parse_architecture
    from .nerfs.families import HashArchitecture, MlpArchitecture, TriplaneArchitecture
    from .nerfs.files import find_nerfs, load_nerf, save_nerf
    from .nerfs.record import Nerf, NerfBatch
    from .pose.estimate import PoseAnswer, PoseEstimate, estimate_pose, estimate_poses
    from .pose.fields import TurnedField
    from .training.representation.siglip import SiglipLoss, siglip_loss

_MODULES = {
    "PAPER_ARCHITECTURES": "nerfs.architectures",
    "HashArchitecture": "nerfs.families",
    "MlpArchitecture": "nerfs.families",
    "NerfArchitecture": "nerfs.architectures",
    "TriplaneArchitecture": "nerfs.families",
    "parse_architecture": "nerfs.architectures",
    "NerfEncoder": "encoders.base",
    "load_encoder": "encoders.base",
    "register_encoder": "encoders.base",
    "GmnConfig": "encoders.gmn.config",
    "DecoderConfig": "encoders.decoder",
    "NerfDecoder": "encoders.decoder",
    "GmnEncoder": "encoders.gmn.encoder",
    "Nf2vecConfig": "encoders.nf2vec.config",
    "Nf2vecEncoder": "encoders.nf2vec.encoder",
    "SaneConfig": "encoders.sane.config",
    "SaneEncoder": "encoders.sane.encoder",
    "build_parameter_graph": "encoders.gmn.graph",
    "parameter_graph": "encoders.gmn.graph",
    "Nerf": "nerfs.record",
    "NerfBatch": "nerfs.record",
    "PoseAnswer": "pose.estimate",
    "PoseEstimate": "pose.estimate",
    "TurnedField": "pose.fields",
    "estimate_pose": "pose.estimate",
    "estimate_poses": "pose.estimate",
    "find_nerfs": "nerfs.files",
    "load_nerf": "nerfs.files",
    "save_nerf": "nerfs.files",
    "SiglipLoss": "training.representation.siglip",
    "siglip_loss": "training.representation.siglip",
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
    "NerfEncoder",
    "Nf2vecConfig",
    "Nf2vecEncoder",
    "PoseAnswer",
    "PoseEstimate",
    "SaneConfig",
    "SaneEncoder",
    "SiglipLoss",
    "TriplaneArchitecture",
    "TurnedField",
    "build_parameter_graph",
    "estimate_pose",
    "estimate_poses",
    "find_nerfs",
    "load_encoder",
    "load_nerf",
    "parameter_graph",
    "parse_architecture",
    "register_encoder",
    "save_nerf",
    "siglip_loss",
]

__getattr__, __dir__ = lazy_names(__name__, _MODULES)
