"""Settings of recipes: YAML files, and ``key=value`` on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .files import StrPath


def read_yaml(path: StrPath) -> Any:
    """The content of a YAML file. Raises `FileNotFoundError`, and `ValueError` with its name where it is no YAML."""
    import yaml

    try:
        return yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: is no YAML file ({' '.join(str(error).split())})") from error


def parse_setting(text: str) -> tuple[str, Any]:
    """``key=value`` as a name and what YAML makes of the value (None of nothing). Raises `ValueError` where it is none."""
    import yaml

    key, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"{text!r} is no setting; expected key=value, such as epochs=20")
    try:
        return key.strip(), yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ValueError(f"{text!r}: the value is no YAML; expected a number, word or [list]") from error
