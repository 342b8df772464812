"""Runs of nerfstudio: fields of its methods nerfacto and instant-ngp, with torch's or tiny-cuda-nn's weights.

A run is a folder with `config.yml`, `dataparser_transforms.json` and `nerfstudio_models/step-NNNNNNNNN.ckpt`; a checkpoint alone
is read with the defaults of the named methods. `config.yml` describes Python objects: it is read as plain data.

Source: nerfstudio 1.1 (`fields/nerfacto_field.py`, `models/`), Tancik et al.

Shapes: S points.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...files import read_json
from ..fields import Box
from .base import Contents, ForeignField, Importer, register_importer, require_shapes
from .encodings import GridLevel, grid_features, relu_network, spherical_harmonics
from .nerfstudio_weights import GEOMETRY, field_tensors, find_key
from .plain_yaml import read_plain_yaml

_PREFIX = "_model.field."
_FOLDER, _CONFIG, _TRANSFORMS = "nerfstudio_models", "config.yml", "dataparser_transforms.json"
_NAMED_INITIAL_DENSITY = 0.01  # of the named nerfacto methods


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class NerfstudioField(ForeignField):
    """A `NerfactoField`, in the world of its model.

    Its tensors: `table` of all levels, `base.N.weight`, `head.N.weight` and, of torch's, `.bias`; `appearance` ``(A,)``, what
    stands for an image's embedding; `occupied` and `occupied_boxes`, where the model has an occupancy grid.

    Attributes:
        levels: of the hash grid.
        tcnn: whether tiny-cuda-nn evaluates it, whose harmonics have other signs and see directions in -1..1.
        contracted: whether space beyond -1..1 is bent into -2..2; else the field is in its box.
        initial_density: factor of the density.
    """

    levels: tuple[GridLevel, ...]
    tcnn: bool
    contracted: bool
    initial_density: float

    def density(self, xyz: Tensor) -> tuple[Tensor, Tensor]:
        if self.contracted:
            reach = xyz.abs().amax(dim=-1, keepdim=True).clamp(min=1)
            u = ((2 - 1 / reach) * xyz / reach + 2) / 4
        else:
            low, high = (xyz.new_tensor(corner) for corner in self.box)
            u = (xyz - low) / (high - low)
        inside = ((u > 0) & (u < 1)).all(dim=-1, keepdim=True)
        raw = self._network("base", grid_features(self.tensors["table"], self.levels, u * inside))
        density = self.initial_density * torch.exp(raw[:, :1]) * inside
        if "occupied" in self.tensors:
            density = density * self._occupied(xyz)
        return density, raw[:, 1 : 1 + GEOMETRY]

    def colour(self, features: Tensor, directions: Tensor) -> Tensor:
        # torch's harmonics are given directions in 0..1, a quirk that the weights were trained with.
        looks = (
            spherical_harmonics(directions) if self.tcnn else spherical_harmonics((directions + 1) / 2, positive=True)
        )
        parts = [looks, features]
        if "appearance" in self.tensors:
            parts.append(self.tensors["appearance"].expand(len(features), -1))
        return torch.sigmoid(self._network("head", torch.cat(parts, dim=-1))[:, :3])

    def _network(self, name: str, values: Tensor) -> Tensor:
        count = sum(key.startswith(f"{name}.") and key.endswith(".weight") for key in self.tensors)
        matrices = [self.tensors[f"{name}.{number}.weight"] for number in range(count)]
        return relu_network(values, matrices, [self.tensors.get(f"{name}.{number}.bias") for number in range(count)])

    def _occupied(self, xyz: Tensor) -> Tensor:
        """``(S, 1)``: whether a point is in an occupied voxel of the smallest grid that has it."""
        grids, boxes = self.tensors["occupied"], self.tensors["occupied_boxes"]
        found = torch.zeros(len(xyz), 1, dtype=torch.bool, device=xyz.device)
        resolution = grids.shape[1]
        for grid, box in zip(grids.flip(0), boxes.flip(0), strict=True):
            u = (xyz - box[:3]) / (box[3:] - box[:3])
            inside = ((u >= 0) & (u < 1)).all(dim=-1, keepdim=True)
            x, y, z = (u.clamp(0, 1) * resolution).long().clamp(max=resolution - 1).unbind(dim=-1)
            found = torch.where(inside, grid[x, y, z][:, None] > 0, found)
        return found


class NerfstudioImporter(Importer):
    """Run folders and checkpoints; methods other than nerfacto and instant-ngp are refused by name."""

    name = "nerfstudio"
    suffixes = (".ckpt",)
    settings = (_CONFIG, _TRANSFORMS)

    def recognises(self, contents: Contents) -> bool:
        pipeline = opened_run(contents).outline.get("pipeline")
        return pipeline is not None and not any("gauss_params" in str(key) for key in pipeline)

    def read(self, contents: Contents) -> ForeignField:
        contents = opened_run(contents)
        pipeline = contents.checkpoint["pipeline"]
        run = run_settings(contents.path)
        field = {
            str(key).removeprefix("module.").removeprefix(_PREFIX): value
            for key, value in pipeline.items()
            if str(key).removeprefix("module.").startswith(_PREFIX) and isinstance(value, Tensor)
        }
        model, method = run.get("model", {}), str(run.get("method_name", ""))
        occupancy = _occupancy(pipeline)
        ngp = bool(occupancy) or method.startswith("instant-ngp")
        if find_key(field) is None:
            named = f" (method {method!r})" if method else ""
            found = ", ".join(sorted(field)[:4]) or "no field"
            raise ValueError(
                f"{contents.path}: its field{named} has no hash grid as nerfacto has it; found {found}; "
                "expected nerfacto or instant-ngp of nerfstudio"
            )
        weights = field_tensors(field, model, average_appearance=not ngp)
        notes: list[str] = []
        initial = model.get("average_init_density", 1.0 if ngp else None)
        if initial is None:
            initial = _NAMED_INITIAL_DENSITY
            notes.append(f"average_init_density, which no {_CONFIG} beside it says, is taken as {initial}")
        if not isinstance(initial, int | float) or not 0 < initial < math.inf:
            raise ValueError(f"{contents.path}: average_init_density is {initial!r}; expected a positive number")
        contracted = not model.get("disable_scene_contraction", method == "instant-ngp-bounded")
        box = _box(field, contracted)
        return NerfstudioField(
            kind=f"nerfstudio {'instant-ngp' if ngp else 'nerfacto'} checkpoint ({'tcnn' if weights.tcnn else 'torch'})",
            source=contents.path,
            box=box,
            tensors={**weights.tensors, **occupancy},
            view_dependent=True,
            bounded=not contracted,
            viewpoints="hemisphere",
            camera_distance=max((high - low) / 2 for low, high in zip(*box, strict=True)),
            sizes={
                "method": method or None,
                **weights.sizes,
                "step": contents.checkpoint.get("step"),
                "contracted": contracted,
                "average_init_density": initial,
                "appearance": "appearance" in weights.tensors,
                "dataparser": run.get("transforms"),
            },
            notes=tuple(notes),
            levels=weights.levels,
            tcnn=weights.tcnn,
            contracted=contracted,
            initial_density=float(initial),
        )


def opened_run(contents: Contents) -> Contents:
    """The last checkpoint of a run folder, or of its folder of checkpoints; anything else as it is."""
    if not contents.is_directory:
        return contents
    folder = contents.path if contents.path.name == _FOLDER else contents.path / _FOLDER
    files = sorted(folder.glob("step-*.ckpt")) if folder.is_dir() else []
    return Contents(files[-1]) if files else contents


def run_settings(checkpoint: Path) -> dict[str, Any]:
    """`method_name`, `model` and `transforms` of the run that a checkpoint stands in, as far as files beside it say."""
    found: dict[str, Any] = {}
    for directory in (checkpoint.absolute().parent, checkpoint.absolute().parent.parent):
        config, transforms = directory / _CONFIG, directory / _TRANSFORMS
        if config.is_file() and "model" not in found:
            content = read_plain_yaml(config)
            pipeline = content.get("pipeline")
            model = pipeline.get("model") if isinstance(pipeline, Mapping) else None
            if isinstance(model, Mapping):
                found |= {"method_name": content.get("method_name", ""), "model": dict(model)}
        if transforms.is_file() and "transforms" not in found:
            content = read_json(transforms)
            found["transforms"] = {key: content[key] for key in ("transform", "scale") if key in content}
    return found


def _box(field: Mapping[str, Tensor], contracted: bool) -> Box:
    if contracted:
        return (-1.0,) * 3, (1.0,) * 3
    require_shapes(field, {"aabb": (2, 3)})
    (a, b, c), (d, e, f) = field["aabb"].tolist()
    if not (a < d and b < e and c < f):
        raise ValueError(f"its box is {field['aabb'].tolist()}; expected a lowest and a highest corner")
    return (a, b, c), (d, e, f)


def _occupancy(pipeline: Mapping[str, Any]) -> dict[str, Tensor]:
    """The occupancy grids of the method instant-ngp."""
    found = {
        str(key).partition("occupancy_grid.")[2]: value
        for key, value in pipeline.items()
        if "occupancy_grid." in str(key)
    }
    binaries, boxes = found.get("binaries"), found.get("aabbs")
    if not isinstance(binaries, Tensor) or not isinstance(boxes, Tensor):
        return {}
    if binaries.ndim != 4 or len(set(binaries.shape[1:])) != 1 or tuple(boxes.shape) != (len(binaries), 6):
        raise ValueError(f"its occupancy grid is {list(binaries.shape)}; expected levels of cubes, each with a box")
    return {"occupied": binaries.to(torch.uint8), "occupied_boxes": boxes.float()}


register_importer(NerfstudioImporter())
