"""LLaNA's own directories (docs/released_format.md#llana-checkpoint): configuration, tokenizer, and the Llama in them."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from gmn_encoder.files import read_json

from ..names import NERF_TOKENS
from ..prompts.llama_tokenizer import MODEL_NAME, tokenizer_from_model, warn_of_differences

MODEL_TYPES = ("llana", "nerfllm")
"""`model_type` in LLaNA's code, and in the published LLaNA-7B."""

TOKEN_FIELDS = ("DEFAULT_POINT_PATCH_TOKEN", "DEFAULT_POINT_START_TOKEN", "DEFAULT_POINT_END_TOKEN")
PUBLISHED = {"model_type": "nerfllm", "architectures": ["NeRFLLMLlamaForCausalLM"]}
"""What the published LLaNA-7B calls itself."""

FIELDS: dict[str, Any] = {
    "point_backbone": "nf2vec",
    "point_backbone_ckpt": "",
    "nf2vec_config_name": "nf2vec_2layer",
    "mm_use_point_start_end": True,
    "use_color": True,
    **dict(zip(TOKEN_FIELDS, NERF_TOKENS, strict=True)),
}
"""Its fields beside a Llama's."""

OWN_FIELDS = frozenset({*FIELDS, "model_type", "architectures"})
"""Fields of LLaNA's configuration that are not Llama's."""

ENCODER_FOLDER = "encoder"
"""Folder of a converted model with its encoder, which LLaNA has no place for."""

logger = logging.getLogger(__name__)


def is_llana(values: dict[str, Any]) -> bool:
    """Whether a ``config.json`` is LLaNA's."""
    return values.get("model_type") in MODEL_TYPES or TOKEN_FIELDS[0] in values


def nerf_tokens(values: dict[str, Any]) -> tuple[str, str, str]:
    """Patch, start and end token of a LLaNA configuration."""
    if not values.get("mm_use_point_start_end", True):
        raise ValueError("mm_use_point_start_end is false; only LLaNA checkpoints with start and end tokens are read")
    patch, start, end = (values.get(field, FIELDS[field]) for field in TOKEN_FIELDS)
    return patch, start, end


def text_config(values: Mapping[str, Any]) -> LlamaConfig:
    """The Llama's part of a LLaNA configuration."""
    return LlamaConfig(**{key: value for key, value in values.items() if key not in OWN_FIELDS})


def table_rows(values: Mapping[str, Any]) -> int:
    """Rows of the embedding tables that a configuration names."""
    return int(values.get("vocab_size", LlamaConfig().vocab_size))


def llana_tokenizer(source: Path, tokens: Sequence[str], rows: int) -> Any:
    """The tokenizer of a LLaNA directory, which tokenizes as LLaNA's. NeRF tokens that it lacks are added, and a warning says so.

    Args:
        tokens: patch, start and end token.
        rows: rows of the checkpoint's embedding table.

    Raises:
        ValueError: a tokenizer that cannot be read, or tables whose rows do not say which ids lacking tokens have.
    """
    tokenizer = _read_tokenizer(source)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.unk_token
    vocabulary = tokenizer.get_vocab()
    missing = [token for token in tokens if token not in vocabulary]
    size = len(tokenizer)
    if not missing:
        return tokenizer
    if rows not in (size, size + len(missing)):
        raise ValueError(
            f"{source}: its tokenizer has {size} tokens without {', '.join(missing)}, and its tables have {rows} rows; "
            f"expected {size} rows (those of the tokens are added) or {size + len(missing)}; "
            "put the added_tokens.json of its training beside the tokenizer"
        )
    tokenizer.add_tokens([AddedToken(token, normalized=False, special=True) for token in missing])
    logger.warning(
        "%s: its tokenizer lacks %s; added with the ids %s, %s",
        source,
        ", ".join(missing),
        ", ".join(map(str, tokenizer.convert_tokens_to_ids(missing))),
        "whose rows are new" if rows == size else "whose rows are the last of its tables",
    )
    return tokenizer


def _read_tokenizer(source: Path) -> Any:
    model_file = source / MODEL_NAME
    has_json = (source / "tokenizer.json").is_file()
    if model_file.is_file() and not (has_json and importlib.util.find_spec("sentencepiece") is None):
        tokenizer: Any = tokenizer_from_model(source)
        warn_of_differences(tokenizer, model_file)
        return tokenizer
    if not has_json:  # transformers would make an empty one
        raise ValueError(f"{source}: has no tokenizer; expected {MODEL_NAME} and added_tokens.json, or tokenizer.json")
    options: dict[str, Any] = {"padding_side": "left", "add_bos_token": True}
    settings = source / "tokenizer_config.json"
    if settings.is_file() and read_json(settings).get("legacy") is None:
        # LLaNA was trained with the slow tokenizer, for which unset meant True: a space goes before any text, after a NeRF too.
        options["legacy"] = True
    try:
        return AutoTokenizer.from_pretrained(source, config=LlamaConfig(), **options)
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise ValueError(f"{source}: its tokenizer cannot be read ({str(error).splitlines()[0]})") from error


class _LlamaOfLlana(LlamaForCausalLM):
    _keys_to_ignore_on_load_unexpected = [r"^model\.vec_proj\."]  # noqa: RUF012


def backbone_from_llana(source: Path, *, dtype: Any = "auto") -> tuple[PreTrainedModel, Any]:
    """The Llama in a LLaNA directory, and its tokenizer with the NeRF tokens; the projector is left behind.

    Raises `ValueError` as `llana_tokenizer` does.
    """
    values = read_json(source / "config.json")
    tokenizer = llana_tokenizer(source, nerf_tokens(values), table_rows(values))
    backbone = _LlamaOfLlana.from_pretrained(source, config=text_config(values), dtype=dtype)
    return backbone, tokenizer
