"""What a model says about its own limits: how sure it is of an answer, and which NeRFs it was not made for.

How sure it is, is the mean probability of an answer's tokens. What that is worth was measured once on objects that it was not
trained on (`calibration`) and stands in its configuration, `LlanaGmnConfig.confidence`: points between which the share of right
answers is read. A model without such points says nothing.

Shapes: B sequences, P tokens of the prompt, T new tokens, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import LogitsProcessor

from gmn_encoder.nerfs.architectures import FAMILY_NAMES, NerfArchitecture
from gmn_encoder.nerfs.finite import nothing_to_see
from gmn_encoder.nerfs.record import Nerf

from ..model.nerf_items import OnFlag, warn_of_flag

UNSURE = 0.75
"""Share of right answers under which an answer is called unsure."""


class TokenProbabilities(LogitsProcessor):
    """Notes the probability that the model gave to every token that it wrote. Not for beams, which change places."""

    def __init__(self) -> None:
        self._before: Tensor | None = None
        self._noted: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self._note(input_ids)
        self._before = scores.detach().float().log_softmax(dim=-1)
        return scores

    def _note(self, ids: Tensor) -> None:
        if self._before is not None:
            self._noted.append(self._before.gather(1, ids[:, -1:])[:, 0].exp())
            self._before = None

    def means(self, ids: Tensor, ends: Sequence[int]) -> list[float]:
        """The mean over each answer, up to the token that ends it; 0 of none.

        Args:
            ids: what `generate` returned, ``(B, P + T)``.
            ends: tokens that end an answer.
        """
        self._note(ids)
        if not self._noted:
            return [0.0] * len(ids)
        noted = torch.stack(self._noted, dim=1)  # (B, T)
        written = ids[:, ids.shape[1] - noted.shape[1] :]
        ended = torch.isin(written, torch.tensor(sorted(ends), device=ids.device)).long().cumsum(dim=1)
        counts = (
            (ended == 0) | ((ended == 1) & (ended.diff(dim=1, prepend=ended.new_zeros(len(ids), 1)) == 1))
        ).float()
        return ((noted * counts).sum(dim=1) / counts.sum(dim=1).clamp_min(1)).tolist()


def end_tokens(model: Any) -> list[int]:
    """Tokens that end an answer of a model."""
    found = model.generation_config.eos_token_id
    return [] if found is None else [found] if isinstance(found, int) else list(found)


def calibration(probabilities: Sequence[float], right: Sequence[bool], *, points: int = 8) -> list[list[float]]:
    """The share of right answers by probability, as points that never fall: isotonic regression, thinned out.

    Args:
        probabilities: mean token probability of each answer.
        right: whether it is right.
        points: groups of equal size that are looked at, before neighbours in which the share falls are joined.

    Returns:
        ``[probability, share]`` pairs, for `LlanaGmnConfig.confidence`.

    Raises:
        ValueError: fewer answers than points.
    """
    if len(probabilities) < points or len(probabilities) != len(right):
        raise ValueError(
            f"{len(probabilities)} probabilities came with {len(right)} marks; expected at least {points} of each"
        )
    order = np.argsort(np.asarray(probabilities), kind="stable")
    values, marks = np.asarray(probabilities)[order], np.asarray(right, dtype=float)[order]
    blocks: list[list[float]] = []  # sum of probabilities, sum of marks, count
    for part in np.array_split(np.arange(len(order)), points):
        blocks.append([values[part].sum(), marks[part].sum(), len(part)])
        while len(blocks) > 1 and blocks[-2][1] / blocks[-2][2] >= blocks[-1][1] / blocks[-1][2]:
            last = blocks.pop()
            blocks[-1] = [one + other for one, other in zip(blocks[-1], last, strict=True)]
    return [[round(p / count, 4), round(marks / count, 4)] for p, marks, count in blocks]


def share_right(config: Any, probability: float | None) -> float | None:
    """How many of a hundred answers of this probability were right, as a share; None where nobody measured it."""
    if not config.confidence or probability is None or math.isnan(probability):
        return None
    known, shares = zip(*config.confidence, strict=True)
    return float(np.interp(probability, known, shares))


def doubt(config: Any, probability: float | None) -> str | None:
    """A line about an answer that the model is not sure of; None where it is, or nobody can tell."""
    share = share_right(config, probability)
    if share is None or share >= UNSURE:
        return None
    return f"unsure: of answers given with so little confidence, {100 * share:.0f} in 100 were right"


def unfamiliar(config: Any, architecture: NerfArchitecture) -> str | None:
    """A line about a NeRF of a kind that the model was not trained on; None for one that it was, or where nobody noted it."""
    known = config.trained_on
    if not known or architecture.name in known:
        return None
    family = FAMILY_NAMES.get(architecture.family, architecture.family)
    if family not in {name.partition("-")[0] for name in known}:
        return f"a NeRF of the family {family}, which the model was not trained on: answers may be wrong"
    return f"a NeRF of other sizes than the model was trained on ({', '.join(known)}): answers may be worse"


def on_flag(config: Any) -> OnFlag:
    """What `read_nerf` does with an empty or a full field: a model that knows what it was trained on would have to guess, and
    refuses it with a `ValueError`; for another one, of whatever kind, it is a warning."""
    return _refuse if getattr(config, "trained_on", None) else warn_of_flag


def _refuse(nerf: Nerf, flag: str) -> None:
    raise ValueError(nothing_to_see(nerf.name, flag))
