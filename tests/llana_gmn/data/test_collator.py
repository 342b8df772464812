import pytest
import torch

from llana_gmn.data.collator import ConversationCollator
from llana_gmn.data.dataset import IGNORED
from llana_gmn.model.nerf_inputs import EMBEDDING


def sample(length, supervised=1, nerfs=()):
    ids = torch.arange(5, 5 + length)
    labels = ids.clone()
    labels[: length - supervised] = IGNORED
    return {"input_ids": ids, "labels": labels, "nerfs": list(nerfs)}


def test_padding():
    batch = ConversationCollator(0, (8,))([sample(2), sample(4, 2)])
    assert batch["input_ids"].tolist() == [[5, 6, 0, 0], [5, 6, 7, 8]]
    assert batch["attention_mask"].tolist() == [[1, 1, 0, 0], [1, 1, 1, 1]]
    assert batch["labels"].tolist() == [[IGNORED, 6, IGNORED, IGNORED], [IGNORED, IGNORED, 7, 8]]
    assert not [key for key in batch if key.startswith("nerf")]
    wide = ConversationCollator(0, (8,), pad_to_multiple_of=8)([sample(2), sample(4)])
    assert {key: value.shape for key, value in wide.items()} == dict.fromkeys(batch, torch.Size([2, 8]))


def test_weights_stay_integers_where_floats_are_cast(nerfs):
    """Trainers under DeepSpeed cast every floating-point input to half precision."""
    batch = ConversationCollator(0, (8,))([sample(3, nerfs=[nerfs[0], torch.ones(8)]), sample(3, nerfs=[nerfs[2]])])
    floats = {key for key, value in batch.items() if value.is_floating_point()}
    assert floats == {"nerf_embeddings"}
    assert batch["nerf_weights"].dtype == torch.int32
    assert batch["nerf_architectures"][..., 0].tolist() == [[1, EMBEDDING], [1, 0]]


def test_a_sample_without_an_answer_is_an_error():
    with pytest.raises(ValueError, match="sample 1 of a batch has no token to learn from"):
        ConversationCollator(0, (8,))([sample(3), sample(3, 0)])
    with pytest.raises(ValueError, match="3 tokens but 2 labels"):
        ConversationCollator(0, (8,))([{"input_ids": [1, 2, 3], "labels": [1, 2]}])
