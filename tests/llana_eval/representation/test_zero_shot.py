import pytest
import torch

from gmn_encoder import Nerf
from llana_eval.representation.zero_shot import class_log_likelihoods, class_sentence, zero_shot_labels

NAMES = ["chair", "airplane", "wooden dining table", "lamp"]


def by_hand(model, processor, nerf, sentence):
    """One prompt without padding, its answer token by token: the prompt of `generate`, then what follows."""
    ask = {
        "role": "user",
        "content": [{"type": "nerf", "nerf": nerf}, {"type": "text", "text": "What is this object?"}],
    }
    options = {"tokenize": True, "return_dict": True, "return_tensors": "pt"}
    whole = processor.apply_chat_template([ask, {"role": "assistant", "content": sentence}], **options)
    start = processor.apply_chat_template([ask], add_generation_prompt=True, **options)["input_ids"].shape[1]
    with torch.no_grad():
        logits = model(**whole).logits[0].log_softmax(dim=-1)
    ids = whole["input_ids"][0]
    assert processor.tokenizer.decode(ids[start:]).strip() == sentence + "</s>"
    each = [float(logits[i - 1, ids[i]]) for i in range(start, len(ids))]
    return sum(each), len(each)


def test_against_one_sentence_at_a_time(tiny, nerfs):
    model, processor = tiny
    counts = []
    found = class_log_likelihoods(
        model, processor, nerfs, NAMES, batch_size=5, progress=lambda *given: counts.append(given[1:])
    )
    means = class_log_likelihoods(model, processor, nerfs, NAMES, batch_size=5, length_normalised=True)
    assert found.shape == (3, 4) and counts == [(5, 12), (10, 12), (12, 12)]
    for i, nerf in enumerate(nerfs):
        for j, name in enumerate(NAMES):
            total, tokens = by_hand(model, processor, nerf, class_sentence(name))
            assert float(found[i, j]) == pytest.approx(total, rel=1e-4)
            assert float(means[i, j]) == pytest.approx(total / tokens, rel=1e-4)
    assert not torch.allclose(found[0], found[1])  # the NeRF matters


def test_embeddings_and_batch_sizes_give_the_same(tiny, nerfs):
    model, processor = tiny
    expected = class_log_likelihoods(model, processor, nerfs, NAMES, batch_size=64)
    mixed = [nerfs[0], model.encode([nerfs[1]])[0], nerfs[2]]
    found = class_log_likelihoods(model, processor, mixed, NAMES, batch_size=3)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    labels = zero_shot_labels(model, processor, nerfs, NAMES)
    assert torch.equal(labels, expected.argmax(dim=1))


def test_length_matters_and_can_be_taken_out(tiny, nerfs):
    """Of a random model every token costs about as much: sums fall with length, means do not."""
    model, processor = tiny
    sums = class_log_likelihoods(model, processor, nerfs[:1], NAMES)[0]
    means = class_log_likelihoods(model, processor, nerfs[:1], NAMES, length_normalised=True)[0]
    assert int(sums.argmin()) == 2 and float(means.std() / means.mean().abs()) < float(sums.std() / sums.mean().abs())


def test_sentences():
    assert class_sentence("airplane") == "This is an airplane." and class_sentence("sofa") == "This is a sofa."
    assert class_sentence("sofa", "A {name} {it}") == "A sofa {it}"


@pytest.mark.parametrize(
    ("nerfs", "names", "options", "message"),
    [
        ([], NAMES, {}, "there are 0 NeRFs and 4 classes"),
        ([Nerf.random("MLP-32H")], [], {}, "there are 1 NeRFs and 0 classes"),
        ([Nerf.random("MLP-32H")], ["a", "b", "a"], {}, "class 'a' is named twice"),
        ([Nerf.random("MLP-32H")], ["a"], {"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ([Nerf.random("MLP-32H")], ["a"], {"template": "This."}, "template is 'This.'; expected {name} in it"),
    ],
)
def test_bad_input(tiny, nerfs, names, options, message):
    with pytest.raises(ValueError, match=message):
        class_log_likelihoods(*tiny, nerfs, names, **options)
