"""Encoders: their configurations and weights."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .forged import archive, called, integer, mapping, pickled, safetensors_bytes, tensor, written
from .registry import hostile

_CONFIG: dict[str, Any] = {"model_type": "gmn_encoder", "hidden_dim": 8, "embedding_dim": 16, "num_layers": 2}


def _directory(folder: Path, config: object, weights: bytes = b"") -> Path:
    place = folder / "bad-encoder"
    text = config if isinstance(config, bytes) else json.dumps(config).encode()
    written(place / "config.json", text)
    written(place / "model.safetensors", weights or safetensors_bytes({}))
    return place


def _with(name: str, value: object) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        return _directory(folder, {**_CONFIG, name: value})

    write.__name__ = f"{name}_{type(value).__name__}_{len(repr(value))}"
    return write


for _name, _value in [
    ("num_layers", 10**9),
    ("num_layers", 200),
    ("num_layers", "2"),
    ("hidden_dim", 10**9),
    ("hidden_dim", 65_536),
    ("embedding_dim", 10**4000),
    ("embedding_dim", [16]),
    ("num_node_types", 10**12),
    ("readout_dim", 10**12),
    ("layer_norm_eps", 10**400),
    ("layer_norm_eps", {"a": 1}),
    ("layout", ["released"]),
    ("model_type", ["gmn_encoder"]),
    ("model_type", "x" * 100_000),
    ("unknown", None),
]:
    hostile("encoder")(_with(_name, _value))


@hostile("encoder")
def nf2vec_widths(folder: Path) -> Path:
    return _directory(folder, {"model_type": "nf2vec", "hidden_dims": [60_000] * 200, "embedding_dim": 60_000})


@hostile("encoder")
def nf2vec_many_layers(folder: Path) -> Path:
    return _directory(folder, {"model_type": "nf2vec", "hidden_dims": [1] * 1_000_000})


@hostile("encoder")
def nf2vec_no_list(folder: Path) -> Path:
    return _directory(folder, {"model_type": "nf2vec", "hidden_dims": 7})


@hostile("encoder")
def config_of_brackets(folder: Path) -> Path:
    return _directory(folder, b"[" * 500_000)


@hostile("encoder")
def config_that_is_a_list(folder: Path) -> Path:
    return _directory(folder, [_CONFIG])


@hostile("encoder")
def config_of_digits(folder: Path) -> Path:
    return _directory(folder, b'{"num_layers": ' + b"9" * 6000 + b"}")


@hostile("encoder")
def config_of_bytes(folder: Path) -> Path:
    return _directory(folder, bytes(range(256)))


@hostile("encoder")
def no_config(folder: Path) -> Path:
    place = _directory(folder, _CONFIG)
    (place / "config.json").unlink()
    return place


@hostile("encoder")
def no_weights(folder: Path) -> Path:
    place = _directory(folder, _CONFIG)
    (place / "model.safetensors").unlink()
    return place


@hostile("encoder")
def weights_of_nothing(folder: Path) -> Path:
    return _directory(folder, _CONFIG)


@hostile("encoder")
def truncated_weights(folder: Path) -> Path:
    header = {"pre_encoder.x_proj.weight": {"dtype": "F32", "shape": [8, 8], "data_offsets": [0, 256]}}
    return _directory(folder, _CONFIG, safetensors_bytes(header, bytes(100)))


@hostile("encoder")
def checkpoint_with_a_bytearray(folder: Path) -> Path:
    return archive(
        folder / "bad.pt", pickled(mapping({"encoder": called("builtins", "bytearray", integer(6 * 10**9))}))
    )


@hostile("encoder")
def checkpoint_that_is_a_number(folder: Path) -> Path:
    return archive(folder / "bad.pt", pickled(mapping({"encoder": integer(3)})))


@hostile("encoder")
def checkpoint_of_ten_thousand_layers(folder: Path) -> Path:
    """Its names say so, and one number is behind all of them."""
    value = tensor([1], elements=1)
    keys = {f"gnn_w_readout.gnn.layers.{i}.edge_norm.weight": value for i in range(10_000)}
    keys |= {
        f"{name}.weight": tensor([1, 1], elements=1)
        for name in ("pre_encoder.x_proj", "gnn_w_readout.readout.mlp.0", "pre_encoder.node_type_encoder")
    }
    keys |= {"pre_encoder.edge_type_encoder.weight": tensor([1, 1], elements=1)}
    return archive(folder / "bad.pt", pickled(mapping({"encoder": mapping(keys)})), {"0": struct.pack("<f", 1.0)})


@hostile("encoder")
def checkpoint_of_wide_views(folder: Path) -> Path:
    """Tables of 10^9 rows over one number."""
    wide = tensor([10**9, 10**9], strides=[0, 0], elements=1)
    names = ("pre_encoder.x_proj", "gnn_w_readout.readout.mlp.0", "pre_encoder.node_type_encoder")
    keys = {f"{name}.weight": wide for name in (*names, "pre_encoder.edge_type_encoder")}
    return archive(folder / "bad.pt", pickled(mapping({"encoder": mapping(keys)})), {"0": struct.pack("<f", 1.0)})
