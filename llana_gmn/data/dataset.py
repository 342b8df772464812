"""Conversations as training samples: token ids, labels on the answers, the embeddings of the objects.

Sources: docs/released_format.md#shapenerf-text, #prompt, #labels. The chat template writes the prompt and marks what the
assistant says; labels are its answers and their end tokens, everything else is -100. That is LLaNA's masking on LLaNA's format,
without counting tokens of cut-out pieces.

A dialogue of which LLaNA's counting learns nothing, because its text has what the counting looks for (``</s>``, ``<unk>``,
`` ASSISTANT: ``), is left out.

Every dialogue is tokenized once, when the set is built, into flat arrays (4 bytes a token), so that lengths are known before the
first step and loading a sample costs nothing. An object that is there in several variants (as MLP, tri-plane and hash) is a
sample in each.

Shapes: L tokens, K objects of a dialogue, E of what stands for a NeRF, ``(D,)`` or ``(V, D)``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from gmn_encoder.embeddings.records import EmbeddingSet, shape_text
from gmn_encoder.progress import Progress, no_progress

from ..model.processing import LlanaGmnProcessor
from ..prompts.chat_template import PLACEHOLDER, conversation_messages
from .conversations import Conversation, Problem

IGNORED = -100
"""Label of a token that nothing is learned from."""

CUT = "a cut end"
"""Kind of problem of a dialogue that is longer than it may be."""

_SEPARATOR = " ASSISTANT: "
_CHUNK = 256
_UNKNOWN_PLACEHOLDER = re.compile(
    r"<(?:image|video|audio|pc|point_cloud|mesh|nerf_\w+|point_\w+|im_\w+|object|\|[^|<>]*\|)>"
)


@dataclass(frozen=True)
class Dialogue:
    """What is said about one object or several.

    Attributes:
        object_ids: the objects, in the order in which the first question shows them; none for plain text.
        turns: (question, answer) pairs, without placeholders; or with them where the objects stand in the questions.
        kind: the `conversation_type`.
        path, index: file and place of the dialogue, for messages about it.
        odd: what is unusual about it (`conversations.ODD`).
    """

    object_ids: tuple[str, ...]
    turns: tuple[tuple[str, str], ...]
    kind: str = ""
    path: str = "dialogues"
    index: int = 0
    odd: tuple[str, ...] = ()

    @classmethod
    def from_conversation(cls, conversation: Conversation, *, path: str = "dialogues") -> Dialogue:
        """A conversation of ShapeNeRF-Text: about one object, or plain text where it has no placeholder."""
        objects = (conversation.object_id,) if conversation.has_placeholder else ()
        return cls(
            objects, conversation.turns, conversation.conversation_type, path, conversation.index, conversation.odd
        )

    @property
    def placeholders(self) -> int:
        """How many stand in the questions."""
        return sum(len(PLACEHOLDER.findall(question)) for question, _ in self.turns)

    def problem(self, kind: str, message: str, *, left_out: bool = True) -> Problem:
        name = f"{self.kind or 'dialogue'} of {' and '.join(self.object_ids) or 'no object'}"
        return Problem(self.path, self.index, kind, f"{name} {message}", left_out)

    def messages(self, embeddings: Sequence[Any]) -> list[dict[str, Any]]:
        """The messages as `LlanaGmnProcessor.apply_chat_template` takes them (`conversation_messages`)."""
        questions, answers = zip(*self.turns, strict=True) if self.turns else ((), ())
        return conversation_messages(embeddings, questions, answers)


class ConversationDataset(torch.utils.data.Dataset):
    """Samples of a set of dialogues.

    Args:
        dialogues: the dialogues to learn from.
        table: embeddings of the objects.
        processor: the model's processor, which writes prompts; the shape of its embeddings must be the table's.
        variants: the families of the record to use, in this order; None for all that an object has.
        max_length: tokens of the longest sample. A longer one loses its end, but never an answer's only token or a
            placeholder: such a dialogue is left out.
        limit: most samples to keep, spread over all; 0 for all.
        strict: whether to leave out what is unusual (`conversations.ODD`) or longer than `max_length`, rather than use it as
            LLaNA does.
        progress: receives how many dialogues are tokenized.

    Attributes:
        problems: dialogues that are left out, cut or unusual, each with its reason.
        lengths: tokens of every sample, int64 ``(len(self),)``.
        supervised: tokens of every sample that are learned from, int64 ``(len(self),)``.

    Raises:
        ValueError: nothing is left to train on, or the table's embeddings have another shape than the processor's.
    """

    def __init__(
        self,
        dialogues: Iterable[Dialogue],
        table: EmbeddingSet,
        *,
        processor: LlanaGmnProcessor,
        variants: Sequence[str] | None = None,
        max_length: int = 2048,
        limit: int = 0,
        strict: bool = False,
        progress: Progress = no_progress,
    ) -> None:
        if table.row_shape != processor.embedding_shape:
            several = " (llana-gmn embed --tokens)" if processor.vectors_per_nerf > 1 else ""
            raise ValueError(
                f"the embeddings have size {shape_text(table.row_shape)}; this model's projector reads "
                f"{shape_text(processor.embedding_shape)}. Embed with the encoder the model was made for{several}"
            )
        if max_length < 2:
            raise ValueError(f"max_length must be at least 2, got {max_length}")
        self.table = table
        self.problems: list[Problem] = []
        usable, found = self._with_embeddings(self._readable(dialogues, processor, strict=strict), variants)
        self._encode(usable, processor, max_length, strict, progress)
        kept = {number: place for place, number in enumerate(self._numbers)}
        self.dialogues = [usable[number] for number in self._numbers]
        self._samples = [(kept[i], variant) for i, names in enumerate(found) if i in kept for variant in names]
        if not self._samples:
            reason = f"; the first reason: {self.problems[0]}" if self.problems else ", the texts are empty"
            raise ValueError(f"there is nothing to train on in {len(self.problems)} dialogues{reason}")
        if limit and len(self._samples) > limit:
            chosen = np.linspace(0, len(self._samples) - 1, limit).astype(int)
            self._samples = [self._samples[i] for i in chosen]
        of = np.array([place for place, _ in self._samples])
        self.lengths = np.diff(self._starts)[of]
        totals = np.concatenate([[0], np.cumsum(self._mask, dtype=np.int64)])
        self.supervised = (totals[self._starts[1:]] - totals[self._starts[:-1]])[of]

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """``input_ids`` and ``labels`` int64 ``(L,)``, ``nerfs`` a list of K embeddings ``E``."""
        place, variant = self._samples[index]
        dialogue = self.dialogues[place]
        start, end = self._starts[place], self._starts[place + 1]
        ids = torch.from_numpy(self._ids[start:end].astype(np.int64))
        mask = torch.from_numpy(self._mask[start:end])
        nerfs = list(self.table.lookup(dialogue.object_ids, variant)) if variant else []
        if len(nerfs) == 1:
            nerfs *= max(dialogue.placeholders, 1)
        return {"input_ids": ids, "labels": ids.masked_fill(~mask, IGNORED), "nerfs": nerfs}

    def sample(self, index: int) -> tuple[Dialogue, str]:
        """The dialogue of a sample, and its variant ("" for plain text)."""
        place, variant = self._samples[index]
        return self.dialogues[place], variant

    @property
    def counts(self) -> dict[str, int]:
        """How many dialogues have which kind of problem."""
        return dict(Counter(problem.kind for problem in self.problems))

    def _readable(self, dialogues: Iterable[Dialogue], processor: LlanaGmnProcessor, *, strict: bool) -> list[Dialogue]:
        good = []
        for dialogue in dialogues:
            if problem := _text_problem(dialogue, processor.tokenizer):
                self.problems.append(problem)
            elif strict and dialogue.odd:
                self.problems += [dialogue.problem(kind, f"has {kind}; left out") for kind in dialogue.odd]
            else:
                good.append(dialogue)
        return good

    def _with_embeddings(
        self, dialogues: list[Dialogue], variants: Sequence[str] | None
    ) -> tuple[list[Dialogue], list[list[str]]]:
        usable, found = [], []
        for dialogue in dialogues:
            names = self.table.families_of(dialogue.object_ids) if dialogue.object_ids else [""]
            if variants is not None and dialogue.object_ids:
                names = [name for name in variants if name in names]
            if names:
                usable.append(dialogue)
                found.append(names)
                continue
            self.problems.append(self._missing(dialogue, variants))
        return usable, found

    def _missing(self, dialogue: Dialogue, variants: Sequence[str] | None) -> Problem:
        if known := [each for each in dialogue.object_ids if each in self.table.ambiguous]:
            return dialogue.problem(
                "an ambiguous object",
                f"names {known[0]}, which several classes have; write class_id/nerf_id in the texts",
            )
        what = f" as {' or '.join(variants)}" if variants is not None else ""
        return dialogue.problem("no embedding", f"has no embedding{what}; embed its NeRF, or take it out of the texts")

    def _encode(
        self,
        dialogues: list[Dialogue],
        processor: LlanaGmnProcessor,
        max_length: int,
        strict: bool,
        progress: Progress,
    ) -> None:
        ids: list[np.ndarray] = []
        masks: list[np.ndarray] = []
        self._numbers: list[int] = []
        for start in range(0, len(dialogues), _CHUNK):
            chunk = dialogues[start : start + _CHUNK]
            for number, (tokens, mask) in enumerate(encode_dialogues(chunk, processor), start):
                dialogue = dialogues[number]
                if (problem := _fits(dialogue, tokens, mask, max_length, processor, strict=strict)) is not None:
                    self.problems.append(problem)
                    if problem.left_out:
                        continue
                self.problems += [
                    dialogue.problem(kind, f"has {kind}; used as LLaNA does", left_out=False) for kind in dialogue.odd
                ]
                ids.append(np.asarray(tokens[:max_length], dtype=np.int32))
                masks.append(np.asarray(mask[:max_length], dtype=bool))
                self._numbers.append(number)
            progress("reading texts", min(start + _CHUNK, len(dialogues)), len(dialogues))
        self._ids = np.concatenate(ids) if ids else np.zeros(0, dtype=np.int32)
        self._mask = np.concatenate(masks) if masks else np.zeros(0, dtype=bool)
        self._starts = np.concatenate([[0], np.cumsum([len(each) for each in ids], dtype=np.int64)])


def encode_dialogues(dialogues: Sequence[Dialogue], processor: LlanaGmnProcessor) -> list[tuple[list[int], list[int]]]:
    """Token ids of each dialogue, and 1 on the assistant's answers (their end tokens included)."""
    nothing = torch.zeros(processor.embedding_shape)
    features = processor.apply_chat_template(
        [dialogue.messages([nothing] * len(dialogue.object_ids)) for dialogue in dialogues],
        tokenize=True,
        return_dict=True,
        return_assistant_tokens_mask=True,
        processor_kwargs={"padding": False},
    )
    return list(zip(features["input_ids"], features["assistant_masks"], strict=True))


def _text_problem(dialogue: Dialogue, tokenizer: Any) -> Problem | None:
    if not dialogue.turns:
        return dialogue.problem("no turns", "has no question and answer")
    texts = [text for turn in dialogue.turns for text in turn]
    found = next(filter(None, map(_UNKNOWN_PLACEHOLDER.search, texts)), None)
    # In a question each placeholder is an object, and one object may have several.
    places, objects = dialogue.placeholders, len(dialogue.object_ids)
    own = texts if places and objects not in (1, places) else texts[1::2]
    if found := found or next(filter(None, map(PLACEHOLDER.search, own)), None):
        return dialogue.problem(
            "an unknown placeholder",
            f"has {found.group()} in its text; "
            "expected <point> or <nerf> in a question, for each object, and nothing else of the kind",
        )
    for token in filter(None, (tokenizer.eos_token, tokenizer.unk_token)):
        if any(token in text for text in texts):
            return dialogue.problem(f"{token} in a text", f"has {token} in its text, which hides where answers end")
    # A question stands between spaces.
    if any(_SEPARATOR in text for text in [*(f" {question} " for question in texts[::2]), *texts[1::2]]):
        return dialogue.problem(
            f"{_SEPARATOR!r} in a text", f"has {_SEPARATOR!r} in its text, which hides where answers begin"
        )
    return None


def _fits(
    dialogue: Dialogue,
    tokens: Sequence[int],
    mask: Sequence[int],
    max_length: int,
    processor: LlanaGmnProcessor,
    *,
    strict: bool,
) -> Problem | None:
    if not any(mask):
        return dialogue.problem("no answer", "has no token to learn from; expected an answer")
    if len(tokens) <= max_length:
        return None
    says = f"has {len(tokens)} tokens, max_length is {max_length}"
    if processor.nerf_token_id in tokens[max_length:]:
        return dialogue.problem("too many tokens", f"{says}, which would cut a NeRF's placeholder; left out")
    if not any(mask[:max_length]):
        return dialogue.problem("too many tokens", f"{says}, which would cut every answer; left out")
    return dialogue.problem(CUT, f"{says}; {'left out' if strict else 'its end is cut'}", left_out=strict)
