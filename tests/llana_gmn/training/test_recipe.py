import dataclasses
import json
import re
from pathlib import Path

import pytest

from llana_gmn.training.recipe import TrainingRecipe, read_recipe

RECIPES = sorted((Path(__file__).parents[3] / "scripts" / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_shipped_recipes(path):
    recipe = read_recipe(path)
    assert TrainingRecipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
    header = path.read_text().split("\n\n")[0]
    assert f"scripts/recipes/{path.name}" in header.partition("stage:")[0]  # the launch command
    if recipe.deepspeed:
        assert (path.parents[2] / recipe.deepspeed).is_file()


def test_the_papers_settings():
    """docs/released_format.md#llana-training."""
    one, two = (read_recipe(path) for path in RECIPES if path.stem in ("stage1", "stage2"))
    assert (one.epochs, one.learning_rate, one.batch_size, one.types) == (3, 2e-3, 16, ("brief_description",))
    assert one.trainable == "projector"
    assert (two.epochs, two.learning_rate, two.batch_size, two.trainable) == (3, 2e-5, 4, "full")
    assert two.types == ("detailed_description", "single_round", "multi_round")
    for recipe in (one, two):
        assert (recipe.warmup_ratio, recipe.weight_decay, recipe.schedule, recipe.max_length) == (
            0.03,
            0,
            "cosine",
            2048,
        )
        assert recipe.bf16
        assert recipe.gradient_checkpointing


def test_changes_from_the_command_line(tmp_path):
    (tmp_path / "r.yaml").write_text("stage: 2\nepochs: 1\nnew_model: {layers: 3}\n")
    changes = ["learning_rate=2e-4", "new_model.heads=8", "families=mlp,hash", "embeddings.mlp=a.npz", "encoder="]
    recipe = read_recipe(tmp_path / "r.yaml", changes, stage=None)
    assert (recipe.learning_rate, recipe.epochs, recipe.stage, recipe.trainable) == (2e-4, 1.0, 2, "lora")
    assert (recipe.new_model.layers, recipe.new_model.heads) == (3, 8)
    assert (recipe.families, recipe.embeddings, recipe.encoder) == (("mlp", "hash"), {"mlp": "a.npz"}, None)
    assert read_recipe(None, stage=1).trainable == "projector"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["lr=1"], "unknown setting 'lr'; expected one of"),
        (["new_model.lr=1"], "unknown setting 'lr'"),
        (["learning_rat=1"], "unknown setting 'learning_rat'; did you mean 'learning_rate'?"),
        (["epochs"], "'epochs' is no setting; expected key=value"),
        (["epochs=many"], "epochs is 'many'; expected a number"),
        (["epochs=0"], "epochs is 0.0; expected a number above 0"),
        (["batch_size=2.5"], "batch_size is 2.5; expected an integer"),
        (["batch_size=0"], "batch_size is 0; expected an integer of at least 1"),
        (["bf16=1"], "bf16 is 1; expected true or false"),
        (["stage=3"], "stage is 3; expected one of 1, 2"),
        (["trainable=half"], "trainable is 'half'; expected one of projector, lora, full"),
        (["conversation_types=poem"], "conversation_types has 'poem'"),
        (["families=3"], "families is 3; expected a list"),
        (["warmup_ratio=1.5"], "warmup_ratio is 1.5; expected 0 or a share between 0 and 1"),
        (["deepspeed=a", "fsdp=b"], "deepspeed and fsdp are both set"),
        (["model=new"], "a new model has nothing to freeze"),
        (["data=[1"], "the value is no YAML"),
    ],
)
def test_bad_settings(changes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        read_recipe(None, changes)


def test_bad_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such recipe"):
        read_recipe(tmp_path / "gone.yaml")
    for text, message in [("- 1", "holds a list"), ("a: [", "is no YAML file"), ("lr: 1", "r.yaml: unknown setting")]:
        (tmp_path / "r.yaml").write_text(text)
        with pytest.raises(ValueError, match=message):
            read_recipe(tmp_path / "r.yaml")
    (tmp_path / "r.yaml").write_text("a: !!python/object/apply:os.getcwd []")
    with pytest.raises(ValueError, match="is no YAML file"):
        read_recipe(tmp_path / "r.yaml")


def test_settings_that_may_change():
    recipe = TrainingRecipe()
    assert {each.name for each in dataclasses.fields(recipe)} >= TrainingRecipe.MAY_CHANGE
    assert recipe.differences(dataclasses.replace(recipe, seed=3, output="x")) == {"seed": (0, 3)}
