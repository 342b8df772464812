"""How `standing.safetensors` is made, and what telling a standing object from a lying one by its shape is worth.

    python scripts/train_standing.py --manifests objects/manifest.json objects_wide/manifest.json

Learns from meshes that are known to stand (a manifest says which axis of a file is up) and from procedural objects. Each is read
rightly and in the two wrong ways: a file with z up taken for one with y up, and the other way round. Measured by cross-validation
on the meshes, near-twins together: how often the right reading is ahead, and how many lying files a rule turns where it may turn
so many of the right ones too. The margin that one in a hundred right files exceeds is kept with the weights.

Shapes: B objects, R = 3 readings, F features, N networks, H hidden units.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from ..benchmarking import markdown_table
from ..files import write_safetensors
from ..progress import Progress, no_progress
from .mesh import Mesh
from .mesh_changes import turned, upright
from .mesh_files import load_mesh, y_up
from .names import near_twins
from .procedural.catalogue import CLASS_NAMES, generate
from .procedural.dice import Dice
from .standing import WEIGHTS, mesh_features, scores

Array = NDArray[np.float64]

_FOLDS, _NETWORKS, _HIDDEN = 10, 4, 24
_STEPS, _RATE, _DECAY, _DROPOUT = 300, 1e-2, 3e-2, (0.1, 0.2)
_FALSE = 0.01
"""Share of right files that may exceed the margin that is kept."""

_SINGLE = {
    "area that it stands on": (5, 1.0),
    "height of the middle of mass": (15, -1.0),
    "mirrored less from top to bottom than from front to back": (56, 1.0),
}
"""Rules to compare with: a place in the features, and the sign of what is upright."""

_COLUMNS = {
    "rule": "",
    "right reading ahead (%)": ".1f",
    "lying files turned (%), with 2 % of the right ones": ".1f",
    "with 1 %": ".1f",
    "with 0.5 %": ".1f",
}


def train_standing(
    *, manifests: Sequence[str], procedural: int = 650, out: Path = WEIGHTS, progress: Progress = no_progress
) -> str:
    """Measure, train and write the weights.

    Args:
        manifests: JSON lists of meshes: "file" (beside the list), "name", "category" and "up_axis" each.
        procedural: number of procedural objects.
        out: the file of the weights.
        progress: receives objects done and all.

    Returns:
        the figures, as a Markdown table.

    Raises:
        FileNotFoundError, ValueError: a manifest or a mesh that is missing or broken.
    """
    entries = [(Path(file).parent, each) for file in manifests for each in json.loads(Path(file).read_bytes())]
    rows, groups = [], []
    for number in range(len(entries) + procedural):
        mesh, group = _mesh(entries[number]) if number < len(entries) else _made(number - len(entries))
        rows.append(np.stack([_readings(mesh), _readings(turned(mesh, 90))]))
        groups.append(group)
        progress("measuring objects", number + 1, len(entries) + procedural)
    readings, meshes = np.stack(rows), slice(0, len(entries))
    found = {name: sign * readings[:, 0, :, place] for name, (place, sign) in _SINGLE.items()}
    found["the network"] = _held_out(readings, groups)
    trained = _train(readings, networks=_NETWORKS)
    trained["sure"] = np.array(_margin(found["the network"][meshes], _FALSE))
    write_safetensors({name: torch.as_tensor(value).float() for name, value in trained.items()}, out)
    return markdown_table(_COLUMNS, [_row(name, values[meshes]) for name, values in found.items()])


def _mesh(listed: tuple[Path, Mapping[str, Any]]) -> tuple[Mesh, str]:
    """A mesh of a manifest, standing, and the name of its near-twins."""
    folder, entry = listed
    return upright(load_mesh(folder / entry["file"], up="y"), str(entry.get("up_axis", "y"))), "/".join(
        near_twins(entry)
    )


def _made(number: int) -> tuple[Mesh, str]:
    made = generate(CLASS_NAMES[number % len(CLASS_NAMES)], number // len(CLASS_NAMES))
    return made.mesh, made.object_id


def _readings(mesh: Mesh) -> Array:
    """Features ``(R, F)``: of a mesh that stands, of its file with z up taken for y up, and with y up taken for z up."""
    as_z = upright(mesh, "z")  # what is taken for y up, read as z up
    return np.stack([mesh_features(each) for each in (mesh, y_up(mesh), as_z)])


def _train(readings: Array, *, networks: int, seed: int = 0) -> dict[str, Array]:
    """Weights of `standing.scores` from readings ``(B, 2, R, F)``, each object facing two ways."""
    rows = readings.reshape(-1, *readings.shape[2:])
    mean, deviation = rows.mean(axis=(0, 1)), rows.std(axis=(0, 1)) + 1e-6
    plain = torch.from_numpy(((rows - mean) / deviation).clip(-4, 4)).float()
    found = [_network(plain, seed + number) for number in range(networks)]
    first, bias, last = (np.stack(each) for each in zip(*found, strict=True))
    return {"mean": mean, "deviation": deviation, "first": first, "bias": bias, "last": last}


def _network(plain: torch.Tensor, seed: int) -> tuple[Array, Array, Array]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        first, last = torch.nn.Linear(plain.shape[-1], _HIDDEN), torch.nn.Linear(_HIDDEN, 1, bias=False)
        settings: dict[str, Any] = {"lr": _RATE, "weight_decay": _DECAY}
        optimiser = torch.optim.AdamW([*first.parameters(), *last.parameters()], **settings)
        for _ in range(_STEPS):
            hidden = torch.tanh(first(F.dropout(plain, _DROPOUT[0])))
            stands, *lies = last(F.dropout(hidden, _DROPOUT[1]))[..., 0].unbind(dim=1)
            loss = sum(F.softplus(each - stands).mean() for each in lies)
            optimiser.zero_grad()
            cast(torch.Tensor, loss).backward()
            optimiser.step()
    weights = (first.weight, first.bias, last.weight[0])
    return cast(tuple[Array, Array, Array], tuple(each.detach().double().numpy() for each in weights))


def _held_out(readings: Array, groups: Sequence[str]) -> Array:
    """Scores ``(B, R)`` by networks that learnt from other groups."""
    names = sorted(set(groups))
    fold_of = {name: place % _FOLDS for place, name in enumerate(Dice(0).shuffled(names))}
    fold = np.array([fold_of[group] for group in groups])
    found = np.zeros(readings.shape[:1] + readings.shape[2:3])
    for number in range(_FOLDS):
        weights = _train(readings[fold != number], networks=_NETWORKS)
        chosen = readings[fold == number, 0]
        found[fold == number] = scores(chosen.reshape(-1, chosen.shape[-1]), weights).reshape(chosen.shape[:2])
    return found


def _margins(values: Array) -> Array:
    """By how much the right reading is ahead ``(2 B,)``: of files with y up, and of those with z up."""
    return np.concatenate([values[:, 0] - values[:, 2], values[:, 0] - values[:, 1]])


def _margin(values: Array, share: float) -> float:
    """The margin beyond which so many right files are taken for lying ones; 0 where fewer are at all."""
    return float(max(-np.quantile(_margins(values), share), 0.0))


def _row(name: str, values: Array) -> list[Any]:
    ahead = _margins(values)
    turned_at = [100 * float((ahead > _margin(values, share)).mean()) for share in (0.02, 0.01, 0.005)]
    return [name, 100 * float((ahead > 0).mean()), *turned_at]
