"""An adapter and a base that it was not trained on."""

from __future__ import annotations

import shutil

import pytest
import torch

from llana_gmn import LlanaGmnForConditionalGeneration
from llana_gmn.assembly.tiny import tiny_model, tiny_text_config
from llana_gmn.checkpoints.adapter_base import BASE_NAME, note_base
from llana_gmn.checkpoints.loading import adapter_base, load_model
from llana_gmn.commands import main
from llana_gmn.training.recipe import TrainingRecipe
from llana_gmn.training.stages import prepare


def save(parts, path):
    for part in parts:
        part.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save(tiny_model(), tmp_path_factory.mktemp("base") / "model")


@pytest.fixture(scope="module", params=[1, 2], ids=["stage1", "stage2"])
def adapter(request, base, tmp_path_factory):
    path = tmp_path_factory.mktemp("adapter") / "adapter"
    recipe = TrainingRecipe(stage=request.param, model=str(base), lora_rank=4)
    prepare(LlanaGmnForConditionalGeneration.from_pretrained(base), recipe).save_pretrained(path)
    note_base(path, base)
    return path


def test_its_own_base_wherever_it_is_and_in_half_precision(adapter, base, tmp_path):
    moved = shutil.copytree(base, tmp_path / "moved")
    assert adapter_base(adapter, moved) == str(moved)
    model, _ = load_model(adapter)
    save([model.bfloat16()], tmp_path / "half")
    assert adapter_base(adapter, tmp_path / "half") == str(tmp_path / "half")


@pytest.mark.parametrize(
    ("sizes", "reason"),
    [
        ({"hidden_size": 48, "intermediate_size": 80}, "which an adapter's .* does not fit"),
        ({}, r"layers\..* has other weights"),
    ],
)
def test_another_base_is_refused_with_both_names(adapter, base, tmp_path, capsys, sizes, reason):
    other = save(tiny_model(tiny_text_config(**sizes), seed=5), tmp_path / "other")
    with pytest.raises(
        ValueError, match=f"{adapter}: is an adapter of {base} as it was, and {other} is another model: .*{reason}"
    ):
        adapter_base(adapter, other)
    capsys.readouterr()
    assert main(["merge", str(adapter), "--model", str(other), "--out", str(tmp_path / "merged")]) == 1
    err = capsys.readouterr().err
    assert str(base) in err and str(other) in err and len(err.strip().splitlines()) == 1
    assert not (tmp_path / "merged").exists()


def test_a_base_that_became_another_in_its_place(tmp_path, capsys):
    base = save(tiny_model(), tmp_path / "model")
    path = tmp_path / "adapter"
    recipe = TrainingRecipe(stage=2, model=str(base), lora_rank=4)
    prepare(LlanaGmnForConditionalGeneration.from_pretrained(base), recipe).save_pretrained(path)
    save(tiny_model(tiny_text_config(num_hidden_layers=1)), base)
    assert not (path / BASE_NAME).exists()  # an adapter from before
    assert main(["chat", "--model", str(path), "--question", "Hello?"]) == 1
    assert "it has no layers.1." in capsys.readouterr().err


def test_training_notes_the_base(tiny_folder, language_data, embedding_files, tmp_path, capsys):
    files = [f"embeddings.{family}={file}" for family, file in embedding_files.items()]
    settings = [f"model={tiny_folder}", f"data={language_data}", f"output={tmp_path / 'run'}", *files, "max_steps=1"]
    assert main(["train", "--stage", "2", *settings, "eval_split=''", "batch_size=2"]) == 0
    assert (tmp_path / "run" / BASE_NAME).is_file()
    model, _ = load_model(tiny_folder)
    with torch.no_grad():
        for parameter in model.language_model.parameters():
            parameter.mul_(1.5)
    other = save([model], tmp_path / "other")
    capsys.readouterr()
    with pytest.raises(ValueError, match="has other weights"):
        adapter_base(tmp_path / "run", other)
