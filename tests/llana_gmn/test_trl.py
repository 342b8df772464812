"""TRL's trainers on a tiny model: texts with NeRFs, a LoRA adapter on the backbone."""

from __future__ import annotations

import copy

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig

trl = pytest.importorskip("trl")

OPTIONS = {
    "max_steps": 3,
    "per_device_train_batch_size": 2,
    "report_to": "none",
    "save_strategy": "no",
    "use_cpu": True,
    "bf16": False,
    "learning_rate": 0.05,
    "remove_unused_columns": False,
}


def lora():
    return LoraConfig(target_modules=["q_proj", "v_proj"], modules_to_save=["projector"])


def changed(trainer, before):
    """Names of the adapter's weights that training changed."""
    return {
        name for name, p in trainer.model.named_parameters() if p.requires_grad and not torch.equal(p, before[name])
    }


def start(trainer):
    return {name: parameter.detach().clone() for name, parameter in trainer.model.named_parameters()}


def finite(trainer):
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return losses and all(torch.isfinite(torch.tensor(losses)))


@pytest.fixture
def parts(tiny, nerfs):
    """A model of its own, its processor, and an embedding for each NeRF."""
    return copy.deepcopy(tiny[0]), tiny[1], tiny[0].encode(nerfs)


def test_sft_trains_on_texts(parts, tmp_path):
    model, processor, _ = parts
    texts = Dataset.from_list([{"text": f"USER: What is it? ASSISTANT: A red chair {i}."} for i in range(6)])
    trainer = trl.SFTTrainer(
        model=model,
        args=trl.SFTConfig(output_dir=str(tmp_path), logging_steps=1, **OPTIONS),
        train_dataset=texts,
        processing_class=processor.tokenizer,
        peft_config=LoraConfig(target_modules=["q_proj", "v_proj"]),
    )
    before = start(trainer)
    trainer.train()
    assert finite(trainer)
    assert len(changed(trainer, before)) == 8  # two matrices for two layers of two blocks


def test_sft_trains_on_texts_with_nerfs(parts, tmp_path):
    model, processor, embeddings = parts

    def collate(samples):
        inputs = processor(
            nerfs=[[embeddings[sample["nerf"]]] for sample in samples],
            text=[f"USER: <nerf>\nWhat is it? ASSISTANT: {sample['answer']}" for sample in samples],
            return_tensors="pt",
        )
        labels = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, -100)
        return {**inputs, "labels": labels}

    trainer = trl.SFTTrainer(
        model=model,
        args=trl.SFTConfig(
            output_dir=str(tmp_path), logging_steps=1, dataset_kwargs={"skip_prepare_dataset": True}, **OPTIONS
        ),
        train_dataset=Dataset.from_list(
            [{"nerf": i % 3, "answer": f"A red chair {i}.", "input_ids": []} for i in range(6)]
        ),
        processing_class=processor.tokenizer,
        data_collator=collate,
        peft_config=lora(),
    )
    before = start(trainer)
    trainer.train()
    assert finite(trainer)
    assert sum("projector" in name for name in changed(trainer, before)) == 6


def test_dpo_trains_on_texts_with_nerfs(parts, tmp_path):
    model, processor, embeddings = parts

    def collate(samples):
        """TRL's batch: the preferred answers, then the others."""
        inputs = processor(
            nerfs=[[embeddings[sample["nerf"]]] for sample in samples] * 2,
            text=[f"USER: <nerf>\nWhat is it? ASSISTANT: {s[key]}" for key in ("chosen", "rejected") for s in samples],
            return_tensors="pt",
        )
        prompt = processor(nerfs=[[embeddings[0]]], text=["USER: <nerf>\nWhat is it? ASSISTANT:"], return_tensors="pt")
        completion = inputs["attention_mask"].clone()
        begins = inputs["attention_mask"].argmax(dim=1) + prompt["input_ids"].shape[1]  # padding is on the left
        completion[torch.arange(completion.shape[1]) < begins[:, None]] = 0
        return {**inputs, "completion_mask": completion}

    pairs = Dataset.from_list(
        [{"nerf": i % 3, "prompt": "", "chosen": f"A red chair {i}.", "rejected": "A blue car."} for i in range(6)]
    )
    trainer = trl.DPOTrainer(
        model=model,
        args=trl.DPOConfig(output_dir=str(tmp_path), logging_steps=1, **OPTIONS),
        train_dataset=pairs,
        processing_class=processor.tokenizer,
        data_collator=collate,
        peft_config=lora(),
    )
    before = start(trainer)
    trainer.train()
    assert finite(trainer)
    assert len(changed(trainer, before)) == 8 + 6
