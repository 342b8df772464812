"""The common tests of transformers on our classes, as its `tests/models/llava` runs them on LLaVA's.

Not collected with the suite: `test_common.py` runs this file in a process of its own for each backbone, which `BACKBONE` names.
``llava`` stands for LLaVA itself, to compare with.
"""

from __future__ import annotations

import os
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
from llana_gmn.nerf_inputs import NERF_INPUTS, pack_nerfs
from llana_gmn.processing import add_nerf_tokens
from llana_gmn.tiny import tiny_tokenizer

from .library_tests import load
from .reasons import SKIPPED

BACKBONE = os.environ["BACKBONE"]

# The tests ask these lists of the library's own classes which of ours take labels.
MODEL_MAPPING_NAMES["llana_gmn"] = LlanaGmnModel.__name__
MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES["llana_gmn"] = LlanaGmnForConditionalGeneration.__name__

ModelTesterMixin = load("test_modeling_common").ModelTesterMixin
GenerationTesterMixin = load("generation.test_utils").GenerationTesterMixin
ConfigTester = load("test_configuration_common").ConfigTester
ProcessorTesterMixin = load("test_processing_common").ProcessorTesterMixin

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
        architecture = MlpArchitecture(hidden_layers=1, hidden_dim=16, frequencies=4)
        nerfs = [[Nerf.random(architecture, seed=seed)] for seed in range(self.batch_size)]
        return pack_nerfs(nerfs, embedding_dim=32)


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
        return LlavaConfig(text_config=text_config("llama"), vision_config=vision, image_token_id=3, image_seq_length=4)

    def features(self) -> dict[str, torch.Tensor]:
        return {"pixel_values": torch.rand(self.batch_size, 3, 8, 8)}


def start(test: unittest.TestCase) -> _Tester:
    """The model tester of a test that is not left out."""
    torch.manual_seed(0)
    if BACKBONE == "llava":
        return ImageTester(test)
    if reason := SKIPPED.get(test._testMethodName):
        test.skipTest(reason)
    return NerfTester(test)


class ModelTest(ModelTesterMixin, unittest.TestCase):
    _is_composite = True
    all_model_classes = (
        (LlavaModel, LlavaForConditionalGeneration)
        if BACKBONE == "llava"
        else (LlanaGmnModel, LlanaGmnForConditionalGeneration)
    )
    additional_model_inputs = ("pixel_values",) if BACKBONE == "llava" else NERF_INPUTS

    def setUp(self) -> None:
        self.model_tester = start(self)

    def test_init_weights_can_init_buffers(self) -> None:
        # Of the rest of the model: the weights of a frozen encoder are buffers, and random.
        if BACKBONE != "llava":
            self.model_tester.use_encoder = False
        super().test_init_weights_can_init_buffers()


class ConfigTest(unittest.TestCase):
    def setUp(self) -> None:
        self.model_tester = start(self)
        config = self.model_tester.get_config()
        common = [] if BACKBONE == "llava" else ["nerf_token_id", "tokens_per_nerf", "embedding_dim"]
        self.tester = ConfigTester(self, config_class=type(config), has_text_modality=False, common_properties=common)


def _config_test(name: str) -> Any:
    return lambda self: getattr(self.tester, name)()


for _name in dir(ConfigTester):
    if _name.startswith(("create_and_test_", "check_config_")):
        setattr(ConfigTest, f"test_{_name.removeprefix('create_and_test_')}", _config_test(_name))


if BACKBONE != "llava":

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
            return {"embedding_dim": 32}
