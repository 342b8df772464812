"""Endless textured objects of the 13 ShapeNetRender classes, made from seeds. Plain numpy."""

from .catalogue import CLASS_IDS, CLASS_NAMES, ProceduralObject, generate, generate_dataset

__all__ = ["CLASS_IDS", "CLASS_NAMES", "ProceduralObject", "generate", "generate_dataset"]
