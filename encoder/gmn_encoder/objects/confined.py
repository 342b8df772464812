"""Files that a mesh file names: read only where they lie in its folder, are files, and are of ordinary size."""

from __future__ import annotations

import re
import urllib.parse
from pathlib import Path
from typing import Any

_MOST_BYTES = 1 << 30


def read_beside(path: Path, name: str, what: str, *, most: int = _MOST_BYTES) -> bytes:
    """The content of a file that `path` names.

    Args:
        path: the file that names it.
        name: the name as it stands there, a relative path or a relative URI.
        what: what it is, for messages.
        most: bytes, at most.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a URL, a path that leads out of the folder, or something that is no file of ordinary size.
    """
    if re.match(r"^[A-Za-z][A-Za-z0-9+.-]+:", name):
        raise ValueError(f"{what} is at {name[:80]!r}; expected a file beside it: nothing is fetched")
    if "\0" in name or len(name) > 4096:
        raise ValueError(f"{what} is at {name[:80]!r}; expected a file beside it")
    root = path.parent.resolve()
    for candidate in dict.fromkeys([name, urllib.parse.unquote(name)]):
        try:
            file = (root / candidate.replace("\\", "/")).resolve()
            if not file.is_relative_to(root):
                raise ValueError(f"{what} is at {name[:80]!r}, outside the folder; expected a file beside it")
            if not file.exists():
                continue
            if not file.is_file():
                raise ValueError(f"{what} is at {name[:80]!r}, which is no ordinary file")
            if file.stat().st_size > most:
                raise ValueError(f"{what} has {file.stat().st_size >> 20:,} MiB; at most {most >> 20:,} MiB are taken")
            return file.read_bytes()
        except OSError as error:
            raise ValueError(f"{what} at {name[:80]!r} cannot be read: {error.strerror or error}") from error
    raise FileNotFoundError(f"{what} is missing")


def confined_resolver(path: Path, resolvers: Any) -> Any:
    """A trimesh resolver for the files that `path` names (`resolvers`: the module ``trimesh.resolvers``)."""

    class Confined(resolvers.FilePathResolver):
        def get(self, name: str) -> bytes:
            return read_beside(path, str(name), f"the file {str(name)[:80]!r} that it names")

    return Confined(str(path))
