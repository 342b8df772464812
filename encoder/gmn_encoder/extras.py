"""Optional libraries, imported where they are used and named with the extra that brings them."""

from __future__ import annotations

import functools
import importlib
import importlib.util
from types import ModuleType


def is_installed(name: str) -> bool:
    """Whether the top-level package `name` can be found; nothing is imported."""
    return importlib.util.find_spec(name) is not None


@functools.cache
def has_triton() -> bool:
    """Whether Triton kernels can be compiled here at all; without it every operation runs its plain torch form."""
    return is_installed("triton")


def require(name: str, extra: str) -> ModuleType:
    """Import the module `name`, or raise an `ImportError` that says which extra of llana-gmn installs it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise ImportError(
            f"{package} is needed here and cannot be imported ({error}); install it with: pip install 'llana-gmn[{extra}]'"
        ) from error
