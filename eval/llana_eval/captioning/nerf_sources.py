"""Where the NeRF of a conversation's object is: as weights of a family, or as an embedding made before.

Source: docs/released_format.md#data-layout, #embedding-files, #shapenerf-text. Shapes are those of the files; nothing is opened
here but ``.h5`` files, for their ids.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from gmn_encoder.datasets import scan
from gmn_encoder.embeddings.files import read_h5_embedding
from gmn_encoder.files import StrPath
from gmn_encoder.nerfs.architectures import FAMILIES
from gmn_encoder.nerfs.files import WEIGHTS_NAME


@dataclass(frozen=True)
class NerfSources:
    """Paths by object.

    Attributes:
        test: name of what they are, for tables: a family, or the name of a folder of embeddings.
        paths: object id -> files or directories, several where an id is not unique.
    """

    test: str
    paths: Mapping[str, tuple[Path, ...]]

    def find(self, object_id: str) -> Path:
        """The NeRF of an object. Raises `ValueError` where there is none, or more than one."""
        found = self.paths.get(object_id, ())
        if len(found) == 1:
            return found[0]
        if not found:
            raise ValueError(f"object {object_id}: has a reference but no NeRF in {self.test}")
        raise ValueError(
            f"object {object_id}: is the id of {len(found)} NeRFs in {self.test} ({found[0]}, {found[1]}); "
            "expected one: texts that name class_id/nerf_id tell them apart"
        )


def nerf_sources(
    data: StrPath, *, split: str = "test", family: str | None = None, embeddings: StrPath | None = None
) -> NerfSources:
    """The NeRFs of a data directory.

    Args:
        data: directory of ``<family>/<class_id>/<nerf_id>`` as a fit writes it, or ``nerf/shapenet/<family>/...`` as released,
            or ``<split>/vecs`` with embeddings.
        split: split whose embeddings are meant.
        family: a folder of NeRFs, such as ``hash`` or ``hash_unseen/HASH-11T``; None: the embeddings if there are any, else the
            only family.
        embeddings: a folder of ``.npy`` or ``.h5`` files in place of ``<split>/vecs``.

    Raises:
        FileNotFoundError, ValueError: no such folder, an empty one, or several families to choose from.
    """
    if family is not None and embeddings is not None:
        raise ValueError("--family and --embeddings exclude each other; name one of them")
    if family is None:
        vecs = Path(embeddings) if embeddings is not None else Path(data, split, "vecs")
        if embeddings is not None or vecs.is_dir():
            return _embeddings(vecs)
        family = _only_family(data)
    folder = _family_folder(data, family)
    if folder is None:
        raise FileNotFoundError(
            f"{Path(data, family)}: no such directory; expected NeRFs in <class_id>/<nerf_id>/{WEIGHTS_NAME}"
        )
    pairs: list[tuple[str, Path]] = []
    for class_id, nerf_id in scan(folder):
        path = folder / class_id / nerf_id
        pairs += [(nerf_id, path), (f"{class_id}/{nerf_id}", path)]
    if not pairs:
        raise ValueError(f"{folder}: holds no NeRFs; expected <class_id>/<nerf_id>/{WEIGHTS_NAME}")
    return NerfSources(family, _grouped(pairs))


def _family_folder(data: StrPath, family: str) -> Path | None:
    for parent in (Path(data), Path(data, "nerf", "shapenet"), Path(data, "shapenet")):
        if (parent / family).is_dir():
            return parent / family
    return None


def _only_family(data: StrPath) -> str:
    there = [family for family in FAMILIES if _family_folder(data, family) is not None]
    if len(there) == 1:
        return there[0]
    if not there:
        raise FileNotFoundError(
            f"{data}: holds neither NeRFs ({', '.join(FAMILIES)}) nor embeddings (<split>/vecs); "
            "name them with --family or --embeddings"
        )
    raise ValueError(f"{data}: holds NeRFs of {', '.join(there)}; choose with --family")


def _embeddings(folder: Path) -> NerfSources:
    """Embeddings by object; the released train set has them in sub-folders."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such directory; expected embeddings, <object_id>.npy or <index>.h5")
    pairs = [(path.stem, path) for path in sorted(folder.rglob("*.npy"))]
    for path in sorted(folder.rglob("*.h5")):
        _, class_id, nerf_id = read_h5_embedding(path)
        pairs += [(nerf_id, path), (f"{class_id}/{nerf_id}", path)]
    if not pairs:
        raise ValueError(f"{folder}: holds no embeddings; expected <object_id>.npy or <index>.h5")
    return NerfSources(folder.name, _grouped(pairs))


def _grouped(pairs: Iterable[tuple[str, Path]]) -> dict[str, tuple[Path, ...]]:
    found: dict[str, tuple[Path, ...]] = {}
    for name, path in pairs:
        found[name] = (*found.get(name, ()), path)
    return found
