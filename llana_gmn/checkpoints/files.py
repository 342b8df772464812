"""Weights of a model directory, shard by shard: read safely, renamed on the way, written atomically.

A 7B model in float32 is 27 GB; nothing here holds more than one shard of it at a time.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from gmn_encoder.encoders.base import EncoderConfig, NerfEncoder, encoder_class
from gmn_encoder.encoders.files import CONFIG_NAME, check_fits
from gmn_encoder.files import (
    StrPath,
    brief,
    named_errors,
    read_json,
    read_tensors,
    reason,
    write_json,
    write_safetensors,
)
from gmn_encoder.torch_files import check_torch_file

from ..names import ENCODER, current_name

_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_SINGLE = ("model.safetensors", "pytorch_model.bin")
_SHARD_BYTES = 4 << 30

MAX_LAYERS = 1024
"""Layers of a backbone, and whatever else a configuration counts in layers; the largest that are published have 130."""

MAX_SIZE = 1 << 31
"""Any other integer in a configuration: widths, tokens, positions."""

_LAYERS = re.compile(r"layers?$|depth$|experts?$")


def weight_files(directory: StrPath) -> list[Path]:
    """The weight files of a model directory, sharded or not, safetensors before `.bin`."""
    directory = Path(directory)
    for index, single in zip(_INDEXES, _SINGLE, strict=True):
        if (directory / index).is_file():
            return [directory / name for name in _shard_names(directory / index)]
        if (directory / single).is_file():
            return [directory / single]
    raise FileNotFoundError(f"{directory}: holds no weights; expected one of {', '.join((*_INDEXES, *_SINGLE))}")


def _shard_names(index: Path) -> list[str]:
    content = read_json(index)
    table = content.get("weight_map")
    if not isinstance(table, dict) or not all(isinstance(name, str) for name in table.values()):
        raise ValueError(f"{index}: has no weight_map; expected names of tensors and of their files")
    names = sorted(set(table.values()))
    for name in names:
        if Path(name).name != name:
            raise ValueError(f"{index}: refers to {name!r}, outside its directory; expected plain file names")
        if not (index.parent / name).is_file():
            raise FileNotFoundError(f"{index.parent / name}: no such file, but {index.name} names it")
    return names


def read_weights(directory: StrPath) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of a model directory with its name, one file in memory at a time; no code of a pickle runs."""
    for file in weight_files(directory):
        content, _ = read_tensors(file)
        for key in list(content):
            tensor = content.pop(key)
            if not isinstance(tensor, Tensor):
                raise ValueError(f"{file}: {key!r} is a {type(tensor).__name__}; expected a tensor")
            yield key, tensor


def check_model(directory: Path, cls: type) -> None:
    """Check a directory of `save_pretrained` before anything of the size that its configuration says is made.

    Weights are only looked at for their sizes: there must be as many as the configuration asks for.

    Args:
        directory: the directory.
        cls: the class of the model, of transformers' kind.

    Raises:
        FileNotFoundError: no configuration, no weights, or a file of them is missing.
        ValueError: a configuration of another model, or with sizes that no model has or that contradict the weights; weights
            that are cut short. The message names the file.
    """
    file = directory / CONFIG_NAME
    values = read_json(file)
    wanted = cls.config_class.model_type  # type: ignore[attr-defined]
    if values.get("model_type") != wanted:
        raise ValueError(f"{file}: is of model_type {brief(values.get('model_type'))}; expected {wanted!r}")
    for name, number in _numbers(values):
        most = MAX_LAYERS if _LAYERS.search(name) else MAX_SIZE
        if abs(number) > most:
            raise ValueError(f"{file}: {name} is {brief(number)}; expected at most {most:,}")
    stored = [_stored_elements(each) for each in weight_files(directory)]
    with named_errors(file):
        config = cls.config_class.from_pretrained(directory)  # type: ignore[attr-defined]
        if None in stored or values.get("quantization_config"):
            return
        with torch.device("meta"):
            model = cls(config)
        tensors = {id(tensor): tensor for tensor in model.state_dict(keep_vars=True).values()}
        asked, there = sum(tensor.numel() for tensor in tensors.values()), sum(each or 0 for each in stored)
        if asked > there:
            raise ValueError(f"asks for a model of {asked:,} weights, and {there:,} are there")


def _numbers(values: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """Every integer of a configuration with its name, those in lists and dicts too."""
    rest: list[tuple[str, Any]] = [("", values)]
    while rest:
        name, value = rest.pop()
        if isinstance(value, Mapping):
            rest.extend((str(key), each) for key, each in value.items())
        elif isinstance(value, list):
            rest.extend((name, each) for each in value)
        elif isinstance(value, int):
            yield name, value


def _stored_elements(file: Path) -> int | None:
    """Elements of the tensors of a file, without reading them; None for a `.bin`, which is checked when it is read."""
    if file.suffix != ".safetensors":
        with named_errors(file), open(file, "rb") as stream:
            check_torch_file(stream)
        return None
    try:
        with safe_open(file, "np") as content:
            return sum(math.prod(content.get_slice(key).get_shape()) for key in content.keys())  # noqa: SIM118 (no mapping)
    except Exception as error:
        raise ValueError(f"{file}: is no safetensors file, or cut short ({reason(error)})") from error


def encoder_of(weights: Iterable[tuple[str, Tensor]], config: EncoderConfig) -> NerfEncoder:
    """The encoder among the weights of a saved model."""
    named = ((current_name(key), tensor) for key, tensor in weights)
    state = {key.removeprefix(ENCODER): tensor for key, tensor in named if key.startswith(ENCODER)}
    cls = encoder_class(config.model_type)
    check_fits(cls, config, state)
    encoder = cls(config)
    encoder.load_state_dict(state)
    return encoder.eval()


class ShardWriter:
    """Writes tensors as they come into ``model.safetensors``, or into shards with an index where they are large."""

    def __init__(self, directory: StrPath, *, shard_bytes: int = _SHARD_BYTES) -> None:
        self._directory = Path(directory)
        self._limit = shard_bytes
        self._pending: dict[str, Tensor] = {}
        self._bytes = 0
        self._total = 0
        self._shards: list[list[str]] = []

    def add(self, key: str, tensor: Tensor) -> None:
        size = tensor.numel() * tensor.element_size()
        if self._pending and self._bytes + size > self._limit:
            self._flush()
        self._pending[key] = tensor
        self._bytes += size
        self._total += size

    def close(self) -> None:
        if self._pending or not self._shards:
            self._flush()
        count = len(self._shards)
        if count == 1:
            self._temporary(0).rename(self._directory / "model.safetensors")
            return
        table = {}
        for i, keys in enumerate(self._shards):
            name = f"model-{i + 1:05d}-of-{count:05d}.safetensors"
            self._temporary(i).rename(self._directory / name)
            table.update(dict.fromkeys(keys, name))
        write_json({"metadata": {"total_size": self._total}, "weight_map": table}, self._directory / _INDEXES[0])

    def _flush(self) -> None:
        write_safetensors(self._pending, self._temporary(len(self._shards)), metadata={"format": "pt"})
        self._shards.append(list(self._pending))
        self._pending = {}
        self._bytes = 0

    def _temporary(self, i: int) -> Path:
        return self._directory / f"shard-{i}.safetensors"
