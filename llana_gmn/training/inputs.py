"""What a training run learns from: the content of its model, encoder, texts and embeddings or NeRFs, in ``inputs.json``.

A run whose inputs changed since it was begun is neither continued nor taken for finished.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gmn_encoder.digests import DIGESTS_NAME, Digests, digest_of
from gmn_encoder.files import read_json, write_json

from ..checkpoints.provenance import model_fingerprint
from ..data.sources import LanguageData
from .recipe import NEW, TrainingRecipe

INPUTS_NAME = "inputs.json"


def run_inputs(recipe: TrainingRecipe) -> dict[str, str]:
    """Name of each input -> digest of its content, "" for what is not there: loading it says why. What was read to find out is
    remembered beside a run that is there."""
    output = Path(recipe.output)
    known = Digests(output / DIGESTS_NAME if output.is_dir() else None)
    found: dict[str, str] = {}
    for name, path in (("model", recipe.model if recipe.model != NEW else ""), ("encoder", recipe.encoder)):
        if path:
            found[name] = _if_there(lambda path=path: model_fingerprint(path, known)) or ""  # type: ignore[misc]
    data = LanguageData(Path(recipe.data), embeddings=recipe.embeddings, families=recipe.families)
    for split in dict.fromkeys(("train", recipe.eval_split)):
        read = _if_there(lambda split=split: data.files(split, recipe.types)) if split else None  # type: ignore[misc]
        for name, files in (read or {}).items():
            names = [os.path.relpath(file, data.root) for file in files]
            found[f"{name} of {split}"] = digest_of(dict(zip(names, known.digests(files), strict=True)))
    known.save()
    return found


def _if_there(look: Callable[[], Any]) -> Any:
    try:
        return look()
    except (OSError, ValueError):
        return None


def check_same_inputs(recipe: TrainingRecipe, inputs: dict[str, str]) -> str | None:
    """Raise `ValueError` where the run in `recipe.output` was begun with other inputs; a sentence where nobody can tell."""
    path = Path(recipe.output, INPUTS_NAME)
    if not path.is_file():
        return f"{recipe.output}: does not say what it was trained on, which may have changed since; --no-resume begins anew"
    then = read_json(path)
    changed = [name for name in sorted({*then, *inputs}) if then.get(name) != inputs.get(name)]
    if changed:
        raise ValueError(
            f"{recipe.output}: was begun with another {', '.join(changed)} than there is now; "
            "begin anew (--no-resume), or choose another output"
        )
    return None


def write_inputs(recipe: TrainingRecipe, inputs: dict[str, str]) -> None:
    """Write down what a run is begun with."""
    write_json(inputs, Path(recipe.output, INPUTS_NAME))
