"""Two processes over gloo: the same losses as one process, whole checkpoints. Real launches, so most are marked slow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

ROOT = Path(__file__).parents[3]
DEEPSPEED = ROOT / "scripts" / "deepspeed"


def launch(arguments, *, processes):
    path = os.pathsep.join([str(ROOT / "encoder"), str(ROOT / "eval"), str(ROOT)])
    launcher = (
        ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)] if processes > 1 else []
    )
    return subprocess.run(
        [sys.executable, *launcher, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )


@pytest.fixture(scope="module")
def train(tiny_folder, language_data, embedding_files):
    def run(output, *settings, processes):
        embeddings = [f"embeddings.{family}={file}" for family, file in embedding_files.items()]
        fixed = ["max_steps=4", "logging_steps=1", "eval_limit=8", "samples=2", "lora_rank=4", "lora_dropout=0"]
        fixed += ["learning_rate=1e-3", "warmup_ratio=0"]
        fixed += [f"model={tiny_folder}", f"data={language_data}", f"output={output}"]
        done = launch(["-m", "llana_gmn", "train", *fixed, *embeddings, *settings], processes=processes)
        if done.returncode:
            return done, None, None
        losses = [
            entry["loss"] for entry in json.loads((output / "report.json").read_text())["history"] if "loss" in entry
        ]
        return done, losses, next(output.glob("*.safetensors"))

    return run


@pytest.mark.slow
@pytest.mark.parametrize("settings", [("stage=1",), ("stage=2",), ("stage=2", "trainable=full")], ids=" ".join)
@pytest.mark.parametrize("engine", ["ddp", "zero2", "zero3"])
def test_two_processes_learn_as_one(train, tmp_path, engine, settings):
    if engine != "ddp":
        pytest.importorskip("deepspeed")
    _, alone, reference = train(tmp_path / "one", *settings, "batch_size=8", processes=1)
    more = [] if engine == "ddp" else [f"deepspeed={DEEPSPEED / engine}.json"]
    done, together, saved = train(tmp_path / "two", *settings, *more, "batch_size=4", processes=2)
    assert together is not None, done.stderr[-3000:]
    assert together == pytest.approx(alone, abs=2e-4)
    assert together[-1] < together[0]
    expected, found = load_file(reference), load_file(saved)
    assert {key: value.shape for key, value in found.items()} == {key: value.shape for key, value in expected.items()}
    # Adam divides by the root of tiny squares: single entries may differ by a step or two of 1e-3.
    assert all((found[key] - expected[key]).abs().max() < 5e-3 for key in expected)
    assert sum(float((found[key] - expected[key]).abs().mean()) for key in expected) / len(expected) < 2e-4


@pytest.mark.slow
def test_an_engine_that_does_not_start_is_an_error(train, tmp_path):
    """On a CPU accelerate takes FSDP for plain data parallelism without a word."""
    done, losses, _ = train(tmp_path / "run", "stage=1", f"fsdp={ROOT / 'scripts/fsdp/fsdp2.json'}", processes=2)
    assert losses is None
    if not torch.cuda.is_available():
        assert "the recipe asks for fsdp, but the launcher set up multi_cpu" in done.stderr


FSDP2 = """
import sys, torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from llana_gmn import LlanaGmnForConditionalGeneration
mesh = init_device_mesh("cpu", (2,))
rank = mesh.get_rank()
model = LlanaGmnForConditionalGeneration.from_pretrained(sys.argv[1])
torch.manual_seed(0)
ids = torch.randint(10, 500, (4, 20)); ids[:, 3] = model.config.nerf_token_id
batch = {"input_ids": ids, "labels": ids, "nerf_embeddings": torch.randn(4, 1, 32)}
half = {key: value[2 * rank : 2 * rank + 2] for key, value in batch.items()}
names = [name for name, module in model.named_modules() if type(module).__name__ == "LlamaDecoderLayer"]
shapes = {key: value.shape for key, value in model.state_dict().items()}
losses = []
for sharded in (False, True):
    if sharded:
        model = LlanaGmnForConditionalGeneration.from_pretrained(sys.argv[1])
        for name in names:
            fully_shard(model.get_submodule(name), mesh=mesh)
        fully_shard(model, mesh=mesh)
    optimizer = torch.optim.AdamW([p for p in model.parameters()], lr=1e-2)
    losses.append([])
    for _ in range(3):
        loss = model(**(half if sharded else batch)).loss
        loss.backward(); optimizer.step(); optimizer.zero_grad()
        value = loss.detach().clone()
        if sharded:
            torch.distributed.all_reduce(value, torch.distributed.ReduceOp.SUM); value /= 2
        losses[-1].append(value.item())
whole = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True))
if rank == 0:
    assert len(names) == 2 and {k: v.shape for k, v in whole.items()} == shapes
    assert max(abs(a - b) for a, b in zip(*losses)) < 1e-4, losses
    print("LOSSES", losses[1])
"""


@pytest.mark.slow
def test_fsdp2_shards_the_model(tiny_folder):
    """PyTorch's fully_shard on a CPU mesh; the Trainer's own FSDP needs GPUs."""
    script = tiny_folder.parent / "fsdp2.py"
    script.write_text(FSDP2)
    done = launch([script, tiny_folder], processes=2)
    assert "LOSSES" in done.stdout, done.stderr[-3000:]


def test_deepspeed_settings_follow_the_recipe(recipe, tmp_path):
    from llana_gmn.training.arguments import deepspeed_settings

    for file in sorted(DEEPSPEED.glob("*.json")):
        settings = deepspeed_settings(recipe(deepspeed=str(file)))
        assert settings["zero_optimization"]["stage"] == int(file.stem[-1])
        assert settings["train_micro_batch_size_per_gpu"] == settings["gradient_accumulation_steps"] == "auto"
    assert settings["zero_optimization"]["stage3_gather_16bit_weights_on_model_save"]
    (tmp_path / "d.json").write_text('{"bf16": {"enabled": true}}')
    with pytest.raises(ValueError, match="has bf16 True, the recipe False"):
        deepspeed_settings(recipe(deepspeed=str(tmp_path / "d.json")))
