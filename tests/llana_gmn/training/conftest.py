"""Recipes that train the tiny model on the little data set in a second or two."""

from __future__ import annotations

import dataclasses

import pytest

from llana_gmn.training.recipe import TrainingRecipe


@pytest.fixture
def recipe(tiny_folder, language_data, embedding_files, tmp_path):
    """A function: settings to a recipe of stage 1 with five steps."""
    base = TrainingRecipe(
        model=str(tiny_folder),
        data=str(language_data),
        embeddings=embedding_files,
        output=str(tmp_path / "run"),
        max_steps=5,
        batch_size=4,
        learning_rate=1e-2,
        logging_steps=1,
        lora_rank=4,
        lora_alpha=8,
        samples=0,
        eval_split="",
    )

    def make(**settings):
        fixed = {"trainable": None, "conversation_types": None} if "stage" in settings else {}
        return dataclasses.replace(base, **{**fixed, **settings})

    return make
