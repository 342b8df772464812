"""Settings: frozen dataclasses that people write in YAML and change with ``key=value`` on the command line.

`Settings` reads and writes them by the types of their fields; the `require_*` functions check ranges in a `__post_init__`. Every
error is one sentence with the name of the setting, what was found and what was expected.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from .files import StrPath

_WORDS: dict[Any, str] = {
    bool: "true or false",
    int: "an integer",
    float: "a number",
    str: "text",
    tuple: "a list",
    dict: "'name: value' pairs",
}


class Settings:
    """What frozen dataclasses of settings inherit.

    Attributes:
        MAY_CHANGE: names of settings with other values of which a run may be continued: they do not change what is learned.
    """

    MAY_CHANGE: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, source: StrPath = "the settings") -> Self:
        """Settings from YAML or JSON values; the rest are the defaults.

        Raises `ValueError` for an unknown setting or an unfit value, naming it and `source`.
        """
        with _naming(source):
            return cls(**convert(cls, values))

    def to_dict(self) -> dict[str, Any]:
        """JSON values; the inverse of `from_dict`."""
        return typing.cast(dict[str, Any], _plain(dataclasses.asdict(typing.cast(Any, self))))

    def changed(self, **values: Any) -> Self:
        """A copy with other settings, given as YAML or Python values. Raises `ValueError` for unknown or unfit ones."""
        return dataclasses.replace(typing.cast(Any, self), **convert(type(self), values))

    def differences(self, other: Self) -> dict[str, tuple[Any, Any]]:
        """Settings that differ and change what is learned: name -> (here, there)."""
        mine, others = self.to_dict(), other.to_dict()
        return {
            key: (mine[key], others[key]) for key in mine if key not in self.MAY_CHANGE and mine[key] != others[key]
        }

    @classmethod
    def load(cls, path: StrPath | None = None, changes: Iterable[str] = (), **fixed: Any) -> Self:
        """Settings from a YAML file, with changes from the command line.

        Args:
            path: the file; None to begin with the defaults.
            changes: ``key=value`` with YAML values; ``group.key=2`` reaches into a group.
            **fixed: settings that win over both; None is left out.

        Raises:
            FileNotFoundError: no such file.
            ValueError: no YAML of settings; what is wrong is named, and the file where it stands there.
        """
        values: dict[str, Any] = {}
        if path is not None:
            content = read_yaml(path)
            if not isinstance(content, Mapping | None):
                raise ValueError(
                    f"{path}: holds a {type(content).__name__}; expected settings, one 'name: value' a line"
                )
            values = {str(key): value for key, value in (content or {}).items()}
            with _naming(path):
                convert(cls, values)
        for name, value in map(parse_setting, changes):
            *groups, last = name.split(".")
            inner = values
            for group in groups:
                inner[group] = dict(inner.get(group) or {})
                inner = inner[group]
            inner[last] = value
        given = convert(cls, {**values, **{key: value for key, value in fixed.items() if value is not None}})
        with _naming(path):
            return cls(**given)


@contextlib.contextmanager
def _naming(source: StrPath | None) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        if source is None:
            raise
        raise ValueError(f"{source}: {error}") from error


def read_yaml(path: StrPath) -> Any:
    """The content of a YAML file. Raises `FileNotFoundError`, and `ValueError` with its name where it is no YAML."""
    import yaml

    try:
        return yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file; expected a YAML file of settings") from None
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


def convert(cls: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """YAML values as the fields of a dataclass say: tuples for lists, numbers for words such as 1e-4, which YAML takes for text.

    Raises `ValueError` for a name that is no field (with the nearest one that is) and for a value of another type.
    """
    known = [field.name for field in dataclasses.fields(cls) if field.init]
    for name in values:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(sorted(known))}"
            raise ValueError(f"unknown setting {name!r}; {hint}")
    hints = typing.get_type_hints(cls)
    return {name: _convert(value, hints[name], name) for name, value in values.items()}


def _convert(value: Any, hint: Any, name: str) -> Any:
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if value is None and type(None) in options:
        return None
    (kind, *_) = (option for option in options if option is not type(None))
    origin = typing.get_origin(kind) or kind
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        if isinstance(value, kind):
            return value
        if not isinstance(value, Mapping):
            raise ValueError(f"{name} is {value!r}; expected a group of settings")
        return kind(**convert(kind, value))
    if origin is typing.Literal:
        if value not in typing.get_args(kind):
            raise ValueError(f"{name} is {value!r}; expected one of {', '.join(map(str, typing.get_args(kind)))}")
        return value
    if origin is tuple:
        items = value.split(",") if isinstance(value, str) else value
        if isinstance(items, list | tuple):
            return tuple(_convert(item, typing.get_args(kind)[0], name) for item in items)
    elif isinstance(origin, type) and issubclass(origin, Mapping):
        if isinstance(value, Mapping):
            return {str(key): _convert(item, typing.get_args(kind)[1], name) for key, item in value.items()}
        origin = dict
    elif origin is Any or (origin in (bool, str) and isinstance(value, origin)):
        return value
    elif origin in (int, float) and isinstance(value, int | float | str) and not isinstance(value, bool):
        with contextlib.suppress(ValueError, OverflowError):
            number = float(value)
            if origin is float:
                return number
            if number == int(number):
                return int(number)
    raise ValueError(f"{name} is {value!r}; expected {_WORDS[origin]}")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def require_integers(settings: Any, least: int, *names: str) -> None:
    """Raise `ValueError` unless these fields are integers of at least `least`, or None."""
    for name, value in _given(settings, names):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{name} is {value!r}; expected an integer of at least {least}")


def require_numbers(settings: Any, least: float, *names: str) -> None:
    """Raise `ValueError` unless these fields are finite numbers of at least `least`, or None."""
    for name, value in _given(settings, names):
        if not (_is_finite(value) and value >= least):
            raise ValueError(f"{name} is {value!r}; expected a number of at least {least}")


def require_positive(settings: Any, *names: str) -> None:
    """Raise `ValueError` unless these fields are finite numbers above zero, or None."""
    for name, value in _given(settings, names):
        if not (_is_finite(value) and value > 0):
            raise ValueError(f"{name} is {value!r}; expected a number above 0")


def require_shares(settings: Any, *names: str, zero: bool = False) -> None:
    """Raise `ValueError` unless these fields lie between 0 and 1, both left out (`zero`: 0 is fine), or are None."""
    for name, value in _given(settings, names):
        if not (_is_finite(value) and 0 <= value < 1 and (zero or value)):
            raise ValueError(f"{name} is {value!r}; expected {'0 or ' if zero else ''}a share between 0 and 1")


def require_one_of(settings: Any, name: str, allowed: Iterable[Any]) -> None:
    """Raise `ValueError` unless a field is one of the values, or None."""
    allowed = list(allowed)
    for _, value in _given(settings, [name]):
        if value not in allowed:
            raise ValueError(f"{name} is {value!r}; expected one of {', '.join(map(str, allowed))}")


def _given(settings: Any, names: Iterable[str]) -> Iterator[tuple[str, Any]]:
    return ((name, value) for name in names if (value := getattr(settings, name)) is not None)


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
