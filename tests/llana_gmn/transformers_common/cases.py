"""The common tests of transformers on our classes, as its `tests/models/llava` runs them on LLaVA's.

Not collected with the suite: `test_common.py` runs this file in a process of its own for each backbone, which `BACKBONE` names.
With `COMPARE` they run on LLaVA's classes around that backbone instead.
"""

from __future__ import annotations

import inspect
import os
import typing
import unittest
from typing import Any

import torch
from transformers import CONFIG_MAPPING, CLIPVisionConfig, LlavaConfig, LlavaForConditionalGeneration, LlavaModel
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
    MODEL_MAPPING_NAMES,
)

from gmn_encoder import GmnConfig
from gmn_encoder.nerfs.families import MlpArchitecture
from gmn_encoder.nerfs.record import Nerf
from llana_gmn import LlanaGmnConfig, LlanaGmnForConditionalGeneration, LlanaGmnModel, LlanaGmnProcessor
from llana_gmn.assembly.tiny import tiny_tokenizer
from llana_gmn.model.nerf_inputs import NERF_INPUTS, pack_nerfs
from llana_gmn.model.processing import add_nerf_tokens

from .library_tests import load
from .reasons import SKIPPED

BACKBONE = os.environ["BACKBONE"]
LLAVA = bool(os.environ.get("COMPARE"))

# The tests ask these lists of the library's own classes which of ours take labels.
MODEL_MAPPING_NAMES["llana_gmn"] = LlanaGmnModel.__name__
MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES["llana_gmn"] = LlanaGmnForConditionalGeneration.__name__

common = load("test_modeling_common")
GenerationTesterMixin = load("generation.test_utils").GenerationTesterMixin
ConfigTester = load("test_configuration_common").ConfigTester
ProcessorTesterMixin = load("test_processing_common").ProcessorTesterMixin

# The tests read annotations as objects (whether a model takes `output_attentions`), and our modules keep them as text.
for _cls in (LlanaGmnModel, LlanaGmnForConditionalGeneration):
    _forward = inspect.unwrap(_cls.forward)
    _forward.__annotations__["kwargs"] = typing.get_type_hints(_forward)["kwargs"]

_any_tensor = common.ids_tensor


def _text(*args: Any, **kwargs: Any) -> torch.Tensor:
    """Random token numbers without placeholders, which our model refuses where no NeRFs come with them."""
    ids = _any_tensor(*args, **kwargs)
    return torch.where(ids == _Tester.placeholder, 6, ids)


common.ids_tensor = _text

HIDDEN, LAYERS, HEADS, VOCABULARY = 32, 2, 4, 99
COMMON = {
    "vocab_size": VOCABULARY,
    "hidden_size": HIDDEN,
    "intermediate_size": 37,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
ARCHITECTURE = MlpArchitecture(hidden_layers=1, hidden_dim=16, frequencies=4)
CHANGES: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {},
    "gemma2": {"head_dim": 8, "sliding_window": 16, "query_pre_attn_scalar": 8},
    "opt": {"ffn_dim": 37, "word_embed_proj_dim": HIDDEN},
    "mistral": {"head_dim": 8},
}


def text_config(kind: str) -> Any:
    return CONFIG_MAPPING[kind](**{**COMMON, **CHANGES[kind]})


class _Tester:
    """What the mixins ask of a model tester."""

    batch_size, seq_length, is_training = 7, 9, True  # 7: a test fills smaller batches with anything
    encoder_seq_length = seq_length
    hidden_size, num_hidden_layers, num_attention_heads, vocab_size = HIDDEN, LAYERS, HEADS, VOCABULARY
    placeholder, placeholders = 3, 1

    def __init__(self, parent: unittest.TestCase) -> None:
        self.parent = parent

    def ids(self) -> torch.Tensor:
        ids = torch.randint(6, VOCABULARY - 20, (self.batch_size, self.seq_length))
        ids[:, 1 : 1 + self.placeholders] = self.placeholder
        return ids

    def prepare_config_and_inputs_for_common(self) -> tuple[Any, dict[str, Any]]:
        ids = self.ids()
        return self.get_config(), {"input_ids": ids, "attention_mask": torch.ones_like(ids), **self.features()}

    def prepare_config_and_inputs(self) -> tuple[Any, dict[str, Any]]:
        return self.prepare_config_and_inputs_for_common()


class NerfTester(_Tester):
    """Prompts with a NeRF each, which the encoder reads."""

    use_encoder = True

    def get_config(self) -> LlanaGmnConfig:
        return LlanaGmnConfig(
            text_config=text_config(BACKBONE),
            encoder_config=GmnConfig(hidden_dim=16, embedding_dim=32),
            use_encoder=self.use_encoder,
            projector_hidden_sizes=(32, 64),
            nerf_token_id=3,
            nerf_start_token_id=4,
            nerf_end_token_id=5,
        )

    def features(self) -> dict[str, torch.Tensor]:
        nerfs = [[Nerf.random(ARCHITECTURE, seed=seed)] for seed in range(self.batch_size)]
        return pack_nerfs(nerfs, embedding_shape=(32,))


class ImageTester(_Tester):
    """LLaVA's, with a small CLIP: an image is four tokens."""

    placeholders = 4

    def get_config(self) -> LlavaConfig:
        vision = CLIPVisionConfig(
            image_size=8,
            patch_size=4,
            hidden_size=HIDDEN,
            projection_dim=HIDDEN,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            intermediate_size=37,
        )
        return LlavaConfig(
            text_config=text_config(BACKBONE), vision_config=vision, image_token_id=3, image_seq_length=4
        )

    def features(self) -> dict[str, torch.Tensor]:
        return {"pixel_values": torch.rand(self.batch_size, 3, 8, 8)}


def start(test: unittest.TestCase) -> _Tester:
    """The model tester of a test that is not left out."""
    torch.manual_seed(0)
    if LLAVA:
        return ImageTester(test)
    if reason := SKIPPED.get(test._testMethodName):
        test.skipTest(reason)
    return NerfTester(test)


class ModelTest(common.ModelTesterMixin, GenerationTesterMixin, unittest.TestCase):
    _is_composite = True
    test_can_init_all_missing_weights_before_2023 = True
    all_model_classes = (
        (LlavaModel, LlavaForConditionalGeneration) if LLAVA else (LlanaGmnModel, LlanaGmnForConditionalGeneration)
    )
    additional_model_inputs = ("pixel_values",) if LLAVA else NERF_INPUTS

    def setUp(self) -> None:
        self.model_tester = start(self)

    def test_init_weights_can_init_buffers(self) -> None:
        # Of the rest of the model: the weights of a frozen encoder are buffers, and random.
        if not LLAVA:
            self.model_tester.use_encoder = False
        super().test_init_weights_can_init_buffers()


class ConfigTest(unittest.TestCase):
    def setUp(self) -> None:
        self.model_tester = start(self)
        config = self.model_tester.get_config()
        common = [] if LLAVA else ["nerf_token_id", "tokens_per_nerf", "embedding_dim"]
        self.tester = ConfigTester(self, config_class=type(config), has_text_modality=False, common_properties=common)


def _config_test(name: str) -> Any:
    return lambda self: getattr(self.tester, name)()


for _name in dir(ConfigTester):
    if _name.startswith(("create_and_test_", "check_config_")):
        setattr(ConfigTest, f"test_{_name.removeprefix('create_and_test_')}", _config_test(_name))


if not LLAVA:

    class ProcessorTest(ProcessorTesterMixin, unittest.TestCase):
        processor_class = LlanaGmnProcessor

        def setUp(self) -> None:
            start(self)

        @classmethod
        def _setup_tokenizer(cls) -> Any:
            tokenizer = tiny_tokenizer()
            add_nerf_tokens(tokenizer)
            return tokenizer

        @staticmethod
        def prepare_processor_dict() -> dict[str, Any]:
            return {"embedding_dim": 32, "tokens_per_nerf": 3}

        # Three that feed images, with NeRFs in their place.

        def nerfs(self) -> list[Any]:
            return [Nerf.random(ARCHITECTURE, seed=0), torch.zeros(32)]

        def test_model_input_names(self) -> None:
            processor = self.get_processor()
            inputs = processor(text="lower <nerf> newer <nerf>", nerfs=self.nerfs(), return_tensors="pt")
            self.assertSetEqual(set(inputs.keys()), set(processor.model_input_names))

        def test_get_num_multimodal_tokens_matches_processor_call(self) -> None:
            processor = self.get_processor()
            for text in (["a <nerf>", "a b <nerf>"], ["<nerf> and <nerf>", "none"]):
                inputs = processor(text=text, nerfs=self.nerfs(), return_mm_token_type_ids=True, return_tensors="pt")
                counted = processor._get_num_multimodal_tokens(nerf_sizes=self.nerfs())["num_nerf_tokens"]
                self.assertEqual(int(inputs["mm_token_type_ids"].sum()), sum(counted))

        def test_replacement_offsets(self) -> None:
            processor = self.get_processor()
            text = ["lower <nerf> newer <nerf>", "none"]
            options = {"add_special_tokens": False, "padding": False, "return_text_replacement_offsets": True}
            inputs = processor(text=text, nerfs=self.nerfs(), **options)
            written = processor.tokenizer.batch_decode(inputs["input_ids"])
            offsets = inputs["text_replacement_offsets"]
            self.assertEqual([len(found) for found in offsets], [2, 0])
            for text, found in zip(written, offsets, strict=True):
                for each in found:
                    start, end = each["new_span"]
                    self.assertEqual(each["type"], "nerf")
                    self.assertEqual(text[start:end], each["replacement"])
