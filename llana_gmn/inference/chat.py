"""Conversations about NeRFs: history, several turns, several NeRFs, answers as they are written."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from typing import Any

import torch
from transformers import LogitsProcessorList, StoppingCriteria, StoppingCriteriaList, TextIteratorStreamer

from gmn_encoder.encoders.base import NerfEncoder
from gmn_encoder.nerfs.record import Nerf

from ..model.modeling import LlanaGmnForConditionalGeneration
from ..model.nerf_items import NerfLike
from ..model.processing import LlanaGmnProcessor
from ..prompts.chat_template import content_text, conversation_messages, conversation_parts
from .context import room_for_answer
from .honesty import TokenProbabilities, doubt, end_tokens, on_flag, unfamiliar


class ChatSession:
    """One conversation. Each NeRF is encoded once, when it is added, and stands before the next question.

    Args:
        model: the model that answers, in evaluation mode.
        processor: the model's processor.
        system: a system message in place of LLaNA's.
        **generation: options of `generate`; by default greedy, 256 new tokens.

    Attributes:
        note: a line about the NeRF that was shown last where the model was not trained on its kind (`honesty.unfamiliar`).
        probability: the mean probability of the tokens of the last answer; None before one, and with beams.
        messages: the conversation so far, as `LlanaGmnProcessor.apply_chat_template` takes it.

    Raises:
        ValueError: the processor of another model.
    """

    def __init__(
        self,
        model: LlanaGmnForConditionalGeneration,
        processor: LlanaGmnProcessor,
        *,
        system: str | None = None,
        **generation: Any,
    ) -> None:
        processor.check_model(model.config)
        self._model = model
        self._processor = processor
        self._system = system
        self._generation = {"max_new_tokens": 256, "do_sample": False, **generation}
        self.reset()

    def reset(self) -> None:
        """Forget everything that was said and shown."""
        self.messages: list[dict[str, Any]] = []
        if self._system is not None:
            self.messages.append({"role": "system", "content": self._system})
        self._shown: list[torch.Tensor] = []
        self.probability: float | None = None
        self.note: str | None = None

    @property
    def doubt(self) -> str | None:
        """A line about the last answer where the model is not sure of it (`honesty.doubt`)."""
        return doubt(self._model.config, self.probability)

    @property
    def encoder(self) -> NerfEncoder | None:
        """The model's; None where it has none."""
        return self._model.nerf_encoder

    def add_nerf(self, nerf: NerfLike) -> str:
        """Show a NeRF (a record, a path, or an embedding) before the next question; returns what it is called.

        Raises `ValueError` or `FileNotFoundError` where it cannot be read; the conversation is then as before.
        """
        found = self._processor.read_nerf(nerf, on_flag=on_flag(self._model.config))
        records = [each for each in found if isinstance(each, Nerf)]
        lines = [unfamiliar(self._model.config, each.architecture) for each in records]
        self.note = next(filter(None, lines), None)
        self._shown += [self._model.encode([each])[0].cpu() if isinstance(each, Nerf) else each for each in found]
        if isinstance(nerf, str | os.PathLike):
            return str(nerf)
        return nerf.name if isinstance(nerf, Nerf) else "an embedding"

    def ask(self, question: str) -> str:
        """The whole answer to a question."""
        return "".join(self.stream(question))

    def stream(self, question: str) -> Iterator[str]:
        """The answer to a question, piece by piece. Question and answer join the history when the answer is complete.

        A caller that stops early ends the generation; the history is then as before, and the NeRFs are still to be shown.

        Raises:
            ConversationFull: a conversation that no longer fits the backbone's context.
        """
        shown = list(self._shown)
        messages = [*self.messages, *conversation_messages(shown, [question], placeholders=False)]
        inputs = self._processor.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        )
        options = {**self._generation, "max_new_tokens": self._room(inputs["input_ids"].shape[1])}
        answer = ""
        for piece in self._generate(inputs.to(self._model.device), options):
            answer += piece
            yield piece
        self.messages += conversation_messages(shown, [question], [answer.strip()], placeholders=False)
        self._shown = []

    def _room(self, length: int) -> int:
        return room_for_answer(self._model.config, length, int(self._generation["max_new_tokens"]))

    def _generate(self, inputs: Any, options: dict[str, Any]) -> Iterator[str]:
        noted = TokenProbabilities() if int(options.get("num_beams") or 1) == 1 else None
        options = options if noted is None else {**options, "logits_processor": LogitsProcessorList([noted])}
        self.probability = None
        streamer = TextIteratorStreamer(self._processor.tokenizer, skip_prompt=True, skip_special_tokens=True)
        stopped = threading.Event()
        failures: list[BaseException] = []

        def run() -> None:
            try:
                ids = self._model.generate(
                    **inputs, **options, streamer=streamer, stopping_criteria=StoppingCriteriaList([_StopOn(stopped)])
                )
                if noted is not None:
                    (self.probability,) = noted.means(ids, end_tokens(self._model))
            except BaseException as error:  # handed to the thread that asked
                failures.append(error)
                streamer.end()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            yield from (piece for piece in streamer if piece)
        finally:
            stopped.set()
            thread.join()
        if failures:
            raise failures[0]


class _StopOn(StoppingCriteria):
    def __init__(self, event: threading.Event) -> None:
        self._event = event

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        return torch.full((input_ids.shape[0],), self._event.is_set(), dtype=torch.bool, device=input_ids.device)


def history(messages: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """``(role, text)`` of every message; NeRFs appear as ``<nerf>``."""
    for message in conversation_parts(messages)[0]:
        yield message["role"], content_text(message["content"])
