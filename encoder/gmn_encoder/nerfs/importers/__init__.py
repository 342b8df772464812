"""Importers of other programs' radiance fields, one file each, registered in the order in which they are asked."""

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
)

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
]
