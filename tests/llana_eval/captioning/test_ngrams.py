"""The scores are those of nltk and `rouge`, called as their documentation says."""

from __future__ import annotations

import sys

import pytest
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
from nltk.translate.meteor_score import meteor_score
from rouge import Rouge

from llana_eval.captioning.ngrams import bleu_scores, meteor_scores, rouge_scores
from llana_eval.captioning.wordnet import find_wordnet, load_wordnet

from ..conftest import needs_wordnet

WEIGHTS = {"bleu-1": (1, 0, 0, 0), "bleu-2": (0.5, 0.5, 0, 0), "bleu-3": (0.33, 0.33, 0.33, 0), "bleu-4": (0.25,) * 4}


def test_bleu_is_nltks(pairs):
    found = bleu_scores(*zip(*pairs, strict=True))
    smoothing = SmoothingFunction().method1
    for name, weights in WEIGHTS.items():
        expected = [
            100 * sentence_bleu([reference.split()], text.split(), weights=weights, smoothing_function=smoothing)
            for text, reference in pairs
        ]
        assert found[name] == pytest.approx(expected, abs=1e-12)


def test_bleu_by_hand():
    # 3 of 4 words, 2 of 3 pairs, as long as the reference: no brevity penalty.
    found = bleu_scores(["a b c x"], ["a b c d"])
    assert found["bleu-1"] == pytest.approx([75.0])
    assert found["bleu-2"] == pytest.approx([100 * (3 / 4 * 2 / 3) ** 0.5])
    assert found["bleu-3"] == pytest.approx([100 * (3 / 4 * 2 / 3 * 1 / 2) ** 0.33])
    # No four words in common: 0.1 of 1 by smoothing method 1.
    assert found["bleu-4"] == pytest.approx([100 * (3 / 4 * 2 / 3 * 1 / 2 * 0.1) ** 0.25])


def test_rouge_is_the_packages_and_zero_where_that_raises(pairs):
    found = rouge_scores(*zip(*pairs, strict=True))
    rouge, refused = Rouge(), 0
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(10_000)
    try:
        for i, (text, reference) in enumerate(pairs):
            try:
                (expected,) = rouge.get_scores(text, reference)
            except ValueError:  # "Hypothesis is empty." and the like
                refused += 1
                expected = {name: {"f": 0.0} for name in found}
            for name, scores in found.items():
                assert scores[i] == pytest.approx(100 * expected[name]["f"], abs=1e-12), (name, text, reference)
    finally:
        sys.setrecursionlimit(before)
    assert refused >= 4


def test_rouge_of_long_texts_leaves_the_recursion_limit(pairs):
    before = sys.getrecursionlimit()
    words = " ".join(f"w{i}" for i in range(1000))
    found = rouge_scores([words], [words], names=["rouge-l"])
    assert found == {"rouge-l": pytest.approx([100.0], abs=1e-5)}
    assert sys.getrecursionlimit() == before


def test_meteor_asks_the_wordnet_it_is_given(tiny_wordnet):
    # "couch" = "sofa" by the stand-in, both words in order: one chunk of two, P = R = 1, penalty 0.5 (1/2)^3.
    assert meteor_scores(["a couch"], ["a sofa"], wordnet=tiny_wordnet)["meteor"] == pytest.approx(
        [100 * (1 - 0.5 / 8)]
    )
    assert "couch" in tiny_wordnet.asked
    # Without the synonym: one of two, P = R = 1/2, one chunk of one, penalty 0.5.
    assert meteor_scores(["a chaise"], ["a sofa"], wordnet=tiny_wordnet)["meteor"] == pytest.approx([25.0])


def test_meteor_is_nltks_with_a_stand_in(pairs, tiny_wordnet):
    found = meteor_scores(*zip(*pairs, strict=True), wordnet=tiny_wordnet)["meteor"]
    expected = [
        100 * meteor_score([reference.split()], text.split(), wordnet=tiny_wordnet) for text, reference in pairs
    ]
    assert found == pytest.approx(expected, abs=1e-12)


@needs_wordnet
def test_meteor_is_nltks(pairs):
    reader = load_wordnet()
    found = meteor_scores(*zip(*pairs, strict=True))["meteor"]
    expected = [100 * meteor_score([reference.split()], text.split(), wordnet=reader) for text, reference in pairs]
    assert found == pytest.approx(expected, abs=1e-12)
    # The example of nltk's documentation.
    text = "It is a guide to action which ensures that the military always obeys the commands of the party"
    reference = "It is a guide to action that ensures that the military will forever heed Party commands"
    assert meteor_scores([text], [reference])["meteor"] == pytest.approx([69.44], abs=5e-3)
    assert meteor_scores(["a couch"], ["a sofa"])["meteor"] == pytest.approx([93.75])


@pytest.mark.skipif(find_wordnet() is not None, reason="WordNet is installed")
def test_without_wordnet_the_error_says_how_to_install_it():
    with pytest.raises(FileNotFoundError, match=r"install it with: python -m llana_eval\.captioning\.wordnet"):
        meteor_scores(["a"], ["a"])


def test_repeated_pairs_are_scored_once(monkeypatch):
    import nltk.translate.bleu_score as module

    calls = []
    monkeypatch.setattr(module, "sentence_bleu", lambda *a: calls.append(a) or [0.5] * 4)
    heard = []
    found = bleu_scores(["a", "b", "a"], ["x", "x", "x"], on_pair=heard.append)
    assert len(calls) == 2
    assert found["bleu-2"] == [50.0, 50.0, 50.0]
    assert heard == [1, 1, 1]


def test_unequal_lengths_are_refused():
    with pytest.raises(ValueError, match="1 predictions came with 2 references"):
        bleu_scores(["a"], ["a", "b"])
