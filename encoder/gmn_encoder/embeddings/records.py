"""Embeddings read back: what ``llana-gmn embed`` writes, and the released ``.h5`` folders, as one record with ids and families.

    emb/<checkpoint>/<data set>/<family>/<split>/<index>.h5     (FORMATS.md 7.1; readers sort by the number)

Objects are known by ``(class_id, nerf_id)``, and a row also by its family: the directory that holds the classes (``mlp``,
``triplane``, ``hash``, or ``triplane_unseen/16_resolution``).

Shapes: n rows, D embedding.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..datasets import SPLITS, NerfDataset, ObjectId
from ..encoders.base import NerfEncoder
from ..files import StrPath, read_tensors
from ..nerfs.architectures import FAMILY_NAMES
from .job import EMBEDDINGS_KEY, EmbeddingJob


@dataclass(frozen=True, eq=False)
class EmbeddingSet:
    """Rows of embeddings and what they are of.

    Attributes:
        values: float ``(n, D)``.
        object_ids: ``(class_id, nerf_id)`` of each row.
        families: of each row, the paper's name where it has one.
        paths: the NeRF of each row as it was named when it was embedded, "" where that is not known.
    """

    values: Tensor
    object_ids: tuple[ObjectId, ...]
    families: tuple[str, ...]
    paths: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.object_ids)

    @property
    def class_ids(self) -> tuple[str, ...]:
        return tuple(class_id for class_id, _ in self.object_ids)

    def select(self, rows: Sequence[int]) -> EmbeddingSet:
        def pick(names: Sequence[Any]) -> tuple[Any, ...]:
            return tuple(names[row] for row in rows)

        values = self.values[torch.as_tensor(list(rows), dtype=torch.int64)]
        return EmbeddingSet(values, pick(self.object_ids), pick(self.families), pick(self.paths))

    def by_family(self) -> dict[str, EmbeddingSet]:
        """A set for each family, in the order in which they first appear."""
        rows: dict[str, list[int]] = {}
        for row, family in enumerate(self.families):
            rows.setdefault(family, []).append(row)
        return {family: self.select(members) for family, members in rows.items()}


def join_embeddings(sets: Iterable[EmbeddingSet]) -> EmbeddingSet:
    """All rows of several sets. Raises `ValueError` where they are of different widths, or there are none."""
    members = list(sets)
    widths = sorted({each.values.shape[1] for each in members})
    if len(widths) != 1:
        found = f"embeddings {' and '.join(map(str, widths))} wide" if widths else "no embeddings"
        raise ValueError(f"{found} cannot be joined; expected embeddings of one encoder")
    return EmbeddingSet(
        torch.cat([each.values.float() for each in members]),
        tuple(key for each in members for key in each.object_ids),
        tuple(family for each in members for family in each.families),
        tuple(path for each in members for path in each.paths),
    )


def read_embeddings(path: StrPath, *, family: str | None = None) -> EmbeddingSet:
    """Embeddings from a ``.safetensors`` or ``.npz`` of ``llana-gmn embed``, or a directory of ``<index>.h5``.

    Args:
        path: the file or directory.
        family: of all its rows; None: by the directories that the NeRFs were in, else by the name of the file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not such a file, without ids, empty, or with NaN.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(
            f"{path}: no such file or directory; expected embeddings as llana-gmn embed writes them"
        )
    if path.is_dir():
        values, object_ids = _read_h5_directory(path)
        paths: Sequence[str] = [""] * len(object_ids)
        own = path.parent.name if path.name in (*SPLITS, "validation") else path.name
    elif path.suffix in (".safetensors", ".npz"):
        values, about = _read_safetensors(path) if path.suffix == ".safetensors" else _read_npz(path)
        object_ids = list(zip(about["class_ids"], about["nerf_ids"], strict=True))
        paths, own = about["paths"], path.stem
    else:
        raise ValueError(
            f"{path}: unknown kind {path.suffix!r}; expected .safetensors, .npz or a directory of .h5 files"
        )
    if values.ndim != 2 or not values.is_floating_point() or len(values) != len(object_ids) or not len(values):
        raise ValueError(
            f"{path}: holds a tensor of shape {list(values.shape)} and dtype {values.dtype} for {len(object_ids)} NeRFs; "
            "expected an embedding each"
        )
    if not bool(values.isfinite().all()):
        row = int(values.isfinite().all(dim=1).logical_not().nonzero()[0])
        raise ValueError(f"{path}: embedding {row} ({'/'.join(object_ids[row])}) has NaN or infinity; embed it again")
    own = FAMILY_NAMES.get(own, own)
    families = tuple(family or (family_of(each) if each else None) or own for each in paths)
    return EmbeddingSet(values, tuple(object_ids), families, tuple(paths))


def family_of(path: StrPath) -> str | None:
    """The family that the directories of a NeRF tell, None where it is not in the released layout."""
    path = Path(path)
    directory = path.parent if path.suffix in (".pth", ".pt", ".safetensors") else path
    family = directory.parent.parent
    if family.name in FAMILY_NAMES:
        return FAMILY_NAMES[family.name]
    if family.parent.name.endswith("_unseen"):
        return f"{family.parent.name}/{family.name}"
    return None


def embed_split(
    data: StrPath,
    encoder: NerfEncoder,
    *,
    family: str,
    split: str | None,
    out: StrPath,
    batch_size: int = 8,
    on_chunk: Callable[[int], Any] = lambda count: None,
) -> tuple[EmbeddingSet, tuple[str, ...]]:
    """Embeddings of a family's split, made by an `EmbeddingJob` where `out` does not hold them yet; continues after a kill.

    Args:
        data: holds the families' directories and the lists.
        encoder: on the device to use.
        family: name of the directory.
        split: "train", "val", "test", or None for all that is there.
        out: ``.safetensors`` file to keep them in.
        batch_size: NeRFs at a time.
        on_chunk: hears how many NeRFs each chunk dealt with.

    Returns:
        the embeddings, and a message for each NeRF that could not be read.

    Raises:
        ValueError: `out` holds embeddings of other NeRFs or of another encoder, or no NeRF could be read.
    """
    out = Path(out)
    dataset = NerfDataset(Path(data) / family, split)
    paths = [str(entry.path) for entry in dataset]
    if out.is_file():
        about = _read_safetensors(out)[1]
        missing = set(paths) - set(about["paths"])
        if about.get("encoder") != encoder.fingerprint() or not set(about["paths"]) <= set(paths):
            raise ValueError(
                f"{out}: holds embeddings of another encoder or of other NeRFs; delete it or keep them elsewhere"
            )
        on_chunk(len(paths))
        return read_embeddings(out), tuple(f"{path}: was not embedded, see {out}" for path in sorted(missing))
    job = EmbeddingJob(paths, encoder, out=out, batch_size=batch_size)
    job.run(on_chunk=on_chunk)
    errors = job.finish().errors
    if not out.is_file():
        raise ValueError(f"{dataset.root}: none of {len(paths)} NeRFs could be embedded ({errors[0]})")
    return read_embeddings(out), errors


def _read_safetensors(path: Path) -> tuple[Tensor, dict[str, Any]]:
    tensors, metadata = read_tensors(path)
    try:
        about = json.loads(metadata[EMBEDDINGS_KEY])
        values = tensors["embeddings"]
        return values, {"encoder": about.get("encoder"), **_ids(about)}
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: holds no embeddings with their ids; expected a file of llana-gmn embed") from error


def _read_npz(path: Path) -> tuple[Tensor, dict[str, Any]]:
    import numpy as np

    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
            about = {key: file[key].tolist() for key in ("paths", "class_ids", "nerf_ids")}
            return torch.from_numpy(file["embeddings"]), _ids(about)
    except Exception as error:  # zipfile, numpy and struct each raise their own
        raise ValueError(f"{path}: holds no embeddings with their ids; expected a file of llana-gmn embed") from error


def _ids(about: dict[str, Any]) -> dict[str, list[str]]:
    lists = {key: [str(each) for each in about[key]] for key in ("paths", "class_ids", "nerf_ids")}
    if len({len(members) for members in lists.values()}) != 1:
        raise ValueError("lists of ids of different lengths")
    return lists


def _read_h5_directory(path: Path) -> tuple[Tensor, list[ObjectId]]:
    import h5py

    files = sorted((file for file in path.glob("*.h5") if file.stem.isdecimal()), key=lambda file: int(file.stem))
    if not files:
        raise ValueError(f"{path}: holds no <index>.h5; expected a folder of embeddings as llana-gmn embed writes them")
    rows, ids = [], []
    for each in files:
        try:
            with h5py.File(each, "r") as file:
                rows.append(torch.tensor(file["embedding"][()], dtype=torch.float32).flatten())
                ids.append((file["class_id"].asstr()[()], file["nerf_id"].asstr()[()]))
        except (OSError, KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"{each}: is no embedding; expected datasets embedding, class_id and nerf_id") from error
    if len({len(row) for row in rows}) != 1:
        raise ValueError(f"{path}: holds embeddings of different widths; expected those of one encoder")
    return torch.stack(rows), ids
