"""A LLaNA checkpoint to LLaNA's published versions and back, in an environment of its own.

    python scripts/llana_round_trip.py                       # makes the environment, a few minutes; removes it
    python scripts/llana_round_trip.py --python ENV/bin/python   # an environment that is there

A start checkpoint is made as one would come from a Llama: a sentencepiece model of 32,000 pieces (trained on Python's library), a
small random Llama of as many rows, no projector. `assemble` makes a model of it, `convert` a LLaNA checkpoint. transformers 4.40
opens that, tokenizes, computes logits and saves it as LLaNA's trainer does (`published.py`); `convert` reads what was saved.
Token ids, logits and weights are compared at both ends.
"""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import sysconfig
import tempfile
import venv
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from gmn_encoder.files import StrPath, write_json

from ..assembly.assemble import assemble
from ..assembly.tiny import tiny_text_config
from ..checkpoints.files import read_weights
from ..model.auto import LlanaGmnForConditionalGeneration, LlanaGmnProcessor
from ..prompts.chat_template import SYSTEM_PROMPT
from ..prompts.llama_tokenizer import AWKWARD
from .convert import convert

PINS = ("transformers==4.40.2", "sentencepiece", "protobuf", "safetensors", "numpy<2")
"""Installed beside this process's own version of torch; 4.40 is what LLaNA's code was published for."""

PROMPTS = (
    f"{SYSTEM_PROMPT} USER: <point_start><point_patch><point_end>\nWhat is this object? ASSISTANT:",
    f"{SYSTEM_PROMPT} USER: Compare <point_start><point_patch><point_end> and <point_start><point_patch><point_end>. "
    "ASSISTANT: A chair.</s>USER: What?  ASSISTANT:",
    f"{SYSTEM_PROMPT} USER: Hello. ASSISTANT:",
)

logger = logging.getLogger(__name__)


def round_trip(
    *, python: StrPath | None = None, folder: StrPath | None = None, vocab_size: int = 32000
) -> dict[str, Any]:
    """Send a checkpoint to LLaNA's versions and back.

    Args:
        python: interpreter of an environment with transformers 4.40; None makes one and removes it.
        folder: where to work, which stays; None for a temporary folder.
        vocab_size: number of pieces of the sentencepiece model.

    Returns:
        versions, ids of the NeRF tokens, how many texts have equal ids (slow and fast tokenizer there, ours after the way back),
        the largest difference between logits, and whether all weights came back with equal bits.

    Raises:
        RuntimeError: the environment cannot be made, or the published versions cannot open the checkpoint.
    """
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(folder or temporary)
        place.mkdir(parents=True, exist_ok=True)
        ours = write_checkpoint(place, vocab_size=vocab_size)
        write_json({"all": [*AWKWARD, *PROMPTS], "prompts": list(PROMPTS)}, place / "texts.json")
        vecs = torch.randn(2, 1024, generator=torch.Generator().manual_seed(1))
        torch.save(vecs, place / "vecs.pt")
        interpreter = Path(python) if python is not None else make_environment(Path(temporary) / "environment")
        _run([str(interpreter), "-I", str(Path(__file__).with_name("published.py")), str(place)])
        convert(place / "trained", place / "again")
        return _compare(place, [ours, place / "again"], vecs)


def write_checkpoint(folder: Path, *, vocab_size: int) -> Path:
    """Write a start checkpoint (``start/``), our model of it (``ours/``) and that as LLaNA's (``llana/``); returns ours."""
    start = folder / "start"
    logger.info("training a sentencepiece model of %d pieces", vocab_size)
    torch.manual_seed(0)
    config = tiny_text_config(vocab_size, hidden_size=64, max_position_embeddings=2048)
    LlamaForCausalLM(config).save_pretrained(start)
    values = json.loads((start / "config.json").read_text(encoding="utf-8"))
    write_json({**values, "model_type": "llana", "architectures": ["LLaNA"]}, start / "config.json")
    (start / "tokenizer.model").write_bytes(_sentencepiece_model(vocab_size))
    model, processor = assemble(start)
    for part in (model, processor):
        part.save_pretrained(folder / "ours")
    convert(folder / "ours", folder / "llana", to="llana")
    return folder / "ours"


def _sentencepiece_model(vocab_size: int) -> bytes:
    """A sentencepiece model with the settings of Llama's."""
    from sentencepiece import SentencePieceTrainer

    written = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=islice(_lines(), 200_000),
        model_writer=written,
        vocab_size=vocab_size,
        model_type="bpe",
        byte_fallback=True,
        unk_id=0,
        bos_id=1,
        eos_id=2,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        split_digits=True,
        character_coverage=0.99995,
        minloglevel=2,
    )
    return written.getvalue()


def _lines() -> Iterator[str]:
    for file in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        yield from (line for line in file.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip())


def make_environment(folder: Path) -> Path:
    """A virtual environment with `PINS`; returns its interpreter. Raises `RuntimeError` where they cannot be installed."""
    logger.info("installing %s", ", ".join(PINS))
    venv.create(folder, with_pip=True)
    interpreter = folder / "bin" / "python"
    version = torch.__version__.split("+")[0]
    _run([str(interpreter), "-m", "pip", "install", "--quiet", f"torch=={version}", *PINS])
    return interpreter


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:4])}: ended with {done.returncode}: {done.stderr.strip()[-2000:]}")


def _compare(folder: Path, models: Sequence[Path], vecs: Tensor) -> dict[str, Any]:
    theirs = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    texts = json.loads((folder / "texts.json").read_text(encoding="utf-8"))["all"]
    expected = torch.load(folder / "logits.pt", weights_only=True)
    report: dict[str, Any] = {
        name: theirs[name] for name in ("python", "torch", "transformers", "loading", "classes", "token_ids")
    }
    report["texts"] = len(texts)
    for model_path, name in zip(models, ("ours", "back"), strict=True):
        processor = LlanaGmnProcessor.from_pretrained(model_path)
        ids = [processor.tokenizer(text)["input_ids"] for text in texts]
        for kind in ("slow", "fast"):
            report[f"{name}_equal_{kind}"] = sum(a == b for a, b in zip(ids, theirs[kind], strict=True))
        model = LlanaGmnForConditionalGeneration.from_pretrained(
            model_path, dtype=torch.float32, attn_implementation="eager"
        )
        report[f"{name}_logit_difference"] = max(
            _difference(model.eval(), processor, text, vecs, logits)
            for text, logits in zip(PROMPTS, expected, strict=True)
        )
    first, second = (dict(read_weights(path)) for path in models)
    report["weights_equal"] = first.keys() == second.keys() and all(
        torch.equal(first[key], second[key]) for key in first
    )
    return report


@torch.no_grad()
def _difference(model: Any, processor: Any, text: str, vecs: Tensor, expected: Tensor) -> float:
    count = text.count(processor.nerf_start_token)
    inputs = processor(nerfs=vecs[:count] if count else None, text=text, return_tensors="pt")
    return float((model(**inputs).logits - expected).abs().max())


def main() -> None:
    """The round trip, from the command line of this process."""
    from gmn_encoder.command_line import parse_arguments

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    json.dump(round_trip(**parse_arguments(round_trip)), sys.stdout, indent=1)
    sys.stdout.write("\n")
