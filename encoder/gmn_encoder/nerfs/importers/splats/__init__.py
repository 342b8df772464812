"""Gaussian splats, and point clouds as such: decoders of the formats, the record, the field, the rasteriser."""

from .field import SplatField, splat_field
from .importer import read_splats
from .rasteriser import rasterise
from .record import Splats
from .splatfacto import splatfacto_splats

__all__ = [
    "SplatField",
    "Splats",
    "rasterise",
    "read_splats",
    "splat_field",
    "splatfacto_splats",
]
