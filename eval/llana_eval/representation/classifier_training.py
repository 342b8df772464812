"""Training the classifier of embeddings: options, augmentation, schedule, checkpoint.

Source: paper section 4.2 and appendix B; docs/released_format.md#classification, which says what the released code does.

Shapes: n embeddings, D their width, C classes, B a batch, M mixed samples.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from gmn_encoder.files import StrPath, read_tensors, write_pth_content
from gmn_encoder.progress import Progress, no_progress

from .classifier import RELEASED_HIDDEN, EmbeddingClassifier, check_width


@dataclass(frozen=True)
class ClassifierOptions:
    """Network and training, by default as released.

    Attributes:
        hidden: the widths of the blocks.
        dropout: the share of units that each block drops.
        epochs: the passes over the training set.
        batch_size: the embeddings of a step.
        learning_rate: the highest learning rate of the one-cycle schedule.
        weight_decay: AdamW's weight decay.
        augment: whether embeddings of a class are mixed while training.
        evaluate_every: the epochs between evaluations on the validation set.
        seed: the seed of the weights, the order, the mixing and the dropout.
    """

    hidden: tuple[int, ...] = RELEASED_HIDDEN
    dropout: float = 0.5
    epochs: int = 150
    batch_size: int = 256
    learning_rate: float = 1e-4
    weight_decay: float = 1e-2
    augment: bool = True
    evaluate_every: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", tuple(self.hidden))
        if any(width < 1 for width in self.hidden):
            raise ValueError(f"hidden is {self.hidden}; expected widths of 1 or more")
        for name in ("epochs", "evaluate_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 1 or more")
        if self.batch_size < 2:
            raise ValueError(f"batch_size is {self.batch_size}; expected 2 or more, batches are normalised")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; expected 0 or more and less than 1")
        if not self.learning_rate > 0 or not self.weight_decay >= 0:
            raise ValueError(
                f"learning_rate is {self.learning_rate} and weight_decay {self.weight_decay}; expected them positive"
            )


def mix_within_classes(
    embeddings: Tensor, labels: Tensor, *, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """A batch with mixed samples appended.

    Each sample whose class stands more than twice in the batch takes a random one of that class as its partner (it may be
    itself), draws r from U(0, 1), and gets each feature from the partner with probability 1 - r.

    Args:
        embeddings: the batch, ``(B, D)``.
        labels: the batch's labels, int64 ``(B,)``.
        generator: the source of random numbers, on the CPU.

    Returns:
        ``(B + M, D)`` and ``(B + M,)``; the first B rows are the batch.
    """
    counts = torch.bincount(labels)
    chosen = (counts[labels] > 2).nonzero()[:, 0]
    if not len(chosen):
        return embeddings, labels
    order = labels.argsort(stable=True)  # a class's samples stand together, from starts[class] on
    starts = counts.cumsum(0) - counts
    wanted = labels[chosen]
    draws = torch.rand(len(chosen), generator=generator, dtype=torch.float64).to(labels.device)
    partners = order[starts[wanted] + (draws * counts[wanted]).long()]
    ratio = torch.rand(len(chosen), 1, generator=generator).to(embeddings.device)
    from_partner = torch.rand(len(chosen), embeddings.shape[1], generator=generator).to(embeddings.device) < 1 - ratio
    mixed = torch.where(from_partner, embeddings[partners], embeddings[chosen])
    return torch.cat([embeddings, mixed]), torch.cat([labels, wanted])


class ClassifierTraining:
    """Training that can be stopped after any epoch and continued from its checkpoint, with the same result.

    Args:
        train: embeddings ``(n, D)`` and labels int64 ``(n,)`` to train on.
        val: embeddings and labels that the epoch is chosen by.
        num_classes: the number of classes, C.
        options: network and schedule; None for the released ones.
        checkpoint: the file to continue from where it exists, rewritten at each evaluation; None keeps nothing.

    Raises:
        ValueError: empty sets, other widths, labels outside 0..C-1, NaN; a checkpoint of other data or options.
    """

    def __init__(
        self,
        train: tuple[Tensor, Tensor],
        val: tuple[Tensor, Tensor],
        *,
        num_classes: int,
        options: ClassifierOptions | None = None,
        checkpoint: StrPath | None = None,
    ) -> None:
        self.options = options or ClassifierOptions()
        for name, (values, labels) in (("training", train), ("validation", val)):
            _check_samples(name, values, labels, num_classes)
        self.embeddings, self.labels = train[0].float(), train[1]
        self.val = val
        check_width(val[0], self.embeddings.shape[1])
        if len(self.labels) < 2:
            raise ValueError("the training set has 1 embedding; expected 2 or more, batches are normalised")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.options.seed)
            self.network = EmbeddingClassifier(
                self.embeddings.shape[1], num_classes, hidden=self.options.hidden, dropout=self.options.dropout
            )
        self.network.to(self.embeddings.device)
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=self.options.learning_rate, weight_decay=self.options.weight_decay
        )
        batches = self._batches(torch.arange(len(self.labels)))
        self.scheduler = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, max_lr=self.options.learning_rate, total_steps=self.options.epochs * len(batches)
        )
        self.epoch = 0
        self.best_accuracy, self.best_epoch = -1.0, 0
        self.best: dict[str, Tensor] = {}
        self.checkpoint = None if checkpoint is None else Path(checkpoint)
        self._about = json.dumps(
            {**dataclasses.asdict(self.options), "classes": num_classes, "train": _digest(train), "val": _digest(val)},
            sort_keys=True,
        )
        if self.checkpoint is not None and self.checkpoint.is_file():
            self._resume(self.checkpoint)

    def run(self, *, progress: Progress = no_progress) -> EmbeddingClassifier:
        """Train to the end; `progress` receives epochs. Returns the network of the best validation accuracy."""
        progress("training", self.epoch, self.options.epochs)
        while self.epoch < self.options.epochs:
            self._train_epoch()
            self.epoch += 1
            if self.epoch % self.options.evaluate_every == 0 or self.epoch == self.options.epochs:
                self._evaluate()
            progress("training", self.epoch, self.options.epochs)
        classifier = EmbeddingClassifier.from_state_dict({key: value.cpu() for key, value in self.best.items()})
        return classifier.to(self.embeddings.device)

    def _batches(self, order: Tensor) -> list[Tensor]:
        """The last batch is left out where it would be a single sample, which cannot be normalised."""
        batches = list(order.split(self.options.batch_size))
        return batches[:-1] if len(batches) > 1 and len(batches[-1]) == 1 else batches

    def _train_epoch(self) -> None:
        generator = torch.Generator().manual_seed(self.options.seed * 1_000_003 + self.epoch)
        order = torch.randperm(len(self.labels), generator=generator).to(self.labels.device)
        cuda = [self.embeddings.device] if self.embeddings.is_cuda else []
        with torch.random.fork_rng(devices=cuda):  # dropout draws from the global generator
            torch.manual_seed(self.options.seed * 1_000_003 + self.epoch)
            self.network.train()
            for rows in self._batches(order):
                values, labels = self.embeddings[rows], self.labels[rows]
                if self.options.augment:
                    values, labels = mix_within_classes(values, labels, generator=generator)
                self.optimizer.zero_grad(set_to_none=True)
                nn.functional.cross_entropy(self.network(values), labels).backward()
                self.optimizer.step()
                self.scheduler.step()

    def _evaluate(self) -> None:
        accuracy = float((self.network.predict(self.val[0]) == self.val[1]).double().mean())
        if accuracy > self.best_accuracy:
            self.best_accuracy, self.best_epoch = accuracy, self.epoch
            self.best = {key: value.detach().clone() for key, value in self.network.state_dict().items()}
        if self.checkpoint is not None:
            content = {
                "epoch": self.epoch,
                "best_acc": self.best_accuracy,
                "best_epoch": self.best_epoch,
                "net": self.network.state_dict(),
                "best_net": self.best,
                "optimizer": self.optimizer.state_dict(),
                "scheduler": self.scheduler.state_dict(),
                "about": self._about,
            }
            write_pth_content(content, self.checkpoint)

    def _resume(self, path: Path) -> None:
        content, _ = read_tensors(path)
        if content.get("about") != self._about:
            raise ValueError(
                f"{path}: was begun with other embeddings or options; delete it, or write to another directory"
            )
        self.network.load_state_dict(content["net"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.scheduler.load_state_dict(content["scheduler"])
        self.epoch, self.best_accuracy, self.best_epoch = content["epoch"], content["best_acc"], content["best_epoch"]
        self.best = content["best_net"]


def _check_samples(name: str, values: Tensor, labels: Tensor, num_classes: int) -> None:
    if values.ndim != 2 or labels.shape != values.shape[:1]:
        raise ValueError(
            f"{name} embeddings have shape {list(values.shape)} and labels {list(labels.shape)}; expected (n, D) and (n,)"
        )
    if not len(labels):
        raise ValueError(f"the {name} set is empty; expected at least one embedding")
    if not bool(values.isfinite().all()):
        row = int(values.isfinite().all(dim=1).logical_not().nonzero()[0])
        raise ValueError(f"{name} embedding {row} has NaN or infinity; embed it again")
    if int(labels.min()) < 0 or int(labels.max()) >= num_classes:
        raise ValueError(
            f"{name} labels run from {int(labels.min())} to {int(labels.max())}; expected 0 to {num_classes - 1}"
        )


def _digest(samples: tuple[Tensor, Tensor]) -> str:
    digest = hashlib.sha256()
    for tensor in samples:
        digest.update(str((tensor.dtype, tuple(tensor.shape))).encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
