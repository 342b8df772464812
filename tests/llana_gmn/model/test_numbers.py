"""Weights are finite, what they say is not: an input error that names the file. And prompts that leave no room for an answer."""

from __future__ import annotations

import json
import re

import pytest
import torch

from gmn_encoder.nerfs.files import save_nerf
from gmn_encoder.nerfs.finite import check_embeddings, check_field
from gmn_encoder.nerfs.record import Nerf
from llana_gmn import ChatSession, caption_nerfs, converse
from llana_gmn.commands import main
from llana_gmn.inference.context import ConversationFull, room_for_answer


def loud(nerf: Nerf, size: float) -> Nerf:
    """The same NeRF with weights of plus and minus a size."""
    return Nerf(nerf.architecture, {key: torch.where(value < 0, -size, size) for key, value in nerf.tensors.items()})


@pytest.mark.parametrize("size", [3e38, 1e20])
def test_fields_without_numbers(nerfs, size):
    for nerf in nerfs:
        check_field(nerf)
        named = re.escape(f"{nerf.name}: its field has NaN or infinite values at ")
        with pytest.raises(ValueError, match=rf"{named}\d+ of 64"):
            check_field(loud(nerf, size))


def test_embeddings_without_numbers(nerfs):
    embeddings = torch.zeros(3, 4)
    check_embeddings(nerfs, embeddings)
    embeddings[1, 2], embeddings[2, 0] = float("nan"), float("inf")
    told = {}
    check_embeddings(nerfs, embeddings, told.__setitem__)
    assert list(told) == [1, 2]
    with pytest.raises(ValueError, match="its embedding has NaN or infinite values"):
        check_embeddings(nerfs, embeddings)


@pytest.fixture
def files(tmp_path, nerfs):
    """A NeRF, a loud one, another NeRF."""
    members = [nerfs[0], loud(nerfs[0], 3e38), nerfs[1]]
    return [save_nerf(nerf, tmp_path / "nerfs" / f"{i}.safetensors") for i, nerf in enumerate(members)]


def test_commands_name_the_file_and_do_the_others(files, tiny_folder, tmp_path, capsys):
    named = f"{files[1]}: its field has NaN or infinite values at 64 of 64 points (its weights reach 3e+38)"
    nerfs = str(tmp_path / "nerfs")
    out = tmp_path / "captions.jsonl"
    assert main(["caption", "--model", str(tiny_folder), nerfs, "--out", str(out), "--max-new-tokens", "2"]) == 1
    assert named in capsys.readouterr().err
    assert [json.loads(line)["nerf"] for line in out.read_text().splitlines()] == [str(files[0]), str(files[2])]
    assert main(["embed", nerfs, "--encoder", str(tiny_folder), "--out", str(tmp_path / "e.safetensors")]) == 1
    said = capsys.readouterr().err
    assert named in said and "2 embeddings in" in said
    command = ["chat", "--model", str(tiny_folder), "--nerf", str(files[1]), "--question", "What is it?"]
    assert main(command) == 1
    said = capsys.readouterr()
    assert named in said.err and said.out == ""  # no answer about nothing


def test_the_model_refuses_what_its_encoder_makes_no_numbers_of(model, processor, nerfs, files, monkeypatch):
    session = ChatSession(model, processor, max_new_tokens=2)
    with pytest.raises(ValueError, match=r"1\.safetensors: its field has NaN"):
        session.add_nerf(str(files[1]))
    encode = type(model.nerf_encoder).encode

    def spoiled(self, given, **options):
        found = encode(self, given, **options)
        found[[each.source in (files[2], None) for each in given]] = float("nan")
        return found

    monkeypatch.setattr(type(model.nerf_encoder), "encode", spoiled)
    with pytest.raises(ValueError, match=r"2\.safetensors: its embedding has NaN"):
        session.add_nerf(str(files[2]))
    inputs = processor(nerfs=[str(files[2])], text=["<nerf>\nWhat?"], return_tensors="pt")
    with pytest.raises(ValueError, match="its embedding has NaN"):
        model.generate(**inputs, max_new_tokens=2)
    told = []
    found = caption_nerfs(
        model, processor, [str(file) for file in files], max_new_tokens=2, on_error=lambda *e: told.append(e)
    )
    assert [place for place, _ in found] == [0]
    assert [(place, str(error).partition(" (")[0].partition(": ")[2]) for place, error in told] == [
        (1, "its field has NaN or infinite values at 64 of 64 points"),
        (2, "its embedding has NaN or infinite values"),
    ]


def test_a_prompt_without_room_is_an_error_and_a_narrow_one_is_answered_as_alone(model, processor, nerfs):
    limit = model.config.get_text_config().max_position_embeddings
    session = ChatSession(model, processor, max_new_tokens=6)

    def length(words):
        session.reset()
        session.add_nerf(nerfs[0])
        messages = [
            {"role": "user", "content": [{"type": "nerf", "nerf": nerfs[0]}, {"type": "text", "text": "a " * words}]}
        ]
        return processor.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_tensors="pt"
        ).shape[1]

    one, two = length(10), length(20)
    words = (limit - one) * 10 // (two - one) + 10  # about as many as fit
    while length(words) >= limit:
        words -= 1
    questions = ["a " * 3, "a " * words, "a " * (words + 20), "a " * (words - 1)]
    told = {}
    found = caption_nerfs(
        model, processor, [nerfs[0]] * 4, question=questions, max_new_tokens=6, on_error=told.__setitem__, batch_size=4
    )
    answers = dict(found)
    assert sorted(answers) == [0, 1, 3] and list(told) == [2]
    assert isinstance(told[2], ConversationFull)
    assert f"the backbone reads {limit}" in str(told[2]) and nerfs[0].name in str(told[2])
    for place, answer in answers.items():
        session.reset()
        session.add_nerf(nerfs[0])
        assert session.ask(questions[place]).strip() == answer
    with pytest.raises(ConversationFull):
        session.ask("a " * limit)
    with pytest.raises(ConversationFull):
        list(caption_nerfs(model, processor, [nerfs[0]], question="a " * limit, max_new_tokens=6))
    told.clear()
    turns = [["a a", "a " * limit], ["a", "a"]]
    found = converse(model, processor, nerfs[:2], turns, max_new_tokens=2, on_error=told.__setitem__)
    assert [place for place, _ in found] == [1] and list(told) == [0]


def test_room(model):
    limit = model.config.get_text_config().max_position_embeddings
    assert room_for_answer(model.config, 10, 5) == 5
    assert room_for_answer(model.config, limit - 3, 5) == 3
    with pytest.raises(ConversationFull, match=f"has {limit} tokens, the backbone reads {limit}"):
        room_for_answer(model.config, limit, 5)
