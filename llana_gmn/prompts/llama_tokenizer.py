"""Llama's tokenizer from its sentencepiece model, and back.

LLaNA's trainer leaves ``tokenizer.model``, ``added_tokens.json``, ``special_tokens_map.json`` and ``tokenizer_config.json``, and
LLaNA reads them with the slow tokenizer of transformers 4.40 (docs/released_format.md#labels). transformers 5 has none; made from
such files, its fast one orders merges by id and drops a space before a leading space. The one made here orders merges by the
pieces' scores and puts the space always, as sentencepiece does; `differences` compares the two.
"""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from gmn_encoder.files import read_json, write_json

MODEL_NAME = "tokenizer.model"
"""The sentencepiece model in a tokenizer's directory."""

AWKWARD = (
    "What is this object?",
    "What?  ASSISTANT:",
    "USER: What is it? ASSISTANT: A chair.</s>USER: And this? ASSISTANT: A lamp.</s>",
    "<point_start><point_patch><point_end>\nWhat is this object?",
    "Compare <point_start><point_patch><point_end> and <point_start><point_patch><point_end>.",
    "",
    " ",
    "   ",
    " leading space",
    "   leading spaces",
    "trailing space ",
    "trailing spaces   ",
    "two  spaces,   three,    four,                 many",
    "line\nbreak\n\nand\r\nothers\n",
    "\nline break first",
    "tab\tand\t\ttabs",
    "a </s> inside a text",
    "</s></s> twice",
    "<s>start inside",
    "<unk> written out",
    "no break\u00a0space, thin\u2009space, wide\u3000space, zero\u200bwidth",
    "\u2581 and \u2581\u2581 written out",
    "na\u00efve caf\u00e9, nai\u0308ve cafe\u0301, \ufb01ne \u2460 \u00bd",
    "\u4e00\u628a\u6728\u6905\u5b50 \u0441\u0442\u0443\u043b \u0643\u0631\u0633\u064a \U0001fa91\U0001f680",
    "\x00\x07 control \x7f",
    "1234567890 3.14159 1,000,000 0x7F",
    "aaaaaaaaaaaaaaa aaaa aaaaaaa ======== ---- ........ !!!???",
    "def f(x):\n    return {'a': [1, 2]}  # comment",
    "ALLCAPS CamelCase snake_case kebab-case don't it's",
)
"""Texts on which tokenizers that almost agree come apart."""

_SPACE = "\u2581"
_NAMED = ("unk_token", "bos_token", "eos_token", "pad_token")

logger = logging.getLogger(__name__)


def open_model(path: Path) -> Any:
    """A sentencepiece model. Raises `ValueError` without the package, or where the file is none."""
    try:
        from sentencepiece import SentencePieceProcessor
    except ImportError as error:
        raise ValueError(f"{path}: needs sentencepiece: pip install 'llana-gmn[convert]'") from error
    try:
        return SentencePieceProcessor(str(path))
    except (OSError, RuntimeError) as error:
        raise ValueError(f"{path}: is no sentencepiece model; expected the tokenizer.model of a Llama") from error


def tokenizer_from_model(directory: Path) -> PreTrainedTokenizerFast:
    """The tokenizer of a directory with a ``tokenizer.model``, which tokenizes as sentencepiece does.

    Added tokens, special tokens and `legacy` are read from the files beside it; `legacy` unset means True, as in transformers 4:
    a space goes before any piece of text, after a special token too.

    Raises:
        ValueError: no sentencepiece model, or added tokens whose ids leave a gap.
    """
    model = open_model(directory / MODEL_NAME)
    settings, special = (
        read_json(directory / name) if (directory / name).is_file() else {}
        for name in ("tokenizer_config.json", "special_tokens_map.json")
    )
    legacy = settings.get("legacy") is not False
    backend = _backend(model, legacy=legacy)
    named = {name: _text(special.get(name) or settings.get(name)) for name in _NAMED}
    defaults = dict(
        zip(_NAMED, (model.id_to_piece(i) for i in (model.unk_id(), model.bos_id(), model.eos_id())), strict=False)
    )
    named = {name: found or defaults.get(name) for name, found in named.items()}
    for place, token in sorted(_added_tokens(directory, settings).items()):
        if place < model.get_piece_size():
            continue
        if place != backend.get_vocab_size():
            raise ValueError(
                f"{directory}: gives {token.content!r} the id {place}, but {backend.get_vocab_size()} is the next one; "
                f"expected added tokens without gaps from {model.get_piece_size()} on"
            )
        backend.add_special_tokens([token]) if token.special else backend.add_tokens([token])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        vocab_file=str(directory / MODEL_NAME),
        legacy=legacy,
        add_bos_token=True,
        add_prefix_space=True,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=settings.get("model_max_length") or int(1e30),
        **{name: token for name, token in named.items() if token is not None},
    )


def _backend(model: Any, *, legacy: bool) -> Tokenizer:
    pieces = [model.id_to_piece(i) for i in range(model.get_piece_size())]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    # Pieces that stand for no text of their own are never made by a merge.
    closed = {i for i in vocabulary.values() if model.is_control(i) or model.is_unknown(i) or model.is_byte(i)}
    merges = _merges({piece: model.get_score(i) for piece, i in vocabulary.items() if i not in closed}, vocabulary)
    unknown = pieces[model.unk_id()]
    bytes_fall_back = any(model.is_byte(i) for i in range(len(pieces)))
    tokenizer = Tokenizer(
        models.BPE(vocab=vocabulary, merges=merges, unk_token=unknown, fuse_unk=True, byte_fallback=bytes_fall_back)
    )
    if legacy:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(_SPACE), normalizers.Replace(" ", _SPACE)])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement=_SPACE, prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    special = [i for i in sorted(closed) if not model.is_byte(i)]
    tokenizer.add_special_tokens([AddedToken(pieces[i], normalized=False, special=True) for i in special])
    return tokenizer


def _merges(scores: Mapping[str, float], ids: Mapping[str, int]) -> list[tuple[str, str]]:
    """Every way to make a piece from two others, pieces of the highest score first."""
    merges: list[tuple[str, str]] = []
    for piece in sorted(scores, key=lambda piece: (-scores[piece], ids[piece])):
        halves = ((piece[:at], piece[at:]) for at in range(1, len(piece)))
        found = [pair for pair in halves if pair[0] in scores and pair[1] in scores]
        merges += sorted(found, key=lambda pair: (ids[pair[0]], ids[pair[1]]))
    return merges


def _added_tokens(directory: Path, settings: Mapping[str, Any]) -> dict[int, AddedToken]:
    path = directory / "added_tokens.json"
    plain = read_json(path) if path.is_file() else {}
    found = {int(place): AddedToken(token, normalized=False, special=True) for token, place in plain.items()}
    for place, token in (settings.get("added_tokens_decoder") or {}).items():
        options = {key: bool(token.get(key)) for key in ("lstrip", "rstrip", "single_word", "special")}
        found[int(place)] = AddedToken(token["content"], normalized=False, **options)
    return found


def _text(token: Any) -> str | None:
    return token.get("content") if isinstance(token, Mapping) else token


def model_ids(model: Any, text: str, added: Mapping[str, int], *, legacy: bool) -> list[int]:
    """Ids of a text as transformers' slow Llama tokenizer gives them, without a start token.

    Args:
        model: sentencepiece's own processor, which puts a space before every text.
        added: tokens that are cut out of a text before, and their ids.
    """
    # Behind a line break, which is bytes of its own and merges with nothing, a text gets no space before it.
    guard = "" if legacy else "\n"
    if not legacy and text:
        text = " " + text.replace(_SPACE, " ")
    longest_first = sorted(added, key=len, reverse=True)
    ids: list[int] = []
    for part in re.split("(" + "|".join(map(re.escape, longest_first)) + ")", text) if added else [text]:
        ids += [added[part]] if part in added else model.encode(guard + part)[len(model.encode(guard)) :]
    if not legacy and len(ids) > 1 and model.id_to_piece(ids[0]) == _SPACE and ids[1] in added.values():
        ids = ids[1:]
    return ids


def differences(tokenizer: Any, model_file: Path, texts: Sequence[str] = AWKWARD) -> list[str]:
    """Where a tokenizer and sentencepiece with the same added tokens disagree: one sentence for each text."""
    model = open_model(model_file)
    added = {token.content: place for place, token in tokenizer.added_tokens_decoder.items()}
    legacy = tokenizer.init_kwargs.get("legacy") is not False
    found = []
    for text in texts:
        ours = tokenizer(text, add_special_tokens=False)["input_ids"]
        theirs = model_ids(model, text, added, legacy=legacy)
        if ours != theirs:
            found.append(f"{text!r} becomes {ours} instead of sentencepiece's {theirs}")
    return found


def warn_of_differences(tokenizer: Any, model_file: Path) -> None:
    """Log where a tokenizer and its sentencepiece model disagree."""
    if found := differences(tokenizer, model_file):
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        logger.warning(
            "%s: %d of %d awkward texts are tokenized differently: %s%s",
            model_file,
            len(found),
            len(AWKWARD),
            found[0],
            more,
        )


def write_slow_tokenizer(tokenizer: Any, model_file: Path, directory: Path) -> None:
    """Write a tokenizer as LLaNA's trainer does: the files that transformers 4.40 reads, fast or slow.

    Args:
        tokenizer: a tokenizer that has the model's pieces as its first ids.
        model_file: the sentencepiece model, copied as it is.

    Raises:
        ValueError: the tokenizer has other tokens than the sentencepiece model.
    """
    model = open_model(model_file)
    size = model.get_piece_size()
    tokens = tokenizer.convert_ids_to_tokens(list(range(min(size, len(tokenizer)))))
    wrong = next((i for i, token in enumerate(tokens) if token != model.id_to_piece(i)), len(tokens))
    if wrong < size:
        found = tokens[wrong] if wrong < len(tokens) else None
        raise ValueError(
            f"{model_file}: has {model.id_to_piece(wrong)!r} as token {wrong}, the model's tokenizer {found!r}; "
            "expected the tokenizer.model that the backbone was trained with"
        )
    added = {place: token for place, token in tokenizer.added_tokens_decoder.items() if place >= size}
    named = {name: token for name in _NAMED if (token := getattr(tokenizer, name)) is not None}
    described = {
        str(place): {
            "content": token.content,
            "lstrip": token.lstrip,
            "normalized": token.normalized,
            "rstrip": token.rstrip,
            "single_word": token.single_word,
            "special": token.special,
        }
        for place, token in sorted(tokenizer.added_tokens_decoder.items())
    }
    legacy = tokenizer.init_kwargs.get("legacy")
    shutil.copyfile(model_file, directory / MODEL_NAME)
    write_json({token.content: place for place, token in sorted(added.items())}, directory / "added_tokens.json")
    write_json(named, directory / "special_tokens_map.json")
    write_json(
        {
            "tokenizer_class": "LlamaTokenizer",
            "legacy": legacy is not False,
            "add_bos_token": True,
            "add_eos_token": False,
            "clean_up_tokenization_spaces": False,
            "model_max_length": min(tokenizer.model_max_length, 2048),
            "padding_side": "right",  # as LLaNA trains
            "sp_model_kwargs": {},
            "added_tokens_decoder": described,
            **named,
        },
        directory / "tokenizer_config.json",
    )
