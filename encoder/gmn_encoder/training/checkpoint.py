"""Checkpoints: an encoder that `GmnEncoder.from_pretrained` opens, and beside it the whole state of its training.

    <out>/last/  <out>/best/    config.json, model.safetensors, trainer.pth

`trainer.pth` has the keys of a released checkpoint (FORMATS.md section 6) and what an exact continuation needs besides. Each file
appears by a rename, and `trainer.pth` alone is what a run continues from: a kill at any moment leaves one that is whole.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ..encoders.decoder import NerfDecoder
from ..encoders.gmn.encoder import GmnEncoder
from ..files import StrPath, read_tensors, write_pth_content
from .representation.model import TrainedModel
from .representation.recipe import RUN_SETTINGS, Recipe

TRAINER_NAME = "trainer.pth"
LAST, BEST = "last", "best"
_FORMAT = 1


def save_checkpoint(
    directory: Path,
    model: TrainedModel,
    *,
    optimizer: torch.optim.Optimizer,
    scheduler: torch.optim.lr_scheduler.LRScheduler,
    progress: Mapping[str, Any],
) -> None:
    """Write a checkpoint. Raises `OSError` where it cannot be written; the one before then stays.

    Args:
        directory: ``last`` or ``best`` of a run.
        model: not wrapped.
        optimizer, scheduler: as after a step.
        progress: numbers and words: recipe, steps done, metrics.
    """
    content: dict[str, Any] = {"format": _FORMAT, **progress, "encoder": model.encoder.state_dict()}
    if model.decoder is not None:
        content["decoder"] = model.decoder.state_dict()
    if model.siglip is not None:
        content["siglip"] = model.siglip.state_dict()
    content["optimizer"], content["scheduler"] = optimizer.state_dict(), scheduler.state_dict()
    write_pth_content(content, directory / TRAINER_NAME)
    model.encoder.save_pretrained(directory)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a `trainer.pth`. Raises `ValueError` for any other file."""
    content, _ = read_tensors(path)
    needed = {"format", "recipe", "step", "encoder", "optimizer", "scheduler"}
    if missing := sorted(needed - set(content)):
        raise ValueError(
            f"{path}: is no checkpoint of train-encoder, {missing[0]!r} is missing; move it away to begin anew"
        )
    return content


def check_same_run(path: Path, content: Mapping[str, Any], progress: Mapping[str, Any]) -> None:
    """Raise `ValueError` where a run differs from the one that a checkpoint is of: it would end somewhere else."""
    before, now = json.loads(content["recipe"]), json.loads(progress["recipe"])
    changed = [key for key in now if key not in RUN_SETTINGS and before.get(key) != now[key]]
    if changed:
        key = changed[0]
        more = f" and {len(changed) - 1} more settings" if len(changed) > 1 else ""
        raise ValueError(
            f"{path}: was trained with {key}={before.get(key)}, and now {key}={now[key]} is asked for{more}; "
            "use the same recipe, another --out, or --no-resume to begin anew"
        )
    if content.get("data") != progress["data"]:
        raise ValueError(
            f"{path}: was trained on other objects than the lists name now; "
            "use the same data, another --out, or --no-resume to begin anew"
        )
    if content.get("processes") != progress["processes"]:
        raise ValueError(
            f"{path}: was trained with {content.get('processes')} processes, and now there are {progress['processes']}; "
            "use as many as before, or --no-resume to begin anew"
        )


def load_state(model: TrainedModel, content: Mapping[str, Any]) -> None:
    """Put a checkpoint's weights into a model of the same recipe."""
    model.encoder.load_state_dict(content["encoder"])
    if model.decoder is not None:
        model.decoder.load_state_dict(content["decoder"])
    if model.siglip is not None:
        model.siglip.load_state_dict(content["siglip"])


def start_from(model: TrainedModel, source: StrPath) -> list[str]:
    """Take over weights: of a released checkpoint, of one of ours, or of an encoder alone.

    Args:
        model: whose parts are overwritten as far as the source has them.
        source: a ``.pt`` file, a ``trainer.pth``, or a directory of either kind.

    Returns:
        the names of the parts taken over.

    Raises:
        FileNotFoundError: nothing there.
        ValueError: no weights, or of other sizes than the recipe's.
    """
    path = Path(source)
    if path.is_dir() and (path / TRAINER_NAME).is_file():
        path = path / TRAINER_NAME
    encoder = GmnEncoder.from_pretrained(path)
    # A recipe has 0 where a configuration has None.
    configs = (model.recipe.encoder_config, encoder.config)
    wanted, found = ({key: value or 0 for key, value in asdict(config).items()} for config in configs)
    wrong = [key for key in wanted if wanted[key] != found[key] and key != "layout"]
    if wrong:
        raise ValueError(
            f"{path}: its encoder has {wrong[0]} {found[wrong[0]]}, the recipe has {wanted[wrong[0]]}; "
            f"set {wrong[0]}={found[wrong[0]]}"
        )
    model.encoder.load_state_dict(encoder.state_dict())
    taken = ["encoder"]
    content = read_tensors(path)[0] if path.is_file() else {}
    if model.decoder is not None and isinstance(content.get("decoder"), Mapping):
        _take_decoder(model, content["decoder"], path)
        taken.append("decoder")
    if model.siglip is not None and isinstance(content.get("siglip"), Mapping):
        try:
            model.siglip.load_state_dict(dict(content["siglip"]))
        except RuntimeError as error:
            raise ValueError(f"{path}: its siglip part holds no scale and shift") from error
        taken.append("siglip")
    return taken


def _take_decoder(model: TrainedModel, state: Mapping[str, Any], path: Path) -> None:
    wanted = model.recipe.decoder_config
    try:
        decoder = NerfDecoder.from_state_dict(state, embedding_dim=wanted.embedding_dim)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    found = decoder.config
    for setting, got, expected in (
        ("decoder_dim", found.hidden_dim, wanted.hidden_dim),
        ("decoder_frequencies", found.frequencies, wanted.frequencies),
    ):
        if got != expected:
            raise ValueError(f"{path}: its decoder has {setting} {got}, the recipe has {expected}; set {setting}={got}")
    if model.decoder is not None:
        model.decoder.load_state_dict(decoder.state_dict())


def recipe_text(recipe: Recipe) -> str:
    return json.dumps(recipe.to_dict(), sort_keys=True)
