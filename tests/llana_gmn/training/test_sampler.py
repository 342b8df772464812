import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from llana_gmn.training.sampler import SeededSampler, padded_tokens


@given(lengths=st.lists(st.integers(1, 99), min_size=1, max_size=300), batch=st.integers(1, 9), epoch=st.integers(0, 3))
def test_every_sample_once_and_the_same_again(lengths, batch, epoch):
    order = []
    for _ in range(2):
        sampler = SeededSampler(np.array(lengths), seed=1, batch=batch)
        list(sampler)  # an earlier epoch leaves nothing behind
        sampler.set_epoch(epoch)
        order.append(list(sampler))
    assert order[0] == order[1]
    assert sorted(order[0]) == list(range(len(lengths)))
    assert len(sampler) == len(lengths)


def test_seed_and_epoch_change_the_order():
    lengths = np.arange(100)
    orders = set()
    for seed, epoch in [(0, 0), (0, 1), (1, 0)]:
        sampler = SeededSampler(lengths, seed=seed, batch=4)
        sampler.set_epoch(epoch)
        orders.add(tuple(sampler))
    assert len(orders) == 3


def test_grouping_pads_less():
    lengths = np.random.default_rng(0).integers(1, 200, 1600)
    plain, grouped = (padded_tokens(lengths, SeededSampler(lengths, batch=b), 16) for b in (None, 16))
    assert lengths.sum() <= grouped < 1.1 * lengths.sum() < 1.5 * lengths.sum() < plain
    # By hand: batches (3, 5) and (1,) in any order of samples of one batch cost 2 * 5 + 1.
    assert padded_tokens(np.array([3, 5, 1]), SeededSampler(np.array([3, 5, 1]), batch=2), 2) in (11,)
