"""Configurations of encoders as they are saved: the fields of a dataclass beside the kind's ``model_type``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from ..files import brief

MAX_WIDTH = 1 << 16
"""Of a layer or a table of an encoder."""

MAX_LAYERS = 256


class SavedConfig:
    """What the frozen dataclass of a kind inherits."""

    model_type: ClassVar[str]

    def to_dict(self) -> dict[str, Any]:
        """Its fields for JSON, with ``model_type``."""
        values: dict[str, Any] = dataclasses.asdict(self)  # type: ignore[call-overload]
        lists = {name: list(value) for name, value in values.items() if isinstance(value, tuple)}
        return {"model_type": self.model_type, **values, **lists}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`. Raises `ValueError` on another model's configuration or an unknown field."""
        values = dict(values)
        model_type = values.pop("model_type", cls.model_type)
        if model_type != cls.model_type:
            raise ValueError(f"configuration is of a {brief(model_type)} model; expected {cls.model_type!r}")
        fields = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
        if unknown := sorted(str(name) for name in set(values) - fields):
            raise ValueError(f"{cls.__name__} has no field {brief(unknown[0])}; it has {', '.join(sorted(fields))}")
        return cls(**values)
