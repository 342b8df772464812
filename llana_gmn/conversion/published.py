"""What LLaNA's published code does with a checkpoint, for an environment with its versions (transformers 4.40).

Run as a file there, by `round_trip`: it imports nothing of this package. Sources: docs/released_format.md#llana-checkpoint (a
Llama with a projector, whose vector takes the place of the embedding after each start token) and #labels (slow tokenizer).

    python -I published.py FOLDER

FOLDER holds ``llana/``, ``texts.json`` and ``vecs.pt``; ``result.json``, ``logits.pt`` and ``trained/`` are written, the last as
LLaNA's trainer saves a model.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

TOKENS = ("<point_patch>", "<point_start>", "<point_end>")


class PublishedConfig(LlamaConfig):
    model_type = "llana"


class PublishedLlana(LlamaForCausalLM):
    """A Llama whose ``model.vec_proj`` turns a vector into the embedding after each start token."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.model.vec_proj = nn.Sequential(
            nn.Linear(1024, 1024), nn.GELU(), nn.Linear(1024, 2048), nn.GELU(), nn.Linear(2048, config.hidden_size)
        )
        self.post_init()

    @torch.no_grad()
    def logits(self, ids: Tensor, vecs: Tensor, start: int) -> Tensor:
        """Token ids ``(1, L)`` and vectors of its NeRFs ``(n, 1024)`` to logits ``(1, L, V)``."""
        embeddings = self.model.embed_tokens(ids).clone()
        places = (ids[0] == start).nonzero().flatten() + 1
        embeddings[0, places] = self.model.vec_proj(vecs)
        return self(inputs_embeds=embeddings).logits


def main(folder: Path) -> None:
    """Open ``llana/`` with the published versions, write what comes out, and save it again as the trainer does."""
    directory = folder / "llana"
    texts = json.loads((folder / "texts.json").read_text(encoding="utf-8"))
    slow: Any = AutoTokenizer.from_pretrained(directory, use_fast=False)
    fast: Any = AutoTokenizer.from_pretrained(directory)
    config = PublishedConfig.from_pretrained(directory)
    opened: Any = PublishedLlana.from_pretrained(
        directory, config=config, torch_dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    model, loading = opened
    model.eval()
    vecs = torch.load(folder / "vecs.pt", weights_only=True)
    start = slow.convert_tokens_to_ids(TOKENS[1])
    logits = []
    for text in texts["prompts"]:
        ids = torch.tensor([slow(text).input_ids])
        logits.append(model.logits(ids, vecs[: int((ids == start).sum())], start))
    torch.save(logits, folder / "logits.pt")
    model.save_pretrained(folder / "trained", safe_serialization=False)
    slow.save_pretrained(folder / "trained")
    result = {
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "loading": {name: sorted(found) for name, found in loading.items()},
        "classes": [type(slow).__name__, type(fast).__name__],
        "token_ids": [each.convert_tokens_to_ids(list(TOKENS)) for each in (slow, fast)],
        "slow": [slow(text).input_ids for text in texts["all"]],
        "fast": [fast(text).input_ids for text in texts["all"]],
    }
    (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
