"""Reader of ShapeNeRF-Text: conversations about objects, in the released JSON.

Source: docs/released_format.md#shapenerf-text. A file is a list of ``{"object_id", "conversation_type", "conversations":
[message, ...]}`` with messages ``{"from": "human" | "gpt", "value"}``; the first human value starts with the placeholder
``<point>`` and a newline. Of hundreds of thousands of entries some are not so: those that cannot be used are listed with file and
index, those that LLaNA's loader takes as they are (`ODD`) are kept, and counted. None vanishes in silence.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gmn_encoder.files import StrPath

from ..prompts.chat_template import PLACEHOLDER, PLACEHOLDERS

CONVERSATION_TYPES = ("brief_description", "detailed_description", "single_round", "multi_round")
"""What stands in ``conversation_type``: the first in the brief file, the others in the complex one."""

BRIEF_NAME = "conversations_brief.json"
COMPLEX_NAME = "conversations_complex.json"
HST_NAME = "hst_dataset_filtered.json"
HST = "hst"

ODD = (
    "a placeholder without newline",
    "a placeholder in mid-text",
    "a placeholder in a later turn",
    "several placeholders",
    "an answer first",
)
"""Kinds of entries that are kept. LLaNA's loader puts the object where each ``<point>`` of a question stands, and adds no newline
(docs/released_format.md#prompt). An answer before any question is dropped, as in LLaVA's loader, from which it comes."""

_SHOWN = 5

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Conversation:
    """Questions and answers about one object.

    Attributes:
        object_id: the object's name.
        conversation_type: one of `CONVERSATION_TYPES`, or `HST`.
        turns: ``(question, answer)`` each, as they stand in the file; but the one placeholder of a conversation, where it stands
            as it should, is taken off the first question together with its newline.
        has_placeholder: whether the conversation shows its object: there, or where placeholders stand in the questions.
        index: place in the file.
        odd: what is unusual about it, some of `ODD`.
    """

    object_id: str
    conversation_type: str
    turns: tuple[tuple[str, str], ...]
    has_placeholder: bool = True
    index: int = 0
    odd: tuple[str, ...] = ()


@dataclass(frozen=True)
class Problem:
    """An entry that was left out, or used though it is unusual, and why.

    Attributes:
        path, index: file and place of the entry, counted from 0.
        kind: a few words, the same for all such entries: what `Conversations.counts` counts.
        message: the whole sentence.
        left_out: whether the entry was left out.
    """

    path: str
    index: int
    kind: str
    message: str
    left_out: bool = True

    def __str__(self) -> str:
        return f"{self.path}: entry {self.index}: {self.message}"


class Conversations(list[Conversation]):
    """The good entries of a file, in its order, and what was wrong with the others.

    Attributes:
        path: the file.
        problems: what is wrong with each entry that was left out.
    """

    def __init__(self, path: str, conversations: Iterable[Conversation] = (), problems: Iterable[Problem] = ()) -> None:
        super().__init__(conversations)
        self.path = path
        self.problems = tuple(problems)

    @property
    def counts(self) -> dict[str, int]:
        """How many entries were left out for each kind of problem."""
        return dict(Counter(problem.kind for problem in self.problems))

    @property
    def odd(self) -> dict[str, int]:
        """How many conversations are unusual in which way, some of `ODD`."""
        return dict(Counter(kind for each in self for kind in each.odd))

    def summary(self) -> str:
        """One sentence: how many entries were read, how many left out and why."""
        text = f"{self.path}: {len(self)} conversations"
        if not self.problems:
            return text
        kinds = ", ".join(f"{count} with {kind}" for kind, count in sorted(self.counts.items()))
        return f"{text}, {len(self.problems)} entries left out ({kinds})"


def read_conversations(
    path: StrPath,
    *,
    types: Collection[str] | None = None,
    default_type: str | None = None,
    strict: bool = False,
) -> Conversations:
    """The conversations of a file.

    Args:
        path: the JSON file.
        types: allowed types; None for `CONVERSATION_TYPES` and `default_type`.
        default_type: type of entries that do not name theirs (`HST`); None: they must.
        strict: whether to raise where any entry is malformed.

    Returns:
        a list of `Conversation` that also holds the problems. A warning is logged where there are any, and one for each way in
        which conversations are unusual.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not such a file, or cut short; with `strict`, any malformed entry.
    """
    path = Path(path)
    entries = _read_list(path)
    allowed = set(types) if types is not None else {*CONVERSATION_TYPES, *([default_type] if default_type else [])}
    good, problems = [], []
    for index, entry in enumerate(entries):
        try:
            good.append(_conversation(entry, index, allowed, default_type))
        except _Malformed as error:
            problems.append(Problem(str(path), index, error.kind, str(error)))
    found = Conversations(str(path), good, problems)
    if problems:
        shown = "; ".join(f"entry {problem.index}: {problem.message}" for problem in problems[:_SHOWN])
        if len(problems) > _SHOWN:
            shown += f"; and {len(problems) - _SHOWN} more"
        if strict:
            raise ValueError(f"{found.summary()}: {shown}; correct the file, or read it without strict")
        logger.warning("%s: %s", found.summary(), shown)
    for kind, count in found.odd.items():
        logger.warning("%s: %d dialogues with %s; kept, as LLaNA's loader does", path, count, kind)
    return found


def conversation_file(root: StrPath, conversation_type: str, *, split: str = "test") -> Path:
    """The file under a data set's root that holds a type: ``<root>/<split>/texts/...`` as released, or the same under
    ``<root>/language`` as a fit writes it; the human-written descriptions (`HST`) stand in the root.

    Raises:
        ValueError: an unknown type.
        FileNotFoundError: no such file; its message says where it was looked for.
    """
    if conversation_type not in (*CONVERSATION_TYPES, HST):
        raise ValueError(
            f"conversation type {conversation_type!r} is unknown; expected one of {', '.join([*CONVERSATION_TYPES, HST])}"
        )
    name = BRIEF_NAME if conversation_type == "brief_description" else COMPLEX_NAME
    folders = [Path(root), Path(root, "language")]
    candidates = [
        folder / HST_NAME if conversation_type == HST else folder / split / "texts" / name for folder in folders
    ]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise FileNotFoundError(
        f"{candidates[0]}: no such file, nor {candidates[1]}; expected the texts of ShapeNeRF-Text, "
        "or of 'llana-gmn fit procedural:N --out DIR'"
    )


class _Malformed(ValueError):
    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def _read_list(path: Path) -> list[Any]:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file; expected a JSON list of conversations") from None
    except OSError as error:
        raise OSError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: is no JSON, or cut short ({error}); fetch it again") from error
    if not isinstance(content, list):
        raise ValueError(f"{path}: holds a JSON {type(content).__name__}; expected a list of conversations")
    return content


def _conversation(entry: Any, index: int, allowed: Collection[str], default_type: str | None) -> Conversation:
    if not isinstance(entry, dict):
        raise _Malformed(
            "no object", f"is a {type(entry).__name__}; expected an object with object_id and conversations"
        )
    object_id = entry.get("object_id")
    if not isinstance(object_id, str) or not object_id.strip():
        raise _Malformed("no object_id", f"object_id is {_short(object_id)}; expected a name")
    # The id becomes part of paths: vecs/<object_id>.npy.
    if object_id.startswith("/") or "\\" in object_id or "\0" in object_id or ".." in object_id.split("/"):
        raise _Malformed(
            "an unsafe object_id", f"object_id is {_short(object_id)}; expected a name without .. or a root"
        )
    kind = entry.get("conversation_type")
    kind = default_type if kind is None else kind
    if not isinstance(kind, str) or kind not in allowed:
        raise _Malformed(
            "an unknown conversation_type",
            f"conversation_type is {_short(kind)}; expected one of {', '.join(sorted(allowed))}",
        )
    values, odd = _values(entry.get("conversations"))
    questions, answers = values[::2], values[1::2]
    places = [len(PLACEHOLDER.findall(question)) for question in questions]
    if sum(places) == 1 and questions[0].startswith(tuple(f"{each}\n" for each in PLACEHOLDERS)):
        questions[0] = questions[0].partition("\n")[2]
    else:
        odd += _placement(questions[0], places)
    return Conversation(object_id, kind, tuple(zip(questions, answers, strict=True)), any(places), index, tuple(odd))


def _placement(first: str, places: Sequence[int]) -> list[str]:
    """What is unusual about where the placeholders of a conversation stand, of its questions so many in each."""
    found = PLACEHOLDER.search(first)
    unusual = {
        "a placeholder without newline": found and not found.start() and not first.startswith("\n", found.end()),
        "a placeholder in mid-text": found and found.start(),
        "a placeholder in a later turn": any(places[1:]),
        "several placeholders": sum(places) > 1,
    }
    return [kind for kind in ODD if unusual.get(kind)]


def _values(messages: Any) -> tuple[list[str], list[str]]:
    """Questions and answers in turn, and whether there was an answer before them."""
    if not isinstance(messages, list) or not messages:
        raise _Malformed("no conversations", f"conversations is {_short(messages)}; expected a list of messages")
    values: list[str] = []
    odd = []
    if len(messages) > 1 and isinstance(messages[0], dict) and messages[0].get("from") == "gpt":
        messages, odd = messages[1:], ["an answer first"]
    for place, message in enumerate(messages):
        speaker = ("human", "gpt")[place % 2]
        if not isinstance(message, dict) or message.get("from") != speaker:
            found = message.get("from") if isinstance(message, dict) else message
            raise _Malformed("speakers out of turn", f"message {place} is from {_short(found)}; expected {speaker!r}")
        value = message.get("value")
        if not isinstance(value, str):
            raise _Malformed(
                "a message without text", f"the value of message {place} is {_short(value)}; expected text"
            )
        values.append(value)
    if len(values) % 2:
        raise _Malformed(
            "an odd number of messages", f"has {len(values)} messages; expected an answer to every question"
        )
    for place, value in enumerate(values):
        if not PLACEHOLDER.sub("", value).strip():
            raise _Malformed("an empty message", f"message {place} is empty; expected text")
        if place % 2 and (found := PLACEHOLDER.search(value)):
            raise _Malformed(
                "a misplaced placeholder", f"answer {place // 2} has {found.group()} in it; expected it in a question"
            )
    return values, odd


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
