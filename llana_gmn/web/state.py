"""What visitors share and what each has alone.

`Service` holds the model, the gallery and a temporary folder; `Session` one visitor's choice, uploads and conversation. Both are
plain Python: the page only shows them. One answer is generated at a time, whoever asks; files are read in other processes.
"""

from __future__ import annotations

import itertools
import logging
import re
import shutil
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from gmn_encoder.encoders.base import encoder_class
from gmn_encoder.nerfs.architectures import FAMILIES, parse_architecture
from gmn_encoder.nerfs.families import DEFAULT_FAMILY
from gmn_encoder.nerfs.files import SAFETENSORS_NAME
from gmn_encoder.progress import Progress, no_progress

from ..inference.chat import ChatSession
from ..inference.context import ConversationFull
from ..model.modeling import LlanaGmnForConditionalGeneration
from ..model.processing import LlanaGmnProcessor
from .gallery import Gallery, GalleryEntry
from .isolation import START_SECONDS, Isolation
from .lines import Line
from .options import ServiceOptions
from .pictures import new_key
from .uploads import fitted_extensions, receive

logger = logging.getLogger(__name__)

MAX_UPLOADS = 8
"""That a visitor has at a time; the oldest makes room."""
MAX_KEPT = 256
"""Uploads of all visitors whose files are kept at a time; of older ones the embeddings stay, which answers need."""
MAX_QUESTION = 2000


class Service:
    """Model, gallery and folder. A context manager: at its end the folder, with all uploads and pictures, is removed.

    Args:
        model, processor: shared by all visitors, in evaluation mode.
        options: limits and settings, see `ServiceOptions`.
        isolation: where visitors' files are read; by default processes with the options' limit of memory.
    """

    def __init__(
        self,
        model: LlanaGmnForConditionalGeneration,
        processor: LlanaGmnProcessor,
        *,
        options: ServiceOptions | None = None,
        isolation: Isolation | None = None,
    ) -> None:
        self.model, self.processor = model, processor
        self.options = options = options or ServiceOptions()
        self._temporary = tempfile.TemporaryDirectory(prefix="llana-gmn-serve-", ignore_cleanup_errors=True)
        self.folder = Path(self._temporary.name).resolve()
        self.pictures = self.folder / "pictures"
        self._encoder_class = (
            None if model.nerf_encoder is None else encoder_class(model.nerf_encoder.config.model_type)
        )
        used = [*FAMILIES.values(), *([] if self._encoder_class is None else [self._encoder_class])]
        modules = sorted({each.__module__ for each in used})
        self.isolation = isolation or Isolation(memory=options.upload_memory, modules=modules)
        self.gallery = Gallery(model, self.pictures, self.isolation, sizes=options.sizes)
        limits = {"longest": options.max_waiting, "own": options.visitor_waiting}
        self.questions = Line("questions", places=1, **limits)
        self.reading = Line("uploads", places=3, **limits)
        self.fitting = Line("fits", places=1, **limits)
        self.ending = threading.Event()
        self._encoder: dict[str, str] = {}
        self._kept: list[tuple[GalleryEntry, Path]] = []
        self._lock = threading.Lock()
        self._numbers = itertools.count()

    def __enter__(self) -> Service:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def warm(self) -> None:
        """Start what the first upload would wait for, without waiting for it."""

        def start() -> None:
            try:
                self.isolation.run("nothing", {}, seconds=START_SECONDS)
            except (ValueError, OSError) as error:
                logger.info("no process for uploads was started ahead: %s", error)

        threading.Thread(target=start, name="warm", daemon=True).start()

    def stop(self) -> None:
        """End what is being done for visitors: answers end where they are, files are left."""
        self.ending.set()
        for line in (self.questions, self.reading, self.fitting, self.gallery):
            line.close()
        self.isolation.close()

    def close(self) -> None:
        self.stop()
        self._temporary.cleanup()

    def session(self, visitor: str = "") -> Session:
        """A new visitor, at an address."""
        return Session(self, self.folder / "uploads" / f"{next(self._numbers):06d}", visitor)

    def answer(self, entries: list[GalleryEntry], question: str, *, visitor: str = "") -> Iterator[str]:
        """The answer to one question about NeRFs, growing."""
        yield from self.continue_chat(self.new_chat(entries), question, visitor=visitor)

    def new_chat(self, entries: list[GalleryEntry]) -> ChatSession:
        chat = ChatSession(self.model, self.processor, **self.options.generation)
        for entry in entries:
            chat.add_nerf(entry.embedding.numpy())
        return chat

    def continue_chat(self, chat: ChatSession, question: str, *, visitor: str = "") -> Iterator[str]:
        question = question.strip()
        if not question:
            raise ValueError("the question is empty; write one first")
        if len(question) > MAX_QUESTION:
            raise ValueError(f"the question has {len(question)} characters; expected at most {MAX_QUESTION}")
        answer = ""
        with self.questions.turn(visitor):
            try:
                for piece in chat.stream(question):
                    if self.ending.is_set():
                        return
                    answer += piece
                    yield answer
                if chat.doubt:
                    yield f"{answer}\n\n({chat.doubt})"
            except ConversationFull as error:
                raise ValueError(f"{error}: press New conversation") from error

    def encoder(self) -> dict[str, str]:
        """Where other processes read the model's encoder: its directory, its class, and what it computes in.

        Raises `ValueError` where the model has none.
        """
        with self._lock:
            if not self._encoder:
                encoder, folder = self.model.nerf_encoder, self.folder / "encoder"
                if encoder is None:
                    raise ValueError("the model of this server has no encoder, so that no NeRF can be uploaded")
                encoder.save_pretrained(folder)
                kind = encoder_class(encoder.config.model_type)
                self._encoder = {
                    "encoder": str(folder),
                    "encoder_class": f"{kind.__module__}:{kind.__qualname__}",
                    "encoder_dtype": self.model.config.encoder_dtype,
                }
            return self._encoder

    def keep(self, entry: GalleryEntry, folder: Path) -> None:
        """Keep an upload's files until those of `MAX_KEPT` others came."""
        with self._lock:
            self._kept.append((entry, folder))
            while len(self._kept) > MAX_KEPT:
                self._remove(*self._kept.pop(0))

    def drop(self, entries: list[GalleryEntry]) -> None:
        """Remove the files of uploads."""
        with self._lock:
            for each in [kept for kept in self._kept if kept[0] in entries]:
                self._kept.remove(each)
                self._remove(*each)

    def _remove(self, entry: GalleryEntry, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        self.gallery.forget(entry)


class Session:
    """One visitor.

    Attributes:
        chosen: the NeRF that is talked about; None before one is chosen.
        uploads: the visitor's own, newest first.
    """

    def __init__(self, service: Service, folder: Path, visitor: str = "") -> None:
        self._service, self._folder, self._visitor = service, folder, visitor
        self._chat: ChatSession | None = None
        self.chosen: GalleryEntry | None = None
        self.uploads: list[GalleryEntry] = []
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

    def still(self, entry: GalleryEntry) -> Path | None:
        """Its picture; None where its files made room for others."""
        file = self._service.gallery.still(entry)
        return file if file.is_file() else None

    def turntable(self, entry: GalleryEntry) -> Path | None:
        if self.still(entry) is None:
            return None
        return self._service.gallery.turntable(entry, visitor=self._visitor)

    def is_turning(self, entry: GalleryEntry) -> bool:
        return self._service.gallery.turns(entry)

    def ask(self, question: str) -> Iterator[str]:
        """The answer about the chosen NeRF, growing; earlier questions and answers are part of the conversation.

        A caller that stops early ends the generation; the question is then not part of the conversation.

        Raises:
            ValueError: nothing chosen, an empty or too long question, a conversation that no longer fits, too many that wait.
        """
        if self.chosen is None:
            raise ValueError("no NeRF is chosen; pick one in the gallery, or upload one")
        if self._chat is None:
            self._chat = self._service.new_chat([self.chosen])
        yield from self._service.continue_chat(self._chat, question, visitor=self._visitor)

    def compare(
        self, first: str | None, second: str | None, question: str, *, both: bool = True
    ) -> Iterator[list[str]]:
        """One question answered about each of two NeRFs and, with `both`, about the two together: growing ``[a, b, ab]``."""
        entries = [self.find(first), self.find(second)]
        asked = [[entries[0]], [entries[1]], *([entries] if both else [])]
        answers = ["", "", ""]
        for place, shown in enumerate(asked):
            for answer in self._service.answer(shown, question, visitor=self._visitor):
                answers[place] = answer
                yield list(answers)

    def neighbours(self, count: int = 8) -> list[tuple[GalleryEntry, float]]:
        """The NeRFs most like the chosen one, of any family, with their cosines."""
        if self.chosen is None:
            raise ValueError("no NeRF is chosen; pick one in the gallery, or upload one")
        return self._service.gallery.neighbours(self.chosen, count, among=self.uploads)

    def upload(self, path: Path, *, family: str = DEFAULT_FAMILY, progress: Progress = no_progress) -> GalleryEntry:
        """Read a visitor's file, fit a NeRF to it first if it is none, and choose it.

        Args:
            path: the file where it arrived.
            family: family of the NeRF that is fitted.
            progress: receives how far the fit is.

        Raises:
            ValueError, OSError: what is wrong with it; nothing of it is kept.
        """
        folder, options, shown = self._folder / f"{next(self._numbers):03d}", self._service.options, path.name
        received = path
        try:
            received = receive(path, folder, max_bytes=options.max_upload)
            entry = self._entry(received, family, progress, name=Path(shown).stem)
        except (ValueError, OSError) as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise ValueError(said_of(error, received, shown)) from error
        self._service.keep(entry, folder)
        self.uploads.insert(0, entry)
        self._service.drop(self.uploads[MAX_UPLOADS:])
        del self.uploads[MAX_UPLOADS:]
        return self.choose(entry.key)

    def _entry(self, received: Path, family: str, progress: Progress, *, name: str) -> GalleryEntry:
        service, options, key = self._service, self._service.options, new_key()
        device = service.model.device
        found = received.parent / "still.png"
        arguments: dict[str, Any] = {
            "file": str(received),
            "fit": {"family": family, "quality": options.fit_quality, "device": str(device)},
            "max_bytes": options.max_upload,
            "visible": bool(service.model.config.trained_on),
            "tokens": service.model.config.vectors_per_nerf > 1,
            **service.encoder(),
            "still": str(found),
            "sizes": asdict(options.sizes),
        }
        result: dict[str, Any] = {"to_fit": True}
        if received.suffix not in fitted_extensions():  # what it is shows when it is opened
            with service.reading.turn(self._visitor):
                arguments["may_fit"] = False
                result = service.isolation.run("upload", arguments, seconds=options.upload_seconds)
        if "to_fit" in result:
            with service.fitting.turn(self._visitor):
                arguments["may_fit"] = True
                on_gpu = device.type == "cuda"
                result = service.isolation.run(
                    "upload", arguments, seconds=options.fit_seconds, cuda=on_gpu, progress=progress
                )
        received.unlink(missing_ok=True)
        for rest in ("unpacked", "fit"):
            shutil.rmtree(received.parent / rest, ignore_errors=True)
        architecture, embedding = parse_architecture(result["architecture"]), torch.tensor(result["embedding"])
        place, notes = received.parent / SAFETENSORS_NAME, tuple(result["notes"])
        entry = GalleryEntry(key, name, "", architecture, place, embedding, notes)
        service.pictures.mkdir(exist_ok=True)
        found.replace(service.gallery.still(entry))
        return entry

    def close(self) -> None:
        """Remove the visitor's files."""
        self._service.drop(self.uploads)
        shutil.rmtree(self._folder, ignore_errors=True)


def said_of(error: BaseException, path: Path, name: str) -> str:
    """An error as one sentence about a visitor's file, without the server's paths."""
    text = " ".join(str(error).split()).replace(str(path), name).replace(f"{path.parent}/", "")
    text = without_paths(text)
    return text if name in text else f"{name}: {text}"


def without_paths(text: str) -> str:
    """A sentence in which the server's files have no directories."""
    text = re.sub(r"(?<=['\"])/(?:[^/'\"]+/)+", "", text)  # in quotes a directory may have spaces
    return re.sub(r"(?<![\w/:.])/(?:[^\s/:'\"]+/)+", "", text)
