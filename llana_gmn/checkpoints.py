"""Weights of a model directory, shard by shard: read safely, renamed on the way, written atomically.

A 7B model in float32 is 27 GB; nothing here holds more than one shard of it at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from torch import Tensor

from gmn_encoder.encoders.base import EncoderConfig, NerfEncoder, encoder_class
from gmn_encoder.files import StrPath, read_json, read_tensors, write_json, write_safetensors

from .names import ENCODER, current_name

_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_SINGLE = ("model.safetensors", "pytorch_model.bin")
_SHARD_BYTES = 4 << 30


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


def encoder_of(weights: Iterable[tuple[str, Tensor]], config: EncoderConfig) -> NerfEncoder:
    """The encoder among the weights of a saved model."""
    named = ((current_name(key), tensor) for key, tensor in weights)
    state = {key.removeprefix(ENCODER): tensor for key, tensor in named if key.startswith(ENCODER)}
    encoder = encoder_class(config.model_type)(config)
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
