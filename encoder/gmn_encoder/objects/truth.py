"""What is known and measured of an object, and nothing else: what language says of it, and what answers are marked by."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..nerfs.recolouring import Recolouring
from ..settings import convert
from .colour_names import MEAN_LIGHT, basic_colour, clear_colour_name
from .names import ObjectName
from .procedural.catalogue import ProceduralObject
from .procedural.materials import COLOURS

COUNTED = (
    "legs", "wheels", "castors", "armrests", "doors", "drawers", "seat cushions", "pillows", "engines", "masts", "sails",
)  # fmt: skip
"""Parts of procedural objects whose number a reader would count as it was made."""

MAIN_MARGIN = 0.8
"""A second colour of at least this share of the first is a main colour too."""

_TALL, _FLAT, _LONG, _COMPACT = 1.6, 0.5, 1.8, 1.35


@dataclass(frozen=True)
class ObjectTruth:
    """The truth of one object.

    Attributes:
        class_id, nerf_id: the directories of its NeRFs.
        kind: "procedural", or "real" for one that other people made.
        name: what it is called.
        colours: colour name -> share of the visible surface, the largest first.
        extents: sides of its box along x, y and z (up), the longest 1.
        symmetric: whether its halves mirror each other; None where that is hard to say.
        counts: part -> how many it has; only parts that are known and counted.
        surfaces: part -> how its surface is named; only of parts that are known.
        recolouring: the number of the `Recolouring` that its NeRFs are shown in.
    """

    class_id: str
    nerf_id: str
    kind: str
    name: ObjectName
    colours: Mapping[str, float]
    extents: tuple[float, float, float]
    symmetric: bool | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    surfaces: Mapping[str, str] = field(default_factory=dict)
    recolouring: int = 0

    @property
    def basic_colours(self) -> dict[str, float]:
        """Basic colour -> share, the largest first."""
        shares: dict[str, float] = {}
        for name, share in self.colours.items():
            shares[basic_colour(name)] = shares.get(basic_colour(name), 0.0) + share
        return dict(sorted(shares.items(), key=lambda item: (-item[1], item[0])))

    @property
    def main_colours(self) -> tuple[str, ...]:
        """The basic colour with the largest share, and those that have nearly as much (`MAIN_MARGIN`)."""
        shares = self.basic_colours
        most = max(shares.values())
        return tuple(name for name, share in shares.items() if share >= MAIN_MARGIN * most)

    def shade(self, basic: str) -> str:
        """How that basic colour is best called on this object: its largest shade."""
        return next(name for name in self.colours if basic_colour(name) == basic)

    @property
    def proportions(self) -> str:
        """ "tall", "flat", "long" or "compact" where it clearly is; else ""."""
        x, y, z = self.extents
        wide, deep = max(x, y), min(x, y)
        if z >= _TALL * wide:
            return "tall"
        if z <= _FLAT * deep:
            return "flat"
        if wide >= _LONG * deep and wide >= _COMPACT * z:
            return "long"
        return "compact" if max(self.extents) <= _COMPACT * min(self.extents) else ""

    @property
    def taller(self) -> bool | None:
        """Whether it is taller than it is wide; None where it is about the same."""
        wide = max(self.extents[:2])
        ratio = self.extents[2] / wide
        return True if ratio > 1.2 else False if ratio < 1 / 1.2 else None

    def to_dict(self) -> dict[str, Any]:
        """JSON values, with what follows from them."""
        values = dataclasses.asdict(self)
        values["colours"] = {name: round(share, 4) for name, share in self.colours.items()}
        return values | {"main_colours": list(self.main_colours), "proportions": self.proportions}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ObjectTruth:
        """The inverse of `to_dict`. Raises `ValueError` for values that are no truth."""
        names = {each.name for each in dataclasses.fields(cls)}
        return cls(**convert(cls, {key: value for key, value in values.items() if key in names}))


def known_parts(subject: ProceduralObject, *, looks: bool = True) -> dict[str, Any]:
    """The `counts` and `surfaces` of a procedural object's truth; without `looks`, no surfaces."""
    counts = {label: subject.counts[label] for label in COUNTED if _is_countable(subject, label)}
    return {"counts": counts, "surfaces": dict(subject.surfaces) if looks else {}}


def _is_countable(subject: ProceduralObject, label: str) -> bool:
    count = subject.counts.get(label, 0)
    return count == 2 if label == "armrests" else 2 <= count <= 12


def twin_id(nerf_id: str, recolouring: int) -> str:
    """The directory of an object's NeRFs in other colours: ``chair-000000012_c17``."""
    return f"{nerf_id}_c{recolouring:02d}" if recolouring else nerf_id


def recoloured_subject(subject: ProceduralObject, recolouring: Recolouring) -> ProceduralObject:
    """What may be said of a procedural object whose NeRFs are recoloured: its mesh and its parts stay, their looks change.

    A surface whose new colour falls between two names is left out, as is everything that speaks of it.
    """
    names = {name: _recoloured_name(name, recolouring) for name in COLOURS}

    def renamed(look: str) -> str | None:
        found = [m.group() for m in _COLOUR.finditer(look)]
        new = [names[each] for each in found]
        if None in new or len({basic_colour(str(each)) for each in new}) < len({basic_colour(each) for each in found}):
            return None
        replaced = iter(new)
        return _COLOUR.sub(lambda _: str(next(replaced)), look)

    looks = {label: renamed(look) for label, look in subject.surfaces.items()}
    surfaces = {label: look for label, look in looks.items() if look is not None}
    parameters = {
        key: renamed(value) if isinstance(value, str) and value in COLOURS else value
        for key, value in subject.parameters.items()
    }
    return dataclasses.replace(
        subject,
        surfaces=surfaces,
        parameters={key: value for key, value in parameters.items() if value is not None},
        colours={label: tuple(_COLOUR.findall(look)) for label, look in surfaces.items()},
    )


def _recoloured_name(name: str, recolouring: Recolouring) -> str | None:
    seen = recolouring.colours(np.array(COLOURS[name], np.float64) / 255 * MEAN_LIGHT)
    return clear_colour_name((seen / MEAN_LIGHT).clip(0, 1))


_COLOUR = re.compile(r"\b(?:" + "|".join(sorted(COLOURS, key=len, reverse=True)) + r")\b")
