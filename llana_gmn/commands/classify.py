"""``llana-gmn classify``: the classification benchmark."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .base import Command, InputErrors, stage_progress
from .embedding_arguments import FILE_HELP, add_embedding_arguments, embed_families, read_families
from .model_arguments import add_model_argument, model_path

if TYPE_CHECKING:
    from gmn_encoder.embeddings.records import EmbeddingSet
    from llana_eval.representation.classification_benchmark import ClassificationRun

    Families = dict[str, EmbeddingSet]


class ClassifyCommand(Command):
    name = "classify"
    help = "train classifiers of embeddings, on each family and on all, and test them on every family; continues after a kill"
    example = "llana-gmn classify --train train/*.safetensors --val val/*.safetensors --test test/*.safetensors --out classifiers"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        for split in ("train", "val", "test"):
            parser.add_argument(f"--{split}", nargs="+", default=[], metavar="EMB", help=FILE_HELP)
        add_embedding_arguments(parser)
        parser.add_argument(
            "--classifier", metavar="PATH", help="test this one, of --out or a released checkpoint; no training"
        )
        parser.add_argument(
            "--zero-shot",
            action="store_true",
            help="ask a language model (--model) which class's sentence is most likely; no training",
        )
        add_model_argument(parser)
        parser.add_argument(
            "--train-on", metavar="NAMES", help="training sets, as in ALL,MLP (default: each family, and ALL)"
        )
        parser.add_argument(
            "--out", metavar="DIR", help="directory for classifiers and checkpoints, one below it each training set"
        )
        parser.add_argument(
            "--table", metavar="FILE", help="also write the table: .md, .tex, .html or .json (all figures)"
        )
        parser.add_argument(
            "--published", type=int, metavar="N", help="put the rows of the paper's table N above (2, 4, 15, 16)"
        )
        parser.add_argument("--per-class", action="store_true", help="also print each test's confusion matrix")
        parser.add_argument(
            "--blocks", choices=("released", "paper"), default="released",
            help="512-256 as released, or 1024-512-256 as the paper says (default: released)",
        )  # fmt: skip
        parser.add_argument("--no-augment", action="store_true", help="do not mix embeddings of a class while training")
        parser.add_argument("--epochs", type=int, default=150, help="passes over the training set (default: 150)")
        parser.add_argument(
            "--train-batch-size", type=int, default=256, metavar="N", help="embeddings a training step (default: 256)"
        )
        parser.add_argument(
            "--learning-rate", type=float, default=1e-4, metavar="LR", help="highest learning rate (default: 1e-4)"
        )
        parser.add_argument(
            "--seed", type=int, default=0, help="seed of weights, order, mixing and dropout (default: 0)"
        )

    def run(self, arguments: argparse.Namespace) -> int:
        from llana_eval.representation.classification_benchmark import classification_table, evaluate_classifier
        from llana_eval.tables import check_table_file, published_table, save_table

        errors = InputErrors(self.name, debug=arguments.debug)
        published = None if arguments.published is None else published_table(arguments.published)
        if arguments.table is not None:
            check_table_file(arguments.table)
        if arguments.classifier is not None:
            (test,) = self._splits(arguments, ["test"], errors)
            runs = [evaluate_classifier(arguments.classifier, test)]
        elif arguments.zero_shot:
            runs = [self._zero_shot(arguments, errors)]
        else:
            runs = self._train(arguments, *self._splits(arguments, ["train", "val", "test"], errors))
        table = classification_table(runs, method="this model" if arguments.zero_shot else "this encoder")
        if published is not None:
            table = table.with_rows(published)
        print(table.markdown(), end="")
        if arguments.per_class:
            for run in runs:
                for family, found in run.tests.items():
                    print(f"\n{found.table(f'Trained on {run.trained_on}, tested on {family}').markdown()}", end="")
        if arguments.table is not None:
            save_table(table, arguments.table, details={"runs": [run.to_dict() for run in runs]})
        return errors.status

    def _zero_shot(self, arguments: argparse.Namespace, errors: InputErrors) -> ClassificationRun:
        from llana_eval.representation.zero_shot import run_zero_shot

        from ..checkpoints.loading import load_model

        model, processor = load_model(model_path(arguments))
        (test,) = self._splits(arguments, ["test"], errors, answering=model)
        with stage_progress() as progress:
            return run_zero_shot(model, processor, test, progress=progress)

    def _splits(
        self,
        arguments: argparse.Namespace,
        splits: list[str],
        errors: InputErrors,
        *,
        answering: Any = None,
    ) -> list[Families]:
        """What files hold of splits, or the embeddings of ``--data``: by ``--encoder``, or as a model reads them that answers."""
        tokens = answering is not None and answering.config.vectors_per_nerf > 1
        given = [getattr(arguments, split) for split in splits]
        if all(given):
            return [read_families(names, tokens=tokens) for names in given]
        if any(given) or arguments.data is None:
            options = ", ".join(f"--{split}" for split in splits)
            raise ValueError(
                f"not all embeddings are given; name files with {options}, or a data set with --data and --encoder"
            )
        encoder = None if answering is None else answering.nerf_encoder
        return embed_families(arguments, splits, errors, encoder=encoder, tokens=tokens)

    def _train(
        self, arguments: argparse.Namespace, train: Families, val: Families, test: Families
    ) -> list[ClassificationRun]:
        from llana_eval.representation.classification_benchmark import run_classification, training_sets
        from llana_eval.representation.classifier import PAPER_HIDDEN, RELEASED_HIDDEN
        from llana_eval.representation.classifier_training import ClassifierOptions

        options = ClassifierOptions(
            hidden=PAPER_HIDDEN if arguments.blocks == "paper" else RELEASED_HIDDEN,
            epochs=arguments.epochs,
            batch_size=arguments.train_batch_size,
            learning_rate=arguments.learning_rate,
            augment=not arguments.no_augment,
            seed=arguments.seed,
        )
        if missing := [family for family in train if family not in val]:
            raise ValueError(f"there are no validation embeddings of {', '.join(missing)}; name them with --val")
        members = training_sets(train)
        chosen = training_sets({family: val[family] for family in train})
        names = list(members)
        if arguments.train_on is not None:
            names = [name.strip() for name in arguments.train_on.split(",")]
            if unknown := [name for name in names if name not in members]:
                raise ValueError(f"--train-on names {', '.join(unknown)}; expected some of {', '.join(members)}")
        runs = []
        with stage_progress() as progress:
            for name in names:
                runs.append(
                    run_classification(
                        members[name],
                        chosen[name],
                        test,
                        trained_on=name,
                        options=options,
                        out=None if arguments.out is None else Path(arguments.out) / name.replace("/", "-"),
                        progress=lambda what, done, total, on=name: progress(f"{what} on {on}", done, total),  # type: ignore[misc]
                    )
                )
        return runs
