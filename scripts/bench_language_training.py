"""Samples a second and peak memory of language training, against the plain loop at batch 1.

    python scripts/bench_language_training.py                                  # tiny model on the CPU
    python scripts/bench_language_training.py --shape 7b --steps 10            # Llama-2-7B's shape, LoRA, bf16, on a GPU

Both ways train the same adapter on the same conversations about procedural objects:

* plain: one sample at a time, its NeRF encoded in the step, as a loop written by hand does it;
* ours: the collator's batches grouped by length, embeddings computed before (the time they take stands apart).

Each way runs in a process of its own, so that peak memory is its own. With ``--shape 7b`` the model has random weights, only
ours runs, and tokens/s and MFU (6 N a token for the trained forward and backward, 2 N less for frozen weights' gradients) are
reported. Writes JSON and Markdown to benchmarks/results/.
"""

from __future__ import annotations

import argparse
import datetime
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import transformers

sys.path.insert(0, str(Path(__file__).parent))

from bench_generate import build, commit, describe

from gmn_encoder.embeddings.records import EmbeddingSet
from gmn_encoder.files import atomic_path, write_json
from gmn_encoder.nerfs.architectures import PAPER_ARCHITECTURES
from gmn_encoder.nerfs.record import Nerf
from gmn_encoder.objects import generate_dataset
from gmn_encoder.objects.language import conversations
from llana_gmn.data.collator import ConversationCollator
from llana_gmn.data.dataset import ConversationDataset, Dialogue
from llana_gmn.training.recipe import TrainingRecipe
from llana_gmn.training.sampler import SeededSampler
from llana_gmn.training.stages import prepare, trainable_parameters

ROOT = Path(__file__).resolve().parents[1]
PEAK_FLOPS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
"""Dense bfloat16, by a part of the device's name."""


def make_dialogues(objects: int) -> list[Dialogue]:
    found = []
    for thing in generate_dataset(objects):
        for entry in conversations(thing):
            said = [message["value"] for message in entry["conversations"]]
            said[0] = said[0].removeprefix("<point>\n")
            turns = tuple(zip(said[::2], said[1::2], strict=True))
            found.append(Dialogue((thing.object_id,), turns, entry["conversation_type"]))
    return found


def make_nerfs(dialogues: list[Dialogue]) -> dict[str, Nerf]:
    names = ("MLP", "TRI", "HASH")
    ids = dict.fromkeys(each.object_ids[0] for each in dialogues)
    return {object_id: Nerf.random(PAPER_ARCHITECTURES[names[i % 3]], seed=i) for i, object_id in enumerate(ids)}


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def steps_of(model: Any, optimizer: Any, batches: Any, device: torch.device, *, bf16: bool) -> tuple[int, int, float]:
    """Train on batches; samples, tokens (padding not counted) and seconds."""
    samples = tokens = 0
    synchronize(device)
    start = time.perf_counter()
    for batch in batches:
        batch = {key: value.to(device) for key, value in batch.items()}
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            loss = model(**batch, use_cache=False).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        samples += len(batch["input_ids"])
        tokens += int(batch["attention_mask"].sum())
    synchronize(device)
    return samples, tokens, time.perf_counter() - start


def measure(way: str, options: argparse.Namespace) -> dict[str, Any]:
    """One way, in this process."""
    device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    dtype = getattr(torch, options.dtype)
    model, processor = build(options.shape, dtype, device)
    dialogues = make_dialogues(options.objects)
    nerfs = make_nerfs(dialogues)
    started = time.perf_counter()
    ids = list(nerfs)
    embeddings = torch.zeros(len(ids), processor.embedding_dim)
    if way == "ours":
        embeddings = model.encode(list(nerfs.values()), batch_size=8).cpu()
    embedding = time.perf_counter() - started
    table = EmbeddingSet(embeddings, tuple(("", object_id) for object_id in ids), ("nerf",) * len(ids))
    dataset = ConversationDataset(dialogues, table, processor=processor)
    recipe = TrainingRecipe(stage=2, lora_rank=options.lora_rank, lora_dropout=0.0, seed=0)
    model = prepare(model, recipe).train()
    if options.checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    collate = ConversationCollator(processor.tokenizer.pad_token_id, processor.embedding_dim)

    def sample(index: int) -> dict[str, Any]:
        found = dataset[index]
        return {**found, "nerfs": [nerfs[dataset.sample(index)[0].object_ids[0]]]} if way == "plain" else found

    size = options.batch_size if way == "ours" else 1
    order = list(SeededSampler(dataset.lengths, batch=size if way == "ours" else None))
    places = [order[at : at + size] for at in range(0, len(order) - size + 1, size)]
    count = min(options.steps if way == "ours" else options.steps * 4, len(places) - 1)
    batches = (collate([sample(i) for i in group]) for group in places)
    steps_of(model, optimizer, (next(batches) for _ in range(1)), device, bf16=options.bf16)  # warms up
    samples, tokens, seconds = steps_of(
        model, optimizer, (next(batches) for _ in range(count)), device, bf16=options.bf16
    )
    peak = (
        torch.cuda.max_memory_allocated()
        if device.type == "cuda"
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    )
    learning, parameters = trainable_parameters(model)
    flops = (4 * parameters + 2 * learning) * tokens / seconds
    known = next((value for name, value in PEAK_FLOPS.items() if name in describe(device)), None)
    return {
        "way": way,
        "batch_size": size,
        "steps": count,
        "samples": samples,
        "seconds": seconds,
        "samples_per_second": samples / seconds,
        "tokens_per_second": tokens / seconds,
        "peak_bytes": int(peak),
        "embedding_seconds": embedding if way == "ours" else None,
        "embedded_nerfs": len(ids),
        "trainable": learning,
        "parameters": parameters,
        "flops_per_second": flops,
        "mfu": flops / known if known and options.bf16 else None,
    }


def table_of(result: dict[str, Any]) -> str:
    lines = [
        f"# Language training, {result['shape']} shape",
        "",
        f"{result['date']}, {result['device']}, commit {result['commit']}, torch {result['torch']}, load {result['load']:.1f}",
        "",
        "| way | batch | samples/s | tokens/s | peak memory (MiB) | MFU |",
        "|---|---|---|---|---|---|",
    ]
    for row in result["ways"]:
        mfu = f"{100 * row['mfu']:.1f} %" if row["mfu"] else "-"
        lines.append(
            f"| {row['way']} | {row['batch_size']} | {row['samples_per_second']:.2f} | {row['tokens_per_second']:.0f} "
            f"| {row['peak_bytes'] / 2**20:.0f} | {mfu} |"
        )
    if result["times"]:
        lines += ["", f"{result['times']:.1f} times the samples a second."]
    ours = result["ways"][-1]
    lines += [
        "",
        f"Embedding {ours['embedded_nerfs']} NeRFs once took {ours['embedding_seconds']:.1f} s (not in the rates).",
        "",
    ]
    return "\n".join(lines)


def in_process(way: str, arguments: list[str]) -> dict[str, Any]:
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        command = [sys.executable, __file__, *arguments, "--way", way, "--json", file.name]
        subprocess.run(command, check=True)
        return json.loads(Path(file.name).read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=("tiny", "small", "7b"), default="tiny")
    parser.add_argument("--dtype", help="of the weights (default: float32, bfloat16 for 7b)")
    parser.add_argument("--bf16", action="store_true", help="compute in bfloat16 (7b always does)")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--objects", type=int, default=104)
    parser.add_argument("--lora-rank", type=int, default=16)
    parser.add_argument("--checkpointing", action="store_true", help="gradient checkpointing")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--way", choices=("plain", "ours"), help=argparse.SUPPRESS)
    parser.add_argument("--json", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.dtype = options.dtype or ("bfloat16" if options.shape == "7b" else "float32")
    options.bf16 = options.bf16 or options.shape == "7b"
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.way:
        write_json(measure(options.way, options), options.json)
        return
    device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    ways = [in_process(way, sys.argv[1:]) for way in (("ours",) if options.shape == "7b" else ("plain", "ours"))]
    result = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "device": describe(device),
        "load": Path("/proc/loadavg").exists() and float(Path("/proc/loadavg").read_text().split()[0]),
        "commit": commit(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "shape": options.shape,
        "options": {key: value for key, value in vars(options).items() if key not in ("out", "way", "json")},
        "ways": ways,
        "times": ways[-1]["samples_per_second"] / ways[0]["samples_per_second"] if len(ways) > 1 else None,
    }
    stem = options.out / f"bench_language_training-{options.shape}-{device.type}"
    write_json(result, stem.with_suffix(".json"))
    with atomic_path(stem.with_suffix(".md")) as temporary:
        temporary.write_text(table_of(result), encoding="utf-8")
    print(table_of(result))


if __name__ == "__main__":
    main()
