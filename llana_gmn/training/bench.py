"""Samples a second and peak memory of language training, against the plain loop at batch 1.

    python scripts/bench_language_training.py                                  # tiny model
    python scripts/bench_language_training.py --shape 7b --steps 10            # Llama-2-7B's shape, LoRA, bf16, on a GPU

Both ways train the same adapter on the same conversations about procedural objects:

* plain: one sample at a time, its NeRF encoded in the step, as a loop written by hand does it;
* ours: the collator's batches grouped by length, embeddings computed before (the time they take stands apart).

Each way runs in a process of its own, so that peak memory is its own. With ``--shape 7b`` the model has random weights, only
ours runs, and tokens/s and MFU (6 N a token for the trained forward and backward, 2 N less for frozen weights' gradients) are
reported.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
import transformers
from torch import Tensor

from gmn_encoder import benchmarking
from gmn_encoder.embeddings.records import EmbeddingSet
from gmn_encoder.nerfs.record import Nerf
from gmn_encoder.objects import generate_dataset
from gmn_encoder.objects.language import conversations

from ..data.collator import ConversationCollator
from ..data.dataset import ConversationDataset, Dialogue
from ..inference.bench import Shape, random_model
from .recipe import TrainingRecipe
from .sampler import SeededSampler
from .stages import prepare, trainable_parameters

TINY: dict[str, Any] = {"objects": 2, "batch_size": 2, "steps": 1, "lora_rank": 2, "architectures": ("MLP-nano",)}

PEAK_FLOPS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
"""Dense bfloat16, by a part of the device's name."""

Way = Literal["plain", "ours"]

_COLUMNS = {
    "way": "",
    "batch": "",
    "samples/s": ".2f",
    "tokens/s": ".0f",
    "peak memory MiB": ".0f",
    "MFU %": ".1f",
}


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What both ways share.

    Attributes:
        shape: size of the model, "tiny", "small" or "7b".
        dtype: name of the dtype of the weights.
        bf16: compute in bfloat16.
        batch_size: samples of a step of our way.
        steps: steps of our way at most; the plain way takes four times as many.
        objects: number of procedural objects that are talked about.
        lora_rank: rank of the adapter.
        checkpointing: compute activations again in the backward pass.
        architectures: names, in turn, of the NeRFs' architectures.
        device: where to train; None for the accelerator if there is one.
    """

    shape: Shape = "tiny"
    dtype: str = "float32"
    bf16: bool = False
    batch_size: int = 16
    steps: int = 20
    objects: int = 104
    lora_rank: int = 16
    checkpointing: bool = False
    architectures: Sequence[str] = ("MLP", "TRI", "HASH")
    device: str | None = None


def bench(**settings: Any) -> Iterator[benchmarking.Result]:
    """Both ways, or ours alone for the large shape.

    Args:
        **settings: those of `Measured`; the large shape is bfloat16 where nothing else is said.

    Yields:
        one result.
    """
    large = settings.get("shape") == "7b"
    measured = Measured(**{**({"dtype": "bfloat16", "bf16": True} if large else {}), **settings})
    device = benchmarking.pick_device(measured.device)
    chosen: list[Way] = ["ours"] if large else ["plain", "ours"]
    ways = [benchmarking.in_fresh_process(measure, way, measured) for way in chosen]
    ours = ways[-1]
    times = ours["samples_per_second"] / ways[0]["samples_per_second"] if len(ways) > 1 else None
    shown = ("way", "batch_size", "samples_per_second", "tokens_per_second", "peak_mib", "mfu_percent")
    text = benchmarking.markdown_table(_COLUMNS, [[way[name] for name in shown] for way in ways])
    text += f"\n{times:.1f} times the samples a second. " if times else "\n"
    text += f"Embedding {ours['embedded_nerfs']} NeRFs took {ours['embedding_seconds']:.1f} s (not in the rates).\n"
    yield benchmarking.Result(
        what="language-training",
        variant=measured.shape,
        title="Language training",
        about=benchmarking.about_run(device, transformers=transformers.__version__, shape=measured.shape),
        figures={"settings": asdict(measured), "ways": ways, "times": times},
        text=text,
    )


def measure(way: Way, settings: Measured) -> dict[str, Any]:
    """One way, in this process."""
    device = benchmarking.pick_device(settings.device)
    model, processor = random_model(settings.shape, dtype=getattr(torch, settings.dtype), device=device)
    dialogues = _dialogues(settings.objects)
    names = settings.architectures
    ids = list(dict.fromkeys(each.object_ids[0] for each in dialogues))
    nerfs = {object_id: Nerf.random(names[i % len(names)], seed=i) for i, object_id in enumerate(ids)}
    started = time.perf_counter()
    embeddings = torch.zeros(len(ids), *processor.embedding_shape)
    if way == "ours":
        embeddings = model.encode(list(nerfs.values()), batch_size=8).cpu()
    embedding_seconds = time.perf_counter() - started
    table = EmbeddingSet(embeddings, tuple(("", object_id) for object_id in ids), ("nerf",) * len(ids))
    dataset = ConversationDataset(dialogues, table, processor=processor)
    learner = prepare(model, TrainingRecipe(stage=2, lora_rank=settings.lora_rank, lora_dropout=0.0, seed=0)).train()
    if settings.checkpointing:
        learner.gradient_checkpointing_enable({"use_reentrant": False})
    optimizer = torch.optim.AdamW([p for p in learner.parameters() if p.requires_grad], lr=1e-4)
    collate = ConversationCollator(processor.tokenizer.pad_token_id, processor.embedding_shape)

    def sample(index: int) -> dict[str, Any]:
        found = dataset[index]
        return {**found, "nerfs": [nerfs[dataset.sample(index)[0].object_ids[0]]]} if way == "plain" else found

    size = settings.batch_size if way == "ours" else 1
    order = list(SeededSampler(dataset.lengths, batch=size if way == "ours" else None))
    places = [order[at : at + size] for at in range(0, len(order) - size + 1, size)]
    first, *others = places[: 1 + (settings.steps if way == "ours" else settings.steps * 4)]

    def train(groups: Sequence[Sequence[int]]) -> tuple[int, int]:
        batches = (collate([sample(i) for i in group]) for group in groups)
        return _steps(learner, optimizer, batches, device, bf16=settings.bf16)

    train([first])  # warms up
    (samples, tokens), seconds = benchmarking.timed(lambda: train(others), device)
    learning, parameters = trainable_parameters(learner)
    flops = (4 * parameters + 2 * learning) * tokens / seconds
    limit = next((value for name, value in PEAK_FLOPS.items() if name in benchmarking.device_name(device)), None)
    return {
        "way": way,
        "batch_size": size,
        "steps": len(others),
        "samples": samples,
        "seconds": seconds,
        "samples_per_second": samples / seconds,
        "tokens_per_second": tokens / seconds,
        "peak_mib": benchmarking.peak_memory(device),
        "embedding_seconds": embedding_seconds if way == "ours" else None,
        "embedded_nerfs": len(ids),
        "trainable": learning,
        "parameters": parameters,
        "flops_per_second": flops,
        "mfu_percent": 100 * flops / limit if limit and settings.bf16 else None,
    }


def _steps(
    model: Any, optimizer: Any, batches: Iterable[Mapping[str, Tensor]], device: torch.device, *, bf16: bool
) -> tuple[int, int]:
    """Train on batches; the number of samples, and of tokens without padding."""
    samples = tokens = 0
    for batch in batches:
        inputs = {key: value.to(device) for key, value in batch.items()}
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            loss = model(**inputs, use_cache=False).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        samples += len(inputs["input_ids"])
        tokens += int(inputs["attention_mask"].sum())
    return samples, tokens


def _dialogues(objects: int) -> list[Dialogue]:
    """All conversations about some procedural objects."""
    found = []
    for made in generate_dataset(objects):
        for entry in conversations(made):
            said = [message["value"] for message in entry["conversations"]]
            said[0] = said[0].removeprefix("<point>\n")
            turns = tuple(zip(said[::2], said[1::2], strict=True))
            found.append(Dialogue((made.object_id,), turns, entry["conversation_type"]))
    return found


def main() -> None:
    """The benchmark, from the command line of this process."""
    benchmarking.run_benchmark(bench, tiny=TINY, options=Measured)
