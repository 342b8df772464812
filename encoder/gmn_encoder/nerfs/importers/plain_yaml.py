"""YAML files that describe Python objects, read as plain data: no class is looked up, nothing is made or called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from ...files import StrPath

_LARGEST = 4 << 20  # bytes


class _PlainLoader(yaml.SafeLoader):
    """A safe loader to which a tag says nothing: what it marks is a mapping, a list or a string.

    Aliases are kept, so a file cannot grow in memory by naming itself; a merge is not done.
    """


def _plain(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return {
            str(loader.construct_object(key, deep=True)): loader.construct_object(value, deep=True)
            for key, value in node.value
        }
    if isinstance(node, yaml.SequenceNode):
        return [loader.construct_object(each, deep=True) for each in node.value]
    return node.value


_PlainLoader.add_multi_constructor("", _plain)


def read_plain_yaml(path: StrPath) -> dict[str, Any]:
    """The mapping in a YAML file, an empty one where the file is no mapping.

    Raises `ValueError` for a file that is no YAML or too large to be settings.
    """
    path = Path(path)
    if path.stat().st_size > _LARGEST:
        raise ValueError(f"{path}: has {path.stat().st_size:,} bytes; expected settings, at most {_LARGEST:,}")
    try:
        value = yaml.load(path.read_text(encoding="utf-8"), Loader=_PlainLoader)
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: is no YAML file ({' '.join(str(error).split())[:120]})") from error
    return value if isinstance(value, dict) else {}
