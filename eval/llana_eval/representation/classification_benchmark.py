"""The classification benchmark: classifiers trained on each family and on their union, tested on every family.

Source: paper tables 2 to 5, 15 and 16; docs/released_format.md#classification. The rows of the result are training sets, its
columns test sets.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from gmn_encoder.embeddings.records import EmbeddingSet, join_embeddings
from gmn_encoder.files import StrPath
from gmn_encoder.locks import LOCK_NAME, output_lock
from gmn_encoder.progress import Progress, no_progress

from ..classes import label_order, labels_of
from ..tables import Column, Table
from .classifier import EmbeddingClassifier, load_classifier, save_classifier
from .classifier_training import ClassifierOptions, ClassifierTraining
from .confusion import Confusion, confusion

UNION = "ALL"


@dataclass(frozen=True, eq=False)
class ClassificationRun:
    """One classifier and its tests.

    Attributes:
        trained_on: the family that it was trained on, or `UNION`, or the name of the classifier that was given.
        options: the options of its training, None for a given classifier.
        best_epoch: the epoch of the network that was kept, None for a given classifier.
        val_accuracy: that network's accuracy on the validation set, None for a given classifier.
        tests: family -> the confusion matrix of that family's test set.
    """

    trained_on: str
    options: ClassifierOptions | None
    best_epoch: int | None
    val_accuracy: float | None
    tests: Mapping[str, Confusion]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "trained_on": self.trained_on,
            "options": None if self.options is None else dataclasses.asdict(self.options),
            "best_epoch": self.best_epoch,
            "val_accuracy": self.val_accuracy,
            "tests": {
                family: {
                    "accuracy": found.accuracy,
                    "macro_accuracy": found.macro_accuracy,
                    "class_ids": list(found.class_ids),
                    "class_accuracies": found.class_accuracies,
                    "confusion": found.counts.tolist(),
                }
                for family, found in self.tests.items()
            },
        }


def training_sets(families: Mapping[str, EmbeddingSet]) -> dict[str, EmbeddingSet]:
    """Each family, and first their union `UNION` where there are several."""
    union = {UNION: join_embeddings(families.values())} if len(families) > 1 else {}
    return {**union, **families}


def run_classification(
    train: EmbeddingSet,
    val: EmbeddingSet,
    test: Mapping[str, EmbeddingSet],
    *,
    trained_on: str,
    options: ClassifierOptions | None = None,
    out: StrPath | None = None,
    progress: Progress = no_progress,
) -> ClassificationRun:
    """Train a classifier on one set of embeddings, choose its epoch on another, test it on others.

    Args:
        train: the embeddings to train on.
        val: the embeddings that the epoch is chosen by, of the same families.
        test: family -> embeddings to test on.
        trained_on: the training set's name.
        options: network and schedule, by default as released.
        out: the directory for the classifier and its checkpoint; a killed run continues from there. None keeps nothing.
        progress: receives how many epochs are done.

    Raises:
        ValueError: as `ClassifierTraining`; no test set; a class in `val` or `test` that is not in `train`'s table; another
            process is writing `out`.
    """
    options = options or ClassifierOptions()
    classes = label_order(train.class_ids)
    # Before training, so that hours are not lost to a wrong test set.
    prepared = _prepare(test, classes, width=train.values.shape[1])
    lock = None if out is None else Path(out, LOCK_NAME)
    with output_lock(out or "", file=lock, hold=out is not None):
        training = ClassifierTraining(
            (train.values, labels_of(train.class_ids, classes, what="the training set")),
            (val.values, labels_of(val.class_ids, classes, what="the validation set")),
            num_classes=len(classes),
            options=options,
            checkpoint=None if out is None else Path(out) / "training.pt",
        )
        classifier = training.run(progress=progress)
        if out is not None:
            about = {"trained_on": trained_on, "val_accuracy": training.best_accuracy}
            about |= {"best_epoch": training.best_epoch, "options": dataclasses.asdict(options)}
            save_classifier(classifier, out, class_ids=classes, about=about)
    tests = _test(classifier, prepared, classes)
    return ClassificationRun(trained_on, options, training.best_epoch, training.best_accuracy, tests)


def evaluate_classifier(path: StrPath, test: Mapping[str, EmbeddingSet]) -> ClassificationRun:
    """Test a classifier that `load_classifier` reads."""
    classifier, classes = load_classifier(path)
    prepared = _prepare(test, classes, width=classifier.in_features)
    return ClassificationRun(Path(path).stem, None, None, None, _test(classifier, prepared, classes))


def _prepare(
    test: Mapping[str, EmbeddingSet], classes: Sequence[str], *, width: int
) -> dict[str, tuple[Tensor, Tensor]]:
    if not test:
        raise ValueError("there is no test set; expected the embeddings of at least one family")
    prepared = {}
    for family, members in test.items():
        if members.values.shape[1] != width:
            raise ValueError(
                f"the test set {family} is {members.values.shape[1]} wide and the training set {width}; "
                "expected embeddings of one encoder"
            )
        prepared[family] = (members.values, labels_of(members.class_ids, classes, what=f"the test set {family}"))
    return prepared


def _test(
    classifier: EmbeddingClassifier, test: Mapping[str, tuple[Tensor, Tensor]], classes: Sequence[str]
) -> dict[str, Confusion]:
    return {family: confusion(labels, classifier.predict(values), classes) for family, (values, labels) in test.items()}


def classification_table(runs: Sequence[ClassificationRun], *, method: str = "this encoder") -> Table:
    """The runs in the layout of the paper's tables 2 and 15: accuracy in percent, micro average."""
    families = list(dict.fromkeys(family for run in runs for family in run.tests))
    rows = [
        [method, run.trained_on, *(100 * run.tests[f].accuracy if f in run.tests else None for f in families)]
        for run in runs
    ]
    columns: list[str | Column] = ["Method", "Classifier Training Set"]
    columns += [Column(family, digits=1, best="max") for family in families]
    seeds = sorted({run.options.seed for run in runs if run.options is not None})
    hidden = sorted({"-".join(map(str, run.options.hidden)) for run in runs if run.options is not None})
    note = "Accuracy in percent."
    if seeds:
        note += f" Seed {', '.join(map(str, seeds))}; blocks {', '.join(hidden)}; the epoch of the best validation accuracy."
    return Table("NeRF classification", columns, rows, note=note, group_by="Classifier Training Set")
