"""Checkpoints of torch-ngp (ashawkey): `ngp.pth`, `ngp_epNNNN.pth`, of its torch and its tiny-cuda-nn networks.

Its grid looks like tiny-cuda-nn's but numbers vertices otherwise, so sizes of levels are taken from the file. The scale and the
offset of the data set are not stored: coordinates are those of the network, in which y points up.

Shapes: S points.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from .base import Contents, ForeignField, Importer, register_importer, require_shapes
from .encodings import (
    GridLevel,
    grid_features,
    linear_layers,
    padded_network_shapes,
    relu_network,
    spherical_harmonics,
    tcnn_levels,
)
from .occupancy import cascades_from_morton, occupied_at

_BASE, _FINEST, _LEVELS, _LOG2_TABLE, _GEOMETRY, _HARMONICS, _WIDTH = 16, 2048, 16, 19, 15, 16, 64
_STRANGERS = {"encoder_deform": "D-NeRF", "deform_net": "D-NeRF", "sigma_mat": "TensoRF", "U_vec": "CCNeRF"}


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class TorchNgpField(ForeignField):
    """A network of torch-ngp in its own world.

    Its tensors: `table`, `density.N`, `colour.N` and, where the file has a grid, `occupied` (see `occupied_at`).

    Attributes:
        levels: of the hash grid.
        bound: half the side of the cube that it is in.
    """

    levels: tuple[GridLevel, ...]
    bound: float

    def density(self, xyz: Tensor) -> tuple[Tensor, Tensor]:
        u = (xyz + self.bound) / (2 * self.bound)
        inside = ((u >= 0) & (u <= 1)).all(dim=-1, keepdim=True)
        raw = relu_network(grid_features(self.tensors["table"], self.levels, u * inside), self._matrices("density"))
        low, high = (xyz.new_tensor(corner) for corner in self.box)
        inside = inside & ((xyz > low) & (xyz < high)).all(dim=-1, keepdim=True)
        if "occupied" in self.tensors:
            cascades = range(len(self.tensors["occupied"]))
            halves = [min(2.0**cascade, self.bound) for cascade in cascades]
            inside = inside & occupied_at(self.tensors["occupied"], halves, xyz)
        return torch.exp(raw[:, :1]) * inside, raw[:, 1 : 1 + _GEOMETRY]

    def colour(self, features: Tensor, directions: Tensor) -> Tensor:
        values = torch.cat([spherical_harmonics(directions), features], dim=-1)
        return torch.sigmoid(relu_network(values, self._matrices("colour"))[:, :3])

    def _matrices(self, name: str) -> list[Tensor]:
        count = sum(key.startswith(f"{name}.") for key in self.tensors)
        return [self.tensors[f"{name}.{number}"] for number in range(count)]


class TorchNgpImporter(Importer):
    """Checkpoints of NeRFs; D-NeRF, TensoRF and SDF variants are refused by name."""

    name = "torch-ngp"
    suffixes = (".pth",)

    def recognises(self, contents: Contents) -> bool:
        model = contents.outline.get("model") or ()
        own = ("encoder.embeddings", "encoder.params", "sigma_net.0.weight", "sigma_net.params", "sigma_net.weights")
        return any(key in model for key in own) or any(_stranger(str(key)) for key in model)

    def read(self, contents: Contents) -> ForeignField:
        model = {str(key): value for key, value in contents.checkpoint["model"].items() if isinstance(value, Tensor)}
        if kind := next((found for key in model if (found := _stranger(key))), None):
            raise ValueError(f"is a {kind} model of torch-ngp; expected its plain NeRF, which alone is read")
        if "aabb_train" not in model:
            raise ValueError("has no 'aabb_train'; expected a NeRF of torch-ngp, not one of its SDF or image models")
        require_shapes(model, {"aabb_train": (6,)})
        bound = float(model["aabb_train"][3])
        if not 0 < bound <= 1 << 10:
            raise ValueError(f"its bound is {bound}; expected a positive number")
        tcnn = "encoder.params" in model
        tensors, levels = _tcnn_grid(model, bound) if tcnn else _torch_grid(model, bound)
        inputs = len(levels) * tensors["table"].shape[1]
        tensors |= _network(model, "sigma_net", "density", inputs, 1, 1 + _GEOMETRY)
        tensors |= _network(model, "color_net", "colour", _HARMONICS + _GEOMETRY, 2, 3)
        box = model.get("aabb_infer", model["aabb_train"])
        require_shapes({"aabb_infer": box}, {"aabb_infer": (6,)})
        a, b, c, d, e, f = box.tolist()
        if not (a < d and b < e and c < f):
            raise ValueError(f"'aabb_infer' is {box.tolist()}; expected a lowest and a highest corner")
        if (occupied := _occupied(model)) is not None:
            tensors["occupied"] = occupied
        notes = [
            "scale and offset of its data set are not stored: coordinates are the network's, y up",
            "density_scale, which is not stored either, is taken as 1",
        ]
        if any(key.startswith("bg_net") for key in model):
            notes.append("its background sphere is left out")
        return TorchNgpField(
            kind=f"torch-ngp checkpoint ({'tcnn' if tcnn else 'torch'})",
            source=contents.path,
            box=((a, b, c), (d, e, f)),
            tensors=tensors,
            up=(0.0, 1.0, 0.0),
            view_dependent=True,
            bounded=bound <= 1,
            viewpoints="hemisphere",
            camera_distance=None if bound <= 1 else 1.0,
            step=2 * math.sqrt(3) / 1024,
            sizes={
                "bound": bound,
                "levels": len(levels),
                "features": tensors["table"].shape[1],
                "width": tensors["density.0"].shape[0],
                "rows": len(tensors["table"]),
                "epoch": contents.checkpoint.get("epoch"),
            },
            notes=tuple(notes),
            levels=tuple(levels),
            bound=bound,
        )


def _stranger(key: str) -> str | None:
    return next((kind for part, kind in _STRANGERS.items() if key.startswith(part)), None)


def _torch_grid(model: Mapping[str, Tensor], bound: float) -> tuple[dict[str, Tensor], list[GridLevel]]:
    """The torch extension's grid: dense levels have one vertex more along an axis than tiny-cuda-nn's, by its own numbering."""
    require_shapes(model, {"encoder.embeddings": (-1, -1)})
    table, offsets = model["encoder.embeddings"].float(), model.get("encoder.offsets")
    if offsets is None or offsets.ndim != 1 or len(offsets) < 2 or offsets.is_floating_point():
        raise ValueError("has no 'encoder.offsets' with the levels of its grid; expected a checkpoint of torch-ngp")
    sizes = offsets.long().diff().tolist()
    if int(offsets[0]) != 0 or min(sizes) < 1 or int(offsets[-1]) != len(table):
        raise ValueError(f"its levels have {sizes} rows and its table {len(table):,}; expected them to add up")
    count = len(sizes)
    log2_growth = math.log2(_FINEST * bound / _BASE) / max(count - 1, 1)
    scales = [_BASE * 2 ** (level * log2_growth) - 1 for level in range(count)]
    strides = [math.ceil(round(scale, 6)) + 1 for scale in scales]
    # Its levels have a vertex more along an axis than tiny-cuda-nn's; those of its forks do not, which shows in one that is not
    # cut to the size of the table.
    fork = any(-(-(s**3) // 8) * 8 == rows < max(sizes) for s, rows in zip(strides, sizes, strict=True))
    levels = [
        GridLevel(scale, 0.5, stride + (not fork), rows)
        for scale, stride, rows in zip(scales, strides, sizes, strict=True)
    ]
    return {"table": table}, levels


def _tcnn_grid(model: Mapping[str, Tensor], bound: float) -> tuple[dict[str, Tensor], list[GridLevel]]:
    growth = 2 ** (math.log2(_FINEST * bound / _BASE) / (_LEVELS - 1))
    levels = tcnn_levels(_LEVELS, _BASE, growth, _LOG2_TABLE)
    rows = sum(level.entries for level in levels)
    require_shapes(model, {"encoder.params": (rows * 2,)})
    return {"table": model["encoder.params"].float().view(rows, 2)}, levels


def _network(
    model: Mapping[str, Tensor], name: str, own: str, inputs: int, layers: int, outputs: int
) -> dict[str, Tensor]:
    """The matrices of a network, from layers or from the flat numbers of tiny-cuda-nn and of the program's own fused one."""
    flat = next((f"{name}.{part}" for part in ("params", "weights") if f"{name}.{part}" in model), None)
    if flat is not None:
        require_shapes(model, {flat: (-1,)})
        shapes = padded_network_shapes(inputs, _WIDTH, layers, outputs)
        expected = sum(rows * columns for rows, columns in shapes)
        if len(model[flat]) != expected:
            raise ValueError(f"{flat!r} has {len(model[flat]):,} numbers; expected {expected:,}")
        return {f"{own}.{n}": matrix for n, matrix in enumerate(linear_layers(model[flat].float(), shapes))}
    matrices: dict[str, Tensor] = {}
    width, number = inputs, 0
    while f"{name}.{number}.weight" in model or number == 0:
        last = f"{name}.{number + 1}.weight" not in model
        require_shapes(model, {f"{name}.{number}.weight": (outputs if last else -1, width)})
        matrices[f"{own}.{number}"] = model[f"{name}.{number}.weight"].float()
        width, number = model[f"{name}.{number}.weight"].shape[0], number + 1
    return matrices


def _occupied(model: Mapping[str, Tensor]) -> Tensor | None:
    """Its occupied voxels, as `occupied_at` takes them: the bits that the program marches by, else the density grid's."""
    grid, bits = model.get("density_grid"), model.get("density_bitfield")
    if grid is None:
        return None
    size = round(grid.shape[-1] ** (1 / 3)) if grid.ndim == 2 else 0
    if grid.ndim != 2 or size**3 != grid.shape[-1] or size & (size - 1):
        raise ValueError(f"'density_grid' is {list(grid.shape)}; expected cascades of cubes")
    if bits is not None and bits.dtype == torch.uint8 and 8 * bits.numel() == grid.numel():
        return cascades_from_morton((bits.view(-1, 1) >> torch.arange(8) & 1).bool().view(grid.shape))
    return cascades_from_morton(grid.float() > min(0.01, float(grid.float().clamp(min=0).mean())))


register_importer(TorchNgpImporter())
