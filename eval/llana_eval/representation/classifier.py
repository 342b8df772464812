"""The classifier of embeddings: its network, augmentation, schedule and files.

Source: paper section 4.2 and appendix B; FORMATS.md section 8, which says what the released code does. The released network has
two blocks (512, 256); the text of the paper has three (1024, 512, 256): `ClassifierOptions.hidden` tells which.

Shapes: n embeddings, D their width, C classes, B a batch, M mixed samples.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gmn_encoder.files import StrPath, read_tensors, write_json, write_pth_content, write_safetensors

RELEASED_HIDDEN = (512, 256)
PAPER_HIDDEN = (1024, 512, 256)
WEIGHTS_NAME = "model.safetensors"
CONFIG_NAME = "config.json"


@dataclass(frozen=True)
class ClassifierOptions:
    """Network and training, by default as released.

    Attributes:
        hidden: widths of the blocks.
        dropout: in each block.
        epochs, batch_size: of the training.
        learning_rate: highest of the one-cycle schedule.
        weight_decay: of AdamW.
        augment: mix embeddings of a class while training.
        evaluate_every: epochs between evaluations on the validation set.
        seed: of the weights, the order, the mixing and the dropout.
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


class EmbeddingClassifier(nn.Module):
    """Blocks of linear layer, batch normalisation, ReLU and dropout, then a linear layer to the logits.

    Parameter names are those of the released checkpoints: ``net.{0,4}`` linear, ``net.{1,5}`` normalisation, ``net.8`` the last.
    """

    def __init__(
        self, in_features: int, num_classes: int, *, hidden: Sequence[int] = RELEASED_HIDDEN, dropout: float = 0.5
    ):
        super().__init__()
        layers: list[nn.Module] = []
        for width in hidden:
            layers += [nn.Linear(in_features, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(dropout)]
            in_features = width
        self.net = nn.Sequential(*layers, nn.Linear(in_features, num_classes))

    def forward(self, embeddings: Tensor) -> Tensor:
        """``(B, D)`` to logits ``(B, C)``."""
        return self.net(embeddings)

    @property
    def in_features(self) -> int:
        return self.linear_layers[0].in_features

    @property
    def num_classes(self) -> int:
        return self.linear_layers[-1].out_features

    @property
    def linear_layers(self) -> list[nn.Linear]:
        return [layer for layer in self.net if isinstance(layer, nn.Linear)]

    @torch.no_grad()
    def predict(self, embeddings: Tensor, *, batch_size: int = 4096) -> Tensor:
        """Labels int64 ``(n,)`` of embeddings ``(n, D)``, in evaluation mode. Raises `ValueError` for other widths."""
        check_width(embeddings, self.in_features)
        training = self.training
        self.eval()
        weight = self.linear_layers[0].weight
        parts = [self(part.to(weight)).argmax(dim=1) for part in embeddings.split(batch_size)]
        self.train(training)
        return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.int64)

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor]) -> EmbeddingClassifier:
        """The network that a state dict belongs to. Raises `ValueError` where it belongs to none."""
        linear = {key: value for key, value in state.items() if key.endswith(".weight") and value.ndim == 2}
        widths = [value.shape[0] for _, value in sorted(linear.items(), key=lambda item: _place(item[0]))]
        try:
            first = min(linear, key=_place)
            with torch.random.fork_rng(devices=[]):  # initial values are drawn, and overwritten
                network = cls(linear[first].shape[1], widths[-1], hidden=widths[:-1])
            network.load_state_dict(dict(state))
        except (ValueError, IndexError, RuntimeError) as error:
            reason = str(error).split("\n")[1].strip() if "\n" in str(error) else str(error)
            raise ValueError(
                f"no weights of a classifier ({reason}); expected net.0, net.1, net.4, net.5 and net.8 as released"
            ) from error
        return network.eval()


def _place(key: str) -> int:
    return int(key.split(".")[1])


def check_width(embeddings: Tensor, width: int) -> None:
    if embeddings.ndim != 2 or embeddings.shape[1] != width:
        raise ValueError(
            f"embeddings have shape {list(embeddings.shape)}; expected (n, {width}), the width the classifier was trained on"
        )


def mix_within_classes(
    embeddings: Tensor, labels: Tensor, *, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """A batch with mixed samples appended.

    Each sample whose class stands more than twice in the batch takes a random one of that class as its partner (it may be
    itself), draws r from U(0, 1), and gets each feature from the partner with probability 1 - r.

    Args:
        embeddings: ``(B, D)``.
        labels: int64 ``(B,)``.
        generator: on the CPU.

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
        train, val: embeddings ``(n, D)`` and labels int64 ``(n,)`` of each.
        num_classes: C.
        options: network and schedule.
        checkpoint: file to continue from where it exists, rewritten at each evaluation; None keeps nothing.

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

    def run(self, *, on_epoch: Callable[[int], Any] = lambda epoch: None) -> EmbeddingClassifier:
        """Train to the end; `on_epoch` hears how many epochs are done. Returns the network of the best validation accuracy."""
        on_epoch(self.epoch)
        while self.epoch < self.options.epochs:
            self._train_epoch()
            self.epoch += 1
            if self.epoch % self.options.evaluate_every == 0 or self.epoch == self.options.epochs:
                self._evaluate()
            on_epoch(self.epoch)
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
    import hashlib

    digest = hashlib.sha256()
    for tensor in samples:
        digest.update(str((tensor.dtype, tuple(tensor.shape))).encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def save_classifier(
    classifier: EmbeddingClassifier, path: StrPath, *, class_ids: Sequence[str], about: Mapping[str, Any] | None = None
) -> None:
    """Write ``model.safetensors`` and ``config.json`` (classes in label order and what `about` says) into a directory."""
    write_safetensors(classifier.state_dict(), Path(path) / WEIGHTS_NAME, metadata={"format": "pt"})
    write_json({"class_ids": list(class_ids), **(about or {})}, Path(path) / CONFIG_NAME)


def load_classifier(path: StrPath) -> tuple[EmbeddingClassifier, tuple[str, ...]]:
    """A classifier and its classes in label order, from `save_classifier`'s directory or a released checkpoint file.

    A released checkpoint (a dict with ``net`` among ``epoch``, ``best_acc``, ...) names no classes; where it has as many as the
    class table of FORMATS.md section 1.2, they are those.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not such a file.
    """
    from ..classes import CLASS_IDS

    path = Path(path)
    if not path.is_dir():
        content, _ = read_tensors(path)
        state = content.get("net", content)
        try:
            prefix = "" if any(str(key).startswith("net.") for key in state) else "net."
            classifier = EmbeddingClassifier.from_state_dict({prefix + key: value for key, value in state.items()})
        except (ValueError, AttributeError, TypeError) as error:
            raise ValueError(f"{path}: {error}") from error
        if classifier.num_classes != len(CLASS_IDS):
            raise ValueError(f"{path}: has {classifier.num_classes} classes without names; expected {len(CLASS_IDS)}")
        return classifier, CLASS_IDS
    tensors, _ = read_tensors(path / WEIGHTS_NAME)
    try:
        class_ids = tuple(json.loads((path / CONFIG_NAME).read_text(encoding="utf-8"))["class_ids"])
        classifier = EmbeddingClassifier.from_state_dict(tensors)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: is no classifier ({error}); expected {CONFIG_NAME} and {WEIGHTS_NAME}") from error
    if len(class_ids) != classifier.num_classes:
        raise ValueError(f"{path}: names {len(class_ids)} classes and has {classifier.num_classes} logits")
    return classifier, class_ids
