import pytest

from gmn_encoder.training.representation.recipe import RECIPES, Recipe, load_recipe


def test_defaults_are_the_papers():
    """Appendix B: 250 epochs, batches of 8, 1e-4, weight decay 1e-2, lambda 0.02, weights 0.8 and 0.2, t = 10, b = -10."""
    recipe = Recipe()
    assert (recipe.epochs, recipe.batch_size, recipe.learning_rate, recipe.weight_decay) == (250, 8, 1e-4, 1e-2)
    assert (recipe.contrastive_weight, recipe.foreground_weight, recipe.background_weight) == (0.02, 0.8, 0.2)
    assert (recipe.temperature, recipe.shift, recipe.decoder_config.features) == (10, -10, 144)


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_recipes_that_ship(path):
    assert load_recipe(path) == load_recipe(path.stem)
    header = path.read_text().split("\nloss:")[0]
    assert f"llana-gmn train-encoder --data" in header and f"--config {path.stem}" in header  # noqa: F541


def test_paper_recipe_keeps_the_papers_settings():
    paper, default = load_recipe("paper"), Recipe()
    names = ["epochs", "batch_size", "learning_rate", "weight_decay", "warmup", "contrastive_weight", "rays", "points"]
    assert all(getattr(paper, name) == getattr(default, name) for name in names)


def test_overrides(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("loss: r\nlearning_rate: 1e-3\nfamilies: [hash]\n")
    recipe = load_recipe(file, ["epochs=3", "compile=true", "learning_rate=2e-3"])
    assert (recipe.loss, recipe.families, recipe.epochs, recipe.compile, recipe.learning_rate) == (
        "r",
        ("hash",),
        3,
        True,
        2e-3,
    )
    assert load_recipe(None, ["families=mlp,hash"]).families == ("mlp", "hash")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("epoch=3", "unknown setting 'epoch'; did you mean 'epochs'"),
        ("epochs", "expected key=value"),
        ("epochs=many", "epochs is 'many'; expected an integer"),
        ("epochs=0", "expected an integer of at least 1"),
        ("learning_rate=0", "expected a number above 0"),
        ("loss=x", "expected one of r, c, rc"),
        ("families=[hash]", "needs pairs, and there is one family"),
        ("families=[hash, hash]", "expected different directories"),
        ("select=recall families=[hash]", "families"),
        ("warmup=1", "a share between 0 and 1"),
        ("rendering=exact", "expected one of clean, released"),
        ("architectures={hash: HASH-99}", "architectures, hash: unknown architecture"),
        ("architectures={cube: HASH}", "expected families"),
        ("compile=3", "true or false"),
        ("readout_dim=64", "expected 0 .no head. or at least embedding_dim = 1024"),
        ("augment=true", "augment is about what probes ask, and there are none; set probes, such as 1024"),
        ("contrastive=triplet", "expected one of siglip, infonce"),
        ("probes=1000", "GmnConfig.probes must be a multiple of 64 in 512..131072"),
        ("graph=false", "nothing is read; set probes"),
        ("epochs={", "no YAML"),
    ],
)
def test_bad_settings(override, message):
    with pytest.raises(ValueError, match=message):
        load_recipe(None, [override])


def test_bad_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="one of decoder, gpu10, nano, paper"):
        load_recipe("missing")
    file = tmp_path / "bad.yaml"
    file.write_text("- a\n")
    with pytest.raises(ValueError, match=r"bad.yaml: holds a list"):
        load_recipe(file)
    file.write_text("a: [")
    with pytest.raises(ValueError, match=r"bad.yaml: is no YAML"):
        load_recipe(file)
    file.write_text("rays: 0")
    with pytest.raises(ValueError, match=r"bad.yaml: rays is 0"):
        load_recipe(file)
