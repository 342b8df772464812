"""Checkpoints that LLaNA's training begins with: without the three tokens, without their rows, without a projector."""

from __future__ import annotations

import json
import logging

import pytest
import torch
from safetensors.torch import load_file, save_file

from llana_gmn import LlanaGmnForConditionalGeneration, LlanaGmnProcessor
from llana_gmn.assembly.assemble import assemble
from llana_gmn.commands import main
from llana_gmn.conversion.convert import convert
from tests.llana_gmn.conversion.llana import PUBLISHED, TOKENS, Llana, write_slow_files

TABLES = ("model.embed_tokens.weight", "lm_head.weight")


@pytest.fixture(scope="module")
def llana():
    return Llana()


def save(llana, path, *, rows=584, tokens=True, projector=True):
    """A checkpoint in one file, with tables cut to `rows` (or with more), with or without the tokens and the projector."""
    llana.save(path, tokenizer="model", vocab_size=rows)
    for file in [*path.glob("*.safetensors"), path / "model.safetensors.index.json"]:
        file.unlink()
    state = {key: tensor.contiguous() for key, tensor in llana.state_dict().items()}
    for key in TABLES:
        more = torch.full((max(rows - 584, 0), 32), 0.5)
        state[key] = torch.cat([state[key][:rows], more])
    if not projector:
        state = {key: tensor for key, tensor in state.items() if "vec_proj" not in key}
    save_file(state, path / "model.safetensors")
    if not tokens:
        write_slow_files(path, added=[])
    return path, state


def written(path):
    return load_file(path / "model.safetensors")


def table(weights, name):
    return next(tensor for key, tensor in weights.items() if key.endswith(name))


@pytest.mark.parametrize("tokens", [True, False])
def test_without_rows_the_tokens_begin_as_the_mean(llana, tmp_path, caplog, tokens):
    source, state = save(llana, tmp_path / "llana", rows=581, tokens=tokens)
    with caplog.at_level(logging.WARNING):
        convert(source, tmp_path / "ours")
    assert ("added with the ids 581, 582, 583, whose rows are new" in caplog.text) == (not tokens)
    weights = written(tmp_path / "ours")
    for name in ("embed_tokens.weight", "lm_head.weight"):
        before = next(tensor for key, tensor in state.items() if key.endswith(name))
        after = table(weights, name)
        assert after.shape == (584, 32)
        assert torch.equal(after[:581], before)
        torch.testing.assert_close(after[581:], before.mean(dim=0).expand(3, -1))
    processor = LlanaGmnProcessor.from_pretrained(tmp_path / "ours")
    assert processor.tokenizer.convert_tokens_to_ids(TOKENS) == [581, 582, 583]
    model = LlanaGmnForConditionalGeneration.from_pretrained(tmp_path / "ours")
    inputs = processor(nerfs=torch.rand(1, 1024), text="USER: <nerf>\nWhat? ASSISTANT:", return_tensors="pt")
    assert model(**inputs).logits.isfinite().all()


def test_with_rows_but_without_tokens_the_last_rows_are_theirs(llana, tmp_path, caplog):
    """As in `LLaNA-7B_init`, where the tokenizer's added_tokens.json was left behind."""
    source, state = save(llana, tmp_path / "llana", tokens=False)
    with caplog.at_level(logging.WARNING):
        convert(source, tmp_path / "ours")
    assert (
        "lacks <point_patch>, <point_start>, <point_end>; added with the ids 581, 582, 583, whose rows are the last"
        in (caplog.text)
    )
    assert torch.equal(table(written(tmp_path / "ours"), "embed_tokens.weight"), state[TABLES[0]])


def test_rows_that_fit_nothing_are_refused(llana, tmp_path):
    source, _ = save(llana, tmp_path / "llana", rows=590, tokens=False)
    with pytest.raises(
        ValueError, match=r"has 581 tokens without <point_patch>, .* tables have 590 rows; expected 581 rows .* or 584;"
    ):
        convert(source, tmp_path / "ours")


def test_without_a_projector_it_says_both_ways_on(llana, tmp_path, capsys):
    source, _ = save(llana, tmp_path / "llana", projector=False)
    assert main(["convert", str(source), "--out", str(tmp_path / "ours")]) == 1
    assert (
        "has no projector (model.vec_proj.*): name the vec_proj.bin of stage 1 with --projector, or begin with a new"
        in (capsys.readouterr().err)
    )
    trained = {key: tensor for key, tensor in llana.state_dict().items() if "vec_proj" in key}
    torch.save(trained, tmp_path / "vec_proj.bin")
    convert(source, tmp_path / "ours", projector=tmp_path / "vec_proj.bin")
    assert torch.equal(written(tmp_path / "ours")["model.projector.0.bias"], trained["model.vec_proj.0.bias"])


@pytest.mark.parametrize("rows", [581, 584])
@pytest.mark.parametrize("tokens", [True, False])
def test_a_llana_checkpoint_is_a_backbone(llana, tmp_path, rows, tokens):
    source, state = save(llana, tmp_path / "llana", rows=rows, tokens=tokens)
    torch.manual_seed(0)
    model, processor = assemble(source)
    assert processor.tokenizer.convert_tokens_to_ids(TOKENS) == [581, 582, 583]
    embeddings = model.get_input_embeddings().weight
    assert embeddings.shape == (584, 32)
    assert torch.equal(embeddings[:rows], state[TABLES[0]])
    if rows == 581:
        torch.testing.assert_close(embeddings[581:], state[TABLES[0]].mean(dim=0).expand(3, -1))
    assert not torch.equal(model.model.projector[0].bias, llana.vec_proj[0].bias)
    model.save_pretrained(tmp_path / "ours")
    processor.save_pretrained(tmp_path / "ours")
    convert(tmp_path / "ours", tmp_path / "back", to="llana")
    values = json.loads((tmp_path / "back" / "config.json").read_text())
    assert (values["vocab_size"], values["model_type"]) == (584, PUBLISHED["model_type"])
    assert json.loads((tmp_path / "back" / "added_tokens.json").read_text())["<point_patch>"] == 581
