"""What people write stays text: special tokens that they spell out are not read as tokens.

A template's special tokens and the words of a conversation come to the tokenizer in one string, in which it looks for ``</s>``
and its like everywhere. In words of a conversation every such spelling is therefore broken by `GUARD` before the template writes
them, and the tokens of the guard are taken out again behind the tokenizer: the model reads ``<``, ``/``, ``s``, ``>``. Texts
without such spellings, which is all but a few, go through as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

GUARD = "\ufdd0"
"""A noncharacter, which Unicode keeps for use inside of programs; in a text it is no character and becomes U+FFFD."""


def spellings(tokens: Iterable[str]) -> re.Pattern[str]:
    """The first character of every place where one of the tokens is spelled out, overlapping ones too."""
    longer = sorted({token for token in tokens if len(token) > 1})
    return re.compile(f"(?={'|'.join(map(re.escape, longer))})." if longer else "(?!)", re.DOTALL)


def special_tokens(tokenizer: Any) -> set[str]:
    """What a tokenizer reads as special tokens."""
    added = (str(token.content) for token in tokenizer.added_tokens_decoder.values() if token.special)
    return {*added, *map(str, tokenizer.all_special_tokens)}


def guarded(text: str, spelled: re.Pattern[str]) -> str:
    """The text with a guard in every special token that `spelled` finds in it."""
    return spelled.sub(lambda first: first.group() + GUARD, text.replace(GUARD, "\ufffd"))


def unguarded(text: str) -> str:
    """The text as it was written."""
    return text.replace(GUARD, "")


def tokenize(tokenizer: Any, prompts: Sequence[str], options: Mapping[str, Any]) -> dict[str, Any]:
    """What ``tokenizer(prompts, **options)`` gives, lists, without the tokens of guards.

    A slow tokenizer, which does not say where a token stands, keeps them.
    """
    if not any(GUARD in prompt for prompt in prompts) or not tokenizer.is_fast:
        return dict(tokenizer(prompts, **options))
    padding = {
        key: options[key] for key in ("padding", "max_length", "pad_to_multiple_of", "padding_side") if key in options
    }
    unpadded = {key: value for key, value in options.items() if key not in ("pad_to_multiple_of", "padding_side")}
    encoded = dict(tokenizer(prompts, **{**unpadded, "padding": False, "return_offsets_mapping": True}))
    kept = [
        [place for place, (start, end) in enumerate(offsets) if start == end or unguarded(prompt[start:end])]
        for prompt, offsets in zip(prompts, encoded["offset_mapping"], strict=True)
    ]
    encoded = {
        key: [[row[place] for place in places] for row, places in zip(rows, kept, strict=True)]
        for key, rows in encoded.items()
    }
    offsets = encoded.pop("offset_mapping")
    if padding.get("padding"):
        encoded = dict(tokenizer.pad(encoded, **padding))
    if options.get("return_offsets_mapping"):
        left = (padding.get("padding_side") or tokenizer.padding_side) == "left"
        gaps = [[(0, 0)] * (len(ids) - len(row)) for ids, row in zip(encoded["input_ids"], offsets, strict=True)]
        encoded["offset_mapping"] = [gap + row if left else row + gap for gap, row in zip(gaps, offsets, strict=True)]
    return encoded
