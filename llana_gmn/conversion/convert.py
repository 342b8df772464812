"""Checkpoints of LLaNA and of gmnerf into our layout, and back.

Source: FORMATS.md sections 4 and 6 (encoder), 7.3 (LLaNA). A LLaNA directory knows no GMN encoder: one can be given, and is put
beside the converted model in ``encoder/`` on the way back; without one the model takes precomputed embeddings, as LLaNA does.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import AutoTokenizer, GenerationConfig, LlamaConfig

from gmn_encoder.encoders.gmn.encoder import GmnEncoder
from gmn_encoder.files import StrPath, atomic_directory, atomic_path, read_tensors, write_json

from ..auto import LlanaGmnConfig, LlanaGmnForConditionalGeneration, LlanaGmnProcessor
from ..checkpoints import ShardWriter, read_json, read_weights
from ..model_card import write_model_card
from .llana import config_from_llana, config_to_llana, is_llana, name_from_llana, name_to_llana, nerf_tokens

Layout = Literal["llana-gmn", "llana", "gmnerf"]
ENCODER_FOLDER = "encoder"
_ENCODER_PREFIX = "nerf_encoder."


def convert(
    source: StrPath,
    out: StrPath,
    *,
    to: Layout = "llana-gmn",
    encoder: StrPath | None = None,
    projector: StrPath | None = None,
    dtype: torch.dtype | None = None,
) -> Path:
    """Convert a checkpoint; what `source` is, its files say.

    Args:
        source: a LLaNA directory, a directory of ours, an encoder's directory, or a gmnerf checkpoint (`.pt`).
        out: a new directory; for ``to="gmnerf"`` a new `.pt` file.
        to: ``"llana-gmn"`` (a model or an encoder in our layout), ``"llana"`` or ``"gmnerf"`` (an encoder).
        encoder: the encoder of a LLaNA model, in any form `GmnEncoder.from_pretrained` reads.
        projector: the ``vec_proj.bin`` of LLaNA's first training stage, whose weights replace those of `source`.
        dtype: of the weights written; None for as they are. The encoder stays in float32.

    Returns:
        `out`.

    Raises:
        ValueError, FileNotFoundError: not such a checkpoint, weights that are missing, unknown or of another shape, `out`
            that is there already.
    """
    source, out = Path(source), Path(out)
    if not source.exists():
        raise FileNotFoundError(f"{source}: no such file or directory")
    values = {} if source.is_file() else read_json(source / "config.json")
    if to == "gmnerf":
        return _encoder_to_gmnerf(source, values, out)
    if to == "llana":
        if values.get("model_type") != LlanaGmnConfig.model_type:
            raise ValueError(f"{source}: is no model of ours; only such a one becomes a LLaNA checkpoint")
        return _model_to_llana(source, out, dtype=dtype)
    if source.is_file() or values.get("model_type") == "gmn_encoder":
        with atomic_directory(out) as directory:
            GmnEncoder.from_pretrained(source).save_pretrained(directory)
        return out
    if not is_llana(values):
        raise ValueError(
            f"{source}: has the model_type {values.get('model_type')!r}; expected a LLaNA checkpoint (llana or nerfllm), "
            "a gmnerf encoder, or a model of ours with --to"
        )
    return _model_from_llana(source, values, out, encoder=encoder, projector=projector, dtype=dtype)


def _model_from_llana(
    source: Path,
    values: dict[str, Any],
    out: Path,
    *,
    encoder: StrPath | None,
    projector: StrPath | None,
    dtype: torch.dtype | None,
) -> Path:
    if encoder is None and (source / ENCODER_FOLDER / "config.json").is_file():
        encoder = source / ENCODER_FOLDER
    gmn = GmnEncoder.from_pretrained(encoder) if encoder is not None else None
    tokens = nerf_tokens(values)
    tokenizer = _tokenizer(source, tokens)
    patch, start, end = tokenizer.convert_tokens_to_ids(list(tokens))
    config = config_from_llana(values, (patch, start, end), encoder=gmn.config if gmn else None)
    replacements = _replacements(projector) if projector is not None else {}
    weights = _renamed(source, replacements)
    expected = _expected_shapes(config)
    with atomic_directory(out) as directory:
        if gmn is not None:
            weights = _chain(weights, {_ENCODER_PREFIX + key: tensor for key, tensor in gmn.state_dict().items()})
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
    return out


def _model_to_llana(source: Path, out: Path, *, dtype: torch.dtype | None) -> Path:
    config = LlanaGmnConfig.from_pretrained(source)
    processor = LlanaGmnProcessor.from_pretrained(source)
    tokens = (processor.nerf_token, processor.nerf_start_token, processor.nerf_end_token)
    values = config_to_llana(config, tokens)
    encoder: dict[str, Tensor] = {}
    with atomic_directory(out) as directory:
        writer = ShardWriter(directory)
        for key, tensor in read_weights(source):
            if key.startswith(_ENCODER_PREFIX):
                encoder[key.removeprefix(_ENCODER_PREFIX)] = tensor
            else:
                writer.add(name_to_llana(key), tensor.to(dtype) if dtype else tensor)
        writer.close()
        if dtype is not None:
            values["torch_dtype"] = str(dtype).removeprefix("torch.")
        write_json(values, directory / "config.json")
        processor.tokenizer.chat_template = None  # LLaNA's code writes its prompts itself
        processor.tokenizer.save_pretrained(directory)
        if encoder:
            _build_encoder(config, encoder, source).save_pretrained(directory / ENCODER_FOLDER)
    return out


def _encoder_to_gmnerf(source: Path, values: Mapping[str, Any], out: Path) -> Path:
    if out.exists():
        raise ValueError(f"{out}: is there already; name a new file, or remove it first")
    if values.get("model_type") == LlanaGmnConfig.model_type:
        config = LlanaGmnConfig.from_pretrained(source)
        prefixed = ((key, tensor) for key, tensor in read_weights(source) if key.startswith(_ENCODER_PREFIX))
        encoder = _build_encoder(config, {key.removeprefix(_ENCODER_PREFIX): t for key, t in prefixed}, source)
    else:
        encoder = GmnEncoder.from_pretrained(source)
    if encoder.config.layout != "released":
        raise ValueError(
            f"{source}: its encoder was trained on {encoder.config.layout!r} graphs, which gmnerf does not have"
        )
    with atomic_path(out) as temporary:
        torch.save({"encoder": encoder.state_dict()}, temporary)
    return out


def _build_encoder(config: LlanaGmnConfig, state: Mapping[str, Tensor], source: Path) -> GmnEncoder:
    if not state:
        raise ValueError(f"{source}: holds no encoder (use_encoder is false)")
    encoder = GmnEncoder(config.encoder_config)
    encoder.load_state_dict(dict(state))
    return encoder


def _tokenizer(source: Path, tokens: tuple[str, str, str]) -> Any:
    options: dict[str, Any] = {"padding_side": "left", "add_bos_token": True}
    settings = source / "tokenizer_config.json"
    if settings.is_file() and read_json(settings).get("legacy") is None:
        # LLaNA was trained with the slow tokenizer, for which unset meant True: a space goes before any text, after a NeRF too.
        options["legacy"] = True
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, config=LlamaConfig(), **options)
    except (OSError, ValueError, ImportError, KeyError) as error:
        hint = ""
        if not (source / "tokenizer.json").is_file() and importlib.util.find_spec("sentencepiece") is None:
            hint = "; it has no tokenizer.json, and tokenizer.model needs the extra: pip install 'llana-gmn[convert]'"
        raise ValueError(f"{source}: its tokenizer cannot be read ({str(error).splitlines()[0]}){hint}") from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.unk_token
    vocabulary = tokenizer.get_vocab()
    if missing := [token for token in tokens if token not in vocabulary]:
        raise ValueError(
            f"{source}: its tokenizer has no token {missing[0]!r}; put LLaNA's added_tokens.json beside it, "
            "or start from a plain Llama with llana_gmn.assemble"
        )
    return tokenizer


def _renamed(source: Path, replacements: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    left = dict(replacements)
    for key, tensor in read_weights(source):
        name = name_from_llana(key)
        if name is not None:
            yield name, left.pop(name, tensor)
    yield from left.items()


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


def _chain(weights: Iterator[tuple[str, Tensor]], more: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    yield from weights
    yield from more.items()


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
        if not key.startswith(_ENCODER_PREFIX):
            tensor = tensor if dtype is None else tensor.to(dtype)
            found = found or tensor.dtype
        writer.add(key, tensor)
        written.add(key)
    if missing := [key for key in expected if key not in written]:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ValueError(f"{source}: lacks the weight {name_to_llana(missing[0])!r}{more}")
    writer.close()
    return found or torch.float32


def _generation_config(source: Path, config: LlanaGmnConfig, tokenizer: Any) -> GenerationConfig:
    text = config.get_text_config()
    return GenerationConfig(
        bos_token_id=text.bos_token_id, eos_token_id=text.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
