"""Directories of language models. The good one, of which these are bad copies, is `goods.model`."""

from __future__ import annotations

import functools
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .forged import safetensors_bytes, written
from .registry import hostile


@functools.cache
def _good() -> Path:
    from .goods import model

    folder = tempfile.mkdtemp(prefix="hostile-model-")
    return model(Path(folder))


def _copy(folder: Path) -> Path:
    return shutil.copytree(_good(), folder / "bad-model")


def _config(place: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    values = json.loads((place / "config.json").read_text())
    change(values)
    written(place / "config.json", json.dumps(values).encode())
    return place


def _changed(name: str, change: Callable[[dict[str, Any]], object]) -> None:
    def write(folder: Path) -> Path:
        return _config(_copy(folder), change)

    write.__name__ = name
    hostile("model")(write)


def _missing(name: str, file: str, *, harmless: bool | tuple[str, ...] = False) -> None:
    def write(folder: Path) -> Path:
        place = _copy(folder)
        (place / file).unlink()
        return place

    write.__name__ = name
    hostile("model", harmless=harmless)(write)


def _replaced(name: str, file: str, content: bytes) -> None:
    def write(folder: Path) -> Path:
        place = _copy(folder)
        written(place / file, content)
        return place

    write.__name__ = name
    hostile("model")(write)


_changed("billion_layers", lambda values: values["text_config"].update(num_hidden_layers=10**9))
_changed("one_layer_more", lambda values: values["text_config"].update(num_hidden_layers=3))
_changed("wide_layers", lambda values: values["text_config"].update(hidden_size=1 << 30, head_dim=1 << 28))
_changed("wider_layers", lambda values: values["text_config"].update(intermediate_size=1 << 40))
_changed("vocabulary", lambda values: values["text_config"].update(vocab_size=1 << 31))
_changed("vocabulary_of_4000_digits", lambda values: values["text_config"].update(vocab_size=10**4000))
_changed("size_in_letters", lambda values: values["text_config"].update(hidden_size="32"))
_changed("size_in_halves", lambda values: values["text_config"].update(hidden_size=32.5))
_changed("negative_size", lambda values: values["text_config"].update(intermediate_size=-64))
_changed("unknown_backbone", lambda values: values["text_config"].update(model_type="../../etc"))
_changed("backbone_of_a_number", lambda values: values.update(text_config=7))
_changed("model_of_a_number", lambda values: values.update(model_type=7))
_changed("no_model_type", lambda values: values.pop("model_type"))
_changed("another_model", lambda values: values.update(model_type="llama"))
_changed("encoder_of_a_billion_layers", lambda values: values["encoder_config"].update(num_layers=10**9))
_changed("wide_encoder", lambda values: values["encoder_config"].update(hidden_dim=60_000))
_changed("encoder_of_a_string", lambda values: values.update(encoder_config="gmn"))
_changed("wide_projector", lambda values: values.update(projector_hidden_sizes=[1 << 20, 1 << 20]))
_changed("code_of_its_own", lambda values: values.update(auto_map={"AutoConfig": "evil.Config"}, model_type="evil"))
_changed("token_beyond_the_vocabulary", lambda values: values.update(nerf_token_id=10**9))

_missing("no_model_config", "config.json")
_missing("no_template", "chat_template.jinja", harmless=("inspect_model",))
_missing("no_model_weights", "model.safetensors")
_missing("no_tokenizer", "tokenizer.json", harmless=("inspect_model",))

_replaced("config_list", "config.json", b"[1, 2]")
_replaced("config_brackets", "config.json", b"[" * 500_000)
_replaced("config_empty", "config.json", b"")
_replaced("weights_empty", "model.safetensors", b"")
_replaced("weights_of_another", "model.safetensors", safetensors_bytes({}))


@hostile("model")
def truncated_model(folder: Path) -> Path:
    place = _copy(folder)
    content = (place / "model.safetensors").read_bytes()
    written(place / "model.safetensors", content[: len(content) // 2])
    return place


@hostile("model")
def index_that_leads_outside(folder: Path) -> Path:
    place = _copy(folder)
    (place / "model.safetensors").rename(place.parent / "outside.safetensors")
    table = {"weight_map": {"lm_head.weight": "../outside.safetensors"}}
    written(place / "model.safetensors.index.json", json.dumps(table).encode())
    return place


@hostile("model")
def index_of_a_number(folder: Path) -> Path:
    place = _copy(folder)
    (place / "model.safetensors").unlink()
    written(place / "model.safetensors.index.json", b'{"weight_map": 7}')
    return place


def _beside(name: str, file: str, content: bytes) -> None:
    def write(folder: Path) -> Path:
        place = _copy(folder)
        written(place / file, content)
        return place

    write.__name__ = name
    hostile("model", harmless=("inspect_model",))(write)


_beside("tokenizer_of_nothing", "tokenizer.json", b"{}")
_beside("tokenizer_of_brackets", "tokenizer.json", b"[" * 500_000)
_beside("processor_of_a_list", "processor_config.json", b"[]")
_beside("processor_of_another_size", "processor_config.json", b'{"tokens_per_nerf": "many"}')
