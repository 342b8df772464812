import pytest
import torch

from gmn_encoder.embeddings.records import EmbeddingSet
from llana_eval.classes import CLASS_IDS, class_name, label_order, labels_of
from llana_eval.representation.classification_benchmark import (
    UNION,
    classification_table,
    evaluate_classifier,
    run_classification,
    training_sets,
)
from llana_eval.representation.classifier_training import ClassifierOptions
from llana_eval.representation.confusion import confusion

PLANE, CHAIR, LAMP = "02691156", "03001627", "03636649"


def test_class_table():
    assert len(CLASS_IDS) == 13 and CLASS_IDS[0] == PLANE and CLASS_IDS[4] == CHAIR and CLASS_IDS[12] == "04530566"
    assert [class_name(each) for each in CLASS_IDS][7:10] == ["speaker", "rifle", "sofa"]
    assert class_name("x") == "x"
    assert label_order([CHAIR, PLANE, CHAIR]) == CLASS_IDS
    assert label_order(["z", PLANE]) == (PLANE, "z")
    with pytest.raises(ValueError, match="the test set has class 'z' in row 1, which the classifier does not know"):
        labels_of([PLANE, "z"], CLASS_IDS, what="the test set")


def test_confusion_by_hand():
    # truth     0 0 0 1 1 3
    # predicted 0 2 0 1 0 3      class 2 has no samples
    found = confusion(torch.tensor([0, 0, 0, 1, 1, 3]), torch.tensor([0, 2, 0, 1, 0, 3]), ["a", "b", "c", "d"])
    assert found.counts.tolist() == [[2, 0, 1, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]]
    assert found.accuracy == pytest.approx(4 / 6)
    assert found.class_accuracies == [pytest.approx(2 / 3), 0.5, None, 1.0]
    assert found.macro_accuracy == pytest.approx((2 / 3 + 0.5 + 1) / 3)
    table = found.table("t")
    assert table.rows[0] == ("a", 3, pytest.approx(66.667, abs=1e-3), 2, 0, 1, 0)
    assert "| c | 0 | \u2013 | 0 | 0 | 0 | 0 |" in table.markdown()


@pytest.mark.parametrize(
    ("truth", "predicted", "message"),
    [
        (torch.tensor([0, 1]), torch.tensor([0]), r"there are \[2\] labels and \[1\] predictions"),
        (torch.tensor([0, 4]), torch.tensor([0, 0]), "labels run from 0 to 4; expected 0 to 1"),
        (torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64), "there are no labels"),
    ],
)
def test_bad_labels(truth, predicted, message):
    with pytest.raises(ValueError, match=message):
        confusion(truth, predicted, ["a", "b"])


def embedded(family, count=90, seed=0, turn=0, classes=(PLANE, CHAIR, LAMP), width=12):
    """Clusters of the classes; `turn` puts a family elsewhere in the space, as a rendering loss alone does."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % len(classes)
    values = 4 * torch.eye(width)[(labels + turn) % width] + torch.randn(count, width, generator=generator)
    ids = tuple((classes[int(label)], f"n{i}") for i, label in enumerate(labels))
    return EmbeddingSet(values, ids, (family,) * count, ("",) * count)


OPTIONS = ClassifierOptions(hidden=(32, 16), epochs=10, batch_size=32, learning_rate=1e-2)


def test_a_classifier_of_one_family_fails_on_another_and_one_of_both_does_not(tmp_path):
    train = {"MLP": embedded("MLP"), "TRI": embedded("TRI", seed=1, turn=5)}
    val = {"MLP": embedded("MLP", seed=2), "TRI": embedded("TRI", seed=3, turn=5)}
    test = {"MLP": embedded("MLP", seed=4), "TRI": embedded("TRI", seed=5, turn=5)}
    runs = [
        run_classification(
            members, training_sets(val)[name], test, trained_on=name, options=OPTIONS, out=tmp_path / name
        )
        for name, members in training_sets(train).items()
    ]
    assert [run.trained_on for run in runs] == [UNION, "MLP", "TRI"]
    accuracy = {run.trained_on: {family: found.accuracy for family, found in run.tests.items()} for run in runs}
    assert min(accuracy["MLP"]["MLP"], accuracy["TRI"]["TRI"], *accuracy[UNION].values()) > 0.75
    assert max(accuracy["MLP"]["TRI"], accuracy["TRI"]["MLP"]) < 0.7
    table = classification_table(runs)
    assert [column.name for column in table.columns] == ["Method", "Classifier Training Set", "MLP", "TRI"]
    assert table.rows[1][2] == pytest.approx(100 * accuracy["MLP"]["MLP"]) and "Seed 0" in table.note
    again = evaluate_classifier(tmp_path / "MLP", test)
    assert {family: found.accuracy for family, found in again.tests.items()} == accuracy["MLP"]
    assert again.to_dict()["tests"]["MLP"]["confusion"] == runs[1].tests["MLP"].counts.tolist()


def test_wrong_test_sets_are_found_before_training():
    def expect(test, message):
        with pytest.raises(ValueError, match=message):
            run_classification(embedded("MLP"), embedded("MLP"), test, trained_on="MLP", progress=never)

    def never(*progress):
        raise AssertionError("trained")

    expect({}, "there is no test set")
    expect({"TRI": embedded("TRI", classes=(PLANE, "unheard"))}, "the test set TRI has class 'unheard' in row 1")
    expect({"TRI": embedded("TRI", width=5)}, "the test set TRI is 5 wide and the training set 12")
