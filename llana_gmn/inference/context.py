"""How much of a backbone's context an answer may take: one rule for chats, captions and benchmarks.

A prompt that fills the context gets no answer: positions beyond those that the backbone was trained on give words, not answers.
"""

from __future__ import annotations

from typing import Any


class ConversationFull(ValueError):
    """A conversation that no longer fits the backbone's context."""


def room_for_answer(config: Any, length: int, wanted: int) -> int:
    """New tokens that an answer may have.

    Args:
        config: the model's configuration.
        length: tokens of the prompt.
        wanted: most new tokens.

    Returns:
        `wanted`, or what is left of the context.

    Raises:
        ConversationFull: nothing is left.
    """
    limit = getattr(config.get_text_config(), "max_position_embeddings", None)
    if limit is None:
        return wanted
    if length >= limit:
        raise ConversationFull(f"the conversation has {length} tokens, the backbone reads {limit}; start a new one")
    return min(wanted, limit - length)
