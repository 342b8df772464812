"""Runs of a second: what learns, what is saved, that a killed run ends as an uninterrupted one."""

import json
import shutil

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from llana_gmn import LlanaGmnForConditionalGeneration, LlanaGmnProcessor
from llana_gmn.checkpoints.loading import load_model
from llana_gmn.checkpoints.merge import merge
from llana_gmn.data.collator import ConversationCollator
from llana_gmn.training.trainer import TrainingRun, finished, last_checkpoint


def losses(report):
    return [entry["loss"] for entry in report.history if "loss" in entry]


def batch_of(run, count=3):
    collate = ConversationCollator(run.processor.tokenizer.pad_token_id, run.processor.embedding_shape)
    return collate([run.train_set[i] for i in range(count)])


def test_stage_one_trains_projector_and_two_rows(recipe, tiny_folder):
    run = TrainingRun(recipe())
    config = run.model.config
    learning = {name: p.numel() for name, p in run.model.named_parameters() if p.requires_grad}
    # Projector 32 -> 32 -> 64 -> 32 with biases: 1056 + 2112 + 2080; two rows of 32.
    assert sum(learning.values()) == run.plan.trainable == 1056 + 2112 + 2080 + 2 * 32
    report = run.train()
    assert report.steps == 5
    before, after = load_file(tiny_folder / "model.safetensors"), load_model(report.output)[0].state_dict()
    changed = {key for key, value in before.items() if not torch.equal(value, after[key])}
    assert changed == {key for key in before if key.startswith("model.projector.")} | {
        "model.language_model.embed_tokens.weight"
    }
    table = "model.language_model.embed_tokens.weight"
    rows = (before[table] != after[table]).any(dim=1).nonzero().flatten().tolist()
    assert rows == sorted([config.nerf_start_token_id, config.nerf_end_token_id])


def test_stage_one_trains_the_projector_alone_where_the_tokens_are_known(recipe, tiny_folder, tmp_path):
    """As LLaNA does from a checkpoint that has the tokens; stage 2 goes on from there."""
    run = TrainingRun(recipe(token_rows=False))
    assert run.plan.trainable == 1056 + 2112 + 2080
    assert "%): the projector alone" in run.plan.to_text()
    report = run.train()
    before, after = load_file(tiny_folder / "model.safetensors"), load_model(report.output)[0].state_dict()
    changed = {key for key, value in before.items() if not torch.equal(value, after[key])}
    assert changed == {key for key in before if key.startswith("model.projector.")}
    second = TrainingRun(recipe(stage=2, model=report.output, output=str(tmp_path / "second"), max_steps=1))
    assert "rows of the start and end token, LoRA of rank 4" in second.plan.to_text()
    second.train()


def test_an_adapter_loads_in_one_call_and_merges(recipe, tiny_folder, tmp_path):
    run = TrainingRun(recipe(stage=2))
    report = run.train()
    assert losses(report)[-1] < losses(report)[0]
    inputs = batch_of(run)
    with torch.no_grad():
        trained = run.model.eval()(**inputs).logits
        base = LlanaGmnForConditionalGeneration.from_pretrained(tiny_folder)
        untrained = base.eval()(**inputs).logits
        loaded = {
            "peft": PeftModel.from_pretrained(base, report.output).eval(),
            "auto": LlanaGmnForConditionalGeneration.from_pretrained(report.output).eval(),
            "load_model": load_model(report.output)[0],
            "merged": load_model(merge(report.output, tmp_path / "merged"))[0],
        }
        assert (trained - untrained).abs().max() > 1e-2
        for name, model in loaded.items():
            torch.testing.assert_close(model(**inputs).logits, trained, rtol=0, atol=1e-5, msg=name)
    assert LlanaGmnProcessor.from_pretrained(report.output).nerf_token_id == run.processor.nerf_token_id


def test_stage_two_begins_where_stage_one_ended(recipe, tiny_folder, tmp_path):
    first = TrainingRun(recipe()).train()
    second = TrainingRun(recipe(stage=2, model=first.output, output=str(tmp_path / "second")))
    begun = second.model.get_base_model().projector.state_dict()
    saved = load_file(tmp_path / "run" / "adapter_model.safetensors")
    key = "base_model.model.model.projector.0.weight"
    assert torch.equal(begun["modules_to_save.default.0.weight"], saved[key])
    report = second.train()
    named = json.loads((tmp_path / "second" / "adapter_config.json").read_text())["base_model_name_or_path"]
    assert named == str(tiny_folder.resolve())  # whole in itself: stage 1's directory may go
    shutil.rmtree(first.output)
    load_model(report.output)


def test_an_adapter_is_trained_on(recipe, tmp_path):
    first = TrainingRun(recipe(stage=2))
    learned = first.train()
    inputs = batch_of(first)
    third = TrainingRun(recipe(stage=2, model=learned.output, output=str(tmp_path / "third")))
    with torch.no_grad():
        expected = first.model.eval()(**inputs).logits
        torch.testing.assert_close(third.model.eval()(**inputs).logits, expected, rtol=0, atol=1e-5)
    report = third.train()
    assert losses(report)[-1] < losses(learned)[-1]
    shutil.rmtree(learned.output)  # whole in itself
    with torch.no_grad():
        trained = third.model.eval()(**inputs).logits
        assert (trained - expected).abs().max() > 1e-3
        torch.testing.assert_close(load_model(report.output)[0](**inputs).logits, trained, rtol=0, atol=1e-5)
    for change in ({"lora_rank": 2}, {"trainable": "projector"}):
        with pytest.raises(ValueError, match=r"adapter with LoRA matrices \(rank 4.*llana-gmn merge"):
            TrainingRun(recipe(stage=2, model=report.output, output=str(tmp_path / "fourth"), **change))


def test_full_fine_tuning_leaves_the_encoder(recipe, tiny_folder):
    report = TrainingRun(recipe(stage=2, trainable="full", max_steps=3)).train()
    before, after = (load_file(f"{path}/model.safetensors") for path in (tiny_folder, report.output))
    assert before.keys() == after.keys()
    same = {key for key in before if torch.equal(before[key], after[key])}
    assert same == {key for key in before if key.startswith("model.nerf_encoder.")}


@pytest.mark.same_bits
@pytest.mark.parametrize(
    "settings",
    [{"save_steps": 2}, {"stage": 2, "group_by_length": True, "max_steps": 0, "epochs": 2.0, "batch_size": 64}],
    ids=["in an epoch", "between epochs"],
)
def test_a_killed_run_ends_as_an_uninterrupted_one(recipe, settings, tmp_path):
    settings = {"save_limit": 20, "lora_dropout": 0.2, **settings}
    whole = TrainingRun(recipe(**settings, output=str(tmp_path / "whole"))).train()
    # What a kill leaves: the first checkpoint, a second one cut off while it was written, no result.
    shutil.copytree(tmp_path / "whole", tmp_path / "run", ignore=shutil.ignore_patterns("report.json", "adapter_*"))
    first, *later = sorted((tmp_path / "run").glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    shutil.copytree(tmp_path / "whole" / first.name, first, dirs_exist_ok=True)
    (later[0] / "trainer_state.json").unlink()
    for checkpoint in later[1:]:
        shutil.rmtree(checkpoint)
    assert last_checkpoint(tmp_path / "run") == first
    recorded = recipe(**settings)
    assert not finished(recorded)
    resumed = TrainingRun(recorded).train()
    assert resumed.steps == whole.steps
    assert losses(resumed) == losses(whole)
    one, other = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("run", "whole"))
    assert all(torch.equal(one[key], other[key]) for key in other)


def test_other_settings_are_refused(recipe):
    TrainingRun(recipe(max_steps=1)).train()
    assert finished(recipe(max_steps=1))
    with pytest.raises(
        ValueError, match=r"holds a run with learning_rate=0.01, this one has 0.02; continue with the same"
    ):
        TrainingRun(recipe(max_steps=1, learning_rate=0.02))
    TrainingRun(recipe(max_steps=1, learning_rate=0.02), resume=False)
    assert finished(recipe(max_steps=1, logging_steps=3))  # changes nothing that is learned


def test_bad_places(recipe, tmp_path):
    for settings, message in [
        ({"output": ""}, "names no output"),
        ({"model": ""}, "names no model"),
        ({"model": str(tmp_path / "gone")}, "gone: no such model"),
        ({"data": str(tmp_path)}, "no such file"),
        (
            {"embeddings": {"mlp": str(tmp_path / "gone.npz")}},
            "gone.npz: no such file or directory; expected embeddings",
        ),
        ({"embeddings": {}}, "holds neither train/vecs nor NeRFs"),
        ({"strict": True, "max_length": 70}, "nothing to train on .* max_length is 70"),
        ({"stage": 2, "lora_targets": ("c_attn",)}, "lora_targets names 'c_attn'; this backbone's linear layers are"),
    ]:
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            TrainingRun(recipe(**settings))


def test_a_broken_loss_stops_the_run(recipe):
    run = TrainingRun(recipe(max_steps=5))
    with torch.no_grad():
        next(p for p in run.model.parameters() if p.requires_grad).fill_(float("nan"))
    with pytest.raises(ValueError, match="the loss is nan at step 1; lower learning_rate"):
        run.train()


def test_evaluation_loss_and_sample_answers(recipe, tmp_path):
    report = TrainingRun(
        recipe(eval_split="val", eval_steps=2, max_steps=4, samples=3, gradient_checkpointing=True)
    ).train()
    assert [entry["step"] for entry in report.history if "eval_loss" in entry] == [2, 4]
    records = [json.loads(line) for line in (tmp_path / "run" / "samples.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [2, 2, 2, 4, 4, 4]
    assert {"object_ids", "variant", "question", "reference", "answer"} <= records[0].keys()
