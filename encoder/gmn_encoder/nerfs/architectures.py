"""The families of NeRF architecture: which tensors a NeRF of given sizes holds, and which sizes given tensors mean.

Sources: the paper, Table 14 (the 13 architectures) and FORMATS.md section 1.3 (flat tensors, padding). A NeRF stores

* ``mlp_base.params`` ``(P,)``: the weight matrices one after the other, input layer first, each row-major ``(out, in)``;
* ``triplane`` ``(3, R, R, C)`` (tri-plane family): plane, row, column, channel;
* ``encoding.params`` ``(sum of entries x F,)`` (hash family): level by level, entry by entry, feature by feature;
* ``mlp_base.biases`` ``(hidden_layers * W + 16,)``: only networks with biases, which the released data has none of.

"Hidden layers" counts hidden activations, as the paper does; there is one matrix more. Input widths are padded to a
multiple of 16 and the output always has 16 rows: rgb logits, density logit, twelve unused.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

Family = str
"""Name of a family, a key of `FAMILIES`: "mlp", "triplane", "hash", or one added by `register_family`."""

MLP_KEY = "mlp_base.params"
BIAS_KEY = "mlp_base.biases"
TRIPLANE_KEY = "triplane"
HASH_KEY = "encoding.params"

OUTPUT_ROWS = 16
"""Rows of the last matrix: 3 rgb logits, 1 density logit and 12 unused (tiny-cuda-nn pads outputs to 16)."""

# Where sizes are searched for; beyond these, `architecture=` must say them.
_WIDTHS = (16, 32, 64, 128, 256)
_MAX_HIDDEN_LAYERS = 8
_MAX_LEVELS = 16
_LOG2_TABLE_SIZES = range(8, 25)


def pad16(width: int) -> int:
    """The next multiple of 16, to which tiny-cuda-nn pads the input of a network."""
    return -(-width // 16) * 16


def _require_positive(architecture: NerfArchitecture, *names: str) -> None:
    for name in names:
        value = getattr(architecture, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(
                f"{name} of a {architecture.family} architecture must be a positive integer, got {value!r}"
            )


@dataclass(frozen=True, kw_only=True)
class NerfArchitecture:
    """Sizes that all families share. Instances are hashable: equal architectures mean equal tensors and graphs."""

    family: ClassVar[Family]
    activation: ClassVar[Literal["relu", "sine"]]
    encoding_keys: ClassVar[tuple[str, ...]] = ()
    """Keys of the tensors beside the network, such as planes or tables; a file that has them is of this family."""

    hidden_layers: int = 3
    hidden_dim: int = 64
    bias: bool = False

    def __post_init__(self) -> None:
        _require_positive(self, "hidden_layers", "hidden_dim")

    @property
    def encoding_dim(self) -> int:
        """Width of what the coordinates are turned into before the first matrix, unpadded."""
        known = ", ".join(cls.__name__ for cls in FAMILIES.values())
        raise TypeError(f"{type(self).__name__} is not a family, it has no encoding_dim; use {known}")

    @property
    def input_dim(self) -> int:
        """Columns of the first matrix: `encoding_dim` padded to a multiple of 16 with constant ones."""
        return pad16(self.encoding_dim)

    @property
    def layer_shapes(self) -> tuple[tuple[int, int], ...]:
        """``(out, in)`` of every matrix, input layer first."""
        hidden = [(self.hidden_dim, self.hidden_dim)] * (self.hidden_layers - 1)
        return ((self.hidden_dim, self.input_dim), *hidden, (OUTPUT_ROWS, self.hidden_dim))

    @property
    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every tensor that a NeRF of this architecture holds, by its key in the file."""
        shapes: dict[str, tuple[int, ...]] = {MLP_KEY: (sum(out * width for out, width in self.layer_shapes),)}
        if self.bias:
            shapes[BIAS_KEY] = (sum(out for out, _ in self.layer_shapes),)
        return shapes

    @classmethod
    def encoding_sizes(cls, shapes: Mapping[str, tuple[int, ...]]) -> list[dict[str, int]]:
        """The sizes, as keyword arguments, with which the tensors of `encoding_keys` have these shapes; all that fit."""
        return [{}]

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


@dataclass(frozen=True, kw_only=True)
class MlpArchitecture(NerfArchitecture):
    """Frequency encoding, then a ReLU network (nf2vec's NeRFs)."""

    family: ClassVar[Family] = "mlp"
    activation: ClassVar[Literal["relu", "sine"]] = "relu"

    frequencies: int = 24

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_positive(self, "frequencies")

    @property
    def encoding_dim(self) -> int:
        return 6 * self.frequencies


@dataclass(frozen=True, kw_only=True)
class TriplaneArchitecture(NerfArchitecture):
    """Frequency encoding beside the summed features of three planes, then a sine network (Cardace et al.)."""

    family: ClassVar[Family] = "triplane"
    activation: ClassVar[Literal["relu", "sine"]] = "sine"
    encoding_keys: ClassVar[tuple[str, ...]] = (TRIPLANE_KEY,)

    frequencies: int = 48
    resolution: int = 32
    channels: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_positive(self, "frequencies", "channels")
        if not isinstance(self.resolution, int) or self.resolution < 2:
            raise ValueError(
                f"resolution of a triplane architecture must be an integer of at least 2, got {self.resolution!r}"
            )

    @property
    def encoding_dim(self) -> int:
        return 6 * self.frequencies + self.channels

    @property
    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        return {**super().tensor_shapes, TRIPLANE_KEY: (3, self.resolution, self.resolution, self.channels)}

    @classmethod
    def encoding_sizes(cls, shapes: Mapping[str, tuple[int, ...]]) -> list[dict[str, int]]:
        planes = shapes[TRIPLANE_KEY]
        if len(planes) != 4 or planes[0] != 3 or planes[1] != planes[2] or planes[1] < 2 or planes[3] < 1:
            return []
        return [{"resolution": planes[1], "channels": planes[3]}]


@dataclass(frozen=True, kw_only=True)
class HashArchitecture(NerfArchitecture):
    """Multi-resolution hash grid, then a ReLU network (Müller et al., with tiny-cuda-nn's conventions)."""

    family: ClassVar[Family] = "hash"
    activation: ClassVar[Literal["relu", "sine"]] = "relu"
    encoding_keys: ClassVar[tuple[str, ...]] = (HASH_KEY,)

    levels: int = 4
    log2_table_size: int = 12
    features_per_entry: int = 2
    base_resolution: int = 16
    max_resolution: int = 128

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_positive(self, "levels", "log2_table_size", "features_per_entry", "base_resolution", "max_resolution")
        if self.log2_table_size > 28:
            raise ValueError(f"log2_table_size of a hash architecture must be at most 28, got {self.log2_table_size}")
        if self.max_resolution < self.base_resolution:
            raise ValueError(
                f"max_resolution of a hash architecture must be at least base_resolution, "
                f"got {self.max_resolution} below {self.base_resolution}"
            )

    @property
    def encoding_dim(self) -> int:
        return self.levels * self.features_per_entry

    @property
    def level_scales(self) -> tuple[float, ...]:
        """Grid scale of each level, computed in float32 as tiny-cuda-nn does (FORMATS.md section 2.4)."""
        if self.levels == 1:
            return (float(self.base_resolution - 1),)
        growth = np.float32(math.exp(math.log(self.max_resolution / self.base_resolution) / (self.levels - 1)))
        log2_growth = np.log2(growth, dtype=np.float32)
        levels = np.arange(self.levels, dtype=np.float32)
        scales = np.exp2(levels * log2_growth, dtype=np.float32) * np.float32(self.base_resolution) - np.float32(1)
        return tuple(float(scale) for scale in scales)

    @property
    def level_resolutions(self) -> tuple[int, ...]:
        """Vertices per axis of each level."""
        return tuple(math.ceil(scale) + 1 for scale in self.level_scales)

    @property
    def level_entries(self) -> tuple[int, ...]:
        """Entries stored for each level: the dense count rounded up to 8, capped by the table size."""
        return tuple(min(-(-(r**3) // 8) * 8, 2**self.log2_table_size) for r in self.level_resolutions)

    @property
    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        return {**super().tensor_shapes, HASH_KEY: (sum(self.level_entries) * self.features_per_entry,)}

    @classmethod
    def encoding_sizes(cls, shapes: Mapping[str, tuple[int, ...]]) -> list[dict[str, int]]:
        found = []
        for levels in range(1, _MAX_LEVELS + 1):
            # Past the size at which every level is stored densely, a larger table changes nothing: the first one stands for all.
            sizes = {cls(levels=levels, log2_table_size=t).level_entries: t for t in reversed(_LOG2_TABLE_SIZES)}
            found += [
                {"levels": levels, "log2_table_size": t} for e, t in sizes.items() if (2 * sum(e),) == shapes[HASH_KEY]
            ]
        return found


FAMILIES: dict[Family, type[NerfArchitecture]] = {}
"""The class of each family; `register_family` adds one."""

FAMILY_NAMES: dict[Family, str] = {}
"""The paper's name of each family, which is also that of the architecture that encoders train on."""

PAPER_ARCHITECTURES: dict[str, NerfArchitecture] = {
    "MLP": MlpArchitecture(),
    "MLP-2L": MlpArchitecture(hidden_layers=2),
    "MLP-32H": MlpArchitecture(hidden_dim=32),
    "TRI": TriplaneArchitecture(),
    "TRI-2L": TriplaneArchitecture(hidden_layers=2),
    "TRI-32H": TriplaneArchitecture(hidden_dim=32),
    "TRI-16W": TriplaneArchitecture(resolution=16),
    "TRI-8C": TriplaneArchitecture(channels=8),
    "HASH": HashArchitecture(),
    "HASH-2L": HashArchitecture(hidden_layers=2),
    "HASH-32H": HashArchitecture(hidden_dim=32),
    "HASH-3N": HashArchitecture(levels=3),
    "HASH-11T": HashArchitecture(log2_table_size=11),
}
"""The 13 architectures of the paper's Table 14."""

NANO_ARCHITECTURES: dict[str, NerfArchitecture] = {
    "MLP-nano": MlpArchitecture(hidden_layers=2, hidden_dim=24, frequencies=8),
    "TRI-nano": TriplaneArchitecture(hidden_layers=2, hidden_dim=24, frequencies=8, resolution=16, channels=4),
    "HASH-nano": HashArchitecture(
        hidden_layers=2, hidden_dim=24, levels=3, log2_table_size=9, base_resolution=8, max_resolution=32
    ),
}
"""Small members of the three families, of 2,112 to 5,568 weights, for experiments on a CPU. No other sizes that are searched for
have tensors of these shapes, so files of them are recognised."""

NAMED_ARCHITECTURES: dict[str, NerfArchitecture] = {**PAPER_ARCHITECTURES, **NANO_ARCHITECTURES}


def register_family(cls: type[NerfArchitecture], name: str) -> None:
    """Make a family known: to files, to detection, and by `name`, which stands for the architecture `cls()`, to commands.

    Its field and its graph are registered with `fields.point_features` and `graph.add_blocks`; docs/new-family.md has it all. A
    family derives from `NerfArchitecture`: one that derives from another family would inherit what is registered for that.
    Raises `ValueError` where the family, the name or one of its `encoding_keys` is another's.
    """
    others = [known for family, known in FAMILIES.items() if family != cls.family]
    taken = {MLP_KEY, BIAS_KEY, *(key for known in others for key in known.encoding_keys)}
    if FAMILIES.get(cls.family, cls) is not cls:
        raise ValueError(f"family {cls.family!r} is {FAMILIES[cls.family].__name__} already; choose another name")
    if shared := sorted(taken.intersection(cls.encoding_keys)):
        raise ValueError(f"tensor {shared[0]!r} belongs to another family already; choose another key")
    if NAMED_ARCHITECTURES.get(name, cls()) != cls():
        raise ValueError(f"{name!r} is the name of another architecture already; choose another name")
    FAMILIES[cls.family] = cls
    FAMILY_NAMES[cls.family] = name
    NAMED_ARCHITECTURES.setdefault(name, cls())


register_family(MlpArchitecture, "MLP")
register_family(TriplaneArchitecture, "TRI")
register_family(HashArchitecture, "HASH")


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
    if not isinstance(family, str) or family not in FAMILIES:
        raise ValueError(f"architecture has family {family!r}; expected one of {', '.join(FAMILIES)}")
    cls = FAMILIES[family]
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
    expected = {key: tuple(shape) for key, shape in shapes.items() if not (key == HASH_KEY and math.prod(shape) == 0)}
    with_encoding = (
        name for name, cls in FAMILIES.items() if cls.encoding_keys and {*cls.encoding_keys} <= {*expected}
    )
    family = next(with_encoding, MlpArchitecture.family)
    for known in NAMED_ARCHITECTURES.values():
        if known.tensor_shapes == expected:
            return known
    candidates = [c for c in _candidates(family, expected) if c.tensor_shapes == expected]
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


def _candidates(family: Family, shapes: Mapping[str, tuple[int, ...]]) -> list[NerfArchitecture]:
    """Every architecture in the searched range whose spatial tensors and number of MLP weights agree with `shapes`."""
    bias = BIAS_KEY in shapes
    cls = FAMILIES[family]
    return [
        cls(**sizes, hidden_layers=layers, hidden_dim=width, bias=bias)
        for sizes in cls.encoding_sizes(shapes)
        for width in _WIDTHS
        for layers in range(1, _MAX_HIDDEN_LAYERS + 1)
        if cls(**sizes, hidden_layers=layers, hidden_dim=width, bias=bias).tensor_shapes[MLP_KEY] == shapes.get(MLP_KEY)
    ]
