"""`generate` for prompts with NeRFs: encoded once, from then on embeddings travel.

One row a NeRF, so that beams, several return sequences and continued caches repeat and cut them like any other input
(`nerf_inputs.py` describes the tensors).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import GenerationMixin

from .nerf_inputs import NERF_INPUTS, NOTHING, embedded_rows, insert

_MAY_HOLD_NERFS = ("past_key_values", "inputs_embeds")


class NerfGenerationMixin(GenerationMixin):
    """`GenerationMixin` of a model whose `model` is a `LlanaGmnModel`."""

    @torch.no_grad()
    def generate(self: Any, inputs: Tensor | None = None, *args: Any, **kwargs: Any) -> Any:
        """`GenerationMixin.generate` with the processor's outputs as keyword arguments. The encoder runs once."""
        nerfs = {name: value for name in NERF_INPUTS if (value := kwargs.pop(name, None)) is not None}
        input_ids = inputs if inputs is not None else kwargs.get("input_ids")
        generation_config = kwargs.get("generation_config") or (args[0] if args else None) or self.generation_config
        if nerfs:
            if kwargs.get("prefill_chunk_size") or generation_config.prefill_chunk_size:
                raise ValueError("prompts with NeRFs cannot be read in chunks; leave prefill_chunk_size unset")
            places = self.model.placeholders(input_ids, kwargs.get("inputs_embeds"))
            embeddings, kinds = self.model.encode_nerfs(places, **nerfs)
            kwargs |= {"nerf_embeddings": embeddings, "nerf_architectures": embedded_rows(kinds)}
        elif input_ids is not None and not any(kwargs.get(key) is not None for key in _MAY_HOLD_NERFS):
            self.model.check_no_placeholder(input_ids)
        kwargs["suppress_tokens"] = self._suppressed(generation_config, kwargs.get("suppress_tokens"))
        library: Any = super()
        return library.generate(inputs, *args, **kwargs)

    def _suppressed(self: Any, generation_config: Any, wanted: list[int] | None) -> list[int]:
        """What is never generated: the caller's tokens, and the placeholder, which has no NeRF then."""
        own = wanted if wanted is not None else generation_config.suppress_tokens
        return sorted({*(own or ()), self.config.nerf_token_id})

    def prepare_inputs_for_generation(
        self: Any,
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
        library: Any = super()
        model_inputs = library.prepare_inputs_for_generation(
            input_ids,
            next_sequence_length=next_sequence_length,
            past_key_values=past_key_values,
            attention_mask=attention_mask,
            inputs_embeds=inputs_embeds,
            is_first_iteration=is_first_iteration,
            **kwargs,
        )
        # An assistant's first step is not called its first: its cache is still empty then.
        empty = past_key_values is None or not past_key_values.get_seq_length()
        reads_prompt = is_first_iteration or empty or not kwargs.get("use_cache", True)
        if nerf_embeddings is None or nerf_architectures is None or not reads_prompt:
            return model_inputs
        read_ids, read_embeds = model_inputs.get("input_ids"), model_inputs.get("inputs_embeds")
        # Token numbers show the places, where they are those of the embeddings.
        has_ids = read_embeds is None or input_ids.shape[1] == read_embeds.shape[1]
        places = self.model.placeholders(input_ids if has_ids else None, read_embeds).to(self.device)
        present = (nerf_architectures[..., 0] != NOTHING).to(self.device)
        tokens = present.sum(dim=1, keepdim=True) * self.config.tokens_per_nerf
        length = (read_ids if read_embeds is None else read_embeds).shape[1]
        if (
            read_embeds is None
            and length == input_ids.shape[1]
            and torch.equal(places.sum(dim=1, keepdim=True), tokens)
        ):
            nerfs = {"nerf_embeddings": nerf_embeddings, "nerf_architectures": nerf_architectures}
            return {**model_inputs, **nerfs}
        # The prompt's own placeholders: not one that the backbone happens to have written since.
        places &= places.cumsum(dim=1) <= tokens
        features = self.model.project(nerf_embeddings).flatten(1, 2)
        embeds = self.get_input_embeddings()(read_ids) if read_embeds is None else read_embeds
        # What a cache already holds is neither read nor filled again.
        model_inputs["inputs_embeds"] = insert(embeds, places, features, first=places.shape[1] - length)
        model_inputs["input_ids"] = None
        return model_inputs
