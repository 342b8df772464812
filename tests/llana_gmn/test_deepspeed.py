"""Training under DeepSpeed, a process of its own each: the encoder stays exact, the projector learns, what is saved is whole."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("deepspeed")

SCRIPT = """
import json, sys
import deepspeed, torch
from safetensors.torch import load_file
from transformers import Trainer, TrainingArguments
from gmn_encoder.nerfs.files import load_nerf
from llana_gmn import LlanaGmnForConditionalGeneration, LlanaGmnProcessor

stage, folder, out = int(sys.argv[1]), sys.argv[2], sys.argv[3]
deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # compiles for minutes
deepspeed.init_distributed("gloo")
config = {
    "train_micro_batch_size_per_gpu": 2,
    "zero_optimization": {"stage": stage, "stage3_gather_16bit_weights_on_model_save": True},
    "bf16": {"enabled": True},
    "zero_force_ds_cpu_optimizer": False,
    "zero_allow_untested_optimizer": True,
}
arguments = TrainingArguments(
    output_dir=out, use_cpu=True, deepspeed=config, per_device_train_batch_size=2, max_steps=5, bf16=True, seed=1,
    learning_rate=1e-2, report_to=[], save_strategy="no", remove_unused_columns=False, optim="adamw_torch",
)
model = LlanaGmnForConditionalGeneration.from_pretrained(folder + "/model", dtype=torch.bfloat16)
processor = LlanaGmnProcessor.from_pretrained(folder + "/model")
saved = load_file(folder + "/model/model.safetensors")
encoder = {k: v for k, v in saved.items() if k.startswith("model.nerf_encoder.")}
for key, tensor in model.nerf_encoder.state_dict().items():
    assert torch.equal(tensor, encoder["model.nerf_encoder." + key]), key
nerfs = [load_nerf(f"{folder}/{i}.safetensors") for i in range(3)]
expected = torch.load(folder + "/embeddings.pt")
model.language_model.requires_grad_(False)
model.lm_head.requires_grad_(False)
seen = []
encode = type(model.nerf_encoder).encode
def spy(self, given, **options):
    result = encode(self, given, **options)
    kinds = [n.family for n in given]
    rows = [["mlp", "triplane", "hash"].index(kind) for kind in kinds]
    seen.append((result - expected[rows]).abs().max().item())
    return result
type(model.nerf_encoder).encode = spy

def collate(rows):
    features = processor(
        nerfs=[[nerfs[i % 3]] if i % 4 else [] for i in rows],
        text=["<nerf>\\nWhat is it?" if i % 4 else "Hello." for i in rows], return_tensors="pt", padding_side="right",
    )
    features["labels"] = features["input_ids"].masked_fill(features["attention_mask"] == 0, -100)
    return dict(features)

trainer = Trainer(model=model, args=arguments, train_dataset=list(range(12)), data_collator=collate)
loss = trainer.train().training_loss
assert type(trainer.model_wrapped).__name__ == "DeepSpeedEngine"
trainer.save_model(out)
after = load_file(out + "/model.safetensors")
assert after.keys() == saved.keys(), after.keys() ^ saved.keys()
print("RESULT", json.dumps({
    "loss": loss,
    "encoder_error": max(seen),
    "encoder_saved": all(torch.equal(after[k], v) and after[k].dtype == torch.float32 for k, v in encoder.items()),
    "shapes": all(after[k].shape == v.shape for k, v in saved.items()),
    "learned": (after["model.projector.0.weight"].float() - saved["model.projector.0.weight"]).abs().max().item(),
}))
"""


@pytest.fixture(scope="module")
def folder(tiny, nerfs, tmp_path_factory):
    import torch

    from gmn_encoder.nerfs.files import save_nerf

    path = tmp_path_factory.mktemp("deepspeed")
    for part in tiny:
        part.save_pretrained(path / "model")
    for i, nerf in enumerate(nerfs):
        save_nerf(nerf, path / f"{i}.safetensors")
    torch.save(tiny[0].encode(nerfs), path / "embeddings.pt")
    return path


@pytest.mark.slow
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_the_encoder_stays_exact(folder, tmp_path, stage):
    root = Path(__file__).parents[2]
    path = os.pathsep.join([str(root / "encoder"), str(root), os.environ.get("PYTHONPATH", "")])
    process = {
        "RANK": "0",
        "LOCAL_RANK": "0",
        "WORLD_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(29640 + stage),
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(stage), str(folder), str(tmp_path)],
        env={**os.environ, **process, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    assert lines, done.stderr[-3000:]
    result = json.loads(lines[0].removeprefix("RESULT "))
    assert result["encoder_error"] == 0
    assert result["encoder_saved"]
    assert result["shapes"]
    assert result["learned"] > 1e-3
