"""The Auto classes of transformers know the model as soon as `llana_gmn` is imported, and nothing heavy is imported for that.

To register is to import the model's classes, and with them torch (`model/auto.py`). It is therefore put off until somebody
asks `transformers` for a name behind which the model may stand: ``AutoConfig`` and the other ``Auto...``, or ``pipeline``.
The module `transformers` finds its names on first use already, by `__getattr__` of its class; until that moment the method is
one that registers first. (The class's, not the module's: `transformers` makes that module anew while it imports its processors.)
The method is set when `transformers` is imported, for which a finder on `sys.meta_path` waits, or at once where that has
happened before; where its Auto classes have been imported too, the model is registered at once.

Who takes an Auto class from a module below (``transformers.models.auto.modeling_auto``), and asks for none at the top, imports
`llana_gmn.model.auto`, or any public name of `llana_gmn`.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_PACKAGE = "llana_gmn"
_LIBRARY = "transformers"


def register_on_use() -> None:
    """Register the model when an Auto class, or ``pipeline``, is first asked of `transformers`; now if they may be in use."""
    if _LIBRARY not in sys.modules:
        sys.meta_path.insert(0, _Finder())
    elif f"{_LIBRARY}.models.auto.configuration_auto" in sys.modules:
        importlib.import_module(f"{_PACKAGE}.model.auto")
    else:
        _watch(type(sys.modules[_LIBRARY]))


def _watch(lazy_module: Any) -> None:
    """Let the class of the module `transformers` register before it hands out the first of those names, then be as before."""
    find = lazy_module.__getattr__

    def find_and_register(self: ModuleType, name: str) -> Any:
        found = find(self, name)
        if self.__name__ != _LIBRARY or not (name.startswith("Auto") or name == "pipeline"):
            return found
        if _is_being_imported():
            self.__dict__.pop(name, None)  # or the next who asks for it would not come by here
        else:
            lazy_module.__getattr__ = find
            importlib.import_module(f"{_PACKAGE}.model.auto")
        return found

    lazy_module.__getattr__ = find_and_register


def _is_being_imported() -> bool:
    """Whether a module of this package is in the middle of its import: it asks for Auto classes itself, and comes first."""
    ours = [module for name, module in list(sys.modules.items()) if name.startswith(f"{_PACKAGE}.")]
    return any(getattr(getattr(module, "__spec__", None), "_initializing", False) for module in ours)


class _Finder(MetaPathFinder):
    """Finds `transformers` as others do, and watches it once it is imported. To look for it is not to import it."""

    def __init__(self) -> None:
        self._asking = False

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _LIBRARY or self._asking:
            return None
        self._asking = True
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self._asking = False
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self)
        return spec


class _Loader(Loader):
    def __init__(self, loader: Loader, finder: _Finder) -> None:
        self._loader, self._finder = loader, finder

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        if self._finder in sys.meta_path:
            sys.meta_path.remove(self._finder)
        _watch(type(sys.modules[_LIBRARY]))  # of what it has put in its place, not of `module`
