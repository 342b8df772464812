"""Tiny models with random weights, made in seconds and without a network: for tests, for the demo, for trying a recipe."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaTokenizer, PreTrainedConfig

from gmn_encoder.encoders.base import EncoderConfig, encoder_class
from gmn_encoder.encoders.gmn.config import GmnConfig

from ..model.auto import LlanaGmnForConditionalGeneration, LlanaGmnProcessor
from .assemble import assemble

_COLOURS = ("red", "green", "blue", "white", "black", "yellow", "wooden", "metallic")
_SHAPES = ("chair", "table", "lamp", "car", "airplane", "sofa", "sphere", "box", "cylinder", "torus", "cone", "bench")
_SENTENCES = (
    "USER: What is this object? ASSISTANT: This is a {colour} {shape}.",
    "USER: Describe it in one sentence. ASSISTANT: A {colour} {shape} with four legs and a round top.",
    "USER: What colour is the {shape}? ASSISTANT: The {shape} is {colour}.",
    "USER: Which of the two is taller? ASSISTANT: The first object, the {colour} {shape}, is taller than the second.",
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions.",
)


def tiny_corpus() -> list[str]:
    """The sentences the tiny tokenizer learns its words from."""
    pairs = itertools.product(_COLOURS, _SHAPES)
    return [sentence.format(colour=colour, shape=shape) for colour, shape in pairs for sentence in _SENTENCES]


def tiny_tokenizer(corpus: Iterable[str] | None = None, *, vocab_size: int = 640) -> LlamaTokenizer:
    """A Llama tokenizer (BPE with byte fallback, so any text survives) trained on a few sentences.

    Ids 0, 1, 2 are ``<unk>`` (also the padding), ``<s>``, ``</s>`` as in Llama-2; a start token is added, padding is left.
    """
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=True)
    tokenizer.decoder = decoders.ByteFallback()
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(tiny_corpus() if corpus is None else corpus, trainer)
    model = _bpe_of(tokenizer)
    return LlamaTokenizer(
        vocab=model["vocab"],
        merges=[tuple(merge) for merge in model["merges"]],
        pad_token="<unk>",
        add_bos_token=True,
        padding_side="left",
    )


def _bpe_of(tokenizer: Tokenizer) -> Mapping[str, Any]:
    import json

    return json.loads(tokenizer.to_str())["model"]


def tiny_text_config(vocab_size: int = 640, **changes: Any) -> LlamaConfig:
    """A Llama of two layers and width 32."""
    sizes: dict[str, Any] = {
        "vocab_size": vocab_size,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "max_position_embeddings": 512,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "tie_word_embeddings": False,
    }
    return LlamaConfig(**{**sizes, **changes})


def tiny_model(
    text_config: PreTrainedConfig | None = None,
    *,
    tokenizer: Any = None,
    encoder_config: EncoderConfig | None = None,
    seed: int = 0,
    **options: Any,
) -> tuple[LlanaGmnForConditionalGeneration, LlanaGmnProcessor]:
    """A model with random weights and its processor.

    Args:
        text_config: configuration of the backbone, `tiny_text_config` by default; its vocabulary grows as needed.
        tokenizer: the backbone's tokenizer, `tiny_tokenizer` by default.
        encoder_config: sizes of the encoder, of any registered kind; by default a GMN 16 wide with embeddings of 32.
        seed: seed of all weights; the global generator is left as it was.
        **options: arguments of `assemble`.
    """
    tokenizer = tiny_tokenizer() if tokenizer is None else tokenizer
    options.setdefault("projector_hidden_sizes", (32, 64))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = AutoModelForCausalLM.from_config(text_config or tiny_text_config(len(tokenizer)))
        encoder_config = encoder_config or GmnConfig(hidden_dim=16, embedding_dim=32)
        encoder = encoder_class(encoder_config.model_type)(encoder_config)
        return assemble(backbone, tokenizer, encoder=encoder, **options)
