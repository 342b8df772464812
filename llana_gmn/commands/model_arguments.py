"""What commands with a model have in common: which one, how it is loaded, how it answers."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def add_model_argument(parser: argparse.ArgumentParser) -> None:
    """``--model``, to be read with `model_path`."""
    parser.add_argument("--model", help="directory of a model, or its name on the hub (default: the one that ships)")


def model_path(arguments: argparse.Namespace) -> str:
    """The model that a command was given, or the one that ships. Raises `FileNotFoundError` in a copy without it."""
    from ..default.objects import default_model_path

    return arguments.model or str(default_model_path())


def add_answer_arguments(parser: argparse.ArgumentParser, *, max_new_tokens: int | None) -> None:
    """``--model``, and how it is loaded and answers, for `load_answering` and `generation_options`.

    Args:
        parser: the command's.
        max_new_tokens: the default of ``--max-new-tokens``; None: the task's.
    """
    add_model_argument(parser)
    limit = "the task's" if max_new_tokens is None else max_new_tokens
    parser.add_argument("--max-new-tokens", type=int, default=max_new_tokens, help=f"default: {limit}")
    parser.add_argument("--temperature", type=float, default=0.0, help="above 0 answers are sampled; default: greedy")
    parser.add_argument(
        "--top-k", type=int, default=0, metavar="K", help="likeliest tokens that are sampled from (default: 0, all)"
    )
    parser.add_argument(
        "--top-p", type=float, default=1.0, help="share of the probability that is sampled from (default: 1)"
    )
    parser.add_argument("--beams", type=int, default=1, help="beams of the search (default: 1)")
    parser.add_argument("--dtype", choices=("auto", "float32", "bfloat16", "float16"), default="auto")
    parser.add_argument("--bits", type=int, choices=(4, 8), help="quantise the backbone (needs bitsandbytes and a GPU)")


def generation_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Options of `generate`. Raises `ValueError` for values out of range, or of sampling where nothing is sampled."""
    temperature, top_k, top_p = arguments.temperature, arguments.top_k, arguments.top_p
    if arguments.max_new_tokens < 1:
        raise ValueError(f"--max-new-tokens must be at least 1, got {arguments.max_new_tokens}")
    if temperature < 0 or top_k < 0 or not 0 < top_p <= 1:
        raise ValueError(
            f"--temperature is {temperature}, --top-k {top_k}, --top-p {top_p}; expected numbers from 0 on, and a share "
            "above 0 and up to 1"
        )
    if temperature == 0 and (top_k or top_p < 1):
        raise ValueError(
            "--top-k and --top-p choose what is sampled from, and answers are greedy; set --temperature too (LLaNA's is 1)"
        )
    options: dict[str, Any] = {"max_new_tokens": arguments.max_new_tokens, "do_sample": temperature > 0}
    if temperature > 0:
        options |= {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    if arguments.beams > 1:
        options["num_beams"] = arguments.beams
    return options


def load_answering(arguments: argparse.Namespace, *, device: torch.device | None = None) -> tuple[Any, Any]:
    """The model, in evaluation mode, and its processor. Says on stderr where its encoder may not be the one it reads."""
    from ..checkpoints.encoders import foreign_encoder
    from ..checkpoints.loading import load_model

    path = model_path(arguments)
    model, processor = load_model(path, dtype=arguments.dtype, bits=arguments.bits, device=device)
    if note := foreign_encoder(model.config):
        print(f"{path}: {note}", file=sys.stderr)
    return model, processor
