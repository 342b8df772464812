"""Architectures of NeRFs: what every family says about itself, and the registry of families.

A family is a subclass of `NerfArchitecture` in a file of its own (`families/`), an architecture an instance of it with sizes.
`register_family` makes a family known to files, commands, encoders and training; docs/new-family.md walks through one. Most
families have a small network behind an encoding of points: they derive from `network.NetworkArchitecture`, which answers
nearly everything below.

Shapes: B NeRFs, S points.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from .blocks import GraphBuilder, GraphLayout
from .fields import WORLD_BOX, Box

Family = str
"""Name of a family, a key of `FAMILIES`: one of the paper's, or one added by `register_family`."""


@dataclass(frozen=True, kw_only=True)
class NerfArchitecture(ABC):
    """Family and sizes of a NeRF. Instances are hashable: equal architectures mean equal tensors and graphs."""

    family: ClassVar[Family]
    display_name: ClassVar[str] = ""
    """What people read for the family; its name where it is left out."""
    encoding_keys: ClassVar[tuple[str, ...]] = ()
    """Keys of the tensors that no other family has, such as planes or tables; a file that has them is of this family."""
    shared_keys: ClassVar[tuple[str, ...]] = ()
    """Keys of the tensors that other families may have too, such as those of a network."""
    empty_keys: ClassVar[tuple[str, ...]] = ()
    """Keys of empty tensors that released files of the family hold beside their own; written so, and ignored when read."""
    view_dependent: ClassVar[bool] = False
    """Whether colours depend on directions; a record then averages them over fixed ones where none are given."""
    fit_rates: ClassVar[Mapping[str, float]] = {}
    """The family's values of `FitSettings.learning_rate` and `FitSettings.encoding_rate` in the presets of a fit."""

    @property
    def box(self) -> Box:
        """Where the NeRF is, world units; outside it the density is zero."""
        return WORLD_BOX

    @property
    @abstractmethod
    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every tensor that a NeRF of this architecture holds, by its key in the file."""

    @abstractmethod
    def query(
        self, tensors: Mapping[str, Tensor], xyz: Tensor, directions: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Colour and density of B NeRFs, differentiable in the coordinates and in the tensors.

        Args:
            tensors: stacked tensors, each ``(B, *tensor_shapes[key])``.
            xyz: world coordinates ``(B, S, 3)``.
            directions: unit vectors from the camera to the points ``(B, S, 3)``, or None where nobody looks; families whose
                colour is the same from everywhere ignore them.

        Returns:
            rgb ``(B, S, 3)`` in 0..1 and density ``(B, S, 1)`` per world unit, zero outside the box; float64 for float64
            coordinates, float32 otherwise.
        """

    @classmethod
    def encoding_sizes(cls, shapes: Mapping[str, tuple[int, ...]]) -> list[dict[str, int]]:
        """The sizes, as keyword arguments, with which the tensors of `encoding_keys` have these shapes; all that fit."""
        return [{}]

    @classmethod
    def candidates(cls, shapes: Mapping[str, tuple[int, ...]]) -> list[NerfArchitecture]:
        """Every architecture among the sizes that are searched whose tensors have these shapes."""
        found = (cls(**sizes) for sizes in cls.encoding_sizes(shapes))
        return [architecture for architecture in found if architecture.tensor_shapes == shapes]

    @property
    def has_graph(self) -> bool:
        """Whether the weights of the family are edges of a parameter graph, which graph encoders read."""
        return type(self).add_blocks is not NerfArchitecture.add_blocks

    def add_blocks(self, builder: GraphBuilder, layout: GraphLayout) -> None:
        """Put the family's nodes and blocks into a builder. Raises `ValueError` for a family that has no parameter graph."""
        raise ValueError(
            f"{self.display_name or self.family} NeRFs have no parameter graph, which a graph encoder reads"
        )

    def training_query(
        self,
        tensors: Mapping[str, Tensor],
        xyz: Tensor,
        directions: Tensor | None = None,
        *,
        frequencies: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """`query` for training: in float32, differentiable in the tensors, by whatever way is fastest.

        Args:
            tensors, xyz, directions: arguments of `query`.
            frequencies: octaves of a frequency encoding that are computed, the weights of the others being zero; None: all.
        """
        return self.query(tensors, xyz.detach(), directions)

    def used_frequencies(self, tensors: Mapping[str, Tensor]) -> int | None:
        """Octaves of its frequency encoding that a NeRF reads, the weights of the others being zero. None: no such encoding."""
        return None

    def initial_tensors(self, *, seed: int, frequencies: int | None = None) -> dict[str, Tensor]:
        """Weights that training starts from, float32 on the CPU; those of octaves from `frequencies` on are zero."""
        generator = torch.Generator().manual_seed(seed)
        return {key: self.initial_tensor(key, generator, frequencies) for key in self.tensor_shapes}

    def initial_tensor(self, key: str, generator: torch.Generator, frequencies: int | None) -> Tensor:
        """One of `initial_tensors`: N(0, 0.001), unless the family says otherwise."""
        return torch.randn(self.tensor_shapes[key], generator=generator) * 1e-3

    @property
    def num_parameters(self) -> int:
        return sum(math.prod(shape) for shape in self.tensor_shapes.values())

    @property
    def name(self) -> str:
        """The paper's name (``"TRI-16W"``), that of a nano one or, for other sizes, a description made of the fields."""
        for name, known in NAMED_ARCHITECTURES.items():
            if known == self:
                return name
        changed = [
            f"{f.name}={getattr(self, f.name)}" for f in dataclasses.fields(self) if getattr(self, f.name) != f.default
        ]
        return f"{self.family}({', '.join(changed)})"

    def to_dict(self) -> dict[str, Any]:
        return {"family": self.family, **dataclasses.asdict(self)}

    def _require_positive(self, *names: str) -> None:
        for name in names:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} of a {self.family} architecture must be a positive integer, got {value!r}")


FAMILIES: dict[Family, type[NerfArchitecture]] = {}
"""The class of each family; `register_family` adds one."""

FAMILY_NAMES: dict[Family, str] = {}
"""The name of each family in tables (the paper's, where it is of the paper), which is also that of its default architecture."""

PAPER_ARCHITECTURES: dict[str, NerfArchitecture] = {}
"""The 13 architectures of the paper's Table 14."""

NANO_ARCHITECTURES: dict[str, NerfArchitecture] = {}
"""Small members of families, of 2,112 to 5,568 weights, for experiments on a CPU. No other sizes that are searched for have
tensors of these shapes, so files of them are recognised."""

NAMED_ARCHITECTURES: dict[str, NerfArchitecture] = {}
"""Those of the paper, nano ones, and the default architectures of other families."""


def register_family(
    cls: type[NerfArchitecture],
    name: str,
    *,
    paper: Mapping[str, NerfArchitecture] | None = None,
    nano: NerfArchitecture | None = None,
) -> None:
    """Make a family known: to files, to detection, to fitting and, by `name`, to commands and tables.

    Args:
        cls: the family. One that derives from another family inherits what that says about itself.
        name: its name in tables, which stands for the architecture `cls()`.
        paper: names and sizes of its architectures in the paper's Table 14.
        nano: a small member, which gets the name ``NAME-nano``.

    Raises:
        ValueError: the family, a name or one of its `encoding_keys` is another's.
    """
    others = [known for family, known in FAMILIES.items() if family != cls.family]
    taken = {key for known in others for key in (*known.shared_keys, *known.encoding_keys)}
    named = {name: cls(), **(paper or {}), **({f"{name}-nano": nano} if nano else {})}
    if FAMILIES.get(cls.family, cls) is not cls:
        raise ValueError(f"family {cls.family!r} is {FAMILIES[cls.family].__name__} already; choose another name")
    if shared := sorted(taken.intersection(cls.encoding_keys)):
        raise ValueError(f"tensor {shared[0]!r} belongs to another family already; choose another key")
    for each, architecture in named.items():
        if NAMED_ARCHITECTURES.get(each, architecture) != architecture:
            raise ValueError(f"{each!r} is the name of another architecture already; choose another name")
    cls.display_name = cls.display_name or cls.family
    FAMILIES[cls.family] = cls
    FAMILY_NAMES[cls.family] = name
    NAMED_ARCHITECTURES.update(named)
    PAPER_ARCHITECTURES.update(paper or {})
    NANO_ARCHITECTURES.update({f"{name}-nano": nano} if nano else {})


def paper_families() -> tuple[Family, ...]:
    """The families of the paper, which encoders train on and objects are fitted in unless others are named."""
    return tuple(dict.fromkeys(architecture.family for architecture in PAPER_ARCHITECTURES.values()))


def family_class(family: object) -> type[NerfArchitecture]:
    """The class of a family. Raises `ValueError` for one that is not registered."""
    if not isinstance(family, str) or family not in FAMILIES:
        raise ValueError(f"unknown family {family!r}; expected one of {', '.join(FAMILIES)}")
    return FAMILIES[family]


def parse_architecture(value: NerfArchitecture | Mapping[str, Any] | str) -> NerfArchitecture:
    """An architecture from itself, from its `to_dict()` form, or from a name: of the paper's Table 14, or of a nano one.

    Raises `ValueError` on an unknown name, family or field and on sizes that make no network.
    """
    if isinstance(value, NerfArchitecture):
        return value
    if isinstance(value, str):
        if value not in NAMED_ARCHITECTURES:
            raise ValueError(
                f"unknown architecture {value!r}; expected one of {', '.join(NAMED_ARCHITECTURES)}, or its sizes"
            )
        return NAMED_ARCHITECTURES[value]
    if not isinstance(value, Mapping):
        raise TypeError(
            f"architecture must be a name, a mapping of sizes or a NerfArchitecture, got {type(value).__name__}"
        )
    sizes = dict(value)
    family = sizes.pop("family", None)
    cls = family_class(family)
    fields = {f.name for f in dataclasses.fields(cls)}
    if unknown := sorted(set(sizes) - fields):
        raise ValueError(
            f"architecture of family {family} has no size {unknown[0]!r}; it has {', '.join(sorted(fields))}"
        )
    return cls(**sizes)


def detect_architecture(shapes: Mapping[str, tuple[int, ...]]) -> NerfArchitecture:
    """The architecture whose tensors have these shapes.

    One of the paper's 13, or of the nano ones, is taken where it fits. Other sizes are searched with the families' own
    encodings (24 or 48 frequencies, 2 features an entry, resolutions 16 to 128), widths 16 to 256 and up to 8 hidden layers.
    Raises `ValueError` that lists what fits when several sizes do, and says what is close when none does.
    """
    expected = {key: tuple(shape) for key, shape in shapes.items()}
    with_encoding = (cls for cls in FAMILIES.values() if cls.encoding_keys and {*cls.encoding_keys} <= {*expected})
    cls = next(with_encoding, None) or next(cls for cls in FAMILIES.values() if not cls.encoding_keys)
    family = cls.family
    for known in NAMED_ARCHITECTURES.values():
        if known.tensor_shapes == expected:
            return known
    candidates = cls.candidates(expected)
    found = ", ".join(f"{key} {list(shape)}" for key, shape in expected.items())
    if not candidates:
        raise ValueError(
            f"no {family} NeRF has {found}; the {family} architectures with names have "
            + "; ".join(
                f"{name}: {', '.join(f'{k} {list(s)}' for k, s in known.tensor_shapes.items())}"
                for name, known in NAMED_ARCHITECTURES.items()
                if known.family == family
            )
            + ". For other encodings pass architecture="
        )
    if len(candidates) > 1:
        listed = "; ".join(candidate.name for candidate in candidates[:12])
        more = f" and {len(candidates) - 12} more" if len(candidates) > 12 else ""
        raise ValueError(
            f"{found} fits several {family} architectures: {listed}{more}; pass architecture= to say which"
        )
    return candidates[0]
