"""Loading a model for use: on the accelerator if there is one, quantised if asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from gmn_encoder.files import StrPath, named_errors, read_json

from ..model.adapters import adapter_config
from ..model.auto import LlanaGmnForConditionalGeneration, LlanaGmnProcessor
from ..model.hub import ADAPTER_CONFIG, ADAPTER_FILES, hub_file, not_found
from .adapter_base import check_adapter
from .files import check_model

UNQUANTISED = ("model.nerf_encoder", "model.projector", "lm_head")
"""Parts that stay as they are when a backbone is quantised."""

_LONGEST = 500


def adapter_base(adapter: StrPath, model: StrPath | None = None, **hub: Any) -> str:
    """The base model of an adapter: `model` if given, else what the adapter names.

    Args:
        adapter: its directory, or its name on the hub.
        model: the base, where the caller knows better.
        **hub: where on the hub the adapter is, as of `load_model`.

    Raises:
        ValueError: it names none, or the base is certainly another than it was trained on.
        FileNotFoundError: its base is no longer there, or there is no adapter.
    """
    config = hub_file(adapter, ADAPTER_CONFIG, **hub)
    if config is None:
        raise FileNotFoundError(f"{adapter}: holds no adapter; expected a directory with {ADAPTER_CONFIG}")
    named = read_json(config).get("base_model_name_or_path")
    base = model or named
    if not base:
        raise ValueError(f"{adapter}: does not name its base model; pass it (--model)")
    if not Path(base, "config.json").is_file() and Path(base).is_absolute():
        raise FileNotFoundError(f"{base}: no such model, the base of {adapter}; say where it is now (--model)")
    check_adapter(config.parent, base, trained_on=str(named))
    return str(base)


def load_adapter(model: LlanaGmnForConditionalGeneration, adapter: StrPath, **hub: Any) -> Any:
    """An adapter of PEFT around its base model, a `PeftModel`.

    Args:
        model: the base model.
        adapter: the adapter's directory, or its name on the hub.
        **hub: where on the hub it is, as of `load_model`.
    """
    from peft import PeftModel

    # Downloaded here: PEFT asks the hub for a subfolder within the subfolder.
    found = [file for name in ADAPTER_FILES if (file := hub_file(adapter, name, **hub)) is not None]
    directory = found[0].parent if found else Path(adapter)
    return PeftModel.from_pretrained(model, str(directory), config=adapter_config(directory))


def quantization_config(bits: int) -> Any:
    """transformers' own configuration for a backbone in 8 or 4 bits; encoder, projector and output layer are left out."""
    from transformers import BitsAndBytesConfig

    if bits not in (4, 8):
        raise ValueError(f"quantisation is to 4 or 8 bits, got {bits}")
    return BitsAndBytesConfig(
        load_in_8bit=bits == 8,
        load_in_4bit=bits == 4,
        bnb_4bit_compute_dtype=torch.bfloat16,
        bnb_4bit_quant_type="nf4",
        llm_int8_skip_modules=list(UNQUANTISED),
    )


@contextmanager
def _one_sentence(path: StrPath) -> Iterator[None]:
    """Errors of transformers about a directory or a repository, which may be pages, as a sentence that names it."""
    try:
        with named_errors(path):
            yield
    except FileNotFoundError:
        raise
    except (ValueError, OSError) as error:
        text = " ".join(str(error).split())
        text = text if text.startswith(str(path)) else f"{path}: {text}"
        raise type(error)(text if len(text) <= _LONGEST else f"{text[:_LONGEST]}...") from error


def load_model(
    path: StrPath,
    *,
    dtype: str = "auto",
    device: torch.device | None = None,
    bits: int | None = None,
    revision: str | None = None,
    cache_dir: StrPath | None = None,
    token: bool | str | None = None,
    subfolder: str = "",
) -> tuple[LlanaGmnForConditionalGeneration, LlanaGmnProcessor]:
    """A model, in evaluation mode, and its processor.

    Args:
        path: a directory of `save_pretrained`, or the name of a repository on the hub; or an adapter's. An adapter is merged
            into its base, unless that is quantised.
        dtype: name of the weights' dtype; `"auto"` for as they were saved.
        device: where the model goes; None for the accelerator if there is one, else the CPU.
        bits: bits of a quantised backbone, 8 or 4 (needs bitsandbytes); None: as it is.
        revision: branch, tag or commit of a repository; None for its main branch. An adapter's base is what it names.
        cache_dir: where downloads are kept; None for huggingface_hub's own place.
        token: an access token for the hub; None for the one of ``hf auth login``, if any.
        subfolder: folder of the directory or repository that holds model and processor.

    Raises:
        FileNotFoundError: nothing there, on this machine or within reach on the hub; or an adapter's base is gone.
        ValueError: not such a model, or an adapter that names no base.
    """
    if device is None:
        device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    access: dict[str, Any] = {"cache_dir": cache_dir, "token": token}
    there = {**access, "revision": revision, "subfolder": subfolder}
    adapter = hub_file(path, ADAPTER_CONFIG, **there) is not None
    base: tuple[StrPath, dict[str, Any]] = (adapter_base(path, **there), access) if adapter else (path, there)
    if Path(base[0]).is_dir():
        check_model(Path(base[0], subfolder if base[0] is path else ""), LlanaGmnForConditionalGeneration)
    has_processor = hub_file(path, "processor_config.json", **there) is not None
    if not has_processor and not adapter and not Path(path).is_dir():
        raise not_found(path, **there)
    source, its_options = (path, there) if has_processor else base
    with _one_sentence(source):
        processor = LlanaGmnProcessor.from_pretrained(source, **its_options)
    options: dict[str, Any] = {"dtype": dtype, **base[1]}
    if bits is not None:
        options |= {"quantization_config": quantization_config(bits), "device_map": {"": device}}
    with _one_sentence(base[0]):
        loaded: Any = LlanaGmnForConditionalGeneration.from_pretrained(base[0], output_loading_info=True, **options)
    model, found = loaded
    if missing := sorted(found["missing_keys"]):
        raise ValueError(
            f"{base[0]}: its weights lack {missing[0]!r}, one of {len(missing)} tensors of its configuration; "
            "copy the model again from where it came from"
        )
    processor.check_model(model.config)
    if adapter:
        adapted = load_adapter(model, path, **there)
        model = adapted.merge_and_unload() if bits is None else adapted.get_base_model()
    if bits is None:
        torch.nn.Module.to(model, device)
    return model.eval(), processor
