"""What ships inside the package: a small model trained by the project's own recipes, and NeRFs that it was not trained on.

``scripts/train_default_model.sh`` makes both; the model card says what they are. Any other model or NeRF takes their place by
its path.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

_DEFAULT = Path(__file__).parent
OBJECTS_NAME = "objects.json"


@dataclass(frozen=True)
class DefaultObject:
    """An object whose NeRFs ship.

    Attributes:
        class_id, nerf_id: its directories below each family's.
        kind: "procedural", or "real" for one fitted from a mesh that other people made.
        attribution: name, author, licence and source of a real one.
    """

    class_id: str
    nerf_id: str
    kind: str
    attribution: str = ""


def default_model_path() -> Path:
    """The directory of the model. Raises `FileNotFoundError` in a copy of the package that was built without it."""
    return _there(_DEFAULT / "model", "config.json", "--model")


def default_nerfs_path() -> Path:
    """The directory of the NeRFs, in the layout that `llana-gmn fit` writes. Raises as `default_model_path`."""
    return _there(_DEFAULT / "nerfs", OBJECTS_NAME, "--nerfs")


def default_objects(path: Path | None = None) -> list[DefaultObject]:
    """The objects of a directory of NeRFs with an `objects.json`; of the default one if left out."""
    file = (path or default_nerfs_path()) / OBJECTS_NAME
    try:
        return [DefaultObject(**each) for each in json.loads(file.read_text(encoding="utf-8"))]
    except FileNotFoundError:
        raise FileNotFoundError(f"{file}: no such file; expected the list of objects beside their NeRFs") from None
    except (ValueError, TypeError) as error:
        raise ValueError(f"{file}: is no list of objects ({error})") from error


def _there(path: Path, file: str, flag: str) -> Path:
    if not (path / file).is_file():
        raise FileNotFoundError(f"{path}: does not ship with this copy of the package; name one with {flag}")
    return path
