"""The splats in a checkpoint of nerfstudio's splatfacto."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..base import Contents, Importer, register_importer
from ..nerfstudio import opened_run, run_settings
from .field import SplatField, splat_field
from .record import UP_Z, Splats, check_coefficients, check_count, make_splats

_PREFIX = "_model.gauss_params."


class SplatfactoImporter(Importer):
    """Checkpoints and run folders of nerfstudio whose model is splatfacto."""

    name = "splatfacto"
    suffixes = (".ckpt",)

    def recognises(self, contents: Contents) -> bool:
        pipeline = opened_run(contents).outline.get("pipeline") or ()
        return bool(_parameters(dict.fromkeys(pipeline)))

    def read(self, contents: Contents) -> SplatField:
        contents = opened_run(contents)
        field = splat_field(splatfacto_splats(contents.checkpoint["pipeline"]), contents.path)
        sizes = {"step": contents.checkpoint.get("step"), "dataparser": run_settings(contents.path).get("transforms")}
        return replace(field, sizes={**field.sizes, **sizes})


def splatfacto_splats(pipeline: Mapping[str, Any]) -> Splats:
    """The splats of the ``pipeline`` of a nerfstudio checkpoint. Raises `ValueError` for tensors of other shapes."""
    parts = _parameters(pipeline)
    means = parts.get("means")
    count = len(means) if isinstance(means, Tensor) and means.ndim else 0
    check_count(count, 0, 0)
    rest = parts.setdefault("features_rest", torch.zeros(count, 0, 3))
    wide = rest.shape[1] if isinstance(rest, Tensor) and rest.ndim == 3 else -1
    shapes = {
        "means": (count, 3), "scales": (count, 3), "quats": (count, 4), "opacities": (count, 1),
        "features_dc": (count, 3), "features_rest": (count, wide, 3),
    }  # fmt: skip
    for name, shape in shapes.items():
        found = parts.get(name)
        if not isinstance(found, Tensor) or found.shape != shape or not found.is_floating_point():
            word = f"{list(found.shape)}" if isinstance(found, Tensor) else "missing"
            raise ValueError(f"its gauss_params.{name} is {word}; expected {list(shape)} floating-point numbers")
    check_coefficients(3 * wide)
    parts = {name: parts[name].detach().float() for name in shapes}
    return make_splats(
        "nerfstudio splatfacto checkpoint",
        means=parts["means"],
        scales=parts["scales"].exp(),
        rotations=parts["quats"],
        opacities=parts["opacities"][:, 0].sigmoid(),
        harmonics=torch.cat([parts["features_dc"][:, None], parts["features_rest"]], dim=1),
        up=UP_Z,
    )


def _parameters(pipeline: Mapping[str, Any]) -> dict[str, Any]:
    """What the splats are made of, by its last name."""
    plain = {str(key).removeprefix("module."): value for key, value in pipeline.items()}
    return {key.removeprefix(_PREFIX): value for key, value in plain.items() if key.startswith(_PREFIX)}


register_importer(SplatfactoImporter())
