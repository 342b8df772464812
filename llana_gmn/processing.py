"""The processor: prompts and NeRFs in, the model's inputs out.

Every ``<nerf>`` in a prompt (LLaNA's ``<point>`` too) stands for one NeRF and becomes ``<point_start>``, T times
``<point_patch>``, ``<point_end>``. NeRFs come as records, as files, or as embeddings; `nerf_inputs.py` says in which tensors
they go on.

Shapes: B prompts, L tokens, K most NeRFs in a prompt, T tokens a NeRF, D embedding (1024).
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import BatchFeature, ProcessorMixin
from transformers.utils.chat_template_utils import render_jinja_template

from gmn_encoder.embeddings.files import is_embedding_file, read_embedding
from gmn_encoder.nerfs.files import load_nerf
from gmn_encoder.nerfs.record import Nerf

from .chat_template import PLACEHOLDERS, VICUNA_TEMPLATE, flatten_conversation, is_batch
from .nerf_inputs import NERF_INPUTS, pack_nerfs

NERF_TOKENS = ("<point_patch>", "<point_start>", "<point_end>")
"""LLaNA's tokens, in the order in which they are added to a vocabulary (docs/released_format.md#llana-checkpoint)."""

NerfLike = Nerf | str | os.PathLike | np.ndarray | Tensor


class LlanaGmnProcessor(ProcessorMixin):
    """Tokenizer and NeRF reading.

    Args:
        tokenizer: the backbone's tokenizer, with the three NeRF tokens in its vocabulary (`add_nerf_tokens`).
        chat_template: a template, or several by name; None for LLaNA's Vicuna v1.1 prompt as ``"default"`` and the template
            that the tokenizer brought along, if any, as ``"backbone"``.
        tokens_per_nerf: tokens of a NeRF, T, as in the model's configuration.
        embedding_dim: size of an embedding, D, as in the model's configuration.
        nerf_token, nerf_start_token, nerf_end_token: the tokens of the vocabulary that a placeholder becomes.
    """

    def __init__(
        self,
        tokenizer: Any = None,
        chat_template: Any = None,
        tokens_per_nerf: int = 1,
        embedding_dim: int = 1024,
        nerf_token: str = NERF_TOKENS[0],
        nerf_start_token: str = NERF_TOKENS[1],
        nerf_end_token: str = NERF_TOKENS[2],
    ) -> None:
        if tokenizer is None:
            raise ValueError("LlanaGmnProcessor needs the tokenizer of its backbone")
        self.tokens_per_nerf = tokens_per_nerf
        self.embedding_dim = embedding_dim
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
        if missing := [t for t in (nerf_token, nerf_start_token, nerf_end_token) if t not in vocabulary]:
            raise ValueError(
                f"the tokenizer has no token {missing[0]!r}; add it first with llana_gmn.processing.add_nerf_tokens(tokenizer) "
                "and resize the backbone's embeddings (llana_gmn.assemble does both)"
            )
        self.nerf_token_id = vocabulary[nerf_token]
        expanded = re.escape(self.nerf_text)
        self._placeholder = re.compile("|".join([*map(re.escape, PLACEHOLDERS), expanded]))

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
        **kwargs: Any,
    ) -> BatchFeature:
        """Tokenize prompts and read their NeRFs.

        Args:
            nerfs: `Nerf` records, paths (of NeRFs, or of embeddings: `.npy`, `.h5`) or embeddings, arrays ``(D,)`` or
                ``(n, D)``; in the order of the placeholders, or as one list for each prompt.
            text: a prompt or several, with one ``<nerf>`` for each NeRF, also none.
            **kwargs: options of the tokenizer. By default prompts are padded to the longest, on the left.

        Returns:
            ``input_ids`` and ``attention_mask`` ``(B, L)`` and, where there are NeRFs, the tensors of `nerf_inputs.py`.

        Raises:
            ValueError: placeholders and NeRFs in different numbers, an embedding of another size, a truncation that cuts a
                placeholder off, a broken file.
            FileNotFoundError: no such NeRF.
        """
        features, _ = self._process(nerfs, text, **kwargs)
        return features

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

        Args:
            conversation: messages ``{"role": ..., "content": text or parts}``; a part is ``{"type": "text", "text": ...}`` or
                ``{"type": "nerf", "path" | "nerf" | "embedding": ...}``.
            chat_template: a template or the name of one (``"backbone"``); None for the processor's default.
            return_assistant_tokens_mask: whether to add ``assistant_masks`` ``(B, L)``, 1 on the assistant's words and end token.
            processor_kwargs: keywords of `__call__`; others go to the template.

        Returns:
            text, or token ids, or with `return_dict` a `BatchFeature`.
        """
        batched = is_batch(conversation)
        conversations = list(conversation) if batched else [conversation]
        flat = [flatten_conversation(messages, PLACEHOLDERS[0]) for messages in conversations]
        rendered: Any = render_jinja_template(
            conversations=[messages for messages, _ in flat],
            chat_template=self._template(chat_template),
            add_generation_prompt=add_generation_prompt,
            continue_final_message=continue_final_message,
            return_assistant_tokens_mask=return_assistant_tokens_mask,
            **{**self.tokenizer.special_tokens_map, **kwargs},
        )
        prompts, spans = rendered
        if not tokenize:
            return prompts if batched else prompts[0]
        options = dict(processor_kwargs or {})
        if return_tensors is not None:
            options["return_tensors"] = return_tensors
        if self.tokenizer.bos_token and all(prompt.startswith(self.tokenizer.bos_token) for prompt in prompts):
            options.setdefault("add_special_tokens", False)
        if return_assistant_tokens_mask:
            options["return_offsets_mapping"] = True
        nerfs = [found for _, found in flat]
        features, shifts = self._process(nerfs if any(nerfs) else None, prompts, **options)
        if return_assistant_tokens_mask:
            masks = _assistant_masks(features.pop("offset_mapping"), spans, shifts)
            features["assistant_masks"] = torch.tensor(masks) if return_tensors == "pt" else masks
        return features if return_dict else features["input_ids"]

    def post_process(self, generated: Tensor, inputs: Mapping[str, Any] | None = None) -> list[str]:
        """Answers as text, without the prompt if its `inputs` are given, special tokens and surrounding space."""
        if inputs is not None:
            generated = generated[:, inputs["input_ids"].shape[1] :]
        return [text.strip() for text in self.tokenizer.batch_decode(generated, skip_special_tokens=True)]

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

    def _process(self, nerfs: Any, text: Any, **kwargs: Any) -> tuple[BatchFeature, list[list[tuple[int, int]]]]:
        """The features, and where in each prompt how many characters were gained."""
        for other in ("images", "videos", "audio"):
            if kwargs.pop(other, None) is not None:
                raise ValueError(f"this processor reads NeRFs and text, no {other}")
        for name in ("text_kwargs", "common_kwargs"):
            kwargs = {**(kwargs.pop(name, None) or {}), **kwargs}
        if text is None:
            raise ValueError("text is missing; pass one prompt for each sample, with one <nerf> for each NeRF")
        prompts = [text] if isinstance(text, str) else list(text)
        if not all(isinstance(prompt, str) for prompt in prompts):
            raise TypeError("text must be a string or a list of strings")
        groups = self._group(nerfs, [len(self._placeholder.findall(prompt)) for prompt in prompts])
        expanded, shifts = zip(*(self._expand(prompt) for prompt in prompts), strict=True) if prompts else ((), ())
        return_tensors = kwargs.pop("return_tensors", None)
        options = {"padding": len(prompts) > 1, "padding_side": "left", **kwargs}
        encoded = self.tokenizer(list(expanded), **options)
        self._check_placeholders(encoded["input_ids"], groups)
        features = BatchFeature(dict(encoded), tensor_type=return_tensors)
        features.update(pack_nerfs(groups, embedding_dim=self.embedding_dim))
        return features, list(shifts)

    def _expand(self, prompt: str) -> tuple[str, list[tuple[int, int]]]:
        shifts = []
        for match in self._placeholder.finditer(prompt):
            shifts.append((match.end(), len(self.nerf_text) - len(match.group())))
        return self._placeholder.sub(lambda _: self.nerf_text, prompt), shifts

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

    def _group(self, nerfs: Any, counts: Sequence[int]) -> list[list[Nerf | Tensor]]:
        """NeRFs of each prompt, `counts` of them."""
        if nerfs is None:
            nerfs = []
        elif isinstance(nerfs, Nerf | str | os.PathLike) or _is_array(nerfs):
            nerfs = [nerfs]
        nested = bool(nerfs) and all(isinstance(item, list | tuple) for item in nerfs)
        if nested:
            groups = [[one for item in group for one in self.read_nerf(item)] for group in nerfs]
            if len(groups) != len(counts):
                raise ValueError(f"NeRFs for {len(groups)} prompts came with {len(counts)} prompts")
            for prompt, (group, count) in enumerate(zip(groups, counts, strict=True)):
                if len(group) != count:
                    raise ValueError(
                        f"prompt {prompt} has {count} placeholders but {len(group)} NeRFs; write one <nerf> for each NeRF"
                    )
            return groups
        flat = [one for item in nerfs for one in self.read_nerf(item)]
        if len(flat) != sum(counts):
            raise ValueError(
                f"{len(flat)} NeRFs were passed for {sum(counts)} placeholders in {len(counts)} prompts; "
                "write one <nerf> for each NeRF"
            )
        rest = iter(flat)
        return [[next(rest) for _ in range(count)] for count in counts]

    def read_nerf(self, item: NerfLike) -> list[Nerf | Tensor]:
        """What the model is shown for an input: the record itself or of its file, or embeddings ``(D,)`` float32 on the CPU.

        An array of embeddings ``(n, D)`` stands for n NeRFs.

        Raises:
            FileNotFoundError: no such file.
            TypeError, ValueError: neither a NeRF nor an embedding of this model's size, or a broken file.
        """
        if isinstance(item, Nerf):
            return [item]
        source = "an embedding"
        if isinstance(item, str | os.PathLike):
            if not is_embedding_file(item):
                return [load_nerf(item)]
            source, item = f"{item}: the embedding", read_embedding(item)
        if not _is_array(item):
            raise TypeError(
                f"a NeRF is a {type(item).__name__}; expected a Nerf, a path or an array ({self.embedding_dim},)"
            )
        values = torch.as_tensor(item).detach().to("cpu", torch.float32)
        if values.ndim not in (1, 2) or values.shape[-1] != self.embedding_dim or not len(values):
            raise ValueError(
                f"{source} has shape {tuple(values.shape)}; expected ({self.embedding_dim},) or (n, {self.embedding_dim}), "
                "as the encoder of this model makes them"
            )
        if not bool(torch.isfinite(values).all()):
            raise ValueError(f"{source} has NaN or infinite values")
        return list(values.reshape(-1, self.embedding_dim))


def add_nerf_tokens(tokenizer: Any) -> tuple[int, int, int]:
    """Add LLaNA's tokens to a tokenizer that lacks them; returns the ids of patch, start and end."""
    tokenizer.add_tokens(list(NERF_TOKENS), special_tokens=True)
    patch, start, end = tokenizer.convert_tokens_to_ids(list(NERF_TOKENS))
    return patch, start, end


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray | Tensor)


def _assistant_masks(
    offsets: Sequence[Sequence[tuple[int, int]]],
    spans: Sequence[Sequence[tuple[int, int]]],
    shifts: Sequence[Sequence[tuple[int, int]]],
) -> list[list[int]]:
    """1 on every token that overlaps a span of the assistant's; spans move by what the placeholders before them gained."""
    masks = []
    for tokens, said, gained in zip(offsets, spans, shifts, strict=True):
        mask = [0] * len(tokens)
        for span in said:
            start, end = (char + sum(gain for place, gain in gained if place <= char) for char in span)
            for i, (first, last) in enumerate(np.asarray(tokens).tolist()):
                if first < end and last > start:
                    mask[i] = 1
        masks.append(mask)
    return masks
