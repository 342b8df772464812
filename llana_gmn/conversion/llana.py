"""LLaNA's own checkpoint layout: names of weights and fields of the configuration, in both directions (FORMATS.md 7.3)."""

from __future__ import annotations

from typing import Any

from transformers import LlamaConfig

from gmn_encoder.encoders.gmn.config import GmnConfig

from ..configuration import LlanaGmnConfig
from ..processing import NERF_TOKENS

MODEL_TYPES = ("llana", "nerfllm")
"""`model_type` in LLaNA's code, and in the published LLaNA-7B."""

_TOKEN_FIELDS = ("DEFAULT_POINT_PATCH_TOKEN", "DEFAULT_POINT_START_TOKEN", "DEFAULT_POINT_END_TOKEN")
_PUBLISHED = {"model_type": "nerfllm", "architectures": ["NeRFLLMLlamaForCausalLM"]}
_FIELDS: dict[str, Any] = {
    "point_backbone": "nf2vec",
    "point_backbone_ckpt": "",
    "nf2vec_config_name": "nf2vec_2layer",
    "mm_use_point_start_end": True,
    "use_color": True,
    **dict(zip(_TOKEN_FIELDS, NERF_TOKENS, strict=True)),
}
_PROJECTOR = "model.vec_proj."
_OURS = "projector."
_BACKBONE = "language_model."


def is_llana(values: dict[str, Any]) -> bool:
    """Whether a ``config.json`` is LLaNA's."""
    return values.get("model_type") in MODEL_TYPES or _TOKEN_FIELDS[0] in values


def name_from_llana(key: str) -> str | None:
    """Our name of a weight; None for one that is computed (old checkpoints hold rotary frequencies)."""
    if key.endswith("rotary_emb.inv_freq"):
        return None
    if key.startswith(_PROJECTOR):
        return _OURS + key.removeprefix(_PROJECTOR)
    return _BACKBONE + key


def name_to_llana(key: str) -> str:
    """LLaNA's name of a weight of ours that it has (all but the encoder's)."""
    if key.startswith(_OURS):
        return _PROJECTOR + key.removeprefix(_OURS)
    return key.removeprefix(_BACKBONE)


def nerf_tokens(values: dict[str, Any]) -> tuple[str, str, str]:
    """Patch, start and end token of a LLaNA configuration."""
    if not values.get("mm_use_point_start_end", True):
        raise ValueError("mm_use_point_start_end is false; only LLaNA checkpoints with start and end tokens are read")
    patch, start, end = (values.get(field, _FIELDS[field]) for field in _TOKEN_FIELDS)
    return patch, start, end


def config_from_llana(
    values: dict[str, Any], token_ids: tuple[int, int, int], *, encoder: GmnConfig | None
) -> LlanaGmnConfig:
    """Our configuration of a LLaNA ``config.json``. What means nothing here is kept in `llana`, for the way back."""
    values = dict(values)
    kept = {key: values.pop(key) for key in list(values) if key in _FIELDS or key in ("model_type", "architectures")}
    kept = {key: value for key, value in kept.items() if _FIELDS.get(key) != value or key not in _FIELDS}
    patch, start, end = token_ids
    return LlanaGmnConfig(
        text_config=LlamaConfig(**values),
        gmn_config=encoder.to_dict() if encoder else None,
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
    return {**values, **_FIELDS, **dict(zip(_TOKEN_FIELDS, tokens, strict=True)), **_PUBLISHED, **(config.llana or {})}
