"""Class naming on a data set: a saved model's captions of unseen objects, beside the baselines of `class_naming`.

python scripts/eval_language_baselines.py --model runs/small --data data --out naming.json
python scripts/eval_language_baselines.py --model runs/no-hash --data data --families hash     # a family held out
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from gmn_encoder.files import StrPath, read_json, write_json
from llana_gmn.checkpoints.loading import load_model
from llana_gmn.data.sources import LanguageData
from llana_gmn.inference.caption import caption_nerfs
from llana_gmn.training.recipe import TrainingRecipe
from llana_gmn.training.trainer import RECIPE_NAME

from .class_naming import QUESTION, NamedObject, classes_of, compare_with_baselines

logger = logging.getLogger(__name__)

_NEW_TOKENS = 48


def measure_naming(
    *,
    model: StrPath,
    data: StrPath,
    embeddings: Sequence[str] = (),
    families: Sequence[str] = (),
    recipe: StrPath | None = None,
    split: str = "test",
    question: str = QUESTION,
    batch_size: int = 32,
    out: StrPath | None = None,
) -> dict[str, Any]:
    """How often captions of unseen objects name their class.

    Args:
        model: directory of a model, or of a training run.
        data: directory of texts and NeRFs.
        embeddings: ``FAMILY=FILE`` each, files of ``llana-gmn embed``; none for those of the recipe.
        families: families to ask about, none for all; the nearest caption may be of any.
        recipe: the recipe of a run, for its embeddings, architectures and cache; None for the model's own where it has one.
        split: the unseen objects; those of "train" are copied from.
        question: the question, one for all objects.
        batch_size: captions made at a time.
        out: JSON file for the accuracies and all captions.

    Returns:
        what `compare_with_baselines` returns.
    """
    talker, processor = load_model(model)
    settings = _recipe(model, recipe)
    place: dict[str, Any] = {
        "embeddings": dict(pair.split("=", 1) for pair in embeddings) or settings.embeddings,
        "encoder": talker.nerf_encoder,
        "cache": Path(settings.cache) if settings.cache else None,
        "architectures": settings.architectures,
    }
    asked = LanguageData(Path(data), families=tuple(families) or None, **place)
    several = processor.vectors_per_nerf > 1
    objects = named_objects(asked, split, tokens=several)
    training = named_objects(LanguageData(Path(data), **place), "train", tokens=several)

    def caption(members: list[Tensor]) -> list[str]:
        options: dict[str, Any] = {"question": question, "batch_size": batch_size, "max_new_tokens": _NEW_TOKENS}
        return [text for _, text in caption_nerfs(talker, processor, members, **options)]

    logger.info("%d unseen samples, %d to copy from", len(objects), len(training))
    results = compare_with_baselines(caption, objects, training)
    if out is not None:
        write_json({"model": str(model), "question": question, **results}, out)
    return results


def named_objects(data: LanguageData, split: str, *, tokens: bool = False) -> list[NamedObject]:
    """The objects of a split in every variant, each with its brief description; those without a known class are left out.

    Their embeddings are vectors or, with `tokens`, all of the encoder's tokens.
    """
    dialogues, _ = data.dialogues(split, ["brief_description"])
    captions = {each.object_ids[0]: each.turns[0][1] for each in dialogues if each.object_ids}
    table = data.table(split, list(captions), tokens=tokens)
    classes = classes_of(table.rows)
    return [
        NamedObject(object_id, variant, classes[object_id], table.values[row], captions[object_id])
        for object_id in captions
        if object_id in classes
        for variant, row in table.rows.get(object_id, {}).items()
        if data.families is None or variant in data.families
    ]


def _recipe(model_path: StrPath, recipe: StrPath | None) -> TrainingRecipe:
    file = Path(recipe) if recipe is not None else Path(model_path, RECIPE_NAME)
    if recipe is None and not file.is_file():
        return TrainingRecipe()
    return TrainingRecipe.from_dict(read_json(file), source=str(file))
