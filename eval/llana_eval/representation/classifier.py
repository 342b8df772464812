"""The classifier of embeddings: its network and its files.

Source: paper section 4.2 and appendix B; docs/released_format.md#classification, which says what the released code does. The
released network has two blocks (512, 256); the text of the paper has three (1024, 512, 256).

Shapes: n embeddings, D their width, C classes, B a batch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gmn_encoder.files import StrPath, read_tensors, write_json, write_safetensors

from ..classes import CLASS_IDS

RELEASED_HIDDEN = (512, 256)
PAPER_HIDDEN = (1024, 512, 256)
WEIGHTS_NAME = "model.safetensors"
CONFIG_NAME = "config.json"


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


def save_classifier(
    classifier: EmbeddingClassifier, path: StrPath, *, class_ids: Sequence[str], about: Mapping[str, Any] | None = None
) -> None:
    """Write ``model.safetensors`` and ``config.json`` (classes in label order and what `about` says) into a directory."""
    write_safetensors(classifier.state_dict(), Path(path) / WEIGHTS_NAME, metadata={"format": "pt"})
    write_json({"class_ids": list(class_ids), **(about or {})}, Path(path) / CONFIG_NAME)


def load_classifier(path: StrPath) -> tuple[EmbeddingClassifier, tuple[str, ...]]:
    """A classifier and its classes in label order, from `save_classifier`'s directory or a released checkpoint file.

    A released checkpoint (a dict with ``net`` among ``epoch``, ``best_acc``, ...) names no classes; where it has as many as the
    class table of docs/released_format.md#classes, they are those.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not such a file.
    """
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
