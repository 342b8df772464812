"""The multimodal model: a causal language model that reads NeRFs through a frozen encoder and a projector.

Sources: the paper's section 4 and docs/released_format.md#llana-checkpoint. Around any `AutoModelForCausalLM` stand

* `nerf_encoder`, an encoder of any kind that is part of the state dict but never trained: always in evaluation mode, without
  gradients, in float32 whatever the model is cast or quantised to (`gmn_encoder.encoders.frozen`);
* `projector`, ``D -> 1024 -> 2048 -> hidden`` with GELU, which turns an embedding into a token.

The processor writes one placeholder token for each token of a NeRF; their embeddings are replaced, in order, by what the
projector makes of the NeRFs. `generate` encodes once: from then on embeddings travel, one row a NeRF, so that beams, several
return sequences and continued caches repeat and cut them like any other input (`nerf_inputs.py` describes the tensors).

Shapes: B prompts, L tokens, K most NeRFs in a prompt, T tokens a NeRF, D embedding (1024), H hidden size of the backbone.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, GenerationMixin, PreTrainedModel

from gmn_encoder.encoders.base import NerfEncoder, encoder_class
from gmn_encoder.encoders.frozen import frozen, frozen_copy
from gmn_encoder.nerfs.record import Nerf

from .configuration import LlanaGmnConfig
from .hub import HUB_OPTIONS, push_model
from .model_card import write_model_card
from .nerf_inputs import (
    NERF_INPUTS,
    NOTHING,
    align_embeddings,
    check_batch,
    check_counts,
    embedded_rows,
    unpack_nerfs,
)
from .projector import NerfProjector


class LlanaGmnPreTrainedModel(PreTrainedModel):
    config_class = LlanaGmnConfig
    config: LlanaGmnConfig
    base_model_prefix = "model"
    input_modalities = "text"
    supports_gradient_checkpointing = True
    _no_split_modules = ["NerfProjector"]  # noqa: RUF012 (the base class's type; the encoder brings its own)
    _skip_keys_device_placement = ["past_key_values"]  # noqa: RUF012
    _keep_in_fp32_modules = ["nerf_encoder"]  # noqa: RUF012 (quantisers leave these alone too)
    _keep_in_fp32_modules_strict = ["nerf_encoder"]  # noqa: RUF012
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True

    def _init_weights(self, module: nn.Module) -> None:
        # The backbone initialises itself; encoder and projector start as torch layers do.
        if isinstance(module, nn.Linear | nn.Embedding | nn.LayerNorm):
            module.reset_parameters()


class LlanaGmnForConditionalGeneration(LlanaGmnPreTrainedModel, GenerationMixin):
    """Text from prompts with NeRFs in them."""

    def __init__(self, config: LlanaGmnConfig) -> None:
        super().__init__(config)
        encoder = config.encoder_config
        self.nerf_encoder = frozen(encoder_class(encoder.model_type))(encoder) if config.use_encoder else None
        self.projector = NerfProjector(config)
        self.language_model = AutoModelForCausalLM.from_config(config.text_config)
        self._backbone_inputs = set(inspect.signature(self.language_model.forward).parameters)
        self.post_init()

    @property
    def dtype(self) -> torch.dtype:
        """The backbone's: the encoder stays in float32."""
        return self.language_model.dtype

    @property
    def device(self) -> torch.device:
        """Where prompts go. Asked for at every token: a walk through the encoder in search of a parameter would cost more."""
        return self.language_model.device

    def get_input_embeddings(self) -> nn.Module:
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.language_model.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        return self.language_model.get_output_embeddings()

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        self.language_model.set_output_embeddings(new_embeddings)

    def get_decoder(self) -> nn.Module:
        return self.language_model.get_decoder()

    def set_nerf_encoder(self, encoder: NerfEncoder) -> None:
        """Put a frozen copy of an encoder where the model's own stands, or where it has none.

        Raises `ValueError` for an encoder of another embedding size than the projector reads.
        """
        if encoder.embedding_dim != self.config.embedding_dim:
            raise ValueError(
                f"the encoder makes embeddings of {encoder.embedding_dim}, the model's projector reads "
                f"{self.config.embedding_dim}; use the encoder the model was made for"
            )
        before = getattr(self.nerf_encoder, "_no_split_modules", [])
        self.nerf_encoder = frozen_copy(encoder).to(self.device)
        kept = set(self._no_split_modules).difference(before)
        self._no_split_modules = [*kept, *self.nerf_encoder._no_split_modules]
        self.config.encoder_config, self.config.use_encoder = encoder.config, True

    def encode(self, nerfs: Sequence[Nerf], *, batch_size: int = 16) -> Tensor:
        """Embeddings ``(len(nerfs), D)`` float32, to be passed in place of the NeRFs.

        Raises `ValueError` where the model was built without an encoder.
        """
        if self.nerf_encoder is None:
            raise ValueError(
                "this model has no encoder (use_encoder is false); pass precomputed embeddings, "
                "or convert it again with --encoder"
            )
        return self.nerf_encoder.encode(nerfs, batch_size=batch_size, dtype=getattr(torch, self.config.encoder_dtype))

    def encode_nerfs(
        self,
        input_ids: Tensor,
        *,
        nerf_weights: Tensor | None = None,
        nerf_architectures: Tensor | None = None,
        nerf_embeddings: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The embeddings of a batch's NeRFs, checked against its placeholders.

        Args:
            input_ids: token numbers of the prompts ``(B, L)``.
            nerf_weights, nerf_architectures: NeRFs as the processor wrote them.
            nerf_embeddings: embeddings ``(B, K, D)`` beside `nerf_architectures`, as the processor wrote them; or alone:
                ``(B, K, D)`` for prompts with K NeRFs each, or ``(N, D)`` in the order of the placeholders.

        Returns:
            embeddings ``(B, K, D)`` and kinds ``(B, K)``, 0 where a prompt has fewer than K NeRFs.
        """
        expected = self._placeholders(input_ids).sum(dim=1)
        if nerf_architectures is None:
            if nerf_embeddings is None:
                raise ValueError("nerf_weights came without nerf_architectures; pass all the processor returned")
            embeddings, kinds = align_embeddings(nerf_embeddings, expected // self.config.tokens_per_nerf)
        else:
            check_batch(input_ids, nerf_weights, nerf_architectures, nerf_embeddings)
            kinds = nerf_architectures[..., 0]
            found = unpack_nerfs(nerf_weights, nerf_architectures)
            if nerf_embeddings is None:
                embeddings = torch.zeros(*kinds.shape, self.config.embedding_dim, device=kinds.device)
            else:
                embeddings = nerf_embeddings
            if found:
                encoded = self.encode([nerf for _, _, nerf in found]).to(embeddings.device)
                place = torch.tensor([(b, k) for b, k, _ in found], device=embeddings.device).unbind(1)
                embeddings = embeddings.to(encoded.dtype).index_put(place, encoded)
        if embeddings.shape[-1] != self.config.embedding_dim:
            raise ValueError(
                f"NeRF embeddings have size {embeddings.shape[-1]}; this model's projector reads {self.config.embedding_dim}. "
                "Embed with the encoder the model was trained with"
            )
        check_counts((kinds != NOTHING).sum(dim=1), expected, self.config.tokens_per_nerf)
        return embeddings, kinds

    def get_nerf_features(self, embeddings: Tensor) -> Tensor:
        """Project embeddings ``(N, D)`` to token embeddings ``(N * T, H)``."""
        weight = next((p for p in self.projector.parameters() if p.is_floating_point()), None)
        dtype = self.dtype if weight is None else weight.dtype
        features = self.projector(embeddings.to(self.device, dtype))
        return features.reshape(-1, self.config.get_text_config().hidden_size)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: Tensor | None = None,
        nerf_weights: Tensor | None = None,
        nerf_architectures: Tensor | None = None,
        nerf_embeddings: Tensor | None = None,
        labels: Tensor | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs: Any,
    ) -> Any:
        """The backbone's own output for prompts whose placeholders became NeRFs.

        Args:
            input_ids: token numbers ``(B, L)``, or `inputs_embeds` ``(B, L, H)`` in which the NeRFs already stand.
            nerf_weights, nerf_architectures, nerf_embeddings: NeRFs of the prompts, see `encode_nerfs`.
            labels: tokens to predict ``(B, L)``, -100 where nothing is to be learned; the loss is the backbone's.

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
            if input_ids is None:
                raise ValueError("NeRFs need input_ids to show their places; inputs_embeds must hold them already")
            embeddings, kinds = self.encode_nerfs(input_ids, **nerfs)
            features = self.get_nerf_features(embeddings[kinds != NOTHING])
            inputs_embeds = self._insert(input_ids, self._placeholders(input_ids), features)
        elif input_ids is not None and input_ids.shape[1] > 1 and not torch.compiler.is_compiling():
            self._check_no_placeholder(input_ids)
            if self.training and torch.is_grad_enabled():
                inputs_embeds = self._text_only_embeddings(input_ids)
        inputs = {
            "input_ids": input_ids if inputs_embeds is None else None,
            "inputs_embeds": inputs_embeds,
            "attention_mask": attention_mask,
            "position_ids": position_ids,
            "past_key_values": past_key_values,
            "labels": labels,
            "logits_to_keep": logits_to_keep,
        }
        return self.language_model(**{k: v for k, v in inputs.items() if k in self._backbone_inputs}, **kwargs)

    @torch.no_grad()
    def generate(self, inputs: Tensor | None = None, *args: Any, **kwargs: Any) -> Any:
        """`GenerationMixin.generate` with the processor's outputs as keyword arguments. The encoder runs once."""
        nerfs = {name: value for name in NERF_INPUTS if (value := kwargs.pop(name, None)) is not None}
        input_ids = inputs if inputs is not None else kwargs.get("input_ids")
        if nerfs:
            if input_ids is None:
                raise ValueError("NeRFs need input_ids to show their places; inputs_embeds must hold them already")
            generation_config = kwargs.get("generation_config") or (args[0] if args else None) or self.generation_config
            if kwargs.get("prefill_chunk_size") or generation_config.prefill_chunk_size:
                raise ValueError("prompts with NeRFs cannot be read in chunks; leave prefill_chunk_size unset")
            embeddings, kinds = self.encode_nerfs(input_ids, **nerfs)
            kwargs |= {"nerf_embeddings": embeddings, "nerf_architectures": embedded_rows(kinds)}
        elif input_ids is not None and kwargs.get("past_key_values") is None:  # a cache may hold them already
            self._check_no_placeholder(input_ids)
        return super().generate(inputs, *args, **kwargs)  # type: ignore[misc]

    def prepare_inputs_for_generation(
        self,
        input_ids: Tensor,
        next_sequence_length: int | None = None,
        past_key_values: Any = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        is_first_iteration: bool | None = False,
        nerf_embeddings: Tensor | None = None,
        nerf_architectures: Tensor | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """NeRFs enter where a prompt is read, at prefill, and again at every step only where there is no cache."""
        model_inputs = super().prepare_inputs_for_generation(  # type: ignore[misc]
            input_ids,  # type: ignore[arg-type]
            next_sequence_length=next_sequence_length,
            past_key_values=past_key_values,
            attention_mask=attention_mask,  # type: ignore[arg-type]
            inputs_embeds=inputs_embeds,
            is_first_iteration=is_first_iteration,
            **kwargs,
        )
        reads_prompt = is_first_iteration or not kwargs.get("use_cache", True)
        if nerf_embeddings is None or nerf_architectures is None or not reads_prompt:
            return model_inputs
        input_ids = input_ids.to(self.device)
        present = nerf_architectures[..., 0] != NOTHING
        features = self.get_nerf_features(nerf_embeddings[present])
        # The prompt's own placeholders: not one that the backbone happens to have written since.
        placeholders = self._placeholders(input_ids)
        tokens = present.sum(dim=1, keepdim=True).to(self.device) * self.config.tokens_per_nerf
        placeholders &= placeholders.cumsum(dim=1) <= tokens
        # What a cache already holds is neither read nor filled again.
        length = model_inputs["input_ids"].shape[1]
        read = placeholders.clone()
        read[:, : read.shape[1] - length] = False
        model_inputs["inputs_embeds"] = self._insert(
            model_inputs["input_ids"], read[:, read.shape[1] - length :], features[read[placeholders]]
        )
        model_inputs["input_ids"] = None
        return model_inputs

    def save_pretrained(  # type: ignore[override]
        self,
        save_directory: str | os.PathLike[str],
        is_main_process: bool = True,
        *,
        push_to_hub: bool = False,
        **kwargs: Any,
    ) -> None:
        """`PreTrainedModel.save_pretrained`, and a model card where there is none yet."""
        hub = {name: kwargs.pop(name) for name in HUB_OPTIONS if push_to_hub and name in kwargs}
        super().save_pretrained(save_directory, is_main_process=is_main_process, **kwargs)
        if is_main_process:
            write_model_card(self.config, save_directory)
            if push_to_hub:
                self.push_to_hub(hub.pop("repo_id", os.path.basename(os.path.abspath(save_directory))), **hub)

    def push_to_hub(self, repo_id: str, **options: Any) -> Any:  # type: ignore[override]
        """Upload the model with a card of ours, where transformers would put an empty one: see `llana_gmn.hub.push_model`."""
        return push_model(self, repo_id, **options)

    def _placeholders(self, input_ids: Tensor) -> Tensor:
        return input_ids == self.config.nerf_token_id

    def _check_no_placeholder(self, input_ids: Tensor) -> None:
        if found := int(self._placeholders(input_ids).sum()):
            raise ValueError(
                f"the prompts hold {found // self.config.tokens_per_nerf} NeRF placeholders, but 0 NeRFs were passed; "
                "pass all that the processor returned (model(**inputs), model.generate(**inputs))"
            )

    def _insert(self, input_ids: Tensor, places: Tensor, features: Tensor) -> Tensor:
        embeds = self.get_input_embeddings()(input_ids)
        features = features.to(embeds.device, embeds.dtype)
        return embeds.masked_scatter(places.unsqueeze(-1).to(embeds.device), features)

    def _text_only_embeddings(self, input_ids: Tensor) -> Tensor | None:
        """Keep the projector in the graph of a text-only batch: its gradient is zero, not missing.

        Otherwise one process of a data-parallel group would wait for the others' gradients (or their gathered weights).
        """
        if not any(p.requires_grad for p in self.projector.parameters()):
            return None
        embeds = self.get_input_embeddings()(input_ids)
        nothing = self.get_nerf_features(torch.zeros(1, self.config.embedding_dim, device=self.device))
        return embeds + 0.0 * nothing.sum().to(embeds.dtype)
