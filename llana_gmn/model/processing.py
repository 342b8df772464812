"""The processor: prompts and NeRFs in, the model's inputs out.

Every ``<nerf>`` in a prompt (LLaNA's ``<point>`` too) stands for one NeRF and becomes ``<point_start>``, T times
``<point_patch>``, ``<point_end>``. NeRFs come as records, as files, or as embeddings; `nerf_inputs.py` says in which tensors
they go on.

Shapes: B prompts, L tokens, K most NeRFs in a prompt, T tokens a NeRF, E of what stands for a NeRF, ``(D,)`` or ``(V, D)``, D
embedding (1024).
"""

from __future__ import annotations

import functools
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from typing import Any, Unpack

import torch
from torch import Tensor
from transformers import BatchFeature, ProcessorMixin
from transformers.processing_utils import MultiModalData, ProcessingKwargs, TextKwargs
from transformers.utils.chat_template_utils import render_jinja_template

from gmn_encoder.nerfs.record import Nerf

from ..names import NERF_TOKENS
from ..prompts.chat_template import (
    PLACEHOLDERS,
    VICUNA_TEMPLATE,
    assistant_masks,
    content_text,
    conversation_parts,
    for_template,
    is_batch,
)
from ..prompts.literal import special_tokens, spellings, tokenize
from .configuration import LlanaGmnConfig, embedding_shape
from .hub import push_processor
from .nerf_inputs import NERF_INPUTS, pack_nerfs
from .nerf_items import NerfLike, OnFlag, group_nerfs, read_nerf, warn_of_flag

_EXTRAS = ("return_mm_token_type_ids", "return_text_replacement_offsets")

TEMPLATE_NAME = "chat_template.jinja"
"""The file of a saved processor's prompt."""


class LlanaGmnProcessorKwargs(ProcessingKwargs, total=False):
    """Options of a call, and their defaults."""

    _defaults = {"text_kwargs": {"padding": True, "padding_side": "left"}}  # type: ignore[misc]  # noqa: RUF012


class LlanaGmnProcessor(ProcessorMixin):
    """Tokenizer and NeRF reading.

    Args:
        tokenizer: the backbone's tokenizer, with the three NeRF tokens in its vocabulary (`add_nerf_tokens`).
        chat_template: a template, or several by name; None for LLaNA's Vicuna v1.1 prompt as ``"default"`` and the template
            that the tokenizer brought along, if any, as ``"backbone"``.
        tokens_per_nerf: tokens of a NeRF, T, as in the model's configuration.
        embedding_dim: size of an embedding, D, as in the model's configuration.
        vectors_per_nerf: number of the encoder's vectors that stand for a NeRF, V, as in the model's configuration.
        nerf_token, nerf_start_token, nerf_end_token: the tokens of the vocabulary that a placeholder becomes.
    """

    valid_processor_kwargs = LlanaGmnProcessorKwargs

    @classmethod
    def get_processor_dict(
        cls, pretrained_model_name_or_path: Any, **kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """As `ProcessorMixin.get_processor_dict`. Raises `FileNotFoundError` where a saved processor has lost its template:
        another prompt would be other answers."""
        given = kwargs.get("chat_template")
        values, rest = super().get_processor_dict(pretrained_model_name_or_path, **kwargs)
        if values and not values.get("chat_template") and given is None:
            raise FileNotFoundError(
                f"{pretrained_model_name_or_path}/{TEMPLATE_NAME}: no such file; it holds the prompt that the model was trained "
                "with: copy it from where the model came from"
            )
        return values, rest

    def __init__(
        self,
        tokenizer: Any = None,
        chat_template: Any = None,
        tokens_per_nerf: int = 1,
        embedding_dim: int = 1024,
        nerf_token: str = NERF_TOKENS[0],
        nerf_start_token: str = NERF_TOKENS[1],
        nerf_end_token: str = NERF_TOKENS[2],
        vectors_per_nerf: int = 1,
    ) -> None:
        if tokenizer is None:
            raise ValueError("LlanaGmnProcessor needs the tokenizer of its backbone")
        self.tokens_per_nerf = tokens_per_nerf
        self.embedding_dim = embedding_dim
        self.vectors_per_nerf = vectors_per_nerf
        self.nerf_token, self.nerf_start_token, self.nerf_end_token = nerf_token, nerf_start_token, nerf_end_token
        if chat_template is None:
            own = getattr(tokenizer, "chat_template", None)
            chat_template = VICUNA_TEMPLATE
            if isinstance(own, str) and own != VICUNA_TEMPLATE:
                chat_template = {"default": VICUNA_TEMPLATE, "backbone": own}
        if hasattr(tokenizer, "legacy"):
            # It decides where Llama's tokenizer puts spaces, and transformers 5 does not save it by itself.
            tokenizer.init_kwargs.setdefault("legacy", tokenizer.legacy)
        super().__init__(tokenizer, chat_template=chat_template)
        vocabulary = tokenizer.get_vocab()
        if missing := [t for t in self._nerf_tokens if t not in vocabulary]:
            raise ValueError(
                f"the tokenizer has no token {missing[0]!r}; "
                "add it first with llana_gmn.model.processing.add_nerf_tokens(tokenizer) and resize the backbone's "
                "embeddings (llana_gmn.assemble does both)"
            )
        self.nerf_token_id = vocabulary[nerf_token]
        expanded = re.escape(self.nerf_text)
        self._placeholder = re.compile("|".join([*map(re.escape, PLACEHOLDERS), expanded]))

    @property
    def embedding_shape(self) -> tuple[int, ...]:
        """Shape of what stands for a NeRF."""
        return embedding_shape(self.vectors_per_nerf, self.embedding_dim)

    @property
    def _nerf_tokens(self) -> tuple[str, str, str]:
        return self.nerf_token, self.nerf_start_token, self.nerf_end_token

    @property
    def nerf_text(self) -> str:
        """What a placeholder becomes."""
        return self.nerf_start_token + self.nerf_token * self.tokens_per_nerf + self.nerf_end_token

    @property
    def model_input_names(self) -> list[str]:
        return [*self.tokenizer.model_input_names, *NERF_INPUTS]

    def save_pretrained(self, save_directory: Any, push_to_hub: bool = False, **kwargs: Any) -> Any:
        """As `ProcessorMixin.save_pretrained`; the sentencepiece model that a Llama's tokenizer was made from goes along."""
        model = getattr(self.tokenizer, "vocab_file", None) or ""
        if model.endswith(".model") and os.path.isfile(model):
            os.makedirs(save_directory, exist_ok=True)
            kept = os.path.join(save_directory, os.path.basename(model))
            if not os.path.exists(kept):
                shutil.copyfile(model, kept)
        return super().save_pretrained(save_directory, push_to_hub=push_to_hub, **kwargs)

    def __call__(
        self,
        nerfs: NerfLike | Sequence[Any] | None = None,
        text: str | Sequence[str] | None = None,
        **kwargs: Unpack[LlanaGmnProcessorKwargs],
    ) -> BatchFeature:
        """Tokenize prompts and read their NeRFs.

        Args:
            nerfs: `Nerf` records, paths (of NeRFs, or of embeddings: `.npy`, `.h5`) or embeddings, arrays ``E`` or
                ``(n, *E)``; in the order of the placeholders, or as one list for each prompt.
            text: a prompt or several, with one ``<nerf>`` for each NeRF, also none.
            **kwargs: options of the tokenizer, as they are or in `text_kwargs`. By default prompts are padded to the longest, on
                the left.

        Returns:
            ``input_ids`` and ``attention_mask`` ``(B, L)`` and, where there are NeRFs, the tensors of `nerf_inputs.py`. With
            `return_mm_token_type_ids` also ``mm_token_type_ids`` ``(B, L)``, 1 on the tokens of NeRFs; with
            `return_text_replacement_offsets` where the placeholders stood and stand, as `ProcessorMixin` describes it.

        Raises:
            ValueError: placeholders and NeRFs in different numbers, an embedding of another size, a truncation that cuts a
                placeholder off, a broken file.
            FileNotFoundError: no such NeRF.
        """
        prompts = self._check_inputs(nerfs, text, kwargs)
        # The side of padding is the processor's: the tokenizer's own is often the one of the backbone's training.
        defaults = {key: value for key, value in self.tokenizer.init_kwargs.items() if key != "padding_side"}
        merged: dict[str, Any] = self._merge_kwargs(
            LlanaGmnProcessorKwargs,  # type: ignore[arg-type]
            tokenizer_init_kwargs=defaults,
            **kwargs,
        )
        options = merged["text_kwargs"]
        asked = {name for name in _EXTRAS if options.pop(name, None) or merged.get(name)}
        return_tensors = options.pop("return_tensors", None)
        if len(prompts) == 1 and options["padding"] is True and not options.get("pad_to_multiple_of"):
            options["padding"] = False  # there is nothing to pad, and the tokenizer may have no token for it
        groups = group_nerfs(
            nerfs, [len(self._placeholder.findall(prompt)) for prompt in prompts], self.embedding_shape
        )
        packed = pack_nerfs(groups, embedding_shape=self.embedding_shape)
        expanded, offsets = self._replace_placeholders(prompts, packed)
        encoded = tokenize(self.tokenizer, expanded, options)
        self._check_placeholders(encoded["input_ids"], groups)
        if "return_mm_token_type_ids" in asked:
            encoded["mm_token_type_ids"] = self.create_mm_token_type_ids(encoded["input_ids"])
        features = BatchFeature(encoded, tensor_type=return_tensors)
        features.update(packed)
        if "return_text_replacement_offsets" in asked:
            features["text_replacement_offsets"] = offsets
        return features

    def replace_nerf_token(self, nerf_inputs: Mapping[str, Any], nerf_idx: int, **kwargs: Any) -> str:
        """What the placeholder of a NeRF becomes; the same for all, whatever the NeRF."""
        return self.nerf_text

    def create_mm_token_type_ids(self, input_ids: Sequence[Sequence[int]]) -> list[list[int]]:
        """1 on the tokens of NeRFs, 0 elsewhere."""
        return [[int(token == self.nerf_token_id) for token in ids] for ids in input_ids]

    def _get_num_multimodal_tokens(self, nerf_sizes: Sequence[Any] | None = None, **kwargs: Any) -> MultiModalData:
        """Tokens of each of the NeRFs whose sizes are given, as ``num_nerf_tokens``; the sizes make no difference."""
        data = MultiModalData()
        if nerf_sizes is not None:
            data.num_nerf_tokens = [self.tokens_per_nerf] * len(nerf_sizes)  # type: ignore[attr-defined]
        return data

    def check_model(self, config: LlanaGmnConfig) -> None:
        """Raise `ValueError` unless this is the processor of a model with that configuration, as far as sizes tell."""
        vocabulary = self.tokenizer.get_vocab()
        sizes = (
            ("embeddings of size {}", self.embedding_dim, config.embedding_dim),
            ("{} vectors a NeRF", self.vectors_per_nerf, config.vectors_per_nerf),
            ("{} tokens a NeRF", self.tokens_per_nerf, config.tokens_per_nerf),
            (f"number {{}} for {self.nerf_token}", self.nerf_token_id, config.nerf_token_id),
        )
        for size, own, models in sizes:
            if own != models:
                raise ValueError(
                    f"the processor has {size.format(own)}, the model {size.format(models)}; "
                    "use the one that was saved with the model"
                )
        room = config.get_text_config().vocab_size
        if (last := max(vocabulary.values())) >= room:
            raise ValueError(
                f"the processor's tokenizer has tokens up to number {last}, the model's vocabulary ends at {room - 1}; "
                "use the one that was saved with the model"
            )

    def apply_chat_template(  # type: ignore[override]
        self,
        conversation: Sequence[Any],
        chat_template: str | None = None,
        *,
        add_generation_prompt: bool = False,
        continue_final_message: bool = False,
        return_assistant_tokens_mask: bool = False,
        tokenize: bool = False,
        return_dict: bool = False,
        return_tensors: str | None = None,
        processor_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        """A conversation, or several, as a prompt; with `tokenize`, as the model's inputs.

        Content is written in the form that the template reads, a string or parts, whichever it was given in. Special tokens that
        are spelled out in it, and placeholders in parts, are text (`literal.py`): only the template and NeRFs write tokens.

        Args:
            conversation: messages ``{"role": ..., "content": text or parts}``; a part is ``{"type": "text", "text": ...}`` or
                ``{"type": "nerf", "path" | "nerf" | "embedding": ...}``.
            chat_template: a template or the name of one (``"backbone"``); None for the processor's default.
            return_assistant_tokens_mask: whether to add ``assistant_masks`` ``(B, L)``, 1 on the assistant's words and end token.
            processor_kwargs: keywords of `__call__`. Those of the tokenizer are also understood beside them; others go to the
                template.

        Returns:
            text, or token ids, or with `return_dict` a `BatchFeature`.

        Raises:
            ValueError: a template without a place for the NeRFs, and as `__call__`.
        """
        batched = is_batch(conversation)
        spelled = spellings({*special_tokens(self.tokenizer), *self._nerf_tokens, *PLACEHOLDERS})
        conversations = conversation if batched else [conversation]
        found = [conversation_parts(messages, spelled=spelled) for messages in conversations]
        options = {name: kwargs.pop(name) for name in [*kwargs] if name in TextKwargs.__annotations__}
        options |= processor_kwargs or {}
        template: Any = functools.partial(
            render_jinja_template,
            chat_template=self._template(chat_template),
            **{"nerf_placeholder": PLACEHOLDERS[0], **self.tokenizer.special_tokens_map, **kwargs},
        )
        written = for_template([messages for messages, _ in found], lambda asked: template(asked)[0])
        prompts, spans = template(
            written,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=continue_final_message,
            return_assistant_tokens_mask=return_assistant_tokens_mask,
        )
        self._check_written([messages for messages, _ in found], prompts)
        if not tokenize:
            return prompts if batched else prompts[0]
        if return_tensors is not None:
            options["return_tensors"] = return_tensors
        if self.tokenizer.bos_token and all(prompt.startswith(self.tokenizer.bos_token) for prompt in prompts):
            options.setdefault("add_special_tokens", False)
        if return_assistant_tokens_mask:
            options |= {"return_offsets_mapping": True, "return_text_replacement_offsets": True}
        nerfs = [each for _, each in found]
        features = self(nerfs if any(nerfs) else None, prompts, **options)
        if return_assistant_tokens_mask:
            masks = assistant_masks(features.pop("offset_mapping"), spans, features.pop("text_replacement_offsets"))
            features["assistant_masks"] = torch.tensor(masks) if return_tensors == "pt" else masks
        return features if return_dict else features["input_ids"]

    def post_process(self, generated: Tensor, inputs: Mapping[str, Any] | None = None) -> list[str]:
        """Answers as text, without the prompt if its `inputs` are given, special tokens and surrounding space."""
        if inputs is not None:
            generated = generated[:, inputs["input_ids"].shape[1] :]
        return [text.strip() for text in self.tokenizer.batch_decode(generated, skip_special_tokens=True)]

    def push_to_hub(self, repo_id: str, **options: Any) -> Any:
        """Upload the processor. It brings no card: that of the repository is its model's. See `model.hub.push_processor`."""
        return push_processor(self, repo_id, **options)

    def _check_written(self, conversations: Sequence[Sequence[Mapping[str, Any]]], prompts: Sequence[str]) -> None:
        """Raise `ValueError` where a template has no place for the NeRFs of a conversation."""
        for messages, prompt in zip(conversations, prompts, strict=True):
            expected = sum(len(self._placeholder.findall(content_text(message["content"]))) for message in messages)
            if (written := len(self._placeholder.findall(prompt))) != expected:
                raise ValueError(
                    f"the chat template wrote {written} of the conversation's {expected} NeRFs into the prompt; use one with a "
                    "place for the content of every message, such as this processor's default (chat_template=None)"
                )

    def _template(self, name: str | None) -> str:
        templates = self.chat_template if isinstance(self.chat_template, dict) else {"default": self.chat_template}
        template = templates.get("default" if name is None else name)
        if template is not None:
            return template
        if name is None or "{" not in name:
            raise ValueError(
                f"there is no chat template {name or 'default'!r}; this processor has {', '.join(map(repr, sorted(templates)))}"
            )
        return name

    def _check_inputs(self, nerfs: Any, text: Any, kwargs: Any) -> list[str]:
        """The prompts, as a list. Raises where something was passed that is no prompt, or in its place."""
        for other in ("images", "videos", "audio"):
            if kwargs.pop(other, None) is not None:
                raise ValueError(f"this processor reads NeRFs and text, no {other}")
        if text is None:
            if isinstance(nerfs, str):
                raise ValueError(
                    f"text is missing: the first argument, {nerfs!r}, is taken for the path of a NeRF; "
                    "write processor(text=...) for a prompt, processor(nerfs=..., text=...) for one with NeRFs"
                )
            raise ValueError("text is missing; pass one prompt for each sample, with one <nerf> for each NeRF")
        prompts = [text] if isinstance(text, str) else list(text)
        if not all(isinstance(prompt, str) for prompt in prompts):
            raise TypeError("text must be a string or a list of strings")
        return prompts

    def _replace_placeholders(
        self, prompts: Sequence[str], nerf_inputs: Mapping[str, Any]
    ) -> tuple[list[str], list[list[dict[str, Any]]]]:
        """The prompts with every placeholder replaced, and where it stood and stands (`get_text_with_replacements`'s form)."""
        expanded, offsets, number = [], [], 0
        for prompt in prompts:
            pieces, found, last, gained = [], [], 0, 0
            for match in self._placeholder.finditer(prompt):
                start, end = match.span()
                replacement = self.replace_nerf_token(nerf_inputs, number)
                pieces += [prompt[last:start], replacement]
                span = (start + gained, start + gained + len(replacement))
                found.append(
                    {
                        "type": "nerf",
                        "span": (start, end),
                        "new_span": span,
                        "text": match.group(),
                        "replacement": replacement,
                    }
                )
                last, gained, number = end, gained + len(replacement) - (end - start), number + 1
            expanded.append("".join([*pieces, prompt[last:]]))
            offsets.append(found)
        return expanded, offsets

    def _check_placeholders(self, input_ids: Sequence[Sequence[int]], groups: Sequence[Sequence[Any]]) -> None:
        for prompt, (ids, group) in enumerate(zip(input_ids, groups, strict=True)):
            found, expected = list(ids).count(self.nerf_token_id), len(group) * self.tokens_per_nerf
            if found != expected:
                raise ValueError(
                    f"prompt {prompt} has {len(group)} NeRFs, {expected} {self.nerf_token} tokens, "
                    f"but {found} of them after tokenization; "
                    + (
                        "truncation cut through a placeholder: raise max_length or shorten the text"
                        if found < expected
                        else f"write <nerf> for a NeRF and never {self.nerf_token} by itself"
                    )
                )

    def read_nerf(self, item: NerfLike, *, on_flag: OnFlag = warn_of_flag) -> list[Nerf | Tensor]:
        """What the model is shown for an input, see `nerf_items.read_nerf`."""
        return read_nerf(item, self.embedding_shape, on_flag=on_flag)


def add_nerf_tokens(tokenizer: Any) -> tuple[int, int, int]:
    """Add LLaNA's tokens to a tokenizer that lacks them; returns the ids of patch, start and end."""
    tokenizer.add_tokens(list(NERF_TOKENS), special_tokens=True)
    patch, start, end = tokenizer.convert_tokens_to_ids(list(NERF_TOKENS))
    return patch, start, end
