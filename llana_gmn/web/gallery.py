"""The NeRFs that the page shows: read, embedded and pictured once for all visitors.

Shapes: D embedding.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gmn_encoder.embeddings.neighbours import nearest
from gmn_encoder.files import StrPath
from gmn_encoder.nerfs.files import find_nerfs, load_nerf, released_ids
from gmn_encoder.nerfs.record import Nerf
from gmn_encoder.objects.procedural.catalogue import CLASS_IDS
from gmn_encoder.progress import Progress, no_progress

from ..modeling import LlanaGmnForConditionalGeneration
from .pictures import Pictures

DEFAULT_LIMIT = 60

_CLASS_NAMES = {synset: name for name, synset in CLASS_IDS.items()}


@dataclass(frozen=True, eq=False)
class GalleryEntry:
    """A NeRF that can be looked at and talked about.

    Attributes:
        key: its name in URLs and pictures, which says nothing about the file system.
        name: its name for people, such as ``chair-000000003``.
        class_name: name of the class, such as ``chair``; empty where it is not known.
        nerf: the NeRF.
        embedding: embedding by the model's encoder, float32 ``(D,)``.
    """

    key: str
    name: str
    class_name: str
    nerf: Nerf
    embedding: Tensor

    @property
    def family(self) -> str:
        return self.nerf.family

    @property
    def family_name(self) -> str:
        return self.nerf.architecture.display_name

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
    """

    def __init__(self, model: LlanaGmnForConditionalGeneration, folder: Path) -> None:
        self._model = model
        self.pictures = Pictures(folder)
        self.entries: list[GalleryEntry] = []

    def fill(
        self,
        nerfs: StrPath,
        *,
        limit: int = DEFAULT_LIMIT,
        on_error: Callable[[Exception], None] | None = None,
        progress: Progress = no_progress,
    ) -> None:
        """Add the NeRFs under a directory, at most `limit`, evenly over classes, the families of an object together.

        Raises:
            FileNotFoundError: nothing there.
            ValueError: not one NeRF could be read; a NeRF that cannot be read and no `on_error`.
        """
        if not Path(nerfs).exists():
            raise FileNotFoundError(
                f"{nerfs}: no such directory; expected one with NeRFs, such as llana-gmn fit writes"
            )
        chosen = choose(find_nerfs(nerfs), limit)
        for number, path in enumerate(chosen, 1):
            try:
                entry = self.entry(load_nerf(path), path)
                self.pictures.still(entry.key, entry.nerf)
                self.entries.append(entry)
            except (ValueError, OSError) as error:
                if on_error is None:
                    raise
                on_error(error)
            progress("preparing the gallery", number, len(chosen))
        if not self.entries:
            raise ValueError(f"{nerfs}: none of its {len(chosen)} NeRFs can be read")

    def entry(self, nerf: Nerf, path: Path, *, name: str = "") -> GalleryEntry:
        """A NeRF that is not part of the gallery, named after its file or as `name` says."""
        class_id, nerf_id = released_ids(path)
        standing_alone = path.suffix == ".safetensors"
        key = hashlib.sha256(str(path.absolute()).encode()).hexdigest()[:20]
        embedding = self._model.encode([nerf])[0].float().cpu()
        class_name = "" if name else _CLASS_NAMES.get(class_id, "")
        return GalleryEntry(key, name or (path.stem if standing_alone else nerf_id), class_name, nerf, embedding)

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
