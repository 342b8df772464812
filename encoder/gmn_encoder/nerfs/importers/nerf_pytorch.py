"""Checkpoints of the two programs called nerf-pytorch: krrish94's (`*.ckpt`) and yenchenlin's (`NNNNNN.tar`).

Both are the networks of Mildenhall et al. with a coarse and a fine copy, the latter of which is read; they differ in the names of
layers, in where a ReLU is missing and in the order in which a skip connection puts its parts. Sizes are those of the tensors, as
the configurations beside published files contradict them.

Shapes: S points, H width of the network.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import Contents, ForeignField, Importer, register_importer, require_shapes
from .encodings import waves
from .plain_yaml import read_plain_yaml

Program = Literal["krrish94", "yenchenlin"]

_REACH = 2.0
"""Half the side of the box of Blender scenes: cameras 4 away see from 2 to 6."""
_CAMERA_DISTANCE, _CAMERA_ANGLE = 4.03, 0.6911112
_NDC_OCTAVES = 6  # what krrish94 trains forward-facing scenes with


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class NerfPytorchField(ForeignField):
    """A network of krrish94's or yenchenlin's nerf-pytorch, in the world of its cameras.

    Attributes:
        program: whose.
        octaves, direction_octaves: frequencies of the encodings; None where the encoding leaves the input itself out.
    """

    program: Program
    octaves: int
    direction_octaves: int
    include_input: bool = True
    include_direction: bool = True

    def density(self, xyz: Tensor) -> tuple[Tensor, Tensor]:
        encoded = waves(xyz, self.octaves, include_input=self.include_input)
        hidden = self._krrish(encoded) if self.program == "krrish94" else self._yenchen(encoded)
        if not self.view_dependent:
            raw = self._linear("fc_out" if self.program == "krrish94" else "output_linear", hidden)
            return torch.relu(raw[:, 3:4]), torch.sigmoid(raw[:, :3])
        if self.program == "krrish94":
            return torch.relu(self._linear("fc_alpha", hidden)), torch.relu(self._linear("fc_feat", hidden))
        return torch.relu(self._linear("alpha_linear", hidden)), self._linear("feature_linear", hidden)

    def colour(self, features: Tensor, directions: Tensor) -> Tensor:
        if not self.view_dependent:
            return features
        looks = waves(directions, self.direction_octaves, include_input=self.include_direction)
        layers, last = ("layers_dir", "fc_rgb") if self.program == "krrish94" else ("views_linears", "rgb_linear")
        hidden = torch.relu(self._linear(f"{layers}.0", torch.cat([features, looks], dim=-1)))
        return torch.sigmoid(self._linear(last, hidden))

    def _krrish(self, encoded: Tensor) -> Tensor:
        hidden = self._linear("layer1", encoded)  # no ReLU follows this one
        for number in range(_count(self.tensors, "layers_xyz")):
            if self.tensors[f"layers_xyz.{number}.weight"].shape[1] > hidden.shape[1]:
                hidden = torch.cat([hidden, encoded], dim=-1)
            hidden = torch.relu(self._linear(f"layers_xyz.{number}", hidden))
        return hidden

    def _yenchen(self, encoded: Tensor) -> Tensor:
        hidden = encoded
        for number in range(_count(self.tensors, "pts_linears")):
            if self.tensors[f"pts_linears.{number}.weight"].shape[1] > hidden.shape[1]:
                hidden = torch.cat([encoded, hidden], dim=-1)
            hidden = torch.relu(self._linear(f"pts_linears.{number}", hidden))
        return hidden

    def _linear(self, name: str, values: Tensor) -> Tensor:
        return F.linear(values, self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"])


class NerfPytorchImporter(Importer):
    """Checkpoints of both programs; forward-facing scenes in normalised device coordinates are refused."""

    name = "nerf-pytorch"
    suffixes = (".ckpt", ".tar")
    settings = ("*config*.yml", "*config*.yaml", "args.txt", "config.txt")

    def recognises(self, contents: Contents) -> bool:
        return not _KEYS.isdisjoint(contents.outline)

    def read(self, contents: Contents) -> ForeignField:
        content = contents.checkpoint
        krrish = "model_coarse_state_dict" in content or "model_fine_state_dict" in content
        names = ("model_fine_state_dict", "model_coarse_state_dict")
        names = names if krrish else ("network_fine_state_dict", "network_fn_state_dict")
        name = next((name for name in names if content.get(name)), None)
        if name is None or not isinstance(content[name], Mapping):
            raise ValueError(f"has no network in {' or '.join(names)}; expected a checkpoint of nerf-pytorch")
        tensors = {
            str(key).removeprefix("module."): value.detach().float() if isinstance(value, Tensor) else value
            for key, value in content[name].items()
        }
        settings = _settings_beside(contents.path, krrish)
        sizes = _krrish_sizes(tensors) if krrish else _yenchen_sizes(tensors)
        _refuse_ndc(settings, sizes, krrish)
        coarse = "coarse" if name == names[1] else "fine"
        return NerfPytorchField(
            kind=f"nerf-pytorch checkpoint ({'krrish94' if krrish else 'yenchenlin'})",
            source=contents.path,
            box=((-_REACH,) * 3, (_REACH,) * 3),
            tensors={key: value for key, value in tensors.items() if isinstance(value, Tensor)},
            program="krrish94" if krrish else "yenchenlin",
            viewpoints="hemisphere",
            camera_distance=_CAMERA_DISTANCE,
            camera_angle=_CAMERA_ANGLE,
            background=(0.0, 0.0, 0.0) if settings.get("white") is False else (1.0, 1.0, 1.0),
            sizes={
                "network": coarse,
                **{key: value for key, value in sizes.items() if isinstance(value, int)},
                "iteration": content.get("iter", content.get("global_step")),
            },
            notes=(
                "cameras, which the file has none of, are taken as of NeRF-synthetic: in the upper hemisphere, 4 from the origin",
            ),
            view_dependent=bool(sizes["view_dependent"]),
            octaves=sizes["octaves"],
            direction_octaves=sizes["direction_octaves"],
            include_input=bool(sizes["include_input"]),
            include_direction=bool(sizes["include_direction"]),
        )


_KEYS = frozenset(
    ("model_coarse_state_dict", "model_fine_state_dict", "network_fn_state_dict", "network_fine_state_dict")
)


def _count(tensors: Mapping[str, Any], layers: str) -> int:
    number = 0
    while f"{layers}.{number}.weight" in tensors:
        number += 1
    return number


def _octaves(width: int, what: str) -> tuple[int, bool]:
    """Frequencies of an encoding of so many columns, and whether it has the input itself."""
    if width % 6 not in (0, 3) or width > 3 + 6 * 30:
        raise ValueError(f"the encoding of {what} has {width} columns; expected 6 for each frequency, or 3 more")
    return width // 6, width % 6 == 3


def _krrish_sizes(tensors: Mapping[str, Any]) -> dict[str, Any]:
    odd = [
        key for key in tensors if not re.match(r"(layer1|layers_xyz\.\d+|fc_(feat|alpha|rgb|out)|layers_dir\.0)\.", key)
    ]
    if odd:
        raise ValueError(
            f"its network has the layer {odd[0]!r}, which FlexibleNeRFModel does not have; expected that class, "
            "no other of krrish94's nerf-pytorch is read"
        )
    require_shapes(tensors, {"layer1.weight": (-1, -1), "layer1.bias": (-1,)})
    return _sizes(tensors, "layer1", "layers_xyz", "layers_dir", "fc_rgb", "fc_alpha", "fc_feat", "fc_out")


def _yenchen_sizes(tensors: Mapping[str, Any]) -> dict[str, Any]:
    require_shapes(tensors, {"pts_linears.0.weight": (-1, -1), "pts_linears.0.bias": (-1,)})
    names = ("views_linears", "rgb_linear", "alpha_linear", "feature_linear", "output_linear")
    if "rgb_linear.weight" not in tensors:
        # The program makes views_linears even where it does not use them.
        tensors = {key: value for key, value in tensors.items() if not key.startswith("views_linears")}
    return _sizes(tensors, "pts_linears.0", "pts_linears", *names)


def _sizes(
    tensors: Mapping[str, Any], first: str, layers: str, views: str, rgb: str, alpha: str, feature: str, out: str
) -> dict[str, Any]:
    """Sizes of a network whose layers have these names. Raises `ValueError` where its tensors do not fit each other."""
    width, inputs = tensors[f"{first}.weight"].shape
    octaves, include_input = _octaves(inputs, "points")
    count = _count(tensors, layers)
    for number in range(0 if first == "layer1" else 1, count):
        require_shapes(tensors, {f"{layers}.{number}.weight": (width, -1), f"{layers}.{number}.bias": (width,)})
        columns = tensors[f"{layers}.{number}.weight"].shape[1]
        if columns not in (width, width + inputs):
            raise ValueError(
                f"layer {number} reads {columns} values; expected {width}, or {width + inputs} with a skip"
            )
    sizes = {"width": width, "layers": count + (first == "layer1"), "octaves": octaves, "include_input": include_input}
    if f"{rgb}.weight" not in tensors:
        require_shapes(tensors, {f"{out}.weight": (-1, width), f"{out}.bias": (-1,)})
        if tensors[f"{out}.weight"].shape[0] < 4:
            raise ValueError(f"{out!r} gives {len(tensors[f'{out}.weight'])} values; expected colour and density")
        return {**sizes, "view_dependent": False, "direction_octaves": 0, "include_direction": True}
    require_shapes(
        tensors,
        {
            f"{feature}.weight": (width, width),
            f"{feature}.bias": (width,),
            f"{alpha}.weight": (1, width),
            f"{alpha}.bias": (1,),
            f"{views}.0.weight": (-1, -1),
            f"{views}.0.bias": (-1,),
        },
    )
    if _count(tensors, views) != 1:
        raise ValueError(f"has {_count(tensors, views)} layers {views!r}; expected one")
    half, columns = tensors[f"{views}.0.weight"].shape
    require_shapes(tensors, {f"{rgb}.weight": (3, half), f"{rgb}.bias": (3,), f"{views}.0.bias": (half,)})
    direction_octaves, include_direction = _octaves(columns - width, "directions")
    return {
        **sizes,
        "view_dependent": True,
        "direction_octaves": direction_octaves,
        "include_direction": include_direction,
    }


def _settings_beside(path: Path, krrish: bool) -> dict[str, Any]:
    """What the run's settings beside a checkpoint say about its scene: `type`, `ndc`; empty where there are none."""
    if krrish:
        for file in sorted(path.parent.glob("*config*.yml")) + sorted(path.parent.glob("*config*.yaml")):
            settings = read_plain_yaml(file)
            dataset, training = settings.get("dataset"), (settings.get("nerf") or {})
            training = training.get("train") if isinstance(training, Mapping) else None
            if isinstance(dataset, Mapping):
                return {
                    "type": dataset.get("type"),
                    "ndc": not dataset.get("no_ndc", dataset.get("type") != "llff"),
                    "white": training.get("white_background", True) if isinstance(training, Mapping) else True,
                }
        return {}
    found: dict[str, Any] = {}
    for name in ("args.txt", "config.txt"):
        file = path.parent / name
        if file.is_file() and file.stat().st_size < 1 << 20:
            for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
                key, _, value = line.partition("=")
                if key.strip() in ("dataset_type", "no_ndc", "white_bkgd"):
                    found.setdefault(key.strip(), value.strip())
    if "dataset_type" not in found:
        return {}
    return {
        "type": found["dataset_type"],
        "ndc": found["dataset_type"] == "llff" and found.get("no_ndc", "False") != "True",
        "white": found.get("white_bkgd", "False") == "True",
    }


def _refuse_ndc(settings: Mapping[str, Any], sizes: Mapping[str, Any], krrish: bool) -> None:
    why = None
    if settings.get("ndc"):
        why = "the settings beside it say so"
    elif not settings and krrish and sizes["octaves"] == _NDC_OCTAVES:
        why = f"{_NDC_OCTAVES} frequencies say so; if it is not, put the run's config.yml with dataset.no_ndc: true beside it"
    if why:
        raise ValueError(
            "is a forward-facing scene in normalised device coordinates, a view frustum that bends space and has no object "
            f"all around ({why}); expected a scene with cameras around an object, such as those of NeRF-synthetic"
        )


register_importer(NerfPytorchImporter())
