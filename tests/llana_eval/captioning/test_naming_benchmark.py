"""Class naming on the little data set, with a tiny model."""

import json

import pytest

from gmn_encoder.files import write_json
from llana_eval.captioning.class_naming import QUESTION
from llana_eval.captioning.naming_benchmark import measure_naming
from llana_gmn.training.recipe import TrainingRecipe
from tests.llana_gmn.conftest import tiny_folder  # noqa: F401 (fixture)
from tests.llana_gmn.language_data import embedding_files, language_data  # noqa: F401 (fixtures)


def test_unseen_objects_are_asked_about_in_the_families_named(tiny_folder, language_data, embedding_files, tmp_path):  # noqa: F811
    settings = {"embeddings": [f"{family}={file}" for family, file in embedding_files.items()], "batch_size": 4}
    everything = measure_naming(model=tiny_folder, data=language_data, **settings)
    assert set(everything) == {"model", "no NeRF", "nearest caption", "captions"}
    objects = len({each["object_id"] for each in everything["captions"]})
    assert objects > 0 and everything["model"]["objects"] == 3 * objects
    assert set(everything["nearest caption"]["by_variant"]) == {"mlp", "triplane", "hash"}
    out = tmp_path / "naming.json"
    some = measure_naming(model=tiny_folder, data=language_data, families=["hash"], out=out, **settings)
    assert json.loads(out.read_text()) == {"model": str(tiny_folder), "question": QUESTION, **some}
    assert {each["variant"] for each in some["captions"]} == {"hash"} and some["model"]["objects"] == objects


def test_embeddings_are_the_recipes_where_none_are_named(tiny_folder, language_data, embedding_files, tmp_path):  # noqa: F811
    recipe = TrainingRecipe(model="m", embeddings={"hash": embedding_files["hash"]})
    write_json(recipe.to_dict(), tmp_path / "recipe.json")
    found = measure_naming(model=tiny_folder, data=language_data, recipe=tmp_path / "recipe.json")
    assert {each["variant"] for each in found["captions"]} == {"hash"}
    with pytest.raises(FileNotFoundError, match=r"none\.json"):
        measure_naming(model=tiny_folder, data=language_data, recipe=tmp_path / "none.json")
