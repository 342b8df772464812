"""The NeRFs that the page shows: read, embedded and pictured once for all visitors.

The server's own are read here, when it starts; visitors' come from `isolation.py`, read, embedded and pictured there. Turntables
are rendered there too, when they are first looked at.

Shapes: N vectors, D embedding.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from gmn_encoder.embeddings.neighbours import nearest
from gmn_encoder.files import StrPath
from gmn_encoder.nerfs.architectures import NerfArchitecture
from gmn_encoder.nerfs.files import find_nerfs, load_nerf, released_ids
from gmn_encoder.objects.procedural.catalogue import CLASS_IDS
from gmn_encoder.progress import Progress, no_progress

from ..model.modeling import LlanaGmnForConditionalGeneration
from .isolation import Isolation, JobError
from .lines import Line
from .options import PictureSizes
from .pictures import new_key, picture_file, write_picture

DEFAULT_LIMIT = 60
TURN_SECONDS = 120.0
"""That a turntable may take; the picture then stands still."""

LOCK_SECONDS = 5.0
"""That a visitor waits for another who has the same picture made."""

logger = logging.getLogger(__name__)

_CLASS_NAMES = {synset: name for name, synset in CLASS_IDS.items()}


@dataclass(frozen=True, eq=False)
class GalleryEntry:
    """A NeRF that can be looked at and talked about.

    Attributes:
        key: its name in URLs and pictures: random, so that nobody guesses it, and silent about the file system.
        name: its name for people, such as ``chair-000000003``.
        class_name: name of the class, such as ``chair``; empty where it is not known.
        architecture: family and sizes.
        source: its weights file, or the directory of one.
        embedding: what the model reads of it, float32 ``(D,)``, or ``(N, D)`` of a model that reads several vectors.
        notes: what is to be said about what it was fitted to.
    """

    key: str
    name: str
    class_name: str
    architecture: NerfArchitecture
    source: Path
    embedding: Tensor
    notes: tuple[str, ...] = ()

    @property
    def family(self) -> str:
        return self.architecture.family

    @property
    def family_name(self) -> str:
        return self.architecture.display_name

    @property
    def caption(self) -> str:
        return f"{self.class_name or self.name} · {self.family_name}"

    @property
    def title(self) -> str:
        """Names it among all others."""
        return f"{self.name} · {self.family_name}"


class Gallery:
    """NeRFs to look at and talk about, their pictures, and which of them are alike.

    Args:
        model: the model whose encoder embeds.
        folder: directory that pictures are written to.
        isolation: where turntables are rendered.
        sizes: of the pictures.
    """

    def __init__(
        self,
        model: LlanaGmnForConditionalGeneration,
        folder: Path,
        isolation: Isolation,
        *,
        sizes: PictureSizes | None = None,
    ) -> None:
        self._model, self._folder, self._isolation = model, folder, isolation
        self.sizes = sizes or PictureSizes()
        self._rendering = Line("pictures", places=2, longest=64, own=8)
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._standing: set[str] = set()  # turned out not to turn in time
        self.entries: list[GalleryEntry] = []

    def fill(
        self,
        *nerfs: StrPath,
        limit: int = DEFAULT_LIMIT,
        on_error: Callable[[Path, Exception], None] | None = None,
        progress: Progress = no_progress,
    ) -> None:
        """Add NeRFs, and those under directories, at most `limit`, evenly over classes, the families of an object together.

        Raises:
            FileNotFoundError: nothing there.
            ValueError: not one NeRF could be read; a NeRF that cannot be read and no `on_error`, which receives its path as well.
        """
        for each in nerfs:
            if not Path(each).exists():
                raise FileNotFoundError(
                    f"{each}: no such directory; expected one with NeRFs, such as llana-gmn fit writes"
                )
        chosen = choose([path for each in nerfs for path in find_nerfs(each)], limit)
        for number, path in enumerate(chosen, 1):
            try:
                self.entries.append(self._entry(path))
            except (ValueError, OSError) as error:
                if on_error is None:
                    raise
                on_error(path, error)
            progress("preparing the gallery", number, len(chosen))
        if not self.entries:
            raise ValueError(f"{', '.join(map(str, nerfs))}: none of its {len(chosen)} NeRFs can be read")

    def _entry(self, path: Path) -> GalleryEntry:
        nerf, (class_id, nerf_id) = load_nerf(path), released_ids(path)
        name, class_name = path.stem if path.suffix == ".safetensors" else nerf_id, _CLASS_NAMES.get(class_id, "")
        embedding = self._model.encode([nerf])[0].float().cpu()
        entry = GalleryEntry(new_key(), name, class_name, nerf.architecture, path, embedding)
        write_picture(self.still(entry), nerf, turning=False, sizes=self.sizes)
        return entry

    def still(self, entry: GalleryEntry) -> Path:
        """The picture of an entry, a PNG; it was made with the entry."""
        return picture_file(self._folder, entry.key, turning=False)

    def turns(self, entry: GalleryEntry) -> bool:
        """Whether the turntable has been made."""
        return picture_file(self._folder, entry.key, turning=True).is_file()

    def turntable(self, entry: GalleryEntry, *, visitor: str = "") -> Path:
        """A GIF of the NeRF turning, made when it is first asked for; the still where that takes too long."""
        file, lock = picture_file(self._folder, entry.key, turning=True), self._locks[entry.key]
        if lock.acquire(timeout=LOCK_SECONDS):  # a second visitor finds the first one's
            try:
                if not file.is_file() and entry.key not in self._standing:
                    self._render(entry, file, visitor)
            finally:
                lock.release()
        return file if file.is_file() else self.still(entry)

    def _render(self, entry: GalleryEntry, file: Path, visitor: str) -> None:
        arguments = {"source": str(entry.source), "file": str(file), "sizes": asdict(self.sizes)}
        try:
            with self._rendering.turn(visitor):
                self._isolation.run("turn", arguments, seconds=TURN_SECONDS)
        except JobError as error:
            logger.info("%s does not turn: %s", entry.title, error)
            self._standing.add(entry.key)
        except ValueError:
            logger.info("%s does not turn yet: too many pictures are waited for", entry.title)

    def forget(self, entry: GalleryEntry) -> None:
        """Remove an entry's pictures."""
        for turning in (False, True):
            picture_file(self._folder, entry.key, turning=turning).unlink(missing_ok=True)
        self._locks.pop(entry.key, None)
        self._standing.discard(entry.key)

    def close(self) -> None:
        self._rendering.close()

    def neighbours(
        self, entry: GalleryEntry, count: int = 8, *, among: Iterable[GalleryEntry] = ()
    ) -> list[tuple[GalleryEntry, float]]:
        """The most alike by the cosine of embeddings, nearest first, over all families; itself is left out.

        `among` are looked at besides the gallery's own.
        """
        others = [other for other in (*among, *self.entries) if other.key != entry.key]
        if not others:
            return []
        # Of several tokens all are compared together.
        known = torch.stack([other.embedding.flatten() for other in others])
        cosines, places = nearest(entry.embedding.flatten()[None], known, count)
        return [(others[i], cosine) for cosine, i in zip(cosines[0].tolist(), places[0].tolist(), strict=True)]


def choose(paths: Iterable[Path], limit: int) -> list[Path]:
    """At most `limit` paths: an object of each class, then a second of each, and so on, all families of an object together."""
    if limit < 1:
        raise ValueError(f"the gallery is limited to {limit} NeRFs; expected at least 1")
    objects: dict[tuple[str, str], list[Path]] = {}
    for path in paths:
        objects.setdefault(released_ids(path), []).append(path)
    classes: dict[str, list[list[Path]]] = {}
    for (class_id, _), members in objects.items():
        classes.setdefault(class_id, []).append(members)
    turns: Iterator[Sequence[list[Path] | None]] = itertools.zip_longest(*classes.values())
    flat = [path for turn in turns for members in turn if members is not None for path in members]
    return flat[:limit]
