"""What a model says about objects that somebody brings: meshes, photographs, fields of other programs; beside the truth.

    python scripts/user_objects.py --root DIR

Each source is fitted as `caption` and `chat` fit it, described, and asked about in one conversation. The list is JSON, an entry a
source: ``source`` (below ``--root``), ``up`` (as ``--up`` has it, where the file misleads), ``names`` (words that name it),
``category`` (whose words are right too, where it has one), ``colours`` (main colours) and ``is_not`` (what nobody takes it for).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gmn_encoder.files import StrPath
from gmn_encoder.fitting.fit_cache import FitCache
from gmn_encoder.fitting.output import fit_notes
from gmn_encoder.fitting.placement import PlacementRequest, direction
from gmn_encoder.nerfs.architectures import FAMILY_NAMES
from gmn_encoder.nerfs.families import DEFAULT_FAMILY
from gmn_encoder.objects.colour_names import basic_colour
from gmn_encoder.objects.names import with_article
from gmn_encoder.objects.procedural.materials import COLOURS
from gmn_encoder.progress import Progress, no_progress
from gmn_encoder.settings import convert
from llana_gmn.checkpoints.loading import load_model
from llana_gmn.default.objects import default_model_path
from llana_gmn.inference.caption import converse

from ..tables import Cell, Table
from .marking import is_right

DESCRIBE = "Describe this object briefly."
_BASIC = {basic_colour(name) for name in COLOURS}


@dataclass(frozen=True)
class UserObject:
    """An entry of the list; attributes as the module says."""

    source: str
    names: tuple[str, ...]
    colours: tuple[str, ...]
    is_not: str
    category: str = ""
    up: str = ""

    def __post_init__(self) -> None:
        if unknown := [each for each in self.colours if each not in _BASIC]:
            raise ValueError(f"{self.source}: {unknown[0]!r} is no basic colour; expected such as red or grey")
        if not self.names or not self.colours:
            raise ValueError(f"{self.source}: has no names or no colours; expected what right answers say")

    @property
    def chat(self) -> list[tuple[str, str, Sequence[str]]]:
        """What is asked in one conversation: kind of question, question, and what a right answer says."""
        return [
            ("name", "What is this object?", self.names),
            ("main colour", "What is its main colour?", self.colours),
            ("yes or no", f"Is it {with_article(self.names[0])}?", ("yes",)),
            ("yes or no", f"Is it {with_article(self.is_not)}?", ("no",)),
        ]


def read_user_objects(path: StrPath) -> list[UserObject]:
    """The entries of a list. Raises `FileNotFoundError`, and `ValueError` for what is no such list."""
    try:
        entries = json.loads(Path(path).read_text(encoding="utf-8"))
        return [UserObject(**convert(UserObject, each)) for each in entries]
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file; expected a JSON list of objects") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: is no list of objects ({error})") from error


@dataclass(frozen=True, kw_only=True)
class UserObjects:
    """What is asked, and about what.

    Attributes:
        root: directory below which the sources are.
        objects: the JSON list.
        model: directory of the model; None for the one that ships.
        families: directories of the families that sources are fitted in.
        quality: preset of the fits.
        cache: where fits are kept; None for the user's cache directory.
        new_tokens: longest answer.
    """

    root: Path
    objects: Path = Path("scripts/recipes/user_objects.json")
    model: Path | None = None
    families: Sequence[str] = (DEFAULT_FAMILY,)
    quality: str = "nano"
    cache: Path | None = None
    new_tokens: int = 48


def ask_about_objects(options: UserObjects, *, progress: Progress = no_progress) -> Table:
    """Fit, ask and mark.

    Raises:
        FileNotFoundError, ValueError: a list, a source or a model that is missing or broken; what a fit refuses.
    """
    listed = read_user_objects(options.objects)
    about, nerfs, notes = [], [], []
    for each in listed:
        placement = PlacementRequest(up=direction(each.up)) if each.up else None
        fits: dict[str, Any] = {"families": options.families, "quality": options.quality, "placement": placement}
        cache = FitCache(options.cache, progress=progress, **fits)
        for family, nerf in cache.nerfs(options.root / each.source).items():
            about.append((each, FAMILY_NAMES[family]))
            nerfs.append(nerf)
            notes.append(fit_notes(nerf))
    model, processor = load_model(options.model or default_model_path())
    answering: dict[str, Any] = {"max_new_tokens": options.new_tokens, "placeholders": False}
    described = [text for _, (text,) in converse(model, processor, nerfs, [[DESCRIBE]] * len(nerfs), **answering)]
    asked = [[question for _, question, _ in each.chat] for each, _ in about]
    said = [texts for _, texts in converse(model, processor, nerfs, asked, **answering)]
    rows: list[Sequence[Cell]] = []
    right: list[bool] = []
    for (each, family), caption, texts in zip(about, described, said, strict=True):
        answers = [("name", DESCRIBE, each.names), *each.chat]
        for (kind, question, expected), text in zip(answers, [caption, *texts], strict=True):
            right.append(is_right(kind, expected, text, category=each.category or each.names[0]))
            shown = [each.source, family] if question == DESCRIBE else ["", ""]
            rows.append([*shown, question, " or ".join(expected), text, "right" if right[-1] else "wrong"])
    remarks = [f"{each.source}: {'; '.join(found)}." for (each, _), found in zip(about, notes, strict=True) if found]
    note = " ".join([f"{sum(right)} of {len(right)} answers are right.", *remarks])
    return Table(
        "Objects that somebody brings", ["source", "as", "question", "truth", "answer", "marked"], rows, note=note
    )
