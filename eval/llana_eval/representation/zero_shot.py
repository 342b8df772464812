"""Zero-shot classification: which sentence "This is a <class>." a language model finds most likely for a NeRF.

The encoder's space is not aligned with text, so the class name nearest to an embedding is not defined; the language model's
projector is what joins the two. Each class is scored by the log-likelihood of its sentence, and of the end of the answer, after
the prompt with the NeRF. The paper has no such table.

Shapes: n NeRFs, C classes, B sentences at a time, L tokens of the longest, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from gmn_encoder.embeddings.records import EmbeddingSet
from gmn_encoder.nerfs.record import Nerf
from gmn_encoder.progress import Progress, no_progress
from llana_gmn.inference.caption import DEFAULT_QUESTION
from llana_gmn.model.modeling import LlanaGmnForConditionalGeneration
from llana_gmn.model.processing import LlanaGmnProcessor
from llana_gmn.prompts.chat_template import conversation_messages

from ..classes import class_name, label_order, labels_of
from .classification_benchmark import ClassificationRun
from .confusion import Confusion, confusion

TEMPLATE = "This is {article} {name}."


def class_sentence(name: str, template: str = TEMPLATE) -> str:
    """The sentence of a class; ``{article}`` becomes "a" or "an". Raises `ValueError` for a template without ``{name}``."""
    if "{name}" not in template:
        raise ValueError(f"template is {template!r}; expected {{name}} in it, as in {TEMPLATE!r}")
    return template.replace("{article}", "an" if name[:1].lower() in "aeiou" else "a").replace("{name}", name)


def class_log_likelihoods(
    model: LlanaGmnForConditionalGeneration,
    processor: LlanaGmnProcessor,
    nerfs: Sequence[Nerf | Tensor],
    class_names: Sequence[str],
    *,
    question: str = DEFAULT_QUESTION,
    template: str = TEMPLATE,
    length_normalised: bool = False,
    batch_size: int = 16,
    progress: Progress = no_progress,
) -> Tensor:
    """Log-likelihood of each class's sentence as the answer about each NeRF.

    Args:
        model: the model, in evaluation mode; a NeRF is encoded once, not once a class.
        processor: the model's processor.
        nerfs: records, or embeddings as the model reads them.
        class_names: the names of the C classes, each once.
        question: the question about each NeRF.
        template: the form of the sentences, with ``{name}`` and perhaps ``{article}``.
        length_normalised: whether to divide by the number of tokens of the answer, so that long names are not at a disadvantage.
        batch_size: sentences that the model reads at a time.
        progress: receives how many of the n * C sentences were scored.

    Returns:
        float32 ``(n, C)`` on the CPU.

    Raises:
        ValueError: no NeRFs, no classes or one twice, a template without ``{name}``, a batch size below 1.
    """
    if not nerfs or not class_names:
        raise ValueError(f"there are {len(nerfs)} NeRFs and {len(class_names)} classes; expected at least one of both")
    if doubled := next((name for name in class_names if list(class_names).count(name) > 1), None):
        raise ValueError(f"class {doubled!r} is named twice; expected every class once")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    sentences = [class_sentence(name, template) for name in class_names]
    embeddings = _embeddings(model, nerfs, batch_size)
    pairs = [(embedding, sentence) for embedding in embeddings for sentence in sentences]
    scores = []
    for start in range(0, len(pairs), batch_size):
        batch = pairs[start : start + batch_size]
        scores.append(_answer_log_likelihoods(model, processor, batch, question, length_normalised=length_normalised))
        progress("scoring sentences", start + len(batch), len(pairs))
    return torch.cat(scores).view(len(nerfs), len(class_names))


def zero_shot_labels(
    model: LlanaGmnForConditionalGeneration,
    processor: LlanaGmnProcessor,
    nerfs: Sequence[Nerf | Tensor],
    class_names: Sequence[str],
    **options: Any,
) -> Tensor:
    """The most likely class of each NeRF, int64 ``(n,)``; arguments of `class_log_likelihoods`."""
    return class_log_likelihoods(model, processor, nerfs, class_names, **options).argmax(dim=1)


def run_zero_shot(
    model: LlanaGmnForConditionalGeneration,
    processor: LlanaGmnProcessor,
    test: Mapping[str, EmbeddingSet],
    *,
    progress: Progress = no_progress,
    **options: Any,
) -> ClassificationRun:
    """What the model takes the members of test sets for, among the classes of all of them or those of the class table.

    Args:
        model: the model, in evaluation mode.
        processor: the model's processor.
        test: family -> embeddings of the model's encoder, or its tokens for a model that reads them.
        progress: receives the number of sentences scored and of all.
        **options: options of `class_log_likelihoods`.

    Raises:
        ValueError: no test set, embeddings of another width or another encoder.
    """
    classes = label_order(class_id for members in test.values() for class_id in members.class_ids)
    names = [class_name(class_id) for class_id in classes]
    own = model.nerf_encoder.fingerprint() if model.nerf_encoder is not None else ""
    for family, members in test.items():
        if own and members.encoder not in ("", own):
            raise ValueError(f"the test set {family} is of another encoder than the model's; embed it with the model's")
    tests: dict[str, Confusion] = {}
    for family, members in test.items():
        labels = zero_shot_labels(
            model,
            processor,
            list(members.values),
            names,
            progress=lambda what, done, total, of=family: progress(f"{what}, {of}", done, total),
            **options,
        )
        tests[family] = confusion(labels_of(members.class_ids, classes, what=f"the test set {family}"), labels, classes)
    return ClassificationRun("none (zero-shot)", None, None, None, tests)


def _embeddings(
    model: LlanaGmnForConditionalGeneration, nerfs: Sequence[Nerf | Tensor], batch_size: int
) -> list[Tensor]:
    records = [nerf for nerf in nerfs if isinstance(nerf, Nerf)]
    encoded = iter(model.encode(records, batch_size=batch_size).float().cpu() if records else ())
    return [next(encoded) if isinstance(nerf, Nerf) else nerf for nerf in nerfs]


@torch.no_grad()
def _answer_log_likelihoods(
    model: LlanaGmnForConditionalGeneration,
    processor: LlanaGmnProcessor,
    batch: Sequence[tuple[Tensor, str]],
    question: str,
    *,
    length_normalised: bool,
) -> Tensor:
    """``(B,)``: the sum, or mean, over the tokens of each answer. Padding stands behind, where nothing attends to it."""
    conversations = [conversation_messages([nerf], [question], [sentence]) for nerf, sentence in batch]
    inputs = processor.apply_chat_template(
        conversations,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        return_assistant_tokens_mask=True,
        processor_kwargs={"padding": True, "padding_side": "right"},
    )
    answer = inputs.pop("assistant_masks")[:, 1:].bool().to(model.device)
    inputs = inputs.to(model.device)
    logits = model(**inputs).logits[:, :-1][answer].float()  # of the tokens before those of the answers
    targets = inputs["input_ids"][:, 1:][answer]
    each = logits.log_softmax(dim=-1).gather(1, targets[:, None])[:, 0]
    rows = answer.nonzero()[:, 0]
    totals = torch.zeros(len(batch), device=each.device).index_add_(0, rows, each)
    return (totals / answer.sum(dim=1) if length_normalised else totals).cpu()
