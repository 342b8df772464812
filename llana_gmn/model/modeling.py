"""The multimodal model: a causal language model that reads NeRFs through a frozen encoder and a projector.

Sources: the paper's section 4 and docs/released_format.md#llana-checkpoint. `LlanaGmnModel` (`body.py`) holds, around the
body of any `AutoModelForCausalLM`,

* `nerf_encoder`, an encoder of any kind that is part of the state dict but never trained: always in evaluation mode, without
  gradients, in float32 whatever the model is cast or quantised to (`gmn_encoder.encoders.frozen`);
* `projector`, ``D -> 1024 -> 2048 -> hidden`` with GELU, which turns an embedding into a token, or each of a NeRF's vectors
  (`LlanaGmnConfig.nerf_tokens`);

`LlanaGmnForConditionalGeneration` has it as `model`, and the backbone's head as `lm_head` (`backbone.py`).

The processor writes one placeholder token for each token of a NeRF; their embeddings are replaced, in order, by what the
projector makes of the NeRFs (`nerf_inputs.py` describes the tensors, `generation.py` what `generate` does with them).

Shapes: B prompts, L tokens, K most NeRFs in a prompt, N NeRFs in all, T tokens a NeRF, E shape of what the encoder gives a NeRF,
``(D,)`` or ``(V, D)``, D embedding (1024), H hidden size of the backbone.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs

from gmn_encoder.encoders.base import NerfEncoder
from gmn_encoder.nerfs.record import Nerf

from ..names import BACKBONE
from .backbone import put_together, take_apart, tied_weights
from .body import LlanaGmnModel, LlanaGmnPreTrainedModel
from .configuration import LlanaGmnConfig
from .generation import NerfGenerationMixin
from .hub import HUB_OPTIONS, push_model
from .model_card import write_model_card
from .nerf_inputs import check_batch
from .projector import NerfProjector


class LlanaGmnForConditionalGeneration(LlanaGmnPreTrainedModel, NerfGenerationMixin):
    """Text from prompts with NeRFs in them."""

    _tp_plan = {"lm_head": "colwise_gather_output"}  # noqa: RUF012 (the body's plan is its configuration's)

    def __init__(self, config: LlanaGmnConfig) -> None:
        super().__init__(config)
        causal = AutoModelForCausalLM.from_config(config.text_config)
        body, head, self._backbone_forward = take_apart(causal)
        self._tied_weights_keys = tied_weights(causal, self._backbone_forward, BACKBONE.rstrip("."))
        self.model = LlanaGmnModel(config, body)
        self.lm_head = head  # after the embeddings, whose name a tied weight has then
        self._can_compile_fullgraph = body._can_compile_fullgraph
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if module is self.lm_head:
            self.language_model._init_weights(module)
        else:
            super()._init_weights(module)

    @property
    def nerf_encoder(self) -> Any:
        return self.model.nerf_encoder

    @property
    def projector(self) -> NerfProjector:
        return self.model.projector

    @property
    def language_model(self) -> PreTrainedModel:
        """The backbone's body."""
        return self.model.language_model

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        self.lm_head = new_embeddings

    def get_backbone(self) -> Any:
        """The causal language model inside, which shares its weights."""
        backbone = put_together(self.config.get_text_config(), self.model.language_model, self.lm_head)
        backbone.generation_config = self.generation_config
        return backbone

    def set_backbone(self, causal: PreTrainedModel) -> None:
        """Take over the parts of a causal language model of the configuration that this model has."""
        self.model.language_model, self.lm_head, self._backbone_forward = take_apart(causal)

    def set_nerf_encoder(self, encoder: NerfEncoder) -> None:
        """`LlanaGmnModel.set_nerf_encoder`."""
        kept = set(self._no_split_modules).difference(self.model._no_split_modules)
        self.model.set_nerf_encoder(encoder)
        self._no_split_modules = [*kept, *self.model._no_split_modules]

    def encode(self, nerfs: Sequence[Nerf], **options: Any) -> Tensor:
        """`LlanaGmnModel.encode`: embeddings ``(len(nerfs), *E)``, to be passed in place of the NeRFs."""
        return self.model.encode(nerfs, **options)

    def encode_global(self, nerfs: Sequence[Nerf], *, batch_size: int = 16) -> Tensor:
        """`LlanaGmnModel.encode_global`: one vector a NeRF ``(len(nerfs), D)``, to compare NeRFs by."""
        return self.model.encode_global(nerfs, batch_size=batch_size)

    def get_nerf_features(
        self,
        nerf_weights: Tensor | None = None,
        nerf_architectures: Tensor | None = None,
        nerf_embeddings: Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutputWithPooling:
        """`LlanaGmnModel.get_nerf_features`: token embeddings ``(N, T, H)`` of NeRFs as `pooler_output`."""
        return self.model.get_nerf_features(nerf_weights, nerf_architectures, nerf_embeddings, **kwargs)

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
        labels: Tensor | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs: Unpack[TransformersKwargs],
    ) -> Any:
        """The backbone's own output for prompts whose placeholders became NeRFs.

        Args:
            input_ids: token numbers ``(B, L)``, or `inputs_embeds` ``(B, L, H)``, as in `LlanaGmnModel.forward`.
            nerf_weights, nerf_architectures, nerf_embeddings: NeRFs of the prompts, see `LlanaGmnModel.encode_nerfs`.
            labels: tokens to predict ``(B, L)``, -100 where nothing is to be learned; the loss is the backbone's.
            logits_to_keep: number of last positions to compute logits of, or their indices; 0 for all.

        Raises:
            ValueError: placeholders and NeRFs that do not agree, with both counts.
        """
        if nerf_weights is not None and nerf_architectures is not None:
            # Here, and not in the body, because `torch.compile` breaks its graph: at best in the outermost call.
            prompts = input_ids if inputs_embeds is None else inputs_embeds
            if prompts is not None:
                check_batch(prompts, nerf_weights, nerf_architectures)
            nerf_embeddings = self.model.embed(nerf_weights, nerf_architectures, nerf_embeddings)
            nerf_weights = None
            # The kinds are all that is still asked for, and rows of every length would compile anew.
            nerf_architectures = nerf_architectures[..., :1]
        body = functools.partial(
            self.model,
            nerf_weights=nerf_weights,
            nerf_architectures=nerf_architectures,
            nerf_embeddings=nerf_embeddings,
        )
        return self._backbone_forward(
            self,
            body,
            input_ids=input_ids,
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            labels=labels,
            logits_to_keep=logits_to_keep,
            **kwargs,
        )

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
        """Upload the model with a card of ours, not an empty one: see `llana_gmn.model.hub.push_model`."""
        return push_model(self, repo_id, **options)
