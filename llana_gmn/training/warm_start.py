"""A projector that begins near the words of captions: seconds without the language model, before the first step through it.

The target of a NeRF is the mean input embedding of the words that its answers have, as far as it differs from that of all NeRFs,
at the length at which single words differ from each other. A projector of random weights writes what no word looks like, and the
steps in which the language model's gradients change that are the dear ones.

Shapes: N NeRFs, T tokens a NeRF, H hidden size of the backbone, V vocabulary.
"""

from __future__ import annotations

import logging
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gmn_encoder.progress import Progress, no_progress

from ..data.dataset import IGNORED, ConversationDataset
from ..model.auto import LlanaGmnForConditionalGeneration

_BATCH = 128
_RATE = 1e-3

logger = logging.getLogger(__name__)


def word_targets(dataset: ConversationDataset, table: Tensor) -> tuple[Tensor, Tensor]:
    """What the projector should write for each NeRF that a data set talks about alone.

    Args:
        dataset: samples with one NeRF each; others are passed over.
        table: the backbone's input embeddings ``(V, H)``.

    Returns:
        embeddings of the NeRFs ``(N, *E)`` and targets ``(N, H)``, float32.
    """
    sums: dict[tuple[Any, str], list[Any]] = {}
    for index in range(len(dataset)):
        dialogue, variant = dataset.sample(index)
        if len(dialogue.object_ids) != 1:
            continue
        sample = dataset[index]
        words = table[sample["labels"][sample["labels"] != IGNORED]].float()
        entry = sums.setdefault((dialogue.object_ids, variant), [sample["nerfs"][0], 0.0, 0])
        entry[1], entry[2] = entry[1] + words.sum(dim=0), entry[2] + len(words)
    if not sums:
        raise ValueError("warm_projector is set, and no sample is about one NeRF alone; set it to 0")
    nerfs = torch.stack([torch.as_tensor(nerf) for nerf, _, _ in sums.values()]).float()
    means = torch.stack([total / count for _, total, count in sums.values()])
    differences = means - means.mean(dim=0)
    words = table.float()
    length = (words - words.mean(dim=0)).square().mean().sqrt()
    spread = differences.square().mean().sqrt().clamp_min(1e-12)
    return nerfs, words.mean(dim=0) + differences * (length / spread)


def warm_projector(
    model: LlanaGmnForConditionalGeneration,
    dataset: ConversationDataset,
    *,
    steps: int,
    seed: int = 0,
    progress: Progress = no_progress,
) -> float:
    """Train the projector alone, in place, towards `word_targets`.

    Args:
        model: the model, whose projector changes and whose table of input embeddings is read.
        dataset: the training set.
        steps: steps of AdamW with 128 NeRFs each, their rate falling to zero.
        seed: seed of the order of NeRFs.
        progress: receives the steps.

    Returns:
        mean squared error of the last batch, as a share of the targets' variance.
    """
    table: Any = model.get_input_embeddings()
    nerfs, targets = word_targets(dataset, table.weight.detach())
    scale = (targets - targets.mean(dim=0)).square().mean().clamp_min(1e-12)
    kind = next(model.projector.parameters()).dtype
    model.projector.float().requires_grad_(True).train()
    optimizer = torch.optim.AdamW(model.projector.parameters(), lr=_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    random = torch.Generator().manual_seed(seed)
    loss = torch.zeros(())
    with torch.enable_grad():
        for step in range(steps):
            rows = torch.randint(len(nerfs), (min(_BATCH, len(nerfs)),), generator=random)
            written = model.model.project(nerfs[rows]).float()  # (batch, T, H)
            loss = F.mse_loss(written, targets[rows, None].to(written.device).expand_as(written)) / scale
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            progress("warming the projector", step + 1, steps)
    model.projector.to(kind).eval()
    share = float(loss.detach())
    logger.info("warmed the projector on %d NeRFs: %.0f %% of the targets' variance is left", len(nerfs), 100 * share)
    return share
