"""Importers of other programs' radiance fields, one file each, registered in the order in which they are asked."""

# isort: off
from .base import (
    IMPORTERS,
    Contents,
    ForeignField,
    Importer,
    find_importer,
    foreign_suffixes,
    import_field,
    is_foreign,
    register_importer,
    settings_beside,
)
from . import nerf_pytorch as nerf_pytorch
from . import nerfstudio as nerfstudio
from . import instant_ngp as instant_ngp
from . import torch_ngp as torch_ngp
from . import splats as splats
# isort: on

__all__ = [
    "IMPORTERS",
    "Contents",
    "ForeignField",
    "Importer",
    "find_importer",
    "foreign_suffixes",
    "import_field",
    "is_foreign",
    "register_importer",
    "settings_beside",
]
