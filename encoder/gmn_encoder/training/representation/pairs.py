"""Which NeRFs make a batch: pairs of the same object in two families, every pair of families equally often.

Source: the released balanced sampler (docs/released_format.md#pair-sampling), for any number of families. The epoch is a
permutation of the objects; position i of it emits, for P pairs of families, pair ``i mod (P + 1)``, and where that is P, one at
random. With three families the pairs are (0, 1), (1, 2), (0, 2), in this order. Even members of a batch are side A, odd ones side
B.

With one family there are no pairs: the epoch is a permutation of its NeRFs.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np

from ...seeds import derived_seed

Member = tuple[int, int]
"""A NeRF as ``(family, object)`` numbers."""


def family_pairs(families: int) -> list[tuple[int, int]]:
    """All pairs of families, neighbours first: (0, 1), (1, 2), ..., then (0, 2), ..."""
    return [(first, first + gap) for gap in range(1, families) for first in range(families - gap)]


def balanced_pairs(
    permutation: Sequence[int] | np.ndarray, families: int, *, randint: Callable[[int, int], int]
) -> list[tuple[Member, Member]]:
    """The pairs of an epoch.

    Args:
        permutation: the objects' numbers in the order of the epoch.
        families: number of families, at least 2.
        randint: ``random.randint`` or the like, which includes both ends.
    """
    pairs = family_pairs(families)
    if not pairs:
        raise ValueError(f"{families} families make no pairs; expected at least 2")
    epoch = []
    for position, number in enumerate(permutation):
        kind = position % (len(pairs) + 1)
        first, second = pairs[kind if kind < len(pairs) else randint(0, len(pairs) - 1)]
        epoch.append(((first, int(number)), (second, int(number))))
    return epoch


def epoch_batches(
    objects: int,
    families: int,
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    processes: int = 1,
    every_family: bool = False,
) -> list[list[list[Member]]]:
    """The batches of an epoch: for each step the members of each process' batch, sides A and B in turn.

    With `every_family` an object comes in all families, one after the other, instead of a pair of them.

    A last batch that is not full stays with one process and is left out with several, which need equal shares. Every draw
    follows from seed and epoch.

    Raises:
        ValueError: a batch size that splits pairs (with `every_family`: objects), or fewer objects than a step of all processes
            needs.
    """
    start = derived_seed(seed, "epoch", epoch)
    permutation = np.random.RandomState(start % (1 << 32)).permutation(objects)
    if families > 1 and every_family:
        if batch_size % families:
            raise ValueError(
                f"batch_size is {batch_size}; expected a multiple of {families}, every object comes in that many families"
            )
        members = [(family, int(number)) for number in permutation for family in range(families)]
    elif families > 1:
        if batch_size % 2:
            raise ValueError(f"batch_size is {batch_size}; expected an even number of NeRFs, they come in pairs")
        pairs = balanced_pairs(permutation, families, randint=random.Random(start).randint)
        members = [member for pair in pairs for member in pair]
    else:
        members = [(0, int(number)) for number in permutation]
    step = batch_size * processes
    batches = [members[first : first + step] for first in range(0, len(members), step)]
    if processes > 1 and len(batches[-1]) < step:
        batches.pop()
    if not batches:
        raise ValueError(
            f"{len(members)} NeRFs in an epoch do not fill a step of {processes} processes with {batch_size} each; "
            "use smaller batches or fewer processes"
        )
    return [[batch[first : first + batch_size] for first in range(0, len(batch), batch_size)] for batch in batches]
