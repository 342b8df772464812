"""Several tokens a NeRF: a language model around an encoder kind with three, from the prompt to files and conversion."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch

from gmn_encoder.encoders.files import CONFIG_NAME
from gmn_encoder.encoders.gmn.config import GmnConfig
from gmn_encoder.nerfs.files import save_nerf
from gmn_encoder.nerfs.record import Nerf
from llana_gmn import (
    ChatSession,
    LlanaGmnConfig,
    LlanaGmnForConditionalGeneration,
    LlanaGmnProcessor,
    caption_nerfs,
)
from llana_gmn.assembly.small import whiten_projector
from llana_gmn.assembly.tiny import tiny_model
from llana_gmn.checkpoints.loading import load_model
from llana_gmn.commands import main
from llana_gmn.conversion.convert import convert
from llana_gmn.model.projector import of_one_length
from tests.encoder.encoders.moments import MomentsConfig, MomentsEncoder

CONFIG = MomentsConfig(embedding_dim=12, num_tokens=3)
GREEDY = {"max_new_tokens": 6, "do_sample": False}
PROMPTS = (
    ("<nerf>\nWhat is it?", [0]),
    ("Hello there, you.", []),
    ("<nerf> or <nerf>, which of the two is taller and why?", [2, 1]),
)

pytestmark = pytest.mark.usefixtures("moments")


def spread_model(**options):
    """A tiny model whose encoder and projector are scaled so that every token of every NeRF changes the answer."""
    model, processor = tiny_model(encoder_config=CONFIG, **{"nerf_tokens": "all", **options})
    with torch.no_grad():
        for parameter in model.projector.parameters():
            parameter.mul_(3)
        for weights in model.nerf_encoder.buffers():
            weights.mul_(5)
    return model, processor


@pytest.fixture(scope="module")
def several():
    from gmn_encoder.encoders.base import _KINDS

    _KINDS["moments"] = MomentsEncoder
    yield spread_model()
    _KINDS.pop("moments", None)


@pytest.fixture(scope="module")
def apart(nerfs):
    """NeRFs of the three families whose weights have moments of their own."""
    return [
        Nerf(nerf.architecture, {key: tensor * (1 + i / 4) + i / 20 for key, tensor in nerf.tensors.items()})
        for i, nerf in enumerate(nerfs)
    ]


def inputs_of(processor, nerfs, prompts=PROMPTS):
    shown = [[nerfs[i] for i in places] for _, places in prompts]
    return processor(nerfs=shown, text=[text for text, _ in prompts], return_tensors="pt")


def new_tokens(model, inputs, **options):
    return model.generate(**inputs, **{**GREEDY, **options})[:, inputs["input_ids"].shape[1] :]


@pytest.mark.parametrize("each", [1, 2])
def test_every_vector_goes_through_the_projector_to_its_own_places(apart, each):
    model, processor = spread_model(tokens_per_nerf=3 * each)
    inputs = inputs_of(processor, apart)
    places = inputs["input_ids"] == processor.nerf_token_id
    assert places.sum(dim=1).tolist() == [3 * each, 0, 6 * each]
    tokens = model.nerf_encoder.encode_tokens([apart[0], apart[2], apart[1]])
    torch.testing.assert_close(model.encode([apart[0], apart[2], apart[1]]), tokens)
    assert tokens.shape == (3, 3, 12) and (tokens[:, 0] - tokens[:, 1]).abs().min(dim=0).values.max() > 1e-2
    rows = [row / row.square().mean().sqrt() for row in tokens.flatten(0, 1)]
    by_hand = torch.cat([model.projector(row).unflatten(-1, (each, 32)) for row in rows])
    hidden = model(**inputs, output_hidden_states=True).hidden_states[0]
    torch.testing.assert_close(hidden[places], by_hand, rtol=1e-5, atol=1e-5)  # values up to 10
    features = model.get_nerf_features(nerf_embeddings=tokens)
    assert features.last_hidden_state.shape == (3, 3, 12) and features.pooler_output.shape == (3, 3 * each, 32)
    torch.testing.assert_close(features.pooler_output.flatten(0, 1), by_hand)
    assert model.model.get_placeholder_mask(inputs["input_ids"], None, features.pooler_output).shape == (
        *places.shape,
        1,
    )


def test_each_token_changes_the_answer(several, apart):
    model, processor = several
    tokens = model.encode(apart[:1])
    inputs = inputs_of(processor, tokens, PROMPTS[:1])
    logits = model(**inputs).logits[0, -1]
    for place in range(3):
        other = tokens.clone()
        other[:, place] = 0
        changed = model(**inputs_of(processor, other, PROMPTS[:1])).logits[0, -1]
        assert (changed - logits).abs().max() > 1e-3
    # Short tokens are heard beside long ones.
    short = tokens * torch.tensor([1.0, 1e-3, 50.0])[:, None]
    torch.testing.assert_close(model(**inputs_of(processor, short, PROMPTS[:1])).logits[0, -1], logits)


def test_tokens_in_place_of_nerfs(several, apart, tmp_path):
    model, processor = several
    expected = model(**inputs_of(processor, apart)).logits
    tokens = model.encode(apart)
    np.save(tmp_path / "one.npy", tokens[1].numpy())
    shown = [tokens[0], tmp_path / "one.npy", tokens[2].numpy()]
    torch.testing.assert_close(model(**inputs_of(processor, shown)).logits, expected)
    mixed = inputs_of(processor, [apart[0], tokens[1], apart[2]])
    assert mixed["nerf_embeddings"].shape == (3, 2, 3, 12)
    torch.testing.assert_close(model(**mixed).logits, expected)
    plain = {key: mixed[key] for key in ("input_ids", "attention_mask")}
    in_order = tokens[[0, 2, 1]]
    torch.testing.assert_close(model(**plain, nerf_embeddings=in_order).logits, expected)
    two = {key: value[[0, 2]] for key, value in plain.items()}
    with pytest.raises(ValueError, match=r"prompt 0 has 2 NeRFs \(6 tokens\) but 3 placeholder tokens"):
        model(**two, nerf_embeddings=tokens[[0, 0, 2, 1]].view(2, 2, 3, 12))
    pair = {key: value[[2]] for key, value in plain.items()}
    found = model(**pair, nerf_embeddings=tokens[[2, 1]].view(1, 2, 3, 12)).logits
    torch.testing.assert_close(found, expected[[2]])


def test_other_shapes_are_refused(several, apart, tmp_path):
    model, processor = several
    tokens = model.encode(apart[:1])
    np.save(tmp_path / "v.npy", tokens[0, 0].numpy())
    for wrong in (tokens[0, 0], tokens[0, :2], tokens[None], tmp_path / "v.npy"):
        with pytest.raises(ValueError, match=r"has shape .*; expected \(3, 12\) or \(n, 3, 12\), as the encoder"):
            processor(nerfs=[wrong], text="<nerf>")
    ids = processor(nerfs=tokens, text="<nerf> a", return_tensors="pt")["input_ids"]
    with pytest.raises(ValueError, match=r"shape \(3, 12\); expected \(NeRFs, vectors a NeRF, embedding size\)"):
        model(ids, nerf_embeddings=tokens[0])
    with pytest.raises(ValueError, match="NeRF embeddings have size 2 x 12; this model's projector reads 3 x 12"):
        model(ids, nerf_embeddings=tokens[:, None, :2])
    with pytest.raises(ValueError, match="NeRF embeddings have size 2 x 12"):
        model.get_nerf_features(nerf_embeddings=tokens[:, :2])


def test_one_vector_may_come_as_a_matrix_of_one_row(model, processor, nerfs):
    """As `encode_tokens` gives it."""
    expected = model(**inputs_of(processor, nerfs)).logits
    rows = model.nerf_encoder.encode_tokens(nerfs)  # (3, 1, 32)
    torch.testing.assert_close(model(**inputs_of(processor, rows)).logits, expected)
    pair = {
        key: value[[2]] for key, value in inputs_of(processor, nerfs).items() if key in ("input_ids", "attention_mask")
    }
    for form in (rows[[2, 1]][None], rows[[2, 1]], rows[[2, 1], 0], rows[[2, 1], 0][None]):
        torch.testing.assert_close(model(**pair, nerf_embeddings=form).logits, expected[[2]])


def test_batches_beams_and_returned_sequences(several, apart, monkeypatch):
    model, processor = several
    calls = []
    encode = type(model.nerf_encoder).encode_tokens
    monkeypatch.setattr(
        type(model.nerf_encoder), "encode_tokens", lambda *given, **k: calls.append(1) or encode(*given, **k)
    )
    inputs = inputs_of(processor, apart)
    batch = new_tokens(model, inputs)
    assert calls == [1]
    beams = new_tokens(model, inputs, num_beams=3, num_return_sequences=2)
    assert torch.equal(batch, new_tokens(model, inputs, use_cache=False))
    for row, prompt in enumerate(PROMPTS):
        single = inputs_of(processor, apart, [prompt])
        assert new_tokens(model, single)[0].tolist() == batch[row].tolist()
        assert (
            new_tokens(model, single, num_beams=3, num_return_sequences=2).tolist()
            == beams[2 * row : 2 * row + 2].tolist()
        )
    tokens = inputs_of(processor, model.encode(apart))
    assert torch.equal(new_tokens(model, tokens, num_beams=3, num_return_sequences=2), beams)


def test_masks_of_answers_do_not_shift(several, apart):
    _, processor = several
    nerf = [{"type": "nerf", "nerf": each} for each in apart]
    text = [{"type": "text", "text": each} for each in ("Which is taller, this", "or this?", "And this one?")]
    said = ["The first of the two.", "Neither \u2713, it is a lamp."]
    turns = [[nerf[0], text[0], nerf[1], text[1]], [text[2], nerf[2]]]
    messages = [
        {"role": role, "content": content}
        for asked, answer in zip(turns, said, strict=True)
        for role, content in (("user", asked), ("assistant", answer))
    ]
    options = {"tokenize": True, "return_dict": True, "return_tensors": "pt", "return_assistant_tokens_mask": True}
    found = processor.apply_chat_template([messages, messages[:2]], **options)
    assert (found["input_ids"] == processor.nerf_token_id).sum(dim=1).tolist() == [9, 6]
    for ids, mask, answers in zip(found["input_ids"], found["assistant_masks"].bool(), (said, said[:1]), strict=True):
        assert processor.tokenizer.decode(ids[mask]) == "</s> ".join(answers) + "</s>"


@pytest.mark.parametrize("length", [5, 7])  # in the first NeRF, in the second
def test_truncation_that_cuts_a_placeholder_is_refused(several, apart, length):
    _, processor = several
    with pytest.raises(ValueError, match=r"prompt 0 has 2 NeRFs, 6 <point_patch> tokens, but \d of them after"):
        processor(nerfs=apart[:2], text="<nerf><nerf> Which?", truncation=True, max_length=length)


def test_saved_and_loaded(several, apart, tmp_path):
    model, processor = several
    for part in several:
        part.save_pretrained(tmp_path)
    assert "3 token(s) a NeRF from 3 vectors of the encoder" in (tmp_path / "README.md").read_text()
    config = LlanaGmnConfig.from_pretrained(tmp_path)
    assert (config.nerf_tokens, config.vectors_per_nerf, config.tokens_per_nerf) == ("all", 3, 3)
    loaded, again = load_model(tmp_path)
    assert again.embedding_shape == (3, 12)
    again.check_model(loaded.config)
    torch.testing.assert_close(loaded(**inputs_of(again, apart)).logits, model(**inputs_of(processor, apart)).logits)
    half = LlanaGmnForConditionalGeneration.from_pretrained(tmp_path, dtype=torch.bfloat16)
    torch.testing.assert_close(half.encode(apart), model.encode(apart))
    other = LlanaGmnProcessor(processor.tokenizer, tokens_per_nerf=3, embedding_dim=12)
    with pytest.raises(ValueError, match="the processor has 1 vectors a NeRF, the model 3 vectors a NeRF"):
        other.check_model(config)


def test_models_saved_before_read_one_vector(tiny_folder, tmp_path):
    values = json.loads((tiny_folder / CONFIG_NAME).read_text())
    values.pop("nerf_tokens", None)
    config = LlanaGmnConfig.from_dict({**values, "tokens_per_nerf": 1})
    assert (config.nerf_tokens, config.embedding_shape) == ("global", (32,))
    values = json.loads((tiny_folder / "processor_config.json").read_text())
    values.pop("vectors_per_nerf", None)
    for file in tiny_folder.iterdir():
        if file.name not in ("processor_config.json", "model.safetensors"):
            (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "processor_config.json").write_text(json.dumps(values))
    assert LlanaGmnProcessor.from_pretrained(tmp_path).embedding_shape == (32,)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"nerf_tokens": "local"}, "nerf_tokens must be one of global, all, got 'local'"),
        ({"nerf_tokens": "all", "tokens_per_nerf": 4}, "tokens_per_nerf must be a multiple of the 3 vectors .* got 4"),
        ({"tokens_per_nerf": True}, "tokens_per_nerf must be a positive integer, got True"),
    ],
)
def test_impossible_values_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        LlanaGmnConfig(encoder_config=CONFIG, **changes)


def test_all_tokens_of_an_encoder_with_one_are_its_vector(model, processor, nerfs):
    same, _ = tiny_model(nerf_tokens="all")
    same.load_state_dict(model.state_dict())
    assert torch.equal(same.encode(nerfs), model.encode(nerfs))
    inputs = inputs_of(processor, nerfs)
    assert torch.equal(same(**inputs).logits, model(**inputs).logits)


def test_a_model_of_one_vector_around_an_encoder_of_several(apart):
    model, processor = tiny_model(encoder_config=CONFIG)
    torch.testing.assert_close(model.encode(apart), model.nerf_encoder.encode(apart))
    assert (inputs_of(processor, apart)["input_ids"] == processor.nerf_token_id).sum(dim=1).tolist() == [1, 0, 2]


def test_encoders_of_another_number_of_tokens(several, apart, monkeypatch):
    model, _ = several
    with pytest.raises(ValueError, match="the encoder makes 2 tokens a NeRF, the model reads 3; use the encoder the"):
        model.set_nerf_encoder(MomentsEncoder(MomentsConfig(embedding_dim=12)))
    monkeypatch.setattr(type(model.nerf_encoder), "encode_tokens", lambda *_, **__: torch.zeros(3, 2, 12))
    with pytest.raises(
        ValueError, match="made tokens of shape 2 x 12, its configuration says 3 x 12; a kind of encoder"
    ):
        model.encode(apart)


def test_captions_and_chat(several, apart, tmp_path):
    model, processor = several
    tokens = model.encode(apart)
    files = [save_nerf(nerf, tmp_path / f"{i}.safetensors") for i, nerf in enumerate(apart)]
    captions = [
        list(caption_nerfs(model, processor, shown, batch_size=2, max_new_tokens=6))
        for shown in (apart, files, list(tokens), tokens.numpy())
    ]
    assert captions[0] == captions[1] == captions[2] == captions[3]
    answers = []
    for shown in (apart[0], files[0], tokens[0]):
        session = ChatSession(model, processor, max_new_tokens=6)
        session.add_nerf(shown)
        answers.append([session.ask("What is it?"), session.ask("Is it red?")])
    assert answers[0] == answers[1] == answers[2]


def test_conversion_refuses_what_reads_several_vectors(several, tmp_path):
    for part in several:
        part.save_pretrained(tmp_path / "model")
    message = "LLaNA's layout has one vector of the encoder a NeRF, this model reads 3 (nerf_tokens is 'all')"
    with pytest.raises(ValueError, match=re.escape(message)):
        convert(tmp_path / "model", tmp_path / "llana", to="llana")
    assert not (tmp_path / "llana").exists()


def test_gmnerf_has_no_tokens(tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(GmnConfig, "num_tokens", 65, raising=False)
    with pytest.raises(
        ValueError, match="its encoder makes 65 tokens a NeRF; a gmnerf checkpoint holds an encoder of one"
    ):
        convert(tiny_folder, tmp_path / "e.pt", to="gmnerf")


def test_whitening_makes_tokens_spread_alike(several):
    model, _ = tiny_model(encoder_config=CONFIG, nerf_tokens="all")
    torch.manual_seed(0)
    tokens = torch.randn(40, 3, 12) * torch.logspace(-1, 1, 12) + torch.tensor([0.0, 5.0, -5.0])[:, None]
    whiten_projector(model, tokens, ["mlp", "hash"] * 20)
    first = model.projector[0]
    assert not torch.allclose(first.weight[:, 0].norm() / first.weight[:, 11].norm(), torch.tensor(1.0), rtol=0.5)
    seen = first(of_one_length(tokens).flatten(0, 1)) - first.bias
    assert (
        0.1 < seen.std() < 2
        and (seen.view(40, 3, -1).mean(dim=0)[1] - seen.view(40, 3, -1).mean(dim=0)[2]).norm() > 0.5
    )


def test_the_embed_command_writes_tokens_that_prompts_take(several, apart, tmp_path, capsys):
    for part in several:
        part.save_pretrained(tmp_path / "model")
    for i, nerf in enumerate(apart):
        save_nerf(nerf, tmp_path / "nerfs" / f"{i}.safetensors")
    nerfs, model = str(tmp_path / "nerfs"), str(tmp_path / "model")
    out, captions = str(tmp_path / "tokens.safetensors"), [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    assert main(["embed", nerfs, "--encoder", model, "--tokens", "--out", out]) == 0
    for source, file in zip((nerfs, out), captions, strict=True):
        assert main(["caption", "--model", model, source, "--out", str(file), "--max-new-tokens", "4"]) == 0
    said = [[json.loads(line)["caption"] for line in file.read_text().splitlines()] for file in captions]
    assert said[0] == said[1] and len(said[0]) == 3
    capsys.readouterr()
    assert main(["inspect", out, model]) == 0
    assert "3 of size 12 and 3 tokens" in capsys.readouterr().out
    assert main(["retrieve", out, out]) == 1
    assert "holds 3 x 12 tokens a NeRF; expected one vector: embed without --tokens" in capsys.readouterr().err
    assert main(["embed", nerfs, "--encoder", model, "--tokens", "--out", str(tmp_path / "h5")]) == 1
    assert "h5: is a directory of .h5 files, which hold one vector a NeRF" in capsys.readouterr().err
