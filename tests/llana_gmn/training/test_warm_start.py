"""A projector that begins near the words of captions; bfloat16 where it is faster."""

from __future__ import annotations

import copy
import subprocess

import pytest
import torch

from llana_gmn.assembly.tiny import tiny_model
from llana_gmn.data.sources import LanguageData
from llana_gmn.training import precision
from llana_gmn.training.recipe import TrainingRecipe
from llana_gmn.training.warm_start import warm_projector, word_targets


def test_the_projector_learns_the_words_of_captions(language_data, embedding_files):
    model, processor = tiny_model()
    again = copy.deepcopy(model)
    data = LanguageData(language_data, embeddings=embedding_files)
    dataset = data.load("train", ["brief_description"], processor=processor, pack=200)
    table = model.get_input_embeddings().weight.detach()
    nerfs, targets = word_targets(dataset, table)
    assert nerfs.shape == (16 * 3, 32)
    differences = targets - targets.mean(dim=0)
    assert differences.square().mean().sqrt() == pytest.approx(
        float((table - table.mean(dim=0)).square().mean().sqrt()), rel=1e-3
    )
    before = copy.deepcopy(model.projector.state_dict())
    assert warm_projector(model, dataset, steps=150) < 0.7
    warm_projector(again, dataset, steps=150)
    for name, value in model.projector.state_dict().items():
        assert not torch.equal(value, before[name])
        torch.testing.assert_close(value, again.projector.state_dict()[name])


@pytest.mark.parametrize(("status", "printed", "fast"), [(0, "2.5", True), (0, "0.9", False), (-4, "", False)])
def test_bfloat16_is_asked_of_the_processor_in_a_process_of_its_own(status, printed, fast, monkeypatch, caplog):
    precision.bfloat16_is_fast.cache_clear()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(
        precision.subprocess, "run", lambda *args, **kwargs: subprocess.CompletedProcess(args, status, printed, "")
    )
    recipe = precision.with_precision(TrainingRecipe(bf16=None))
    precision.bfloat16_is_fast.cache_clear()
    assert (recipe.bf16, recipe.dtype) == ((True, "bfloat16") if fast else (False, None))
    assert ("ONEDNN_MAX_CPU_ISA" in caplog.text) == (status != 0)
