import pytest
import torch

from llana_eval.captioning.class_naming import (
    NamedObject,
    class_words,
    classes_of,
    compare_with_baselines,
    named_class,
    naming_accuracy,
    nearest_captions,
    to_markdown,
)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("A table lamp with a red shade.", "lamp"),  # the longer word at one place
        ("A table with a lamp on it.", "table"),  # the first word
        ("This is a LOUDSPEAKER.", "speaker"),
        ("Two chairs.", "chair"),
        ("It has a carpet on its roof.", None),  # whole words only
        ("", None),
    ],
)
def test_named_class(text, name):
    assert named_class(text, class_words()) == name


def thing(name, vector, variant="mlp", caption=""):
    return NamedObject(f"{name}-1", variant, name, torch.tensor(vector), caption)


def test_accuracy_by_hand():
    objects = [
        thing("chair", [1.0, 0]),
        thing("chair", [1.0, 0], "hash"),
        thing("car", [0, 1.0]),
        thing("car", [0, 1.0], "hash"),
    ]
    found = naming_accuracy(objects, ["A chair.", "A sofa.", "A car.", "A red car."])
    assert found == {
        "objects": 4,
        "accuracy": 0.75,
        "by_class": {"car": 1.0, "chair": 0.5},
        "by_variant": {"hash": 0.5, "mlp": 1.0},
    }
    with pytest.raises(ValueError, match="3 captions came with 4 objects"):
        naming_accuracy(objects, ["a"] * 3)


def test_baselines():
    objects = [thing("chair", [1.0, 0.1]), thing("car", [0.1, 3.0], "hash")]
    training = [
        thing("chair", [9.0, 0], caption="A chair."),
        thing("car", [0, 0.5], caption="A car."),
        thing("car", [1.0, 0.1]),
    ]
    assert nearest_captions(objects, training) == ["A chair.", "A car."]
    results = compare_with_baselines(
        lambda embeddings: ["A chair." if not e.any() or e[0] > e[1] else "A car." for e in embeddings],
        objects,
        training,
    )
    assert [results[name]["accuracy"] for name in ("model", "no NeRF", "nearest caption")] == [1, 0.5, 1]
    assert results["captions"][1]["no NeRF"] == "A chair."
    assert "| no NeRF | 50.0 | 0.0 | 100.0 |" in to_markdown(results)
    with pytest.raises(ValueError, match="no training object has a caption"):
        nearest_captions(objects, objects)


def test_classes_from_ids():
    assert classes_of(["03001627/x", "x", "999/y"]) == {"x": "chair"}
