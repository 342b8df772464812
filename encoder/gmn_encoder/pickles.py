"""What a torch file's pickle would do, found out without doing it.

`torch.load(weights_only=True)` runs no code of a file, but it makes what the file asks for, `bytearray(6000000000)` too, before
anybody can look at it. `Walk` goes through the opcodes first (`pickletools`) and works out sizes alone: it knows strings,
integers and tuples, and takes all else for granted. What passes is a few kinds of plain values, and tensors over storages whose
sizes it tells; `torch_files.py` compares these with the file.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

MAX_OPCODES = 2_000_000
"""Ten thousand tensors take half of it."""

_MAX_DEPTH = 64

_REBUILD = frozenset(
    f"torch._utils.{name}"
    for name in (
        *("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3"),
        *("_rebuild_parameter", "_rebuild_sparse_tensor"),
    )
)
_CALLED = _REBUILD | {"collections.OrderedDict", "torch.serialization._get_layout", "torch.Size", "torch.device"}
"""What a pickle may call; the results are no larger than the arguments."""

_ENCODE, _ENCODINGS = "_codecs.encode", ("latin1", "utf-8")
"""How pickles of protocol 2 write bytes."""

_SCALARS = frozenset(("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"))
_DTYPE, _DTYPES = "numpy.dtype", frozenset(kind + size for kind in "fiu" for size in "1248") | {"b1"}
NUMPY_NUMBERS = frozenset((*_SCALARS, _DTYPE, _ENCODE))
"""Numbers of numpy, which checkpoints of some programs keep beside their weights: `extra` of `Walk`."""

_SIMPLE = frozenset(("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINSTRING"))
_MAX_INTEGER = 1 << 127
_MAX_KEY = 1 << 60  # larger ones can be chosen to collide in a dict


_DICTS = ("dict", "collections.OrderedDict")

Outline = Mapping[Any, tuple[Any, ...] | None]
"""The keys of a dict, and of each dict in it; None where something else stands."""


class PickleError(ValueError):
    """Why a file is not read; the sentence goes on from its name."""


@dataclass(eq=False)
class _Made:
    """A value that is not looked into: a container, or what a call gave; of a dict, its keys and the dicts in it."""

    kind: str
    keys: list[Any] = field(default_factory=list)
    inside: dict[Any, _Made] = field(default_factory=dict)

    def put(self, key: Any, value: Any) -> None:
        self.keys.append(key)
        if isinstance(value, _Made) and value.kind in _DICTS:
            self.inside[key] = value


@dataclass(frozen=True)
class _Global:
    name: str


@dataclass(frozen=True, eq=False)
class _Tuple:
    items: tuple[Any, ...]
    depth: int


@dataclass(frozen=True)
class Storage:
    """Bytes that a pickle asks for."""

    key: str
    nbytes: int


class Walk:
    """Goes through opcodes with a stack of sizes in place of values.

    Attributes:
        storages: what tensors are over, in the pickles so far.
        outline: what is in the dict that the last pickle makes; empty where it makes none.
    """

    def __init__(self, extra: Collection[str] = ()) -> None:
        self._extra = frozenset(extra)
        self._opcodes = 0
        self.storages: list[Storage] = []
        self.outline: Outline = {}

    def walk(self, stream: io.BytesIO) -> list[Storage]:
        """Check the pickle at a place of a stream, and leave the stream behind it. Returns `storages`.

        Raises `PickleError` for one that is broken, or asks for anything but plain values and tensors.
        """
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        try:
            for opcode, argument, _ in pickletools.genops(stream):
                self._opcodes += 1
                if self._opcodes > MAX_OPCODES:
                    raise PickleError(f"has a pickle of more than {MAX_OPCODES:,} steps; expected a dict of tensors")
                self._step(opcode.name, argument)
        except PickleError:
            raise
        except (IndexError, KeyError, AttributeError, ValueError, TypeError) as error:
            raise PickleError(f"is no torch.save file, or cut short (its pickle is broken: {_short(error)})") from error
        return self.storages

    def _step(self, name: str, argument: Any) -> None:
        step = getattr(self, f"_{name.lower()}", None)
        if name in _SIMPLE:
            if isinstance(argument, int) and not -_MAX_INTEGER <= argument < _MAX_INTEGER:
                raise PickleError("has an integer of more than 128 bits; expected sizes and numbers of tensors")
            self._stack.append(argument)
        elif name in ("NONE", "NEWTRUE", "NEWFALSE"):
            self._stack.append(None)
        elif step is not None:
            step(argument)
        elif name in ("INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "STACK_GLOBAL", "EXT1", "EXT2", "EXT4"):
            raise self._code(argument if isinstance(argument, str) else "an object of a class")
        else:
            raise PickleError(
                "refused, a pickle that torch.save did not write; expected a plain dict of tensors (nothing was executed)"
            )

    def _code(self, name: str) -> PickleError:
        if name.startswith(("torch._utils._rebuild", "torch._tensor._rebuild")):
            kind = name.rpartition("_rebuild_")[2].replace("_", " ")
            return PickleError(f"holds a tensor of another kind ({kind}); expected plain dense tensors")
        return PickleError(
            f"refused, its pickle asks for {name[:80]}, which is code; "
            "expected a plain dict of tensors as torch.save writes it (nothing was executed)"
        )

    # Opcodes, by their names

    def _proto(self, _: Any) -> None:
        pass

    def _stop(self, _: Any) -> None:
        made = self._stack.pop()
        self.outline = {}
        if isinstance(made, _Made) and made.kind in _DICTS:
            inside = {key: tuple(each.keys) for key, each in made.inside.items()}
            self.outline = {key: inside.get(key) for key in made.keys}

    def _mark(self, _: Any) -> None:
        self._below.append(self._stack)
        self._stack = []

    def _marked(self) -> list[Any]:
        items, self._stack = self._stack, self._below.pop()
        return items

    def _empty_dict(self, _: Any) -> None:
        self._stack.append(_Made("dict"))

    def _empty_list(self, _: Any) -> None:
        self._stack.append(_Made("list"))

    def _empty_tuple(self, _: Any) -> None:
        self._push_tuple([])

    def _tuple(self, _: Any) -> None:
        self._push_tuple(self._marked())

    def _tuple1(self, _: Any) -> None:
        self._push_tuple(self._popped(1))

    def _tuple2(self, _: Any) -> None:
        self._push_tuple(self._popped(2))

    def _tuple3(self, _: Any) -> None:
        self._push_tuple(self._popped(3))

    def _popped(self, count: int) -> list[Any]:
        if len(self._stack) < count:
            raise IndexError("the stack is empty")
        items = self._stack[-count:]
        del self._stack[-count:]
        return items

    def _push_tuple(self, items: list[Any]) -> None:
        depth = 1 + max((item.depth for item in items if isinstance(item, _Tuple)), default=0)
        if depth > _MAX_DEPTH:  # hashing one goes as deep
            raise PickleError(f"has tuples in tuples, {depth} deep; expected a plain dict of tensors")
        self._stack.append(_Tuple(tuple(items), depth))

    def _append(self, _: Any) -> None:
        self._popped(1)
        self._expect("list")

    def _appends(self, _: Any) -> None:
        self._marked()
        self._expect("list")

    def _setitem(self, _: Any) -> None:
        key, value = self._popped(2)
        self._expect(*_DICTS).put(self._key(key), value)

    def _setitems(self, _: Any) -> None:
        items = self._marked()
        made = self._expect(*_DICTS)
        for key, value in zip(items[::2], items[1::2], strict=True):
            made.put(self._key(key), value)

    def _key(self, key: Any) -> Any:
        if not (key is None or isinstance(key, str) or (isinstance(key, int) and abs(key) < _MAX_KEY)):
            raise PickleError("has a dict with a key that is no name; expected names of tensors")
        return key

    def _expect(self, *kinds: str) -> _Made:
        made = self._stack[-1]
        if not isinstance(made, _Made) or made.kind not in kinds:
            raise ValueError("a value is no container")
        return made

    def _put(self, argument: int) -> None:
        self._memo[argument] = self._stack[-1]

    def _get(self, argument: int) -> None:
        self._stack.append(self._memo[argument])

    _binput = _long_binput = _put
    _binget = _long_binget = _get

    def _global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        full = f"{module}.{name}"
        if full not in _CALLED | self._extra | {_ENCODE} and not _is_constant(module, name):
            raise self._code(full)
        self._stack.append(_Global(full))

    def _reduce(self, _: Any) -> None:
        function, arguments = self._popped(2)
        if not isinstance(function, _Global) or not isinstance(arguments, _Tuple):
            raise ValueError("a call of no function")
        name, items = function.name, arguments.items
        if name not in _CALLED | self._extra | {_ENCODE}:
            raise self._code(name)
        if name == _ENCODE and (len(items) != 2 or items[1] not in _ENCODINGS):
            raise self._code(name)
        if name == _DTYPE and (not items or items[0] not in _DTYPES):
            raise PickleError(f"holds a number of numpy's kind {str(items[:1])[:40]}; expected integers and floats")
        if name in _SCALARS and len(items) != 2:
            raise ValueError("a number without its bytes")
        self._stack.append(_Made(name))

    def _build(self, _: Any) -> None:
        state = self._popped(1)[0]
        made = self._stack[-1]
        if not isinstance(made, _Made):
            raise ValueError("a state of no object")
        # state_dict() of a module notes versions on its OrderedDict; a dtype of numpy has its byte order.
        plain = isinstance(state, _Made) and state.kind == "dict" and set(state.keys) <= {"_metadata"}
        order = isinstance(state, _Tuple) and [each for each in state.items if isinstance(each, str)] in (["<"], ["|"])
        if (made.kind, plain, order) not in (("collections.OrderedDict", True, False), (_DTYPE, False, True)):
            raise self._code(f"attributes of {made.kind}")

    def _binpersid(self, _: Any) -> None:
        identity = self._popped(1)[0]
        items = identity.items if isinstance(identity, _Tuple) else ()
        if len(items) not in (5, 6) or items[0] != "storage" or not isinstance(items[1], _Global):
            raise ValueError("a persistent id of no storage")
        key, count = items[2], items[4]
        if not isinstance(key, str) or not isinstance(count, int) or count < 0:
            raise ValueError("a storage without a size")
        self.storages.append(Storage(key, count * _element_size(items[1].name)))
        self._stack.append(self.storages[-1])


def _is_constant(module: str, name: str) -> bool:
    """Whether a name is a dtype or a class of storages."""
    if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
        return True
    return module in ("torch", "torch.cuda", "torch.storage") and name.endswith("Storage") and name.isidentifier()


def _element_size(storage: str) -> int:
    """Bytes of an element of a class of storages, which is named after its dtype."""
    kind = storage.rpartition(".")[2].removesuffix("Storage")
    found = getattr(torch, f"{kind}Storage", None)
    dtype = getattr(found, "dtype", None)
    return dtype.itemsize if isinstance(dtype, torch.dtype) else 1 if kind == "Untyped" else 16


def _short(error: Exception) -> str:
    return f"{type(error).__name__} {error}".strip()[:100]
