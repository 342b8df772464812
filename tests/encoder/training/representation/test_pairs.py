"""Pairs of families: the released sampler's numbers, and any number of families."""

import random
from collections import Counter

import numpy as np
import pytest

from gmn_encoder.training.representation.pairs import balanced_pairs, epoch_batches, family_pairs


def test_golden(golden_manifest):
    about = golden_manifest["balanced_sampler"]
    for objects, draw in about["draws"].items():
        permutation = np.random.RandomState(about["numpy_seed"]).permutation(int(objects))
        pairs = balanced_pairs(permutation, 3, randint=random.Random(about["python_random_seed"]).randint)
        # The released data set has one family after the other.
        assert [family * int(objects) + number for pair in pairs for family, number in pair] == draw["indices"]


def test_families_in_turn():
    assert family_pairs(2) == [(0, 1)]
    assert family_pairs(3) == [(0, 1), (1, 2), (0, 2)]
    assert family_pairs(4) == [(0, 1), (1, 2), (2, 3), (0, 2), (1, 3), (0, 3)]


@pytest.mark.parametrize("families", [2, 3, 4])
def test_every_object_once_and_pairs_of_families_evenly(families):
    """70 objects: with 3 families 4 turns, of which the last is random, 70 = 17 * 4 + 2; each pair has 17 or more."""
    pairs = balanced_pairs(range(70), families, randint=random.Random(0).randint)
    assert sorted(first[1] for first, _ in pairs) == list(range(70))
    assert all(first[1] == second[1] and first[0] < second[0] for first, second in pairs)
    kinds = Counter((first[0], second[0]) for first, second in pairs)
    turns = len(family_pairs(families)) + 1
    assert set(kinds) == set(family_pairs(families))
    assert min(kinds.values()) >= 70 // turns


def test_epochs_differ_and_come_back():
    options = {"batch_size": 4, "seed": 3}
    first, again, other = (epoch_batches(9, 3, epoch=epoch, **options) for epoch in (0, 0, 1))
    assert first == again
    assert first != other
    assert [len(batch) for (batch,) in first] == [4, 4, 4, 4, 2]


def test_processes_share_a_step():
    one = epoch_batches(9, 3, batch_size=8, seed=0, epoch=0)
    two = epoch_batches(9, 3, batch_size=4, seed=0, epoch=0, processes=2)
    assert [[member for share in step for member in share] for step in two] == [step[0] for step in one[:2]]


def test_one_family_has_no_pairs():
    [[batch]] = epoch_batches(5, 1, batch_size=5, seed=0, epoch=0)
    assert sorted(batch) == [(0, number) for number in range(5)]


def test_bad_input():
    with pytest.raises(ValueError, match="even number"):
        epoch_batches(9, 3, batch_size=3, seed=0, epoch=0)
    with pytest.raises(ValueError, match="do not fill a step of 4 processes"):
        epoch_batches(3, 3, batch_size=2, seed=0, epoch=0, processes=4)
    with pytest.raises(ValueError, match="expected at least 2"):
        balanced_pairs([0], 1, randint=random.randint)
