"""Similarity of texts by the cosine of their embeddings: S-BERT and SimCSE.

Source: docs/released_format.md#metrics. S-BERT is a sentence-transformers model as it comes; SimCSE is a transformers encoder
whose pooler output is the embedding, inputs truncated to what it reads. Texts are embedded once each, however often they occur,
in batches of similar length. Shapes: n texts, D embedding.
"""

from __future__ import annotations

import functools
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

SBERT_MODEL = "sentence-transformers/all-mpnet-base-v2"
SIMCSE_MODEL = "princeton-nlp/sup-simcse-roberta-large"
SBERT_NAME = "sbert_similarity"
SIMCSE_NAME = "simcse_similarity"

_BATCH_SIZE = 64
_REMEMBERED = 1 << 30  # bytes of embeddings

Step = Callable[[float], Any]


class TextEmbedder(ABC):
    """A model that embeds texts, and a memory of those it has embedded.

    Args:
        name: the model's name: a directory, or a name on the hub.
        batch_size: number of texts at a time.
        device: where the model runs; None for the accelerator if there is one, else the CPU.

    Raises:
        FileNotFoundError: no such directory.
        OSError: the model cannot be loaded, for example without a network.
    """

    kind = ""

    def __init__(self, name: str | os.PathLike[str], *, batch_size: int = _BATCH_SIZE, device: Any = None) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        self.name = os.fspath(name)
        self.batch_size = batch_size
        self.device = torch.device(
            device or torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
        )
        self._memory: dict[str, np.ndarray] = {}
        if self.name.startswith((".", "/", "~")) and not Path(self.name).expanduser().is_dir():
            raise FileNotFoundError(f"{self.name}: no such directory; expected one with a model for {self.kind}")
        try:
            self._load(os.path.expanduser(self.name))
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise OSError(
                f"the {self.kind} model {self.name} cannot be loaded ({reason}); name a local directory instead, "
                f"or choose metrics without {self.kind}"
            ) from error

    def embed(self, texts: Sequence[str], *, on_texts: Step | None = None) -> np.ndarray:
        """Embeddings ``(n, D)`` float32 in the order of the texts; `on_texts` receives how many more have theirs."""
        new = sorted({text for text in texts if text not in self._memory}, key=lambda text: (len(text), text))
        if on_texts is not None:
            on_texts(sum(text in self._memory for text in texts))
        counts = _counts(texts) if on_texts is not None else {}
        # The longest first: what does not fit into memory shows at once.
        for start in range(0, len(new), self.batch_size):
            batch = new[::-1][start : start + self.batch_size]
            with torch.inference_mode():
                values = self._embed(batch).to("cpu", torch.float32).numpy()
            self._memory.update(zip(batch, values, strict=True))
            if on_texts is not None:
                on_texts(sum(counts[text] for text in batch))
        found = np.stack([self._memory[text] for text in texts]) if texts else np.zeros((0, 0), dtype=np.float32)
        if len(self._memory) * found.itemsize * max(found.shape[-1], 1) > _REMEMBERED:
            self._memory.clear()
        return found

    def similarity(self, predictions: Sequence[str], references: Sequence[str], **options: Any) -> list[float]:
        """100 times the cosine of each pair."""
        if len(predictions) != len(references):
            raise ValueError(
                f"{len(predictions)} predictions came with {len(references)} references; expected one each"
            )
        if not predictions:
            return []
        both = self.embed([*predictions, *references], **options).astype(np.float64)
        both /= np.linalg.norm(both, axis=1, keepdims=True).clip(min=1e-12)
        return (100.0 * (both[: len(predictions)] * both[len(predictions) :]).sum(axis=1)).tolist()

    @abstractmethod
    def _load(self, path: str) -> None: ...

    @abstractmethod
    def _embed(self, texts: list[str]) -> torch.Tensor: ...


class SbertEmbedder(TextEmbedder):
    """A sentence-transformers model, by default the published all-mpnet-base-v2."""

    kind = "S-BERT"

    def __init__(self, name: str | os.PathLike[str] = SBERT_MODEL, **options: Any) -> None:
        super().__init__(name, **options)

    def _load(self, path: str) -> None:
        from sentence_transformers import SentenceTransformer

        self._model = SentenceTransformer(path, device=str(self.device)).eval()

    def _embed(self, texts: list[str]) -> torch.Tensor:
        return self._model.encode(texts, batch_size=len(texts), convert_to_tensor=True, show_progress_bar=False)


class SimcseEmbedder(TextEmbedder):
    """A transformers encoder with a pooler, by default the published sup-simcse-roberta-large."""

    kind = "SimCSE"

    def __init__(self, name: str | os.PathLike[str] = SIMCSE_MODEL, **options: Any) -> None:
        super().__init__(name, **options)

    def _load(self, path: str) -> None:
        from transformers import AutoModel, AutoTokenizer

        # The pooler reads the first token, which must not be padding, whatever the tokenizer was saved with.
        self._tokenizer = AutoTokenizer.from_pretrained(path, padding_side="right", truncation_side="right")
        model, info = AutoModel.from_pretrained(path, dtype=torch.float32, output_loading_info=True)
        # transformers would fill a pooler that the file lacks with random weights, and the scores with noise.
        if not any(name.startswith("pooler.") for name, _ in model.named_parameters()) or any(
            "pooler" in key for key in info["missing_keys"]
        ):
            raise ValueError("it has no trained pooler, whose output SimCSE compares")
        self._model = model.to(self.device).eval()
        self._max_length = min(self._tokenizer.model_max_length, _positions(model.config))

    def _embed(self, texts: list[str]) -> torch.Tensor:
        inputs = self._tokenizer(
            texts, padding=True, truncation=True, max_length=self._max_length, return_tensors="pt"
        ).to(self.device)
        return self._model(**inputs).pooler_output


def _positions(config: Any) -> int:
    """How many tokens an encoder reads. RoBERTa's positions begin after its padding id."""
    first = config.pad_token_id + 1 if "roberta" in config.model_type else 0
    return config.max_position_embeddings - first


def _counts(texts: Sequence[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for text in texts:
        counts[text] = counts.get(text, 0) + 1
    return counts


@functools.lru_cache(maxsize=2)
def sbert_embedder(name: str = SBERT_MODEL, batch_size: int = _BATCH_SIZE) -> SbertEmbedder:
    """The model of a name, loaded once, with what it remembers."""
    return SbertEmbedder(name, batch_size=batch_size)


@functools.lru_cache(maxsize=2)
def simcse_embedder(name: str = SIMCSE_MODEL, batch_size: int = _BATCH_SIZE) -> SimcseEmbedder:
    """The model of a name, loaded once, with what it remembers."""
    return SimcseEmbedder(name, batch_size=batch_size)
