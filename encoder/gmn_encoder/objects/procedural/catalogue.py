"""The 13 classes of ShapeNetRender, and objects of them from a seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..mesh import Mesh
from . import airplane, bench, cabinet, car, chair, display, lamp, phone, rifle, sofa, speaker, table, watercraft
from .dice import Dice
from .draft import Draft
from .topics import class_texts

CLASS_IDS = {
    "airplane": "02691156", "bench": "02828884", "cabinet": "02933112", "car": "02958343", "chair": "03001627",
    "display": "03211117", "lamp": "03636649", "speaker": "03691459", "rifle": "04090263", "sofa": "04256520",
    "table": "04379243", "phone": "04401088", "watercraft": "04530566",
}  # fmt: skip
"""Class names and their ShapeNet synsets in label order (docs/released_format.md#classes)."""

CLASS_NAMES = tuple(CLASS_IDS)
SEEDS_PER_SET = 10_000_000
"""How many objects of one class `generate_dataset` draws before two seeds could meet."""

_BUILDERS: dict[str, Callable[[Draft, Dice], None]] = {
    "airplane": airplane.build, "bench": bench.build, "cabinet": cabinet.build, "car": car.build, "chair": chair.build,
    "display": display.build, "lamp": lamp.build, "speaker": speaker.build, "rifle": rifle.build, "sofa": sofa.build,
    "table": table.build, "phone": phone.build, "watercraft": watercraft.build,
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class ProceduralObject:
    """An object made from a seed.

    Attributes:
        class_name, class_id: one of `CLASS_IDS`.
        seed: the seed it was made from; class and seed determine everything else, on every machine.
        parameters: the choices it was made with, JSON values: "kind", counts, yes/no, words.
        surfaces: part label -> how that surface is named ("red and white striped"); only what language may speak of.
        colours: part label -> the colour names in that surface.
        counts: part label -> how many such parts there are.
        mesh: the surface in the NeRF box, z up, the front towards -y; its parts carry the labels.
    """

    class_name: str
    class_id: str
    seed: int
    parameters: Mapping[str, Any]
    surfaces: Mapping[str, str]
    colours: Mapping[str, tuple[str, ...]]
    counts: Mapping[str, int]
    mesh: Mesh = field(repr=False)

    @property
    def object_id(self) -> str:
        """Unique over classes and seeds; without a dot, so that it serves as a directory name
        (docs/released_format.md#data-layout)."""
        return f"{self.class_name}-{self.seed:09d}"


def generate(class_name: str, seed: int) -> ProceduralObject:
    """The object of a class that belongs to a seed; equal arguments give equal objects on every machine.

    Raises `ValueError` for an unknown class or a seed that is not a non-negative integer.
    """
    if class_name not in _BUILDERS:
        raise ValueError(f"unknown class {class_name!r}; expected one of {', '.join(CLASS_NAMES)}")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ValueError(f"seed must be a non-negative integer, got {seed!r}")
    draft = Draft()
    _BUILDERS[class_name](draft, Dice(CLASS_NAMES.index(class_name), seed))
    named = {label: material for label, material in draft.surfaces.items() if not label.startswith("_")}
    return ProceduralObject(
        class_name=class_name,
        class_id=CLASS_IDS[class_name],
        seed=seed,
        parameters=draft.parameters,
        surfaces={label: material.look for label, material in named.items()},
        colours={label: material.colours for label, material in named.items()},
        counts=draft.counts,
        mesh=draft.mesh(),
    )


def generate_dataset(n: int, seed: int = 0) -> Iterator[ProceduralObject]:
    """`n` objects, the classes by turns; object i is of class i mod 13. Lazy, and the same for every prefix: a larger `n` only
    adds objects. Different seeds share no object.

    Raises `ValueError` for a negative or too large `n`, or a seed that is not a non-negative integer.
    """
    if isinstance(n, bool) or not isinstance(n, int) or not 0 <= n <= SEEDS_PER_SET * len(CLASS_NAMES):
        raise ValueError(f"n must be an integer in 0..{SEEDS_PER_SET * len(CLASS_NAMES)}, got {n!r}")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ValueError(f"seed must be a non-negative integer, got {seed!r}")
    return (
        generate(CLASS_NAMES[index % len(CLASS_NAMES)], seed * SEEDS_PER_SET + index // len(CLASS_NAMES))
        for index in range(n)
    )


def nouns(subject: ProceduralObject) -> tuple[str, ...]:
    """What the object may be called, the most specific word first."""
    return class_texts(subject.class_name).nouns[subject.parameters["kind"]]


def class_nouns(class_name: str) -> tuple[str, ...]:
    """Every word that texts call objects of a class by, its name among them."""
    kinds = class_texts(class_name).nouns.values()
    return tuple(dict.fromkeys([class_name, *(noun for words in kinds for noun in words)]))
