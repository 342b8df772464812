"""How long `generate` takes with NeRFs, and captions a second in batches.

    python scripts/bench_generate.py                                  # tiny random model on the CPU
    python scripts/bench_generate.py --shape small                    # 8 layers of width 512: steps that do some work
    python scripts/bench_generate.py --shape 7b --dtype bfloat16      # Llama-2-7B's shape with random weights, on a GPU

1. Overhead: `generate` of a prompt with NeRFs (as embeddings) against the bare backbone at the same prompt length and number of
   new tokens; the encoder's time stands apart. Runs alternate, the fastest of each are compared (on a CPU by
   the process's own time: `--threads 1` makes that the wall's).
2. Throughput: captions a second of `caption_nerfs` with batches of 16 against one by one in a loop, from NeRFs (the encoder
   included) and from their embeddings.

Writes JSON and Markdown with date, device and commit to benchmarks/results/.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import json
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers

from gmn_encoder.encoders.gmn.config import GmnConfig
from gmn_encoder.files import atomic_path, write_json
from gmn_encoder.nerfs.architectures import PAPER_ARCHITECTURES
from gmn_encoder.nerfs.record import Nerf
from llana_gmn.caption import caption_nerfs
from llana_gmn.configuration import LLANA_7B
from llana_gmn.tiny import tiny_model, tiny_text_config

ROOT = Path(__file__).resolve().parents[1]
QUESTION = "What is this object?"


def build(shape: str, dtype: torch.dtype, device: torch.device) -> tuple[Any, Any]:
    """A model of this shape with random weights."""
    text, gmn, sizes = tiny_text_config(640), GmnConfig(hidden_dim=16, embedding_dim=32), (32, 64)
    if shape == "small":
        text = tiny_text_config(
            640, hidden_size=512, intermediate_size=1376, num_hidden_layers=8, num_attention_heads=8
        )
        text.num_key_value_heads = 8
    elif shape == "7b":
        text, gmn, sizes = transformers.LlamaConfig(**LLANA_7B), GmnConfig(), (1024, 2048)
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            model, processor = tiny_model(text, encoder_config=gmn, projector_hidden_sizes=sizes)
    finally:
        torch.set_default_dtype(default)
    return model.to(device), processor


def seconds(
    function: Callable[[], Any], device: torch.device, *, clock: Callable[[], float] = time.perf_counter
) -> float:
    if device.type != "cpu":
        torch.accelerator.synchronize()
    start = clock()
    function()
    if device.type != "cpu":
        torch.accelerator.synchronize()
    return clock() - start


def overhead(model: Any, processor: Any, nerfs: list[Nerf], *, batch: int, tokens: int, repeats: int) -> dict[str, Any]:
    """Seconds with NeRFs and without, encoder apart."""
    device = model.device
    # A CPU may have other work: there, seconds are this process's own.
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    chosen = nerfs[:batch]
    encoding = min(seconds(lambda: model.encode(chosen), device, clock=clock) for _ in range(4))
    conversations = [
        [{"role": "user", "content": [{"type": "nerf", "embedding": e}, {"type": "text", "text": QUESTION}]}]
        for e in model.encode(chosen).cpu()
    ]
    inputs = processor.apply_chat_template(
        conversations, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    ).to(device)
    plain = {
        "input_ids": inputs["input_ids"].masked_fill(inputs["input_ids"] == processor.nerf_token_id, 300),
        "attention_mask": inputs["attention_mask"],
    }
    options = {"do_sample": False, "max_new_tokens": tokens, "min_new_tokens": tokens}
    runs: dict[str, list[float]] = {"with": [], "bare": []}
    for i in range(repeats + 1):
        first = seconds(lambda: model.generate(**inputs, **options), device, clock=clock)
        second = seconds(lambda: model.language_model.generate(**plain, **options), device, clock=clock)
        if i:  # the first round warms up
            runs["with"].append(first)
            runs["bare"].append(second)
    times = {key: min(values) for key, values in runs.items()}
    return {
        "batch": batch,
        "prompt_tokens": inputs["input_ids"].shape[1],
        "new_tokens": tokens,
        "repeats": repeats,
        "seconds_with_nerf": times["with"],
        "seconds_bare_backbone": times["bare"],
        "more_percent": 100 * (times["with"] / times["bare"] - 1),
        "encoder_seconds": encoding,
        "median_more_percent": 100 * (statistics.median(runs["with"]) / statistics.median(runs["bare"]) - 1),
    }


def throughput(model: Any, processor: Any, nerfs: list[Nerf], *, tokens: int) -> list[dict[str, Any]]:
    """Captions a second in batches of 16 and one by one, of NeRFs (encoder included) and of their embeddings."""
    options = {"question": QUESTION, "max_new_tokens": tokens, "min_new_tokens": tokens}
    rows = []
    for kind, inputs in [("NeRFs", nerfs), ("embeddings", list(model.encode(nerfs).cpu()))]:
        rates = {}
        for name, size, chosen in [("warm-up", 16, inputs[:16]), ("batch", 16, inputs), ("single", 1, inputs[:16])]:
            run = functools.partial(caption_nerfs, model, processor, chosen, batch_size=size, **options)
            rates[name] = len(chosen) / seconds(lambda run=run: list(run()), model.device)
        rows.append(
            {
                "inputs": kind,
                "new_tokens": tokens,
                "captions_per_second_batch_16": rates["batch"],
                "captions_per_second_one_by_one": rates["single"],
                "times": rates["batch"] / rates["single"],
            }
        )
    return rows


def describe(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    names = [line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {torch.get_num_threads()} threads"


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def commit() -> str:
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or "unknown"


def table(result: dict[str, Any]) -> str:
    lines = [
        f"# generate, {result['shape']} shape, {result['dtype']}",
        "",
        f"{result['date']}, {result['device']}, commit {result['commit']}, torch {result['torch']}, "
        f"transformers {result['transformers']}",
        "",
        "| batch | prompt | new tokens | with NeRF (s) | bare backbone (s) | more | more, medians | encoder, apart (s) |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r['batch']} | {r['prompt_tokens']} | {r['new_tokens']} | {r['seconds_with_nerf']:.4f} "
        f"| {r['seconds_bare_backbone']:.4f} | {r['more_percent']:+.2f} % | {r['median_more_percent']:+.2f} % "
        f"| {r['encoder_seconds']:.4f} |"
        for r in result["overhead"]
    ]
    lines += ["", "| from | new tokens | captions/s, batches of 16 | one by one | times |", "|---|---|---|---|---|"]
    lines += [
        f"| {t['inputs']} | {t['new_tokens']} | {t['captions_per_second_batch_16']:.2f} "
        f"| {t['captions_per_second_one_by_one']:.2f} | {t['times']:.1f} |"
        for t in result["throughput"]
    ]
    lines.append("")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=("tiny", "small", "7b"), default="tiny")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--caption-tokens", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--nerfs", type=int, default=64)
    parser.add_argument("--threads", type=int, help="of the CPU")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    model, processor = build(arguments.shape, getattr(torch, arguments.dtype), device)
    names = ("MLP", "TRI", "HASH")
    nerfs = [Nerf.random(PAPER_ARCHITECTURES[names[i % 3]], seed=i) for i in range(arguments.nerfs)]
    measure = {"tokens": arguments.new_tokens, "repeats": arguments.repeats}
    result = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "device": describe(device),
        "commit": commit(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "shape": arguments.shape,
        "dtype": arguments.dtype,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "overhead": [overhead(model, processor, nerfs, batch=batch, **measure) for batch in (1, 16)],
        "throughput": throughput(model, processor, nerfs, tokens=arguments.caption_tokens),
    }
    stem = arguments.out / f"bench_generate-{arguments.shape}-{device.type}"
    write_json(result, stem.with_suffix(".json"))
    with atomic_path(stem.with_suffix(".md")) as temporary:
        temporary.write_text(table(result), encoding="utf-8")
    print(table(result))
    print(json.dumps({"written": [str(stem.with_suffix(s)) for s in (".json", ".md")]}))


if __name__ == "__main__":
    main()
