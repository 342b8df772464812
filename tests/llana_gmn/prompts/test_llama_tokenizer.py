"""Llama's tokenizer from a sentencepiece model and back, compared with sentencepiece on texts that tokenizers disagree on."""

from __future__ import annotations

import json
import logging
import random
import sys

import pytest
from transformers import AutoTokenizer, LlamaConfig

from llana_gmn import LlanaGmnProcessor
from llana_gmn.conversion.convert import convert
from llana_gmn.prompts.llama_tokenizer import AWKWARD, differences, model_ids, open_model, tokenizer_from_model
from tests.llana_gmn.conversion.llana import TOKENS, Llana, sentencepiece_model, write_slow_files

ADDED = {"<unk>": 0, "<s>": 1, "</s>": 2, **{token: 581 + i for i, token in enumerate(TOKENS)}}


@pytest.fixture(scope="module")
def llana():
    return Llana()


@pytest.fixture
def slow(tmp_path):
    """What LLaNA's trainer leaves of a tokenizer."""
    path = tmp_path / "slow"
    path.mkdir()
    write_slow_files(path)
    return path


def test_awkward_texts_become_what_sentencepiece_makes_of_them(slow):
    tokenizer = tokenizer_from_model(slow)
    model = open_model(slow / "tokenizer.model")
    for text in AWKWARD:
        assert tokenizer(text)["input_ids"] == [1, *model_ids(model, text, ADDED, legacy=True)], text
    assert differences(tokenizer, slow / "tokenizer.model") == []
    two = model.encode("What?  ASSISTANT:")
    assert tokenizer("What?  ASSISTANT:")["input_ids"] == [1, *two]
    assert "\u2581\u2581" in model.encode("What?  ASSISTANT:", out_type=str)
    assert tokenizer.convert_tokens_to_ids(TOKENS) == [581, 582, 583]


def test_transformers_own_conversion_differs_and_is_told(slow):
    """A space before a leading space is lost."""
    theirs = AutoTokenizer.from_pretrained(slow, config=LlamaConfig(), legacy=True)
    found = differences(theirs, slow / "tokenizer.model")
    assert any("' leading space' becomes" in each for each in found)


def test_segments_between_special_tokens_are_written_out(slow):
    """`model_ids` against ids put together by hand."""
    model = open_model(slow / "tokenizer.model")
    ids = model_ids(model, "a<point_patch> b</s>c", ADDED, legacy=True)
    assert ids == [*model.encode("a"), 581, *model.encode(" b"), 2, *model.encode("c")]
    assert model.id_to_piece(model.encode(" b")[0]).startswith("\u2581")
    newer = [model.id_to_piece(i) for i in model_ids(model, "a</s>c", ADDED, legacy=False)]
    assert newer == ["\u2581a", "</s>", "c"]


def test_the_tokenizer_without_legacy_says_where_it_differs(slow, caplog, llana, tmp_path):
    source = llana.save(tmp_path / "llana", tokenizer="model")
    settings = json.loads((source / "tokenizer_config.json").read_text())
    (source / "tokenizer_config.json").write_text(json.dumps({**settings, "legacy": False}))
    with caplog.at_level(logging.WARNING):
        convert(source, tmp_path / "ours")
    assert f"of {len(AWKWARD)} awkward texts are tokenized differently: ' ' becomes [" in caplog.text
    ids = LlanaGmnProcessor.from_pretrained(tmp_path / "ours")(text="It</s>USER:")["input_ids"][0]
    assert ids == [1, *model_ids(open_model(source / "tokenizer.model"), "It</s>USER:", ADDED, legacy=False)]


def test_a_converted_model_tokenizes_alike_after_all_saving(llana, tmp_path, caplog):
    source = llana.save(tmp_path / "llana", tokenizer="model")
    with caplog.at_level(logging.WARNING):
        convert(source, tmp_path / "ours")
    assert not caplog.text
    processor = LlanaGmnProcessor.from_pretrained(tmp_path / "ours")
    processor.save_pretrained(tmp_path / "again")
    again = LlanaGmnProcessor.from_pretrained(tmp_path / "again")
    model = open_model(source / "tokenizer.model")
    assert processor.nerf_token_id == 581
    for each in (processor, again):
        assert (each.tokenizer.padding_side, each.tokenizer.pad_token) == ("left", "<unk>")
        for text in AWKWARD:
            if "<point_start>" not in text:
                assert each(text=text)["input_ids"][0] == [1, *model_ids(model, text, ADDED, legacy=True)], text
    for name in ("ours", "again"):
        assert (tmp_path / name / "tokenizer.model").read_bytes() == sentencepiece_model()


def test_llana_gets_its_tokenizer_files(llana, tmp_path):
    source = llana.save(tmp_path / "llana", tokenizer="model")
    convert(source, tmp_path / "ours")
    convert(tmp_path / "ours", tmp_path / "back", to="llana")
    back = tmp_path / "back"
    assert (back / "tokenizer.model").read_bytes() == sentencepiece_model()
    assert json.loads((back / "added_tokens.json").read_text()) == {t: 581 + i for i, t in enumerate(TOKENS)}
    assert json.loads((back / "special_tokens_map.json").read_text())["eos_token"] == "</s>"
    settings = json.loads((back / "tokenizer_config.json").read_text())
    assert (settings["tokenizer_class"], settings["legacy"]) == ("LlamaTokenizer", True)
    assert settings["added_tokens_decoder"]["581"]["content"] == "<point_patch>"
    # transformers 4.40 does not read the newer form of tokenizer.json
    assert not (back / "tokenizer.json").exists()
    assert differences(tokenizer_from_model(back), back / "tokenizer.model") == []


def test_a_tokenizer_without_sentencepiece_model_is_refused_or_given_one(llana, tmp_path):
    convert(llana.save(tmp_path / "json"), tmp_path / "ours")
    with pytest.raises(ValueError, match=r"ours/tokenizer\.model: no such file; .* name it with --tokenizer"):
        convert(tmp_path / "ours", tmp_path / "out", to="llana")
    (tmp_path / "other.model").write_bytes(sentencepiece_model())
    with pytest.raises(ValueError, match=r"as token \d+, the model's tokenizer .*; expected the tokenizer\.model that"):
        convert(tmp_path / "ours", tmp_path / "out", to="llana", tokenizer=tmp_path / "other.model")
    assert not (tmp_path / "out").exists()
    convert(llana.save(tmp_path / "slow", tokenizer="model"), tmp_path / "ours2")
    (tmp_path / "ours2" / "tokenizer.model").unlink()
    convert(tmp_path / "ours2", tmp_path / "out", to="llana", tokenizer=tmp_path / "other.model")
    assert (tmp_path / "out" / "tokenizer.model").exists()


def test_what_is_missing_is_said(llana, tmp_path, monkeypatch):
    source = llana.save(tmp_path / "llana", tokenizer="model")
    (source / "added_tokens.json").write_text(json.dumps({"<point_patch>": 600}))
    with pytest.raises(ValueError, match="gives '<point_patch>' the id 600, but 581 is the next one"):
        convert(source, tmp_path / "ours")
    (source / "tokenizer.model").write_bytes(b"no model")
    with pytest.raises(ValueError, match=r"tokenizer\.model: is no sentencepiece model"):
        convert(source, tmp_path / "ours")
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(ValueError, match=r"needs sentencepiece: pip install 'llana-gmn\[convert\]'"):
        convert(source, tmp_path / "ours")
    (source / "tokenizer.model").unlink()
    with pytest.raises(ValueError, match=r"has no tokenizer; expected tokenizer\.model and added_tokens"):
        convert(source, tmp_path / "ours")


@pytest.mark.parametrize("change", ["double space last", "shuffled"])
def test_merges_follow_the_scores_where_ids_do_not(slow, change):
    """The defect: `What?  ASSISTANT:` fell apart otherwise, because merges were ordered by id."""
    pytest.importorskip("google.protobuf")
    from sentencepiece import sentencepiece_model_pb2

    proto = sentencepiece_model_pb2.ModelProto.FromString(sentencepiece_model())
    merged = [piece for piece in proto.pieces if piece.type == 1 and len(piece.piece) > 1]
    if change == "shuffled":
        scores = [piece.score for piece in merged]
        random.Random(0).shuffle(scores)
        for piece, score in zip(merged, scores, strict=True):
            piece.score = score
    else:
        next(piece for piece in merged if piece.piece == "\u2581\u2581").score = -1e6
    (slow / "tokenizer.model").write_bytes(proto.SerializeToString())
    by_id = AutoTokenizer.from_pretrained(slow, config=LlamaConfig(), legacy=True)
    found = differences(by_id, slow / "tokenizer.model")
    assert len(found) > 9  # more than for leading spaces
    assert change == "shuffled" or any(each.startswith("'What?  ASSISTANT:' becomes") for each in found)
    assert differences(tokenizer_from_model(slow), slow / "tokenizer.model") == []
