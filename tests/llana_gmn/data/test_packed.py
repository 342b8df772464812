"""Several conversations about one NeRF in one sample are, for the loss, those conversations one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from llana_gmn.data.collator import ConversationCollator
from llana_gmn.data.conversations import CONVERSATION_TYPES
from llana_gmn.data.dataset import IGNORED
from llana_gmn.data.packed import attention_of, common_beginning, packed_groups
from llana_gmn.data.sources import LanguageData

TYPES = CONVERSATION_TYPES


@pytest.fixture(scope="module")
def sets(processor, language_data, embedding_files):
    """(one conversation a sample, several), of one family."""
    data = LanguageData(language_data, embeddings={"mlp": embedding_files["mlp"]})
    return tuple(data.load("train", TYPES, processor=processor, max_length=512, pack=pack) for pack in (0, 400))


def token_losses(model, processor, dataset):
    """Every supervised token's loss, sorted."""
    collate = ConversationCollator(processor.tokenizer.pad_token_id, processor.embedding_shape)
    found = []
    with torch.no_grad():
        for start in range(0, len(dataset), 3):
            batch = collate([dataset[i] for i in range(start, min(start + 3, len(dataset)))])
            labels = batch.pop("labels")
            logits = model(**batch).logits[:, :-1]
            wanted = labels[:, 1:]
            loss = torch.nn.functional.cross_entropy(logits.transpose(1, 2), wanted, reduction="none")
            found.append(loss[wanted != IGNORED])
    return torch.cat(found).sort().values


def test_losses_are_those_of_separate_conversations(model, processor, sets):
    alone, packed = sets
    assert len(packed) < len(alone) / 3
    assert int(packed.supervised.sum()) == int(alone.supervised.sum())
    assert int(packed.lengths.sum()) < int(alone.lengths.sum())
    assert int(packed.lengths.max()) <= 400
    one, other = (token_losses(model, processor, each) for each in sets)
    torch.testing.assert_close(one, other, atol=2e-4, rtol=1e-3)


def test_every_conversation_is_in_one_sample(sets):
    alone, packed = sets
    names = [(each.kind, each.index) for i in range(len(packed)) for each in packed.packed_dialogues(i)]
    assert sorted(names) == sorted((alone.sample(i)[0].kind, alone.sample(i)[0].index) for i in range(len(alone)))
    for i in range(len(packed)):
        assert len({each.object_ids for each in packed.packed_dialogues(i)}) == 1
        assert len(packed[i]["input_ids"]) == len(packed[i]["labels"]) == packed.lengths[i]


def test_who_sees_whom():
    branches = torch.tensor([[0, 0, 1, 1, 2], [0, 0, 0, 0, 0]])
    positions, mask = attention_of(branches, torch.tensor([5, 3]))
    assert positions.tolist() == [[0, 1, 2, 3, 2], [0, 1, 2, 0, 0]]
    assert mask[0, 0].long().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 0, 0, 1],
    ]
    # Padding is seen by nobody but itself; what it sees does not matter.
    assert mask[1, 0, :, 3:].long().tolist() == [[0, 0], [0, 0], [0, 0], [1, 0], [0, 1]]
    assert mask[1, 0, :3, :3].long().tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]


def test_a_common_beginning_ends_before_anything_is_learned():
    rows = [np.array([1, 2, 3, 4]), np.array([1, 2, 3, 5]), np.array([1, 2])]
    nothing = [np.zeros(len(row), dtype=bool) for row in rows]
    assert common_beginning(rows[:2], nothing[:2]) == 3
    assert common_beginning(rows, nothing) == 2
    assert common_beginning(rows[:2], [np.array([0, 1, 1, 1], dtype=bool), nothing[1]]) == 1


def test_groups_hold_what_fits():
    members = [("a", 10, 4), ("b", 10, 4), ("a", 10, 4), ("a", 10, 4), (None, 50, 0)]
    groups = packed_groups(members, most=16, seed=0)
    assert sorted(len(group) for group in groups) == [1, 1, 1, 2]
    assert sorted(place for group in groups for place in group) == [0, 1, 2, 3, 4]
    assert packed_groups(members, most=16, seed=0) == groups
