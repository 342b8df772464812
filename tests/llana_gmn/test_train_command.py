import dataclasses
import json
import shutil

import pytest
import torch

from gmn_encoder import GmnEncoder
from llana_gmn import LlanaGmnForConditionalGeneration
from llana_gmn.assembly.small import small_model, whiten_projector
from llana_gmn.commands import main
from llana_gmn.data.sources import LanguageData
from llana_gmn.training.recipe import TrainingRecipe
from llana_gmn.training.stages import prepare


def run(capsys, *arguments):
    status = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.fixture
def settings(tiny_folder, language_data, embedding_files, tmp_path):
    files = [f"embeddings.{family}={file}" for family, file in embedding_files.items()]
    return [
        f"model={tiny_folder}",
        f"data={language_data}",
        f"output={tmp_path / 'run'}",
        *files,
        "max_steps=2",
        "batch_size=4",
    ]


def test_dry_run_shows_the_plan(capsys, settings, tmp_path):
    status, out, _ = run(capsys, "train", "--stage", "1", "--dry-run", *settings, "max_steps=0")
    assert status == 0
    # 16 objects in 3 families are 48 samples, 12 steps of 4, three epochs; 2 held-out objects in 3.
    assert "learns      5,312 of" in out
    assert "48 (16 brief_description hash, 16 brief_description mlp, 16 brief_description triplane); 6 held out" in out
    assert "36, 12 an epoch, on 1 process(es)" in out
    assert "memory      about" in out
    assert not (tmp_path / "run").exists()


def test_the_plan_counts_what_is_unusual_and_what_is_left_out(capsys, settings, language_data, tmp_path):
    data = shutil.copytree(language_data, tmp_path / "data")
    texts = data / "language/train/texts/conversations_brief.json"
    entries = json.loads(texts.read_text())
    for number, question in enumerate(("What is <point>?", "Is <point> one?", "<point> What?", "<point>\nIs </s> it?")):
        entries[number]["conversations"][0]["value"] = question
    texts.write_text(json.dumps(entries))
    settings = [*settings, f"data={data}", "eval_split=''"]
    status, out, _ = run(capsys, "train", "--stage", "1", "--dry-run", *settings)
    assert status == 0
    lines = out.splitlines()
    assert [line for line in lines if line.startswith(("left out", "as LLaNA"))] == [
        "left out    1 with </s> in a text",
        "as LLaNA    2 with a placeholder in mid-text",
        "as LLaNA    1 with a placeholder without newline",
    ]
    assert "samples     45 " in out
    status, out, _ = run(capsys, "train", "--stage", "1", "--dry-run", "--strict", *settings)
    assert "samples     36 " in out and "as LLaNA" not in out
    assert "left out    2 with a placeholder in mid-text" in out


def test_train_then_chat(capsys, settings, tmp_path):
    status, out, err = run(capsys, "train", "--stage", "2", *settings)
    assert status == 0
    assert "step 1: loss" in out
    assert "2 steps in" in err
    status, _, err = run(capsys, "train", "--stage", "2", *settings)
    assert (status, "finished before" in err) == (0, True)
    status, _, err = run(capsys, "train", "--stage", "1", *settings)
    assert (status, "holds a run with stage=2, this one has 1" in err) == (1, True)
    status, out, _ = run(
        capsys, "chat", "--model", tmp_path / "run", "--question", "What is it?", "--max-new-tokens", "4"
    )
    assert status == 0


def test_a_new_model_from_an_encoder(capsys, settings, tmp_path, small_encoder):
    small_encoder.save_pretrained(tmp_path / "encoder")
    files = [line for line in settings if line.startswith(("data", "output"))]
    status, _, err = run(
        capsys, "train", "--stage", "2", *files, "model=new", "trainable=full", f"encoder={tmp_path / 'encoder'}",
    )  # fmt: skip
    assert status == 1
    assert "holds neither train/vecs nor NeRFs" in err  # embeddings of 32 would not fit this encoder's 24


def test_bad_input(capsys, settings):
    for changes, message in [
        (["max_steps=x"], "max_steps is 'x'; expected an integer"),
        (["data=gone"], "conversations_brief.json: no such file"),
        (["deepspeed=gone.json"], "gone.json: no such file"),
    ]:
        status, _, err = run(capsys, "train", *settings, *changes)
        assert status == 1
        assert message in err
        assert "Traceback" not in err


def test_small_models_know_the_words(language_data, small_encoder, tmp_path):
    dialogues, _ = LanguageData(language_data).dialogues("train", ["brief_description"])
    texts = [text for each in dialogues for turn in each.turns for text in turn]
    sizes = {"vocab_size": 400, "hidden_size": 32, "intermediate_size": 64, "layers": 1, "heads": 2}
    model, processor = small_model(texts, encoder=small_encoder, projector_hidden_sizes=(16,), **sizes)
    again, _ = small_model(texts, encoder=small_encoder, projector_hidden_sizes=(16,), **sizes)
    assert all((a == b).all() for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True))
    assert model.config.embedding_dim == 24
    ids = processor.tokenizer(texts[1])["input_ids"]
    assert processor.tokenizer.decode(ids, skip_special_tokens=True) == texts[1]
    assert len(ids) < len(texts[1]) / 2
    prompt = processor.apply_chat_template([{"role": "user", "content": "Hi"}], add_generation_prompt=True)
    assert prompt == "USER: Hi ASSISTANT:"
    model.save_pretrained(tmp_path)
    LlanaGmnForConditionalGeneration.from_pretrained(tmp_path)
    json.loads((tmp_path / "config.json").read_text())


def test_a_whitened_start(language_data, small_encoder):
    """Two families far apart that vary little: the projector's first layer sees neither the distance nor the smallness."""
    sizes = {"vocab_size": 400, "hidden_size": 32, "intermediate_size": 64, "layers": 1, "heads": 2}
    model = small_model(["a chair"], encoder=small_encoder, **sizes)[0]
    generator = torch.Generator().manual_seed(0)
    scales = torch.logspace(-3, -2, 24)
    families = [mean + scales * torch.randn(200, 24, generator=generator) for mean in (torch.zeros(24), torch.ones(24))]
    first, embeddings = model.projector[0], torch.cat(families)
    before = first(embeddings).detach()
    assert (
        before.split(200)[0].std(dim=0).max() < 0.05 * (before[:200].mean(dim=0) - before[200:].mean(dim=0)).abs().max()
    )
    bias = first.bias.detach().clone()
    whiten_projector(model, embeddings, ["a"] * 200 + ["b"] * 200)
    after = first(embeddings).detach().split(200)
    torch.testing.assert_close(after[0].mean(dim=0), bias, rtol=0, atol=1e-3)
    torch.testing.assert_close(after[1].mean(dim=0), bias, rtol=0, atol=1e-3)
    # Uniform in (-1, 1) / sqrt(24), 23 of them on inputs of deviation 1: sqrt(23 / 24 / 3) = 0.57.
    assert float(torch.cat(after).std(dim=0).mean()) == pytest.approx(0.57, rel=0.1)


@pytest.mark.parametrize("readout_dim", [None, 32])
def test_the_first_layer_learns_where_the_encoder_whitens(readout_dim, small_encoder):
    """Without a head it is set before training and stays; behind a head it is as any other."""
    encoder = GmnEncoder(dataclasses.replace(small_encoder.config, readout_dim=readout_dim))
    sizes = {"vocab_size": 400, "hidden_size": 32, "intermediate_size": 64, "layers": 1, "heads": 2}
    model = small_model(["a chair"], encoder=encoder, **sizes)[0]
    recipe = TrainingRecipe(stage=2, model="new", trainable="full", data="data", output="run", encoder="encoder")
    prepare(model, recipe)
    assert model.projector[0].weight.requires_grad == (readout_dim is not None)
    assert model.projector[-1].weight.requires_grad


@pytest.mark.parametrize(
    ("texts", "sizes", "message"),
    [
        ([], {}, "no texts"),
        (["a"], {"vocab_size": 20}, "vocab_size is 20"),
        (["a"], {"heads": 3}, "no even multiple of 3"),
    ],
)
def test_bad_sizes(texts, sizes, message):
    with pytest.raises(ValueError, match=message):
        small_model(texts, **sizes)
