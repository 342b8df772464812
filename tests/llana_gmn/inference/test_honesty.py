"""How sure a model is of its answers, and what it says of NeRFs that it was not made for."""

from __future__ import annotations

import copy
import json

import pytest
import torch

from gmn_encoder.nerfs.files import save_nerf
from gmn_encoder.nerfs.record import Nerf
from llana_gmn import ChatSession
from llana_gmn.commands import main
from llana_gmn.default.objects import default_nerfs_path
from llana_gmn.inference.caption import converse
from llana_gmn.inference.honesty import TokenProbabilities, calibration, doubt, share_right, unfamiliar

KNOWN = ["MLP-nano", "TRI-nano"]


@pytest.fixture
def aware(tiny):
    """A model that knows its limits: unsure below a probability of one half."""
    model, processor = copy.deepcopy(tiny[0]), tiny[1]
    model.config.trained_on, model.config.confidence = KNOWN, [[0.4, 0.2], [0.6, 0.8]]
    return model, processor


@pytest.fixture(scope="module")
def chair():
    return sorted((default_nerfs_path() / "mlp" / "03001627").iterdir())[0]


def test_probabilities_are_the_models_own(model, processor):
    """Worked out again from the logits of the whole text."""
    inputs = processor(text="USER: What? ASSISTANT:", return_tensors="pt")
    noted = TokenProbabilities()
    ids = model.generate(**inputs, do_sample=False, max_new_tokens=6, logits_processor=[noted])
    start = inputs["input_ids"].shape[1]
    with torch.no_grad():
        logits = model(input_ids=ids).logits.float()
    logits[..., model.config.nerf_token_id] = -torch.inf
    wanted = logits.softmax(dim=-1)[0, start - 1 : -1].gather(1, ids[0, start:, None]).mean().item()
    assert noted.means(ids, [])[0] == pytest.approx(wanted, rel=1e-4)


def test_what_follows_the_end_of_an_answer_does_not_count():
    noted = TokenProbabilities()
    prompt = torch.tensor([[5], [5]])
    words = [torch.tensor([1, 2]), torch.tensor([2, 1]), torch.tensor([1, 2])]
    shares = [[0.5, 0.2], [0.25, 0.5], [0.4, 0.9]]
    ids = prompt
    for tokens, share in zip(words, shares, strict=True):
        scores = torch.full((2, 3), 1e-6)
        scores[0, tokens[0]], scores[1, tokens[1]] = share
        rest = 1 - scores.sum(dim=1)
        scores[:, 0] += rest
        noted(ids, scores.log())
        ids = torch.cat([ids, tokens[:, None]], dim=1)
    assert noted.means(ids, [2]) == pytest.approx([(0.5 + 0.25) / 2, 0.2], abs=1e-3)
    assert noted.means(ids, []) == pytest.approx([(0.5 + 0.25 + 0.4) / 3, (0.2 + 0.5 + 0.9) / 3], abs=1e-3)


def test_calibration_never_falls_and_is_read_between_points(model):
    probabilities = [i / 100 for i in range(100)]
    right = [i % 10 < i // 10 for i in range(100)]
    right[95], right[15] = False, True
    table = calibration(probabilities, right, points=5)
    assert [share for _, share in table] == sorted(share for _, share in table)
    config = copy.deepcopy(model.config)
    assert share_right(config, 0.5) is None
    assert doubt(config, 0.0) is None
    config.confidence = [[0.2, 0.1], [0.6, 0.9]]
    assert [share_right(config, each) for each in (0.0, 0.4, 1.0)] == pytest.approx([0.1, 0.5, 0.9])
    assert doubt(config, 0.6) is None
    assert doubt(config, 0.3) == "unsure: of answers given with so little confidence, 30 in 100 were right"
    with pytest.raises(ValueError, match="expected at least 5 of each"):
        calibration([0.1], [True], points=5)


def test_chats_and_captions_say_how_sure_they_are(aware, chair, tmp_path, capsys):
    model, processor = aware
    session = ChatSession(model, processor, max_new_tokens=4)
    session.add_nerf(str(chair))
    assert session.note is None
    session.ask("What is it?")
    assert session.probability is not None
    assert session.doubt and session.doubt.startswith("unsure: ")
    found = []
    (answers,) = converse(
        model,
        processor,
        [str(chair)],
        [["What is it?"]],
        on_probability=lambda *each: found.append(each),
        max_new_tokens=4,
    )
    assert found == [(0, pytest.approx(session.probability, rel=1e-3))]
    assert answers[1] == [session.messages[-1]["content"][0]["text"]]
    for part in aware:
        part.save_pretrained(tmp_path / "model")
    out = tmp_path / "captions.jsonl"
    command = ["--model", str(tmp_path / "model"), "--max-new-tokens", "4"]
    assert main(["caption", str(chair), "--out", str(out), *command]) == 0
    (record,) = [each for each in map(json.loads, out.read_text().splitlines()) if "caption" in each]
    assert record["unsure"] is True
    assert 0 < record["probability"] < 0.5
    capsys.readouterr()
    assert main(["chat", "--nerf", str(chair), "--question", "What is it?", *command]) == 0
    assert "[unsure: " in capsys.readouterr().err


def test_nothing_to_see(aware, model, processor, tmp_path):
    """A random NeRF is empty; a model that does not know what it was trained on is asked about it all the same."""
    empty = Nerf.random("MLP-nano", seed=0)
    save_nerf(empty, tmp_path / "empty.pth")
    with pytest.raises(ValueError, match=r"empty.pth: there is nothing to see in it, its field is empty"):
        ChatSession(*aware).add_nerf(tmp_path / "empty.pth")
    errors = []
    options = {"on_error": lambda place, error: errors.append((place, str(error))), "max_new_tokens": 2}
    assert list(converse(*aware, [tmp_path / "empty.pth"], [["What?"]], **options)) == []
    assert errors[0][0] == 0 and "nothing to see" in errors[0][1]
    ChatSession(model, processor).add_nerf(empty)


def test_the_field_is_asked_once_before_a_nerf_is_shown(aware, chair, monkeypatch):
    asked = []
    monkeypatch.setattr("llana_gmn.model.nerf_items.field_flag", lambda nerf: asked.append(nerf.name))
    ChatSession(*aware).add_nerf(str(chair))
    list(converse(*aware, [str(chair)] * 2, [["What?"]] * 2, max_new_tokens=1))
    assert asked == [asked[0]] * 2  # once in the chat, and once for both conversations


def test_kinds_that_it_was_not_trained_on(aware, chair):
    config = aware[0].config
    assert unfamiliar(config, Nerf.random("TRI-nano", seed=0).architecture) is None
    assert "family HASH, which the model was not trained on" in unfamiliar(
        config, Nerf.random("HASH-nano", seed=0).architecture
    )
    assert "other sizes than the model was trained on (MLP-nano, TRI-nano)" in unfamiliar(
        config, Nerf.random("MLP", seed=0).architecture
    )
    session = ChatSession(*aware)
    session.add_nerf(str(chair).replace("/mlp/", "/hash/"))
    assert "family HASH" in session.note
