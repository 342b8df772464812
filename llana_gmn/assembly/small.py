"""A small Llama around an encoder, its tokenizer trained on the texts it will learn: the start of training without a download.

A few million parameters suffice for the words of a small data set; two CPU cores train them in minutes. The sizes are
`training.recipe.NewModel`'s, the parts those of every other model here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from gmn_encoder.embeddings.whitening import whitening_within_groups
from gmn_encoder.encoders.base import NerfEncoder

from ..model.auto import LlanaGmnForConditionalGeneration, LlanaGmnProcessor
from ..model.projector import of_one_length
from ..prompts.chat_template import PLAIN_TEMPLATE
from .assemble import assemble
from .tiny import tiny_text_config, tiny_tokenizer

_MOST = 1 << 17
_FLOOR = 1e-2  # deviations below this share of the largest one count as that much


def small_model(
    texts: Iterable[str],
    *,
    encoder: NerfEncoder | None = None,
    vocab_size: int = 1024,
    hidden_size: int = 256,
    intermediate_size: int = 688,
    layers: int = 4,
    heads: int = 4,
    max_position_embeddings: int = 512,
    projector_hidden_sizes: Sequence[int] = (256, 256),
    seed: int = 0,
    **options: Any,
) -> tuple[LlanaGmnForConditionalGeneration, LlanaGmnProcessor]:
    """A model with random weights whose words are those of `texts`.

    Args:
        texts: questions and answers; the tokenizer (BPE with byte fallback) learns from them and from the prompt around them.
        encoder: the encoder, whose embedding size is the projector's input; None for a model that takes embeddings of 1024.
        vocab_size: most tokens that the tokenizer learns, 259 of them for bytes and special tokens.
        seed: seed of the weights; the global generator is left as it was.
        **options: arguments of `assemble`; the prompt is LLaNA's without the system message.

    Returns:
        the model in evaluation mode and its processor.

    Raises:
        ValueError: no texts, or sizes that do not go together.
    """
    corpus = [f"USER: {text} ASSISTANT: {text}" for text in dict.fromkeys(texts)]
    if not corpus:
        raise ValueError("there are no texts to learn words from; name a data set with texts")
    if vocab_size < 300:
        raise ValueError(f"vocab_size is {vocab_size}; expected at least 300, 259 of them for bytes and special tokens")
    if hidden_size % heads or (hidden_size // heads) % 2:
        raise ValueError(f"hidden_size {hidden_size} is no even multiple of {heads} heads")
    tokenizer = tiny_tokenizer(corpus, vocab_size=vocab_size)
    tokenizer.model_max_length = max_position_embeddings
    config = tiny_text_config(
        len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=intermediate_size,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=max_position_embeddings,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = AutoModelForCausalLM.from_config(config)
        options = {"chat_template": PLAIN_TEMPLATE, "projector_hidden_sizes": projector_hidden_sizes, **options}
        return assemble(backbone, tokenizer, encoder=encoder, **options)


@torch.no_grad()
def whiten_projector(
    model: LlanaGmnForConditionalGeneration, embeddings: Tensor, groups: Sequence[str] | None = None
) -> None:
    """Change the projector's first layer to see embeddings as if they had been whitened within their groups.

    An encoder's embeddings vary little around the mean of their architecture family, and the families' means are far apart; a
    projector that begins at random sees families and no objects, and a language model learns to do without it. Only the start of
    training changes, the function's form does not.

    Args:
        model: the model, whose projector is changed.
        embeddings: embeddings of the training set ``(N, D)``, N at least 2 to change anything, or tokens ``(N, V, D)``, which are
            whitened together: where a token stands is part of what it says.
        groups: the family of each NeRF; None: all are of one. Directions in which the means of families differ are not
            seen at first.
    """
    first = model.projector[0]
    if len(embeddings) < 2 or not isinstance(first, nn.Linear):
        return
    labels = list(groups or [""] * len(embeddings))
    if embeddings.ndim == 3:
        labels = [label for label in labels for _ in range(embeddings.shape[1])]
        embeddings = of_one_length(embeddings).flatten(0, 1)  # as the projector sees them
        step = -(-len(embeddings) // _MOST)  # as many as it takes to know the spread
        labels, embeddings = labels[::step], embeddings[::step]
    values = embeddings.double()
    centre, whiten = whitening_within_groups(values, labels, floor=_FLOOR)
    if not bool(whiten.any()):
        return
    # The deviations that count as more than they are leave less than one on average.
    seen = (values - centre) @ whiten.T
    whiten = whiten / seen.square().mean().sqrt()
    weight = first.weight[:, : len(whiten)] @ whiten.to(first.weight)
    first.weight.copy_(weight)
    first.bias.sub_(weight @ centre.to(weight))
