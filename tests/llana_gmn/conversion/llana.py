"""A made-up LLaNA checkpoint with the true names, tokens and fields, and the tokenizer files that its trainer leaves."""

from __future__ import annotations

import functools
import io
import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from transformers import LlamaForCausalLM

from llana_gmn.assembly.tiny import tiny_corpus, tiny_text_config, tiny_tokenizer
from llana_gmn.prompts.llama_tokenizer import AWKWARD

TOKENS = ["<point_patch>", "<point_start>", "<point_end>"]
PUBLISHED = {
    "model_type": "nerfllm",
    "architectures": ["NeRFLLMLlamaForCausalLM"],
    "point_backbone": "nf2vec",
    "point_backbone_ckpt": "",
    "nf2vec_config_name": "nf2vec_2layer",
    "mm_use_point_start_end": True,
    "use_color": True,
    "DEFAULT_POINT_PATCH_TOKEN": TOKENS[0],
    "DEFAULT_POINT_START_TOKEN": TOKENS[1],
    "DEFAULT_POINT_END_TOKEN": TOKENS[2],
}


def projector(hidden):
    return nn.Sequential(nn.Linear(1024, 1024), nn.GELU(), nn.Linear(1024, 2048), nn.GELU(), nn.Linear(2048, hidden))


class Llana:
    """LLaNA written out: a Llama whose embeddings after each start token become the projected vector."""

    def __init__(self):
        torch.manual_seed(0)
        self.tokenizer = tiny_tokenizer()
        self.tokenizer.add_tokens(TOKENS, special_tokens=True)
        self.llama = LlamaForCausalLM(tiny_text_config(len(self.tokenizer))).eval()
        self.vec_proj = projector(32)

    def state_dict(self):
        state = {key: tensor.clone() for key, tensor in self.llama.state_dict().items()}
        state |= {f"model.vec_proj.{key}": tensor for key, tensor in self.vec_proj.state_dict().items()}
        return state | {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}

    @torch.no_grad()
    def logits(self, ids, vecs):
        patch, start, end = self.tokenizer.convert_tokens_to_ids(TOKENS)
        embeds = self.llama.get_input_embeddings()(ids).clone()
        for b in range(len(ids)):
            for place in (ids[b] == start).nonzero().flatten().tolist():
                assert ids[b, place + 1] == patch and ids[b, place + 2] == end
                embeds[b, place + 1] = self.vec_proj(vecs[b, 0])
        return self.llama(inputs_embeds=embeds).logits

    def save(self, path, *, form="safetensors", tokenizer="json", **changes):
        """`tokenizer`: "json" for our tokenizer's files, "model" for those of LLaNA's trainer around a sentencepiece model."""
        path.mkdir(parents=True)
        values = {key: value for key, value in self.llama.config.to_dict().items() if not key.startswith("_")}
        values["rope_theta"] = values.pop("rope_parameters")["rope_theta"]
        values["torch_dtype"] = "float32"
        values = {**values, **PUBLISHED, **changes}
        (path / "config.json").write_text(json.dumps(values))
        if tokenizer == "model":
            write_slow_files(path)
        else:
            self.tokenizer.save_pretrained(path)
            settings = json.loads((path / "tokenizer_config.json").read_text())
            (path / "tokenizer_config.json").write_text(json.dumps({**settings, "legacy": False}))
        state = self.state_dict()
        names = sorted(state)
        halves = {"00001": names[::2], "00002": names[1::2]}
        stem, suffix = ("model", "safetensors") if form == "safetensors" else ("pytorch_model", "bin")
        table = {}
        for number, keys in halves.items():
            name = f"{stem}-{number}-of-00002.{suffix}"
            shard = {key: state[key].contiguous() for key in keys}
            save_file(shard, path / name) if form == "safetensors" else torch.save(shard, path / name)
            table |= dict.fromkeys(keys, name)
        index = "model.safetensors.index.json" if form == "safetensors" else "pytorch_model.bin.index.json"
        (path / index).write_text(json.dumps({"metadata": {}, "weight_map": table}))
        return path


@functools.cache
def sentencepiece_model() -> bytes:
    """A sentencepiece model of 581 pieces with Llama's settings, the tiny tokenizer's size."""
    spm = pytest.importorskip("sentencepiece")
    spaces = ["a  b   c    d     e        f What?  ASSISTANT: What?   ASSISTANT:"] * 200
    texts = [*tiny_corpus(), *(text.replace("\n", " ").replace("\x00", "") for text in AWKWARD), *spaces]
    out = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_writer=out, vocab_size=581, model_type="bpe", byte_fallback=True,
        unk_id=0, bos_id=1, eos_id=2, minloglevel=2, normalization_rule_name="identity", character_coverage=0.999,
        remove_extra_whitespaces=False, allow_whitespace_only_pieces=True, split_digits=True,
    )  # fmt: skip
    return out.getvalue()


def write_slow_files(path, *, added=TOKENS, **settings):
    """Tokenizer files as the slow tokenizer of transformers 4.40 writes them."""
    (path / "tokenizer.model").write_bytes(sentencepiece_model())
    (path / "added_tokens.json").write_text(json.dumps({token: 581 + i for i, token in enumerate(added)}))
    named = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<unk>"}
    (path / "special_tokens_map.json").write_text(json.dumps(named))
    kind = {"tokenizer_class": "LlamaTokenizer", "model_max_length": 2048, "padding_side": "right"}
    (path / "tokenizer_config.json").write_text(json.dumps({**kind, **settings}))
