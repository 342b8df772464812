"""The body of the multimodal model: encoder, projector and backbone without its head, and what both of its classes share.

Shapes as in `modeling.py`: B prompts, L tokens, K most NeRFs in a prompt, N NeRFs in all, T tokens a NeRF, E shape of what the
encoder gives a NeRF, ``(D,)`` or ``(V, D)``, D embedding (1024), H hidden size of the backbone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs, can_return_tuple

from gmn_encoder.embeddings.records import shape_text
from gmn_encoder.encoders.base import NerfEncoder, encoder_class, num_tokens
from gmn_encoder.encoders.frozen import FrozenLinear, frozen, frozen_copy
from gmn_encoder.nerfs.finite import OnError, check_embeddings
from gmn_encoder.nerfs.record import Nerf

from ..names import EARLIER_NAMES
from .adapters import adapter_config
from .backbone import take_apart
from .configuration import LlanaGmnConfig
from .nerf_inputs import (
    NOTHING,
    align_embeddings,
    check_batch,
    check_counts,
    insert,
    unpack_nerfs,
)
from .projector import NerfProjector, of_one_length


class LlanaGmnPreTrainedModel(PreTrainedModel):
    config_class = LlanaGmnConfig
    config: LlanaGmnConfig
    base_model_prefix = "model"
    input_modalities = "text"
    supports_gradient_checkpointing = True
    _checkpoint_conversion_mapping = EARLIER_NAMES  # which PEFT reads, for adapters
    _no_split_modules = ["NerfProjector"]  # noqa: RUF012 (the base class's type; the encoder brings its own)
    _skip_keys_device_placement = ["past_key_values"]  # noqa: RUF012
    _keep_in_fp32_modules_strict = ["nerf_encoder"]  # noqa: RUF012
    # Quantisers read this list; they compare names from the start, which differ between the whole model and its body.
    _keep_in_fp32_modules = [r"(?:model\.)?nerf_encoder"]  # noqa: RUF012
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True

    def _init_weights(self, module: nn.Module) -> None:
        # The backbone initialises itself; encoder and projector start as torch layers do.
        if isinstance(module, nn.Linear | FrozenLinear | nn.Embedding | nn.LayerNorm):
            module.reset_parameters()  # type: ignore[misc]

    @classmethod
    def from_pretrained(cls, *args: Any, key_mapping: dict[str, str] | None = None, **kwargs: Any) -> Self:
        """`PreTrainedModel.from_pretrained`, of models saved before the body stood apart from the head too."""
        loaded: Any = super().from_pretrained(*args, key_mapping={**EARLIER_NAMES, **(key_mapping or {})}, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        # It would be saved under the names it had before, and under ZeRO-3 under names that it never had.
        model._weight_conversions = [
            each
            for each in getattr(model, "_weight_conversions", None) or []
            if each.was_used() and not set(each._original_source_patterns) & set(EARLIER_NAMES)
        ]
        return loaded

    def load_adapter(self, peft_model_id: str | None = None, *args: Any, **kwargs: Any) -> Any:
        """`PeftAdapterMixin.load_adapter`, of adapters saved before the body stood apart from the head too."""
        if peft_model_id is not None and len(args) < 2 and kwargs.get("peft_config") is None:
            options = getattr(kwargs.get("load_config"), "download_kwargs", None) or {}
            options = {**options, **(kwargs.get("adapter_kwargs") or {})}
            kwargs["peft_config"] = adapter_config(peft_model_id, **options)
        return super().load_adapter(peft_model_id, *args, **kwargs)

    @property
    def dtype(self) -> torch.dtype:
        """The backbone's: the encoder stays in float32."""
        return self.get_decoder().dtype

    @property
    def device(self) -> torch.device:
        """Where prompts go. Asked for at every token: a walk through the encoder in search of a parameter would cost more."""
        device = self.get_decoder().device
        return execution_device(self.get_decoder()) or device if device.type == "meta" else device


class LlanaGmnModel(LlanaGmnPreTrainedModel):
    """Encoder, projector and backbone, without the backbone's head.

    Args:
        config: sizes of all parts.
        language_model: the backbone's body; None for a new one.
    """

    def __init__(self, config: LlanaGmnConfig, language_model: PreTrainedModel | None = None) -> None:
        super().__init__(config)
        encoder = config.encoder_config
        self.nerf_encoder = frozen(encoder_class(encoder.model_type))(encoder) if config.use_encoder else None
        self.projector = NerfProjector(config)
        if language_model is None:
            language_model, _, _ = take_apart(AutoModelForCausalLM.from_config(config.text_config))
        self.language_model = language_model
        table: Any = language_model.get_input_embeddings()
        width = table.weight.shape[-1]
        if width not in (config.token_dim, 0):  # 0: taken apart by ZeRO-3
            raise ValueError(
                f"{type(language_model).__name__} has token embeddings of {width}, expected {config.token_dim}; "
                "choose a backbone whose tokens have its hidden size"
            )
        self._can_compile_fullgraph = language_model._can_compile_fullgraph
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.language_model.set_input_embeddings(value)

    def set_nerf_encoder(self, encoder: NerfEncoder) -> None:
        """Put a frozen copy of an encoder where the model's own stands, or where it has none.

        Raises `ValueError` for an encoder of another embedding size than the projector reads, or of another number of tokens.
        """
        if encoder.embedding_dim != self.config.embedding_dim:
            raise ValueError(
                f"the encoder makes embeddings of {encoder.embedding_dim}, the model's projector reads "
                f"{self.config.embedding_dim}; use the encoder the model was made for"
            )
        if self.config.nerf_tokens == "all" and num_tokens(encoder.config) != self.config.vectors_per_nerf:
            raise ValueError(
                f"the encoder makes {num_tokens(encoder.config)} tokens a NeRF, the model reads {self.config.vectors_per_nerf}; "
                "use the encoder the model was made for"
            )
        before = getattr(self.nerf_encoder, "_no_split_modules", [])
        self.nerf_encoder = frozen_copy(encoder).to(self.device)
        kept = set(self._no_split_modules).difference(before)
        self._no_split_modules = [*kept, *self.nerf_encoder._no_split_modules]
        self.config.encoder_config, self.config.use_encoder = encoder.config, True

    def encode(self, nerfs: Sequence[Nerf], *, batch_size: int = 16, on_error: OnError | None = None) -> Tensor:
        """Embeddings ``(len(nerfs), *E)`` float32, to be passed in place of the NeRFs.

        Raises `ValueError` for NaN or infinite ones (see `check_embeddings`), or where the model was built without an encoder,
        or its weights are offloaded.
        """
        if self.config.vectors_per_nerf == 1:
            return self.encode_global(nerfs, batch_size=batch_size, on_error=on_error)
        tokens = self._encoder().encode_tokens(nerfs, batch_size=batch_size, dtype=self._encoder_dtype)
        if tuple(tokens.shape[1:]) != self.config.embedding_shape:
            raise ValueError(
                f"the encoder made tokens of shape {shape_text(tokens.shape[1:])}, its configuration says "
                f"{shape_text(self.config.embedding_shape)}; a kind of encoder must tell its num_tokens"
            )
        check_embeddings(nerfs, tokens, on_error)
        return tokens

    def encode_global(self, nerfs: Sequence[Nerf], *, batch_size: int = 16, on_error: OnError | None = None) -> Tensor:
        """One vector a NeRF ``(len(nerfs), D)`` float32, whatever stands for it in a prompt: what NeRFs are compared by."""
        embeddings = self._encoder().encode(nerfs, batch_size=batch_size, dtype=self._encoder_dtype)
        check_embeddings(nerfs, embeddings, on_error)
        return embeddings

    @property
    def _encoder_dtype(self) -> torch.dtype:
        return getattr(torch, self.config.encoder_dtype)

    def _encoder(self) -> NerfEncoder:
        if self.nerf_encoder is None:
            raise ValueError(
                "this model has no encoder (use_encoder is false); pass precomputed embeddings, "
                "or convert it again with --encoder"
            )
        if self.nerf_encoder.device.type == "meta":
            raise ValueError(
                "the encoder has no weights in memory; do not offload buffers (offload_buffers=False), its weights are such"
            )
        return self.nerf_encoder

    def encode_nerfs(
        self,
        places: Tensor,
        *,
        nerf_weights: Tensor | None = None,
        nerf_architectures: Tensor | None = None,
        nerf_embeddings: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The embeddings of a batch's NeRFs, checked against its placeholders.

        Args:
            places: where the prompts have placeholders ``(B, L)``, of `placeholders`.
            nerf_weights, nerf_architectures: NeRFs as the processor wrote them.
            nerf_embeddings: embeddings ``(B, K, *E)`` beside `nerf_architectures`, as the processor wrote them; or alone:
                ``(B, K, *E)`` for prompts with K NeRFs each, or ``(N, *E)`` in the order of the placeholders.

        Returns:
            embeddings ``(B, K, *E)`` and kinds ``(B, K)``, 0 where a prompt has fewer than K NeRFs.
        """
        expected = places.sum(dim=1)
        if nerf_architectures is None:
            if nerf_embeddings is None:
                raise ValueError(_NO_ARCHITECTURES)
            counts = expected // self.config.tokens_per_nerf
            embeddings, kinds = align_embeddings(nerf_embeddings, counts, self.config.embedding_shape)
        else:
            check_batch(places, nerf_weights, nerf_architectures, nerf_embeddings)
            kinds = nerf_architectures[..., 0]
            if nerf_weights is None and nerf_embeddings is not None:
                embeddings = nerf_embeddings
            else:
                embeddings = self.embed(nerf_weights, nerf_architectures, nerf_embeddings)
        self._check_size(embeddings.shape[2:])
        check_counts((kinds != NOTHING).sum(dim=1), expected, self.config.tokens_per_nerf)
        return embeddings, kinds

    @torch.compiler.disable
    def embed(self, nerf_weights: Tensor | None, nerf_architectures: Tensor, nerf_embeddings: Tensor | None) -> Tensor:
        """Embeddings ``(B, K, *E)`` of `nerf_architectures` ``(B, K, C)``: those that came as such, and of the NeRFs."""
        found = unpack_nerfs(nerf_weights, nerf_architectures)
        if nerf_embeddings is None:
            shape = (*nerf_architectures.shape[:2], *self.config.embedding_shape)
            nerf_embeddings = torch.zeros(shape, device=nerf_architectures.device)
        if not found:
            return nerf_embeddings
        encoded = self.encode([nerf for _, _, nerf in found]).to(nerf_embeddings.device)
        place = torch.tensor([(b, k) for b, k, _ in found], device=nerf_embeddings.device).unbind(1)
        return nerf_embeddings.to(encoded.dtype).index_put(place, encoded)

    def _check_size(self, shape: Sequence[int]) -> None:
        if tuple(shape) != self.config.embedding_shape:
            raise ValueError(
                f"NeRF embeddings have size {shape_text(shape)}; this model's projector reads "
                f"{shape_text(self.config.embedding_shape)}. Embed with the encoder the model was trained with"
            )

    def project(self, embeddings: Tensor) -> Tensor:
        """Embeddings ``(..., *E)`` to token embeddings ``(..., T, H)``; several vectors of a NeRF are read at one length each."""
        lead = embeddings.shape[: embeddings.ndim - len(self.config.embedding_shape)]
        if self.config.vectors_per_nerf > 1:
            embeddings = of_one_length(embeddings)
        weight = next((p for p in self.projector.parameters() if p.is_floating_point()), None)
        dtype = self.dtype if weight is None else weight.dtype
        features = self.projector(embeddings.to(self.device, dtype))
        # The tokens of a vector stand side by side, those of a NeRF's vectors one after the other.
        return features.reshape(*lead, self.config.tokens_per_nerf, -1)

    @can_return_tuple
    def get_nerf_features(
        self,
        nerf_weights: Tensor | None = None,
        nerf_architectures: Tensor | None = None,
        nerf_embeddings: Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutputWithPooling:
        """NeRFs to what takes the places of their placeholders.

        Args:
            nerf_weights, nerf_architectures: NeRFs as the processor wrote them.
            nerf_embeddings: embeddings, beside them or alone: ``(B, K, *E)`` or ``(N, *E)``.

        Returns:
            `last_hidden_state`, the encoder's embeddings ``(N, *E)``, and `pooler_output`, token embeddings ``(N, T, H)``.
        """
        if nerf_architectures is not None:
            embeddings = self.embed(nerf_weights, nerf_architectures, nerf_embeddings)
            embeddings = embeddings[nerf_architectures[..., 0] != NOTHING]
        elif nerf_embeddings is not None:
            embeddings = nerf_embeddings.flatten(0, -1 - len(self.config.embedding_shape))
        else:
            raise ValueError(_NO_ARCHITECTURES)
        self._check_size(embeddings.shape[1:])
        return BaseModelOutputWithPooling(last_hidden_state=embeddings, pooler_output=self.project(embeddings))

    def placeholders(self, input_ids: Tensor | None, inputs_embeds: Tensor | None) -> Tensor:
        """Where prompts have placeholders ``(B, L)``: by their token numbers, or by their embeddings ``(B, L, H)``."""
        if input_ids is not None:
            return input_ids == self.config.nerf_token_id
        if inputs_embeds is None:
            raise ValueError("pass input_ids or inputs_embeds")
        token = torch.tensor(self.config.nerf_token_id, device=inputs_embeds.device)
        return (inputs_embeds == self.get_input_embeddings()(token).to(inputs_embeds)).all(dim=-1)

    def get_placeholder_mask(
        self, input_ids: Tensor | None, inputs_embeds: Tensor | None, nerf_features: Tensor
    ) -> Tensor:
        """Where features ``(N, T, H)`` go, ``(B, L, 1)``.

        Raises `ValueError` where there are more or fewer places, with both counts.
        """
        places = self.placeholders(input_ids, inputs_embeds)
        found, wanted = int(places.sum()), nerf_features.shape[:-1].numel()
        if found != wanted:
            raise ValueError(f"NeRF features and NeRF tokens do not match, tokens: {found}, features: {wanted}")
        return places.unsqueeze(-1)

    def check_no_placeholder(self, input_ids: Tensor) -> None:
        """Raise `ValueError` for prompts with placeholders, to which no NeRFs were passed."""
        if found := int(self.placeholders(input_ids, None).sum()):
            raise ValueError(
                f"the prompts hold {found // self.config.tokens_per_nerf} NeRF placeholders, but 0 NeRFs were passed; "
                "pass all that the processor returned (model(**inputs), model.generate(**inputs))"
            )

    @can_return_tuple
    def forward(  # type: ignore[misc] # transformers names position_ids twice too
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: Tensor | None = None,
        nerf_weights: Tensor | None = None,
        nerf_architectures: Tensor | None = None,
        nerf_embeddings: Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> Any:
        """The output of the backbone's body for prompts whose placeholders became NeRFs.

        Args:
            input_ids: token numbers ``(B, L)``, or `inputs_embeds` ``(B, L, H)``, in which the NeRFs stand already or whose
                placeholders are known by their embeddings.
            nerf_weights, nerf_architectures, nerf_embeddings: NeRFs of the prompts, see `encode_nerfs`.

        Raises:
            ValueError: placeholders and NeRFs that do not agree, with both counts.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("pass exactly one of input_ids and inputs_embeds")
        nerfs = {
            "nerf_weights": nerf_weights,
            "nerf_architectures": nerf_architectures,
            "nerf_embeddings": nerf_embeddings,
        }
        if any(value is not None for value in nerfs.values()):
            places = self.placeholders(input_ids, inputs_embeds)
            embeddings, _ = self.encode_nerfs(places, **nerfs)
            features = self.project(embeddings).flatten(1, 2)
            embeds = self.get_input_embeddings()(input_ids) if inputs_embeds is None else inputs_embeds
            inputs_embeds = insert(embeds, places, features)
        elif input_ids is not None and input_ids.shape[1] > 1:
            if not torch.compiler.is_compiling():
                self.check_no_placeholder(input_ids)
            if self.training and torch.is_grad_enabled():
                inputs_embeds = self._text_only_embeddings(input_ids)
        inputs = {
            "input_ids": input_ids if inputs_embeds is None else None,
            "attention_mask": attention_mask,
            "position_ids": position_ids,
            "past_key_values": past_key_values,
            "inputs_embeds": inputs_embeds,
        }
        return self.language_model(**{key: value for key, value in inputs.items() if value is not None}, **kwargs)

    def _text_only_embeddings(self, input_ids: Tensor) -> Tensor | None:
        """Keep the projector in the graph of a text-only batch: its gradient is zero, not missing.

        Otherwise one process of a data-parallel group would wait for the others' gradients (or their gathered weights).
        """
        if not any(p.requires_grad for p in self.projector.parameters()):
            return None
        embeds = self.get_input_embeddings()(input_ids)
        nothing = self.project(torch.zeros(1, *self.config.embedding_shape, device=self.device))
        return embeds + 0.0 * nothing.sum().to(embeds.dtype)


def execution_device(module: nn.Module) -> torch.device | None:
    """Where accelerate runs a module whose weights it holds elsewhere; None for one that it has no hook on."""
    hooks = [getattr(each, "_hf_hook", None) for each in module.modules()]
    for each in [inner for hook in hooks for inner in getattr(hook, "hooks", (hook,))]:
        device = getattr(each, "execution_device", None)
        if device is not None:
            return torch.device(device)
    return None


_NO_ARCHITECTURES = "nerf_weights came without nerf_architectures; pass all the processor returned"
