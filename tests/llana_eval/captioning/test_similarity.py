from __future__ import annotations

import pytest
import torch

from llana_eval.captioning.similarity import SbertEmbedder, SimcseEmbedder

from ..conftest import HAND_MADE, random_pairs

PAIRS = [(text or "##", reference) for text, reference in HAND_MADE] + random_pairs(300, seed=1)


def test_sbert_is_sentence_transformers(minilm):
    from sentence_transformers import SentenceTransformer, util

    found = SbertEmbedder(minilm, batch_size=16).similarity(*zip(*PAIRS, strict=True))
    model = SentenceTransformer(minilm)
    for (text, reference), score in list(zip(PAIRS, found, strict=True))[::3]:
        a, b = model.encode([text, reference], convert_to_tensor=True, show_progress_bar=False)
        assert score == pytest.approx(100 * util.cos_sim(a, b).item(), abs=1e-3)
    assert found[PAIRS.index(("A red chair.", "A red chair."))] == pytest.approx(100.0)


def test_simcse_is_the_cosine_of_pooler_outputs(simcse):
    from transformers import AutoModel, AutoTokenizer

    embedder = SimcseEmbedder(simcse, batch_size=8)
    found = embedder.similarity(*zip(*PAIRS, strict=True))
    model, tokenizer = AutoModel.from_pretrained(simcse).eval(), AutoTokenizer.from_pretrained(simcse)
    truncated = 0
    for (text, reference), score in zip(PAIRS, found, strict=True):
        pooled = []
        for each in (text, reference):
            ids = tokenizer(each)["input_ids"]
            truncated += len(ids) > 20
            with torch.no_grad():  # 21 positions, RoBERTa's first is taken by the padding
                pooled.append(model(torch.tensor([ids[:20]])).pooler_output[0])
        assert score == pytest.approx(100 * torch.cosine_similarity(*pooled, dim=0).item(), abs=1e-3)
    assert truncated > 50
    assert max(found) - min(found) > 1


def test_each_text_is_embedded_once_and_batches_are_of_one_length(minilm, monkeypatch):
    embedder = SbertEmbedder(minilm, batch_size=3)
    batches = []
    embed = embedder._embed
    monkeypatch.setattr(embedder, "_embed", lambda texts: batches.append(texts) or embed(texts))
    texts = ["aaaa", "b", "cc", "b", "dddddd", "aaaa"]
    heard = []
    first = embedder.embed(texts, on_texts=heard.append)
    assert batches == [["dddddd", "aaaa", "cc"], ["b"]]
    assert sum(heard) == len(texts)
    assert (first[1] == first[3]).all()
    heard.clear()
    again = embedder.embed(texts[:2], on_texts=heard.append)
    assert len(batches) == 2
    assert sum(heard) == 2
    assert (again == first[:2]).all()


def test_models_that_cannot_be_used(tmp_path, simcse, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(FileNotFoundError, match="no such directory; expected one with a model for S-BERT"):
        SbertEmbedder(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(OSError, match=r"the SimCSE model .*empty cannot be loaded .*; name a local directory instead"):
        SimcseEmbedder(tmp_path / "empty")
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        SbertEmbedder(tmp_path / "empty", batch_size=0)


def test_a_model_without_a_trained_pooler_is_refused(simcse, tmp_path):
    from transformers import AutoTokenizer, RobertaModel

    RobertaModel.from_pretrained(simcse, add_pooling_layer=False).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(simcse).save_pretrained(tmp_path)
    with pytest.raises(OSError, match="it has no trained pooler"):
        SimcseEmbedder(tmp_path)
