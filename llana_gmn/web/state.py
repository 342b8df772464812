"""What visitors share and what each has alone.

`Service` holds the model, the gallery and a temporary folder; `Session` one visitor's choice, uploads and conversation. Both are
plain Python: the page only shows them. One answer is generated at a time, whoever asks.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from gmn_encoder.fitting.single import fit_object
from gmn_encoder.nerfs.families import DEFAULT_FAMILY
from gmn_encoder.progress import Progress, no_progress

from ..chat import ChatSession
from ..modeling import LlanaGmnForConditionalGeneration
from ..processing import LlanaGmnProcessor
from .gallery import Gallery, GalleryEntry
from .uploads import MESH_EXTENSIONS, read_nerf, receive

MAX_UPLOADS = 8
"""That a visitor has at a time; the oldest makes room."""
MAX_QUESTION = 2000


@dataclass(frozen=True, kw_only=True)
class ServiceOptions:
    """What visitors may do.

    Attributes:
        max_upload: largest size of an upload, bytes.
        fit_quality: preset for meshes.
        generation: options of `generate`.
    """

    max_upload: int = 64 << 20
    fit_quality: str = "nano"
    generation: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.max_upload < 1:
            raise ValueError(f"uploads are limited to {self.max_upload} bytes; expected at least 1")


class Service:
    """Model, gallery and folder. A context manager: at its end the folder, with all uploads and pictures, is removed.

    Args:
        model, processor: shared by all visitors, in evaluation mode.
        options: limits and settings, see `ServiceOptions`.
    """

    def __init__(
        self,
        model: LlanaGmnForConditionalGeneration,
        processor: LlanaGmnProcessor,
        *,
        options: ServiceOptions | None = None,
    ) -> None:
        self.model, self.processor = model, processor
        self.options = options or ServiceOptions()
        self._temporary = tempfile.TemporaryDirectory(prefix="llana-gmn-serve-", ignore_cleanup_errors=True)
        self.folder = Path(self._temporary.name).resolve()
        self.gallery = Gallery(model, self.folder / "pictures")
        self._generating, self._fitting = threading.Lock(), threading.Lock()
        self._numbers = itertools.count()

    def __enter__(self) -> Service:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._temporary.cleanup()

    def session(self) -> Session:
        """A new visitor."""
        return Session(self, self.new_folder())

    def new_folder(self) -> Path:
        return self.folder / "uploads" / f"{next(self._numbers):06d}"

    def answer(self, entries: list[GalleryEntry], question: str) -> Iterator[str]:
        """The answer to one question about NeRFs, growing."""
        yield from self.continue_chat(self.new_chat(entries), question)

    def new_chat(self, entries: list[GalleryEntry]) -> ChatSession:
        chat = ChatSession(self.model, self.processor, **self.options.generation)
        for entry in entries:
            chat.add_nerf(entry.embedding.numpy())
        return chat

    def continue_chat(self, chat: ChatSession, question: str) -> Iterator[str]:
        question = question.strip()
        if not question:
            raise ValueError("the question is empty; write one first")
        if len(question) > MAX_QUESTION:
            raise ValueError(f"the question has {len(question)} characters; expected at most {MAX_QUESTION}")
        answer = ""
        with self._generating:
            for piece in chat.stream(question):
                answer += piece
                yield answer

    @contextmanager
    def fitting(self) -> Iterator[None]:
        """One fit at a time."""
        with self._fitting:
            yield


class Session:
    """One visitor.

    Attributes:
        chosen: the NeRF that is talked about; None before one is chosen.
        uploads: the visitor's own, newest first.
    """

    def __init__(self, service: Service, folder: Path) -> None:
        self._service, self._folder = service, folder
        self._chat: ChatSession | None = None
        self.chosen: GalleryEntry | None = None
        self.uploads: list[GalleryEntry] = []
        self._folders: dict[str, Path] = {}
        self._numbers = itertools.count(1)

    @property
    def entries(self) -> list[GalleryEntry]:
        """All that this visitor can choose from: own uploads, then the gallery."""
        return [*self.uploads, *self._service.gallery.entries]

    def find(self, key: str | None) -> GalleryEntry:
        """Raises `ValueError` for a key that is not this visitor's to see."""
        for entry in self.entries:
            if entry.key == key:
                return entry
        raise ValueError("no such NeRF in the gallery; choose one of those shown")

    def choose(self, key: str | None) -> GalleryEntry:
        """Talk about another NeRF from here on; a new conversation."""
        self.chosen = self.find(key)
        self.restart()
        return self.chosen

    def restart(self) -> None:
        """Forget what was said."""
        self._chat = None

    def still(self, entry: GalleryEntry) -> Path:
        return self._service.gallery.pictures.still(entry.key, entry.nerf)

    def turntable(self, entry: GalleryEntry, *, progress: Progress = no_progress) -> Path:
        return self._service.gallery.pictures.turntable(entry.key, entry.nerf, progress=progress)

    def is_turning(self, entry: GalleryEntry) -> bool:
        return self._service.gallery.pictures.is_turning(entry.key)

    def ask(self, question: str) -> Iterator[str]:
        """The answer about the chosen NeRF, growing; earlier questions and answers are part of the conversation.

        A caller that stops early ends the generation; the question is then not part of the conversation.

        Raises:
            ValueError: nothing chosen, an empty or too long question, a conversation that no longer fits.
        """
        if self.chosen is None:
            raise ValueError("no NeRF is chosen; pick one in the gallery, or upload one")
        if self._chat is None:
            self._chat = self._service.new_chat([self.chosen])
        yield from self._service.continue_chat(self._chat, question)

    def compare(
        self, first: str | None, second: str | None, question: str, *, both: bool = True
    ) -> Iterator[list[str]]:
        """One question answered about each of two NeRFs and, with `both`, about the two together: growing ``[a, b, ab]``."""
        entries = [self.find(first), self.find(second)]
        asked = [[entries[0]], [entries[1]], *([entries] if both else [])]
        answers = ["", "", ""]
        for place, shown in enumerate(asked):
            for answer in self._service.answer(shown, question):
                answers[place] = answer
                yield list(answers)

    def neighbours(self, count: int = 8) -> list[tuple[GalleryEntry, float]]:
        """The NeRFs most like the chosen one, of any family, with their cosines."""
        if self.chosen is None:
            raise ValueError("no NeRF is chosen; pick one in the gallery, or upload one")
        return self._service.gallery.neighbours(self.chosen, count, among=self.uploads)

    def upload(self, path: Path, *, family: str = DEFAULT_FAMILY, progress: Progress = no_progress) -> GalleryEntry:
        """Read a visitor's file, fit it first if it is a mesh, and choose it.

        Args:
            path: the file where it arrived; it is gone afterwards.
            family: family of the NeRF that a mesh is fitted by.
            progress: receives how far the fit is.

        Raises:
            ValueError, OSError: what is wrong with it; nothing of it is kept.
        """
        folder, options, shown = self._folder / f"{next(self._numbers):03d}", self._service.options, path.name
        received = path
        try:
            received = receive(path, folder, max_bytes=options.max_upload)
            if received.suffix in MESH_EXTENSIONS:
                with self._service.fitting():
                    source = fit_object(
                        received,
                        folder / "fit",
                        families=[family],
                        quality=options.fit_quality,
                        device=self._service.model.device,
                        progress=progress,
                    )[family]
            else:
                source = received
            entry = self._service.gallery.entry(
                read_nerf(source, max_bytes=options.max_upload), source, name=Path(shown).stem
            )
            self.still(entry)
        except (ValueError, OSError, RuntimeError, MemoryError, ImportError) as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise ValueError(said_of(error, received, shown)) from error
        self._folders[entry.key] = folder
        self.uploads.insert(0, entry)
        for oldest in self.uploads[MAX_UPLOADS:]:
            shutil.rmtree(self._folders.pop(oldest.key), ignore_errors=True)
        del self.uploads[MAX_UPLOADS:]
        return self.choose(entry.key)

    def close(self) -> None:
        """Remove the visitor's files."""
        shutil.rmtree(self._folder, ignore_errors=True)


def said_of(error: BaseException, path: Path, name: str) -> str:
    """An error as one sentence about a visitor's file, without the server's paths."""
    if isinstance(error, MemoryError | RuntimeError) and not isinstance(error, ValueError):
        return f"{name}: is too much for this machine"
    text = " ".join(str(error).split()).replace(str(path), name).replace(f"{path.parent}/", "")
    return text if name in text else f"{name}: {text}"
