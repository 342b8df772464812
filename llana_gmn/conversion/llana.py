"""LLaNA's own checkpoint layout (docs/released_format.md#llana-checkpoint), in both directions: names of weights, fields of the
configuration, directories.

A LLaNA directory knows no encoder of ours: one can be given, and is put beside the converted model in ``encoder/`` on the way
back; without one the model takes precomputed embeddings, as LLaNA does.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig

from gmn_encoder.encoders.base import EncoderConfig
from gmn_encoder.files import StrPath, atomic_directory, read_tensors, write_json

from ..assembly.assemble import tell_apart
from ..checkpoints.encoders import foreign_encoder, open_encoder
from ..checkpoints.files import ShardWriter, encoder_of, read_weights
from ..checkpoints.llana_files import (
    ENCODER_FOLDER,
    FIELDS,
    OWN_FIELDS,
    PUBLISHED,
    TOKEN_FIELDS,
    llana_tokenizer,
    nerf_tokens,
    table_rows,
    text_config,
)
from ..model.auto import LlanaGmnConfig, LlanaGmnForConditionalGeneration, LlanaGmnProcessor
from ..model.model_card import write_model_card
from ..names import BACKBONE, ENCODER, PROJECTOR, current_name
from ..prompts.llama_tokenizer import MODEL_NAME, write_slow_tokenizer

logger = logging.getLogger(__name__)

_TABLES = ("embed_tokens.weight", "lm_head.weight")
_PROJECTOR = "model.vec_proj."


def name_from_llana(key: str) -> str | None:
    """Our name of a weight; None for one that is computed (old checkpoints hold rotary frequencies)."""
    if key.endswith("rotary_emb.inv_freq"):
        return None
    if key.startswith(_PROJECTOR):
        return PROJECTOR + key.removeprefix(_PROJECTOR)
    return BACKBONE + key.removeprefix("model.") if key.startswith("model.") else key


def name_to_llana(key: str) -> str:
    """LLaNA's name of a weight of ours that it has (all but the encoder's)."""
    if key.startswith(PROJECTOR):
        return _PROJECTOR + key.removeprefix(PROJECTOR)
    return "model." + key.removeprefix(BACKBONE) if key.startswith(BACKBONE) else key


def config_from_llana(
    values: dict[str, Any], token_ids: tuple[int, int, int], *, encoder: EncoderConfig | None
) -> LlanaGmnConfig:
    """Our configuration of a LLaNA ``config.json``. What means nothing here is kept in `llana`, for the way back."""
    kept = {key: value for key, value in values.items() if key in OWN_FIELDS and FIELDS.get(key) != value}
    patch, start, end = token_ids
    return LlanaGmnConfig(
        text_config=text_config(values),
        encoder_config=encoder,
        use_encoder=encoder is not None,
        nerf_token_id=patch,
        nerf_start_token_id=start,
        nerf_end_token_id=end,
        llana=kept,
    )


def config_to_llana(config: LlanaGmnConfig, tokens: tuple[str, str, str]) -> dict[str, Any]:
    """The ``config.json`` that LLaNA's code reads. Raises `ValueError` for a model it has no form for."""
    text = config.get_text_config()
    found = (text.model_type, config.projector_hidden_sizes, config.projector_hidden_act, config.tokens_per_nerf)
    if config.vectors_per_nerf > 1:
        raise ValueError(
            f"LLaNA's layout has one vector of the encoder a NeRF, this model reads {config.vectors_per_nerf} (nerf_tokens is "
            f"{config.nerf_tokens!r}); train one with nerf_tokens 'global' for LLaNA's code"
        )
    if found != ("llama", [1024, 2048], "gelu", 1) or config.embedding_dim != 1024:
        raise ValueError(
            "LLaNA's layout has a Llama backbone, one token a NeRF and the projector 1024 -> 1024 -> 2048 with GELU; "
            f"this model has a {found[0]} backbone, {found[3]} token(s) and {config.embedding_dim} -> "
            f"{' -> '.join(map(str, found[1]))} with {found[2]}"
        )
    values = {key: value for key, value in text.to_dict().items() if not key.startswith("_")}
    rope = values.pop("rope_parameters", None) or {}
    scaling = {key: value for key, value in rope.items() if key != "rope_theta"}
    values["rope_theta"] = rope.get("rope_theta", 10000.0)
    values["rope_scaling"] = None if scaling.get("rope_type", "default") == "default" else scaling
    values["torch_dtype"] = str(config.dtype or values.get("dtype") or "float32").removeprefix("torch.")
    for key in ("dtype", "transformers_version"):
        values.pop(key, None)
    return {**values, **FIELDS, **dict(zip(TOKEN_FIELDS, tokens, strict=True)), **PUBLISHED, **(config.llana or {})}


def model_from_llana(
    source: Path,
    values: dict[str, Any],
    out: Path,
    *,
    encoder: StrPath | None,
    projector: StrPath | None,
    dtype: torch.dtype | None,
) -> None:
    """Write a model of ours and its processor from a LLaNA directory with the configuration `values`; see `convert`."""
    if encoder is None and (source / ENCODER_FOLDER / "config.json").is_file():
        encoder = source / ENCODER_FOLDER
    part = open_encoder(encoder) if encoder is not None else None
    tokens = nerf_tokens(values)
    tokenizer = llana_tokenizer(source, tokens, table_rows(values))
    patch, start, end = tokenizer.convert_tokens_to_ids(list(tokens))
    values = {**values, "vocab_size": max(table_rows(values), patch + 1, start + 1, end + 1)}
    config = config_from_llana(values, (patch, start, end), encoder=part.config if part is not None else None)
    if note := foreign_encoder(config):
        logger.warning("%s: %s", source, note)
    replacements = _replacements(projector) if projector is not None else {}
    weights = _renamed(source, replacements)
    expected = _expected_shapes(config)
    with atomic_directory(out) as directory:
        if part is not None:
            weights = chain(weights, ((ENCODER + key, tensor) for key, tensor in part.state_dict().items()))
        weights = _grown(weights, expected, patch=patch, first_new=min(patch, start, end))
        config.dtype = _write_weights(weights, expected, directory, source=source, dtype=dtype)
        config.architectures = [LlanaGmnForConditionalGeneration.__name__]
        config.save_pretrained(directory)
        _generation_config(source, config, tokenizer).save_pretrained(directory)
        processor = LlanaGmnProcessor(
            tokenizer,
            embedding_dim=config.embedding_dim,
            nerf_token=tokens[0],
            nerf_start_token=tokens[1],
            nerf_end_token=tokens[2],
        )
        processor.save_pretrained(directory)
        write_model_card(config, directory)


def model_to_llana(
    source: Path, out: Path, *, dtype: torch.dtype | None, tokenizer_model: StrPath | None = None
) -> None:
    """Write a LLaNA directory from one of ours; see `convert`."""
    config = LlanaGmnConfig.from_pretrained(source)
    processor = LlanaGmnProcessor.from_pretrained(source)
    tokens = (processor.nerf_token, processor.nerf_start_token, processor.nerf_end_token)
    values = config_to_llana(config, tokens)
    model_file = Path(tokenizer_model) if tokenizer_model is not None else source / MODEL_NAME
    if not model_file.is_file():
        raise ValueError(
            f"{model_file}: no such file; LLaNA's code reads the sentencepiece model of the Llama that was trained: "
            "name it with --tokenizer"
        )
    encoder: dict[str, Tensor] = {}
    with atomic_directory(out) as directory:
        write_slow_tokenizer(processor.tokenizer, model_file, directory)
        writer = ShardWriter(directory)
        for key, tensor in read_weights(source):
            key = current_name(key)
            if key.startswith(ENCODER):
                encoder[key] = tensor
            else:
                writer.add(name_to_llana(key), tensor.to(dtype) if dtype else tensor)
        writer.close()
        if dtype is not None:
            values["torch_dtype"] = str(dtype).removeprefix("torch.")
        write_json(values, directory / "config.json")
        if encoder:
            encoder_of(encoder.items(), config.encoder_config).save_pretrained(directory / ENCODER_FOLDER)


def _renamed(source: Path, replacements: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    left = dict(replacements)
    for key, tensor in read_weights(source):
        name = name_from_llana(key)
        if name is not None:
            yield name, left.pop(name, tensor)
    yield from left.items()


def _grown(
    weights: Iterator[tuple[str, Tensor]], expected: Mapping[str, tuple[int, ...]], *, patch: int, first_new: int
) -> Iterator[tuple[str, Tensor]]:
    """Tables that end before the NeRF tokens get their rows, the mean of those before, as in LLaNA's training."""
    for key, tensor in weights:
        if key.endswith(_TABLES) and len(tensor) == first_new < expected.get(key, (0,))[0]:
            mean = tensor.float().mean(dim=0).to(tensor.dtype)
            tensor = torch.cat([tensor, mean.expand(expected[key][0] - first_new, -1)])
            if key.endswith(_TABLES[0]):
                tell_apart(tensor[patch])
        yield key, tensor


def _replacements(path: StrPath) -> dict[str, Tensor]:
    content, _ = read_tensors(path)
    found = {}
    for key, tensor in content.items():
        name = name_from_llana("model." + key.split("model.", 1)[-1]) if isinstance(tensor, Tensor) else None
        if name is None or not ("vec_proj" in key or "embed_tokens" in key):
            raise ValueError(
                f"{path}: holds {key!r}; expected LLaNA's vec_proj.bin, with model.vec_proj.* and embed_tokens"
            )
        found[name] = tensor
    return found


def _expected_shapes(config: LlanaGmnConfig) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        model = LlanaGmnForConditionalGeneration(config)
    tied = set(model.all_tied_weights_keys)
    return {key: tuple(tensor.shape) for key, tensor in model.state_dict().items() if key not in tied}


def _write_weights(
    weights: Iterator[tuple[str, Tensor]],
    expected: Mapping[str, tuple[int, ...]],
    directory: Path,
    *,
    source: Path,
    dtype: torch.dtype | None,
) -> torch.dtype:
    """Write weights of these names and shapes; returns their dtype."""
    writer = ShardWriter(directory)
    written: set[str] = set()
    found = dtype
    for key, tensor in weights:
        if key not in expected:
            if key.endswith("lm_head.weight"):  # tied to the input table
                continue
            raise ValueError(
                f"{source}: has the unknown weight {name_to_llana(key)!r}; expected those of a LLaNA model"
            )
        if tuple(tensor.shape) != expected[key]:
            raise ValueError(
                f"{source}: {name_to_llana(key)!r} has shape {list(tensor.shape)}; its configuration means {list(expected[key])}"
            )
        if not key.startswith(ENCODER):
            tensor = tensor if dtype is None else tensor.to(dtype)
            found = found or tensor.dtype
        writer.add(key, tensor)
        written.add(key)
    if missing := [key for key in expected if key not in written]:
        if all(key.startswith(PROJECTOR) for key in missing) and len(missing) == 6:
            raise ValueError(
                f"{source}: has no projector ({_PROJECTOR}*): name the vec_proj.bin of stage 1 with --projector, "
                f"or begin with a new one: llana_gmn.assembly.assemble.assemble({str(source)!r})"
            )
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ValueError(f"{source}: lacks the weight {name_to_llana(missing[0])!r}{more}")
    writer.close()
    return found or torch.float32


def _generation_config(source: Path, config: LlanaGmnConfig, tokenizer: Any) -> GenerationConfig:
    text = config.get_text_config()
    return GenerationConfig(
        bos_token_id=text.bos_token_id, eos_token_id=text.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
