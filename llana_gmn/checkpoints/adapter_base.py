"""Whether an adapter is one of a base model: by the shapes of its matrices, and by some of the base's numbers, noted in training.

Both are read from the headers and a few rows of safetensors files, in no time whatever the model's size. Models that lie
elsewhere (on the hub, in `.bin` files) and layers of other names than ``layers.N`` are not looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from gmn_encoder.files import StrPath, read_json, write_json

from .files import weight_files

BASE_NAME = "base.json"
"""File of an adapter with what `note_base` noted."""

_WEIGHTS = "adapter_model.safetensors"
_LORA = re.compile(r"^(.+)\.lora_([AB])(?:\.default)?\.weight$")
_PLACE = re.compile(r"(?<![\w])(layers\.\d.*|projector\.\d.*)$")
_ENCODER = "nerf_encoder."
_TENSORS, _NUMBERS = 16, 8
_TOLERANCE = 2.0**-6
"""Relative: bases are cast to half precision."""


def note_base(adapter: StrPath, base: StrPath) -> None:
    """Write into an adapter's directory some numbers of the base it was trained on, where that is a directory here."""
    if sample := _sample(Path(base)):
        write_json({"base": str(base), "sample": sample}, Path(adapter, BASE_NAME))


def check_adapter(adapter: StrPath, base: StrPath, *, trained_on: str) -> None:
    """Raise `ValueError`, with both names, for a base that an adapter was certainly not trained on.

    Args:
        adapter: its directory.
        base: the directory of the base; nothing is checked of a name on the hub.
        trained_on: the name of the base in the adapter.
    """
    adapter, base = Path(adapter), Path(base)
    shapes = {place: tensor.get_shape() for place, tensor in _tensors(base)}
    if not shapes:
        return
    misfit = _misfit(adapter, shapes)
    if misfit is None and (adapter / BASE_NAME).is_file():
        then = read_json(adapter / BASE_NAME).get("sample")
        now = _sample(base)
        for place, numbers in then.items() if isinstance(then, dict) else ():
            one, other = torch.tensor(numbers), torch.tensor(now.get(place, []))
            if one.shape != other.shape or not torch.allclose(one, other, rtol=_TOLERANCE, atol=1e-6):
                misfit = f"{place} has other weights"
                break
    if misfit is not None:
        raise ValueError(
            f"{adapter}: is an adapter of {trained_on} as it was, and {base} is another model: {misfit}; "
            "name the base it was trained on (--model), or train anew"
        )


def _misfit(adapter: Path, shapes: dict[str, list[int]]) -> str | None:
    """What of an adapter has no place in a model with these tensors; None where all fits."""
    file = adapter / _WEIGHTS
    if not file.is_file() or not any(place.startswith("layers.") for place in shapes):
        return None
    with safe_open(file, "pt") as content:
        for name in content.keys():  # noqa: SIM118 (no mapping)
            lora = _LORA.match(name)
            place = _PLACE.search(f"{lora[1]}.weight" if lora else name)
            if place is None:
                continue
            shape, there = list(content.get_slice(name).get_shape()), shapes.get(place[1])
            if there is None:
                return f"it has no {place[1]}"
            if lora:  # A is (r, in), B (out, r), the weight (out, in)
                side = 1 if lora[2] == "A" else 0
                if shape[side] == there[side]:
                    continue
            elif shape == there:
                continue
            return f"its {place[1]} is {there}, which an adapter's {shape} does not fit"
    return None


def _sample(base: Path) -> dict[str, list[float]]:
    """The first numbers of some of a model's layers, by their places."""
    layers = {place: tensor for place, tensor in _tensors(base) if place.startswith("layers.")}
    # Matrices only: norms begin as ones in every model.
    chosen = [place for place in sorted(layers) if len(layers[place].get_shape()) == 2]
    step = max(len(chosen) // _TENSORS, 1)
    return {place: layers[place][:1].flatten()[:_NUMBERS].float().tolist() for place in chosen[::step]}


def _tensors(base: Path) -> Iterator[tuple[str, Any]]:
    """Place and slice of the tensors of a model's layers and projector; none where there are no safetensors."""
    if not (base / "config.json").is_file():
        return
    try:
        files = [file for file in weight_files(base) if file.suffix == ".safetensors"]
    except FileNotFoundError:
        return
    for file in files:
        with safe_open(file, "pt") as content:
            for name in content.keys():  # noqa: SIM118 (no mapping)
                if _ENCODER not in name and (place := _PLACE.search(name)):
                    yield place[1], content.get_slice(name)
