"""What happens on the page: from components' values to a visitor's `Session`, and back.

Every handler is a generator, takes the visitor's session first (None at a first visit) and yields it first; Gradio adds the
request, which says from where the visitor comes. What a visitor did wrong is shown as one sentence without a path of the server;
what this program did wrong is logged, and the visitor is told that it was.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gmn_encoder.extras import require
from gmn_encoder.nerfs.architectures import FAMILIES

from ..inference.honesty import unfamiliar
from .gallery import GalleryEntry
from .state import Service, Session, without_paths
from .suggestions import fitting_question

if TYPE_CHECKING:
    import gradio as gr
else:
    gr = require("gradio", "serve")

logger = logging.getLogger(__name__)

ALL_FAMILIES = "all"
FAMILY_CHOICES = [
    ("All", ALL_FAMILIES),
    *((cls.display_name[0].upper() + cls.display_name[1:], family) for family, cls in FAMILIES.items()),
]

Messages = list[dict[str, Any]]


def in_sentences(handler: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
    """Errors of a handler as sentences on the page, without tracebacks."""

    @functools.wraps(handler)
    def wrapped(*arguments: Any, **keywords: Any) -> Iterator[Any]:
        try:
            yield from handler(*arguments, **keywords)
        except (ValueError, OSError, ImportError) as error:
            if not isinstance(error, ValueError):
                logger.warning("the web page could not do something: %s", error)
            raise gr.Error(without_paths(str(error)), print_exception=False, title="That did not work") from None
        except Exception:
            logger.exception("the web page failed")
            raise gr.Error(
                "Something failed on the server; its log says what.", print_exception=False, title="That did not work"
            ) from None

    return wrapped


class Events:
    """The handlers of one service."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def session(self, session: Session | None, request: gr.Request | None) -> Session:
        """The visitor's; a new visitor begins with the first NeRF of the gallery."""
        if session is None:
            client = getattr(request, "client", None)
            session = self._service.session("" if client is None else str(client.host))
            if session.entries:
                session.choose(session.entries[0].key)
        return session

    @in_sentences
    def arrive(self, session: Session | None, request: gr.Request) -> Iterator[tuple[Any, ...]]:
        """-> session, gallery, first, second"""
        session = self.session(session, request)
        choices = [(entry.title, entry.key) for entry in session.entries]
        first, second = (choices[min(number, len(choices) - 1)][1] if choices else None for number in (0, 1))
        yield (
            session,
            self._tiles(session, ALL_FAMILIES),
            gr.update(choices=choices, value=first),
            gr.update(choices=choices, value=second),
        )

    @in_sentences
    def filter(self, session: Session | None, family: str, request: gr.Request) -> Iterator[tuple[Any, ...]]:
        """-> session, gallery"""
        session = self.session(session, request)
        yield session, gr.update(value=self._tiles(session, family), selected_index=None)

    @in_sentences
    def pick(
        self, session: Session | None, family: str, event: gr.SelectData, request: gr.Request
    ) -> Iterator[tuple[Any, ...]]:
        """-> session, chat"""
        session = self.session(session, request)
        shown = self._shown(session, family)
        if not isinstance(event.index, int) or not 0 <= event.index < len(shown):
            raise ValueError("no such NeRF in the gallery; choose one of those shown")
        session.choose(shown[event.index].key)
        yield session, []

    @in_sentences
    def show(self, session: Session | None, request: gr.Request) -> Iterator[tuple[Any, ...]]:
        """-> session, picture, facts, neighbours; the turning picture follows the still one as soon as it is rendered"""
        session = self.session(session, request)
        if (entry := session.chosen) is None:
            yield session, None, "", []
            return
        facts = describe(entry, unfamiliar(self._service.model.config, entry.architecture))
        near = [
            (str(file), f"{other.caption} · {cosine:.3f}")
            for other, cosine in session.neighbours()
            if (file := session.still(other)) is not None
        ]
        for picture in _pictures(session, entry):
            yield session, picture, facts, near

    @in_sentences
    def suggest(self, session: Session | None, request: gr.Request) -> Iterator[tuple[Any, ...]]:
        """-> session, button with a question that fits the chosen NeRF"""
        session = self.session(session, request)
        entry = session.chosen
        yield session, gr.update(value=fitting_question(entry.class_name if entry else ""))

    @in_sentences
    def ask(
        self, session: Session | None, question: str, messages: Messages, request: gr.Request
    ) -> Iterator[tuple[Any, ...]]:
        """-> session, question, chat"""
        session = self.session(session, request)
        asked = [*(messages or []), {"role": "user", "content": question.strip()}]
        for answer in session.ask(question):
            yield session, "", [*asked, {"role": "assistant", "content": answer}]

    @in_sentences
    def restart(self, session: Session | None, request: gr.Request) -> Iterator[tuple[Any, ...]]:
        """-> session, chat"""
        session = self.session(session, request)
        session.restart()
        yield session, []

    @in_sentences
    def upload(
        self,
        session: Session | None,
        path: str | None,
        family: str,
        first: str | None,
        request: gr.Request,
        progress: Any = gr.Progress(),  # noqa: B008 (Gradio finds it by its default)
    ) -> Iterator[tuple[Any, ...]]:
        """-> session, filter, gallery, chat, first, second"""
        session = self.session(session, request)
        if path is None:
            raise ValueError("no file came; choose one first")

        def step(stage: str, done: int, total: int) -> None:
            what, _, quality = stage.partition(": ")
            progress((done, total), desc=f"Fitting a NeRF, {quality}" if quality.endswith("dB") else what.capitalize())

        progress(0, desc="Reading the file")
        entry = session.upload(Path(path), family=family, progress=step)
        choices = [(each.title, each.key) for each in session.entries]
        yield (
            session,
            ALL_FAMILIES,
            gr.update(value=self._tiles(session, ALL_FAMILIES), selected_index=0),
            [],
            gr.update(choices=choices, value=entry.key),
            gr.update(choices=choices, value=first),
        )

    @in_sentences
    def look(self, session: Session | None, key: str | None, request: gr.Request) -> Iterator[tuple[Any, ...]]:
        """-> session, picture of one of the two that are compared"""
        session = self.session(session, request)
        if key is None:
            yield session, None
            return
        for picture in _pictures(session, session.find(key)):
            yield session, picture

    @in_sentences
    def compare(
        self,
        session: Session | None,
        first: str | None,
        second: str | None,
        question: str,
        both: bool,
        request: gr.Request,
    ) -> Iterator[tuple[Any, ...]]:
        """-> session, answer about the first, about the second, about both"""
        session = self.session(session, request)
        for answers in session.compare(first, second, question, both=both):
            yield session, *answers

    def _shown(self, session: Session, family: str) -> list[GalleryEntry]:
        """Those that have a picture: old uploads make room for others."""
        entries = [entry for entry in session.entries if family in (ALL_FAMILIES, entry.family)]
        return [entry for entry in entries if session.still(entry) is not None]

    def _tiles(self, session: Session, family: str) -> list[tuple[str, str]]:
        return [(str(session.still(entry)), entry.caption) for entry in self._shown(session, family)]


def _pictures(session: Session, entry: GalleryEntry) -> Iterator[str | None]:
    """The still, at once, and the turntable that takes its place."""
    if not session.is_turning(entry) and (still := session.still(entry)) is not None:
        yield str(still)
    turning = session.turntable(entry)
    yield None if turning is None else str(turning)


def describe(entry: GalleryEntry, note: str | None = None) -> str:
    """A line about a NeRF, Markdown, a note of another, and what is to be said about what it was fitted to."""
    line = (
        f"**{markdown_text(entry.name)}** · {entry.family_name} NeRF, {entry.architecture.num_parameters:,} weights, "
        "read by the model without rendering"
    )
    read = [each.partition("; --")[0] for each in entry.notes]  # which option overrides is for the command line
    return "  \n".join([line, *([markdown_text(note)] if note else []), *map(markdown_text, read)])


def markdown_text(text: str) -> str:
    """Text as Markdown that shows it as it is: names of uploads are the visitors'."""
    return "".join(
        f"\\{character}" if not character.isalnum() and character.isascii() and character != " " else character
        for character in text
    )
