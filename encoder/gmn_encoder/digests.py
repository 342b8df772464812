"""What results came from: the SHA-256 of their input files, by which one tells whether they changed since.

Content decides. So that a data set is not read anew only to find that nothing happened to it, digests are remembered in a file
beside the results, with what the directory entry says: size, times of modification and of change, number of the file. While all
of that is as it was, the file is not read again. The time of change is the system's own: `os.utime`, ``cp -p``, ``touch -r`` and
archives set the time of modification, never this one. (On Windows it is the time of creation: there size and time of modification
decide.)
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .files import StrPath, file_digest, read_json, write_bytes
from .progress import Progress, no_progress

DIGESTS_NAME = "digests.json"
"""Name of the file of remembered digests in a directory of results."""

SETTLED_SECONDS = 2.0
"""A file that changed later than this before it was looked at may change again without its times telling: disks count in steps of
up to two seconds."""

_READERS = 8
_FORMAT = 1

Stamp = list[int]


class Digests:
    """SHA-256 of files, remembered. Several threads may ask at a time.

    Args:
        path: the JSON file that remembers; None for a memory that ends with the object. One that is not there, or is not such a
            file, is empty: all that is lost is time.

    Attributes:
        changed: absolute paths of files whose content was another when they were last asked for.
    """

    def __init__(self, path: StrPath | None = None) -> None:
        self._path = None if path is None else Path(path)
        self._known = {} if self._path is None else _read(self._path)
        self._is_new = False
        self.changed: set[str] = set()

    def digest(self, file: StrPath) -> str:
        """SHA-256 of a file's bytes, in hex. Raises what `file_digest` raises."""
        name = os.path.abspath(file)
        before, stamp = self._known.get(name), _stamp(name)
        if before is not None and stamp is not None and before[1] == stamp:
            return before[0]
        if os.path.exists(name) and not os.path.isfile(name):  # a pipe, a device, a directory: reading may never end
            raise OSError(f"{file}: is not a file; expected one")
        found = file_digest(file)
        if before is not None and before[0] != found:
            self.changed.add(name)
        self._known[name] = (found, stamp)
        self._is_new = True
        return found

    def digests(self, files: Sequence[StrPath], *, progress: Progress = no_progress) -> list[str]:
        """`digest` of each file, "" where there is nothing to read. The files are read by several threads."""

        def known(file: StrPath) -> str:
            try:
                return self.digest(file)
            except OSError:
                return ""

        found = []
        with ThreadPoolExecutor(_READERS) as pool:
            for value in pool.map(known, files):
                found.append(value)
                progress("looking at files", len(found), len(files))
        return found

    def entry(self, file: StrPath) -> list[Any] | None:
        """What is remembered of a file, for JSON; None if nothing is. The inverse of `remember`."""
        known = self._known.get(os.path.abspath(file))
        return None if known is None else list(known)

    def remember(self, file: StrPath, entry: Sequence[Any]) -> None:
        """Take over what an `entry` says, where results keep it themselves."""
        digest, stamp = entry
        self._known[os.path.abspath(file)] = (digest, stamp)

    def save(self) -> None:
        """Write what is remembered. A disk that does not take it is not worth an error."""
        if self._path is None or not self._is_new:
            return
        content = {"format": _FORMAT, "files": {name: [digest, stamp] for name, (digest, stamp) in self._known.items()}}
        with contextlib.suppress(OSError):
            write_bytes(json.dumps(content).encode(), self._path)
            self._is_new = False


def _read(path: Path) -> dict[str, tuple[str, Stamp | None]]:
    try:
        files = read_json(path)["files"]
        return {str(name): (str(digest), stamp) for name, (digest, stamp) in files.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _stamp(name: str) -> Stamp | None:
    """What a file's directory entry says; None where that would not tell of another change."""
    try:
        status = os.stat(name)
    except OSError:
        return None
    if time.time() - max(status.st_mtime, status.st_ctime) < SETTLED_SECONDS:
        return None
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def digest_of(value: Any) -> str:
    """SHA-256 of the content of `plain` values, whatever the order of keys."""
    return hashlib.sha256(json.dumps(plain(value, whole=False), sort_keys=True).encode()).hexdigest()


def plain(value: Any, *, whole: bool = True) -> Any:
    """A value as JSON holds it: tensors as lists, records as objects of their public fields, all else as it prints itself.

    Args:
        value: the value.
        whole: whether tensors stay what they are, rather than the SHA-256 of their bytes.
    """
    if isinstance(value, Tensor):
        if whole:
            return value.tolist()
        content = value.detach().cpu().contiguous()
        digest = hashlib.sha256(content.flatten().view(torch.uint8).numpy().tobytes())
        return [str(content.dtype), list(content.shape), digest.hexdigest()]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [each.name for each in dataclasses.fields(value) if not each.name.startswith("_")]
        return {name: plain(getattr(value, name), whole=whole) for name in names}
    if isinstance(value, Mapping):
        return {str(key): plain(each, whole=whole) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each, whole=whole) for each in value]
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def files_below(path: StrPath) -> list[Path]:
    """The file itself, or all files below a directory, sorted; hidden ones are left out."""
    path = Path(path)
    if not path.is_dir():
        return [path]
    found = []
    for root, directories, files in os.walk(path):
        directories[:] = sorted(each for each in directories if not each.startswith("."))
        found += [Path(root, name) for name in sorted(files) if not name.startswith(".")]
    return found
