"""The tensors of nerfstudio's `NerfactoField` in any of the forms that its versions write: torch's or tiny-cuda-nn's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .base import require_shapes
from .encodings import GridLevel, linear_layers, padded_network_shapes, tcnn_levels

GEOMETRY = 15
"""Features that the density network gives the colour network."""

_HARMONICS = 16
_TCNN = ("mlp_base.model.params", "mlp_base.params", "mlp_base.1.tcnn_encoding.params")
_TORCH = ("mlp_base.model.0.hash_table", "mlp_base.0.hash_table")
_APPEARANCE = "embedding_appearance.embedding.weight"
_WIDTHS, _DEPTHS = (64, 128, 32, 16), (1, 2, 3, 4)


@dataclass(frozen=True, eq=False)
class FieldWeights:
    """Tensors as of `NerfstudioField`, the levels of its grid, and its sizes for `inspect`."""

    tensors: dict[str, Tensor]
    levels: tuple[GridLevel, ...]
    sizes: dict[str, int]
    tcnn: bool


def find_key(field: Mapping[str, Tensor]) -> str | None:
    """The tensor that tells a field's form, or None for a field that is no `NerfactoField`."""
    return next((key for key in (*_TCNN, *_TORCH) if key in field and field[key].numel()), None)


def field_tensors(field: Mapping[str, Tensor], model: Mapping[str, Any], *, average_appearance: bool) -> FieldWeights:
    """Bring a field's tensors into one form.

    Args:
        field: those of the checkpoint, without the prefix of the field.
        model: the run's settings of the model, as far as known.
        average_appearance: whether the mean of the images' embeddings stands for one, where the settings do not say; else zeros.

    Raises:
        ValueError: sizes that do not fit each other.
    """
    key, sizes = find_key(field) or _TCNN[0], _grid_sizes(field, model)
    tcnn = key in _TCNN
    tensors, levels = _tcnn_tensors(field, key, sizes) if tcnn else _torch_tensors(field, key, sizes)
    if (table := _appearance(field)) is not None:
        mean = bool(model.get("use_average_appearance_embedding", average_appearance)) and len(table) > 0
        tensors["appearance"] = table.mean(dim=0) if mean else torch.zeros(table.shape[1])
    inputs = _HARMONICS + GEOMETRY + len(tensors.get("appearance", ()))
    columns = tensors["head.0.weight"].shape[1]
    if columns != (-(-inputs // 16) * 16 if tcnn else inputs):
        raise ValueError(f"its colour network reads {columns} values; expected {inputs}")
    sizes["width"] = tensors["base.0.weight"].shape[0]
    return FieldWeights(tensors, tuple(levels), sizes, tcnn)


def _grid_sizes(field: Mapping[str, Tensor], model: Mapping[str, Any]) -> dict[str, int]:
    """Levels, resolutions and table size: buffers of the checkpoint, then the run's settings, then the defaults."""
    known = {
        "levels": ("num_levels", 16, 64),
        "base_resolution": ("base_res", 16, 1 << 12),
        "max_resolution": ("max_res", 2048, 1 << 20),
        "log2_table_size": ("log2_hashmap_size", 19, 24),
        "features": ("features_per_level", 2, 16),
    }
    sizes = {}
    for name, (key, default, most) in known.items():
        value: Any = model.get(key, default)
        if key in field and field[key].numel() == 1:
            value = field[key].item()
        if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= most:
            raise ValueError(f"{key} of its hash grid is {value!r}; expected 1 to {most}")
        sizes[name] = int(value)
    if sizes["max_resolution"] < sizes["base_resolution"]:
        raise ValueError(f"its hash grid goes from {sizes['base_resolution']} to {sizes['max_resolution']} voxels")
    return sizes


def _growth(sizes: Mapping[str, int]) -> float:
    spread = math.log(sizes["max_resolution"]) - math.log(sizes["base_resolution"])
    return math.exp(spread / (sizes["levels"] - 1)) if sizes["levels"] > 1 else 1.0


def _torch_tensors(
    field: Mapping[str, Tensor], key: str, sizes: dict[str, int]
) -> tuple[dict[str, Tensor], list[GridLevel]]:
    entries = 2 ** sizes["log2_table_size"]
    require_shapes(field, {key: (sizes["levels"] * entries, -1)})
    tensors = {"table": field[key].detach().float()}
    sizes["features"] = tensors["table"].shape[1]
    # torch's encoding rounds the scale of a level down, in float32, does not shift, and hashes every level.
    scales = torch.floor(sizes["base_resolution"] * _growth(sizes) ** torch.arange(sizes["levels"])).tolist()
    levels = [GridLevel(float(scale), 0.0, None, entries) for scale in scales]
    for name, prefix in (("base", f"{key.removesuffix('0.hash_table')}1.layers"), ("head", "mlp_head.layers")):
        width = sizes["levels"] * sizes["features"] if name == "base" else -1
        number = 0
        while f"{prefix}.{number}.weight" in field or number == 0:
            last = f"{prefix}.{number + 1}.weight" not in field
            rows = (1 + GEOMETRY if name == "base" else 3) if last else -1
            require_shapes(field, {f"{prefix}.{number}.weight": (rows, width)})
            width = field[f"{prefix}.{number}.weight"].shape[0]
            require_shapes(field, {f"{prefix}.{number}.bias": (width,)})
            for part in ("weight", "bias"):
                tensors[f"{name}.{number}.{part}"] = field[f"{prefix}.{number}.{part}"].detach().float()
            number += 1
    return tensors, levels


def _tcnn_tensors(
    field: Mapping[str, Tensor], key: str, sizes: Mapping[str, int]
) -> tuple[dict[str, Tensor], list[GridLevel]]:
    levels = tcnn_levels(sizes["levels"], sizes["base_resolution"], _growth(sizes), sizes["log2_table_size"])
    numbers = sum(level.entries for level in levels) * sizes["features"]
    require_shapes(field, {key: (-1,)})
    network = field[key].detach().float()
    if key == _TCNN[2]:  # encoding and network apart
        grid_key = "mlp_base.0.tcnn_encoding.params"
        require_shapes(field, {grid_key: (numbers,)})
        grid = field[grid_key].detach().float()
    elif len(network) <= numbers:
        raise ValueError(f"{key!r} has {len(network):,} numbers; expected more than the {numbers:,} of its hash grid")
    else:
        network, grid = network[: len(network) - numbers], network[len(network) - numbers :]
    head_key = next((each for each in ("mlp_head.tcnn_encoding.params", "mlp_head.params") if each in field), None)
    if head_key is None:
        raise ValueError("its field has no 'mlp_head.tcnn_encoding.params'; expected the colour network of nerfacto")
    require_shapes(field, {head_key: (-1,)})
    appearance = _appearance(field)
    inputs = _HARMONICS + GEOMETRY + (0 if appearance is None else appearance.shape[1])
    tensors = {"table": grid.view(-1, sizes["features"])}
    parts = (("base", network, sizes["levels"] * sizes["features"], 1 + GEOMETRY), ("head", field[head_key], inputs, 3))
    for name, flat, columns, rows in parts:
        matrices = _tcnn_matrices(flat.detach().float(), columns, rows, key if name == "base" else head_key)
        tensors |= {f"{name}.{number}.weight": matrix for number, matrix in enumerate(matrices)}
    return tensors, levels


def _tcnn_matrices(flat: Tensor, inputs: int, outputs: int, key: str) -> list[Tensor]:
    """The matrices of a flat network, of the first usual depth and width that has so many numbers."""
    for depth in _DEPTHS:
        for width in _WIDTHS:
            shapes = padded_network_shapes(inputs, width, depth, outputs)
            if sum(rows * columns for rows, columns in shapes) == len(flat):
                return linear_layers(flat, shapes)
    raise ValueError(f"{key!r} has {len(flat):,} numbers for a network that reads {inputs}; no usual width has so many")


def _appearance(field: Mapping[str, Tensor]) -> Tensor | None:
    if _APPEARANCE not in field or not field[_APPEARANCE].numel():
        return None
    require_shapes(field, {_APPEARANCE: (-1, -1)})
    return field[_APPEARANCE].detach().float()
