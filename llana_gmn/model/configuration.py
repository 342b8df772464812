"""Configuration of the multimodal model.

Sources: the paper's section 4 (language tasks) and docs/released_format.md#llana-checkpoint. The text backbone is the
configuration of any causal language model of transformers; the encoder's is that of any registered kind
(`gmn_encoder.register_encoder`), which is no transformers model and loads and saves without that library too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from transformers import CONFIG_MAPPING, AutoConfig, LlamaConfig, PreTrainedConfig
from transformers.activations import ACT2FN

from gmn_encoder.encoders.base import EncoderConfig, encoder_config, num_tokens
from gmn_encoder.encoders.gmn.config import GmnConfig

ENCODER_DTYPES = ("float32", "bfloat16")
TOKEN_CHOICES = ("global", "all")

LLANA_7B: dict[str, Any] = {
    "vocab_size": 32003,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-6,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "tie_word_embeddings": False,
}
"""The text backbone of LLaNA-7B: Llama-2-7B with three more tokens."""


class LlanaGmnConfig(PreTrainedConfig):
    """Sizes and token ids of a `LlanaGmnForConditionalGeneration`; the defaults are LLaNA-7B's.

    Attributes:
        text_config: configuration of the causal language model, as an object or its dictionary (with `model_type`).
        encoder_config: configuration of the encoder, as an object or its dictionary (with `model_type`); None for the released
            GMN encoder's. Saved models of before have it under `gmn_config`.
        use_encoder: whether the model holds an encoder. Without one (a converted LLaNA checkpoint that no encoder was given
            to) it takes precomputed embeddings only.
        encoder_dtype: dtype of the encoder's large matrix products, `"float32"` or `"bfloat16"`; its weights stay float32.
        projector_hidden_sizes: widths between the embedding and the backbone, `(1024, 2048)` in LLaNA.
        projector_hidden_act: activation between the projector's layers (`"gelu"` is the exact erf form).
        nerf_tokens: what of the encoder's stands for a NeRF: `"global"`, the one vector of `NerfEncoder.encode`, as in LLaNA, or
            `"all"`, those of `encode_tokens`. The projector reads them one by one, at a root mean square of one each.
        tokens_per_nerf: number of the backbone's tokens that one NeRF becomes, a multiple of `vectors_per_nerf`; None for as
            many.
        nerf_token_id: the placeholder whose embeddings are replaced (LLaNA's `<point_patch>`).
        nerf_start_token_id, nerf_end_token_id: the tokens around it.
        llana: fields of the LLaNA configuration this model was converted from that mean nothing here, for the way back.
    """

    model_type = "llana_gmn"
    sub_configs: ClassVar[dict[str, Any]] = {"text_config": AutoConfig}

    text_config: dict | PreTrainedConfig | None = None
    encoder_config: Any = None
    use_encoder: bool = True
    encoder_dtype: str = "float32"
    projector_hidden_sizes: list[int] | tuple[int, ...] = (1024, 2048)
    projector_hidden_act: str = "gelu"
    nerf_tokens: str = "global"
    tokens_per_nerf: Any = None
    nerf_token_id: int = 32000
    nerf_start_token_id: int = 32001
    nerf_end_token_id: int = 32002
    tie_word_embeddings: bool = False
    llana: dict | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        self.text_config = _text_config(self.text_config)
        earlier = kwargs.pop("gmn_config", None)
        self.encoder_config = _encoder_config(earlier if self.encoder_config is None else self.encoder_config)
        self.projector_hidden_sizes = list(self.projector_hidden_sizes)
        if self.tokens_per_nerf is None:
            self.tokens_per_nerf = self.vectors_per_nerf
        self.tie_word_embeddings = bool(self.text_config.tie_word_embeddings)
        self._validate()
        super().__post_init__(**kwargs)

    def _validate(self) -> None:
        for name, value in [
            ("tokens_per_nerf", self.tokens_per_nerf),
            *(("projector_hidden_sizes", size) for size in self.projector_hidden_sizes),
        ]:
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"LlanaGmnConfig.{name} must be a positive integer, got {value!r}")
        if self.nerf_tokens not in TOKEN_CHOICES:
            raise ValueError(
                f"LlanaGmnConfig.nerf_tokens must be one of {', '.join(TOKEN_CHOICES)}, got {self.nerf_tokens!r}"
            )
        if self.tokens_per_nerf % self.vectors_per_nerf:
            raise ValueError(
                f"LlanaGmnConfig.tokens_per_nerf must be a multiple of the {self.vectors_per_nerf} vectors that the encoder "
                f"gives a NeRF, got {self.tokens_per_nerf}; leave it out for a token each"
            )
        if self.encoder_dtype not in ENCODER_DTYPES:
            raise ValueError(
                f"LlanaGmnConfig.encoder_dtype must be one of {', '.join(ENCODER_DTYPES)}, got {self.encoder_dtype!r}"
            )
        if self.projector_hidden_act not in ACT2FN:
            raise ValueError(
                f"LlanaGmnConfig.projector_hidden_act must be an activation of transformers, got {self.projector_hidden_act!r}"
            )
        ids = (self.nerf_token_id, self.nerf_start_token_id, self.nerf_end_token_id)
        if len(set(ids)) != 3:
            raise ValueError(f"the placeholder, start and end tokens of a NeRF must differ, got ids {ids}")
        vocabulary = self.get_text_config().vocab_size
        if not all(isinstance(i, int) and 0 <= i < vocabulary for i in ids):
            raise ValueError(
                f"the NeRF token ids {ids} must lie in the backbone's vocabulary of {vocabulary}; "
                "add the tokens and resize its embeddings first (llana_gmn.assemble does)"
            )

    @property
    def embedding_dim(self) -> int:
        """Size of an encoder's vector, which the projector reads."""
        return self.encoder_config.embedding_dim

    @property
    def vectors_per_nerf(self) -> int:
        """Number of the encoder's vectors that stand for a NeRF."""
        return num_tokens(self.encoder_config) if self.nerf_tokens == "all" else 1

    @property
    def embedding_shape(self) -> tuple[int, ...]:
        """Shape of what stands for a NeRF: ``(D,)``, or ``(V, D)`` where it is several vectors."""
        return embedding_shape(self.vectors_per_nerf, self.embedding_dim)

    @property
    def token_dim(self) -> int:
        """Size of an embedding of the backbone's tokens, which the projector writes: its hidden size, but for some OPTs."""
        text = self.get_text_config()
        return getattr(text, "word_embed_proj_dim", None) or text.hidden_size

    def to_dict(self) -> dict[str, Any]:
        """As `PreTrainedConfig.to_dict`, with the encoder's configuration as a dictionary."""
        return {**super().to_dict(), "encoder_config": self.encoder_config.to_dict()}


def embedding_shape(vectors: int, dim: int) -> tuple[int, ...]:
    """Shape of what stands for a NeRF, `vectors` of size `dim`: ``(D,)`` of one, ``(V, D)`` of several."""
    return (dim,) if vectors == 1 else (vectors, dim)


def _encoder_config(value: Any) -> EncoderConfig:
    if value is None:
        return GmnConfig()
    if isinstance(value, Mapping):
        return encoder_config(value)
    if not isinstance(value, EncoderConfig):
        raise TypeError(
            f"encoder_config must be an encoder's configuration or its dictionary, got {type(value).__name__}"
        )
    return value


def _text_config(value: Any) -> PreTrainedConfig:
    if value is None:
        return LlamaConfig(**LLANA_7B)
    if isinstance(value, PreTrainedConfig):
        return value
    if not isinstance(value, dict):
        raise TypeError(f"text_config must be a configuration or its dictionary, got {type(value).__name__}")
    values = dict(value)
    model_type = values.pop("model_type", "llama")
    if model_type not in CONFIG_MAPPING:
        raise ValueError(f"text_config has the unknown model_type {model_type!r}; expected one that transformers knows")
    return CONFIG_MAPPING[model_type](**values)
