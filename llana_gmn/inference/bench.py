"""How long `generate` takes with NeRFs, and captions a second in batches.

    python scripts/bench_generate.py                                  # tiny random model
    python scripts/bench_generate.py --shape small                    # 8 layers of width 512: steps that do some work
    python scripts/bench_generate.py --shape 7b --dtype bfloat16      # Llama-2-7B's shape with random weights, on a GPU

1. Overhead: `generate` of a prompt with NeRFs (as embeddings) against the bare backbone at the same prompt length and number of
   new tokens; the encoder's time stands apart. Runs alternate, the fastest of each are compared (on a CPU by
   the process's own time: `--threads 1` makes that the wall's).
2. Throughput: captions a second of `caption_nerfs` with batches of 16 against one by one in a loop, from NeRFs (the encoder
   included) and from their embeddings.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
import transformers

from gmn_encoder import benchmarking
from gmn_encoder.encoders.gmn.config import GmnConfig
from gmn_encoder.nerfs.record import Nerf

from ..assembly.tiny import tiny_model, tiny_text_config
from ..model.auto import LlanaGmnForConditionalGeneration, LlanaGmnProcessor
from ..model.configuration import LLANA_7B
from ..prompts.chat_template import conversation_messages
from .caption import DEFAULT_QUESTION, caption_nerfs

TINY: dict[str, Any] = {"new_tokens": 2, "caption_tokens": 2, "repeats": 1, "nerfs": 2, "architectures": ["MLP-nano"]}

Shape = Literal["tiny", "small", "7b"]

_BATCH = 16
_OVERHEAD = {
    "batch": "",
    "prompt tokens": "",
    "new tokens": "",
    "with NeRF s": ".4f",
    "bare backbone s": ".4f",
    "more %": "+.2f",
    "more %, medians": "+.2f",
    "encoder, apart s": ".4f",
}
_THROUGHPUT = {"from": "", "new tokens": "", "captions/s, batches of 16": ".2f", "one by one": ".2f", "times": ".1f"}


def random_model(
    shape: Shape, *, dtype: torch.dtype, device: torch.device
) -> tuple[LlanaGmnForConditionalGeneration, LlanaGmnProcessor]:
    """A model of a size with random weights, and its processor: two layers, eight layers, or Llama-2-7B's and the paper's."""
    text, gmn, sizes = tiny_text_config(640), GmnConfig(hidden_dim=16, embedding_dim=32), (32, 64)
    if shape == "small":
        widths = {"hidden_size": 512, "intermediate_size": 1376, "num_hidden_layers": 8}
        text = tiny_text_config(640, **widths, num_attention_heads=8, num_key_value_heads=8)
    elif shape == "7b":
        text, gmn, sizes = transformers.LlamaConfig(**LLANA_7B), GmnConfig(), (1024, 2048)
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            model, processor = tiny_model(text, encoder_config=gmn, projector_hidden_sizes=sizes)
    finally:
        torch.set_default_dtype(default)
    return model.to(device), processor  # type: ignore[arg-type]


def bench(
    *,
    shape: Shape = "tiny",
    dtype: str = "float32",
    new_tokens: int = 64,
    caption_tokens: int = 128,
    repeats: int = 15,
    nerfs: int = 64,
    architectures: Sequence[str] = ("MLP", "TRI", "HASH"),
    device: torch.device | str | None = None,
) -> Iterator[benchmarking.Result]:
    """Overhead and throughput of a model with random weights, which never ends a text early.

    Args:
        shape: the model's size, "tiny", "small" or "7b".
        dtype: name of the language model's dtype.
        new_tokens: tokens generated where the overhead is measured.
        caption_tokens: tokens of a caption.
        repeats: counted runs of the overhead.
        nerfs: number of random NeRFs to caption.
        architectures: names, in turn, of the NeRFs' architectures.
        device: where to generate; None for the accelerator if there is one.

    Yields:
        one result.
    """
    device = benchmarking.pick_device(device)
    model, processor = random_model(shape, dtype=getattr(torch, dtype), device=device)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    about = benchmarking.about_run(
        device, transformers=transformers.__version__, shape=shape, dtype=dtype, parameters=parameters, repeats=repeats
    )
    records = [Nerf.random(architectures[i % len(architectures)], seed=i) for i in range(nerfs)]
    more = [overhead(model, processor, records[:n], tokens=new_tokens, repeats=repeats) for n in (1, _BATCH)]
    captions = throughput(model, processor, records, tokens=caption_tokens)
    tables = [(_OVERHEAD, more), (_THROUGHPUT, captions)]
    yield benchmarking.Result(
        what="generate",
        variant=shape,
        title="Generation with NeRFs",
        about=about,
        figures={"overhead": more, "throughput": captions},
        text="\n".join(
            benchmarking.markdown_table(columns, [list(row.values()) for row in rows]) for columns, rows in tables
        ),
    )


def overhead(
    model: LlanaGmnForConditionalGeneration,
    processor: LlanaGmnProcessor,
    nerfs: Sequence[Nerf],
    *,
    tokens: int,
    repeats: int,
) -> dict[str, Any]:
    """Seconds of `generate` for a batch of NeRFs and for the backbone alone, encoder apart."""
    device = model.device
    # A CPU may have other work: there, seconds are this process's own.
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    encoding = benchmarking.alternate({"encode": lambda: model.encode(nerfs)}, repeats=4, device=device, clock=clock)[
        "encode"
    ]
    conversations = [conversation_messages([each], [DEFAULT_QUESTION]) for each in model.encode(nerfs).cpu()]
    inputs = processor.apply_chat_template(
        conversations, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    ).to(device)
    plain = {
        "input_ids": inputs["input_ids"].masked_fill(inputs["input_ids"] == processor.nerf_token_id, 300),
        "attention_mask": inputs["attention_mask"],
    }
    options: dict[str, Any] = {"do_sample": False, "max_new_tokens": tokens, "min_new_tokens": tokens}
    backbone = model.get_backbone()
    cases = {
        "with": lambda: model.generate(**inputs, **options),
        "bare": lambda: backbone.generate(**plain, **options),
    }
    times = benchmarking.alternate(cases, repeats=repeats, device=device, clock=clock)
    return {
        "batch": len(nerfs),
        "prompt_tokens": inputs["input_ids"].shape[1],
        "new_tokens": tokens,
        "seconds_with_nerf": times["with"]["best"],
        "seconds_bare_backbone": times["bare"]["best"],
        "more_percent": 100 * (times["with"]["best"] / times["bare"]["best"] - 1),
        "median_more_percent": 100 * (times["with"]["median"] / times["bare"]["median"] - 1),
        "encoder_seconds": encoding["best"],
    }


def throughput(
    model: LlanaGmnForConditionalGeneration, processor: LlanaGmnProcessor, nerfs: Sequence[Nerf], *, tokens: int
) -> list[dict[str, Any]]:
    """Captions a second in batches of 16 and one by one, from NeRFs (encoder included) and from their embeddings."""
    options: dict[str, Any] = {"question": DEFAULT_QUESTION, "max_new_tokens": tokens, "min_new_tokens": tokens}

    def rate(inputs: Sequence[Any], size: int) -> float:
        captions, seconds = benchmarking.timed(
            lambda: list(caption_nerfs(model, processor, inputs, batch_size=size, **options)), model.device
        )
        return len(captions) / seconds

    rows = []
    for kind, inputs in [("NeRFs", nerfs), ("embeddings", list(model.encode(nerfs).cpu()))]:
        rate(inputs[:_BATCH], _BATCH)  # warms up
        together, single = rate(inputs, _BATCH), rate(inputs[:_BATCH], 1)
        rows.append(
            {
                "inputs": kind,
                "new_tokens": tokens,
                "captions_per_second_batch_16": together,
                "captions_per_second_one_by_one": single,
                "times": together / single,
            }
        )
    return rows


def main() -> None:
    """The benchmark, from the command line of this process."""
    benchmarking.run_benchmark(bench, tiny=TINY)
