"""Models, processors and adapters on the Hugging Face hub: what is uploaded, and single files of what is there."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gmn_encoder.files import StrPath, read_json, write_json
from gmn_encoder.hub import push

from .model_card import adapter_card, model_card

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import ProcessorMixin

    from .body import LlanaGmnPreTrainedModel

ADAPTER_CONFIG = "adapter_config.json"
"""What a directory of PEFT's holds."""

ADAPTER_FILES = (ADAPTER_CONFIG, "adapter_model.safetensors", "adapter_model.bin")
"""All that is read of one; the weights are in one of two files."""

HUB_OPTIONS = ("repo_id", "commit_message", "commit_description", "private", "token", "revision", "create_pr", "tags")
"""What ``save_pretrained(..., push_to_hub=True)`` takes for the upload alone."""

_UPLOADED = (*ADAPTER_FILES, "*token*", "*processor_config.json", "chat_template*")
_TEMPLATES = "additional_chat_templates"


def hub_file(path: StrPath, name: str, **hub: Any) -> Path | None:
    """A file of a directory, or of a repository on the hub; None where it has none of this name.

    Args:
        path: the directory, or the repository's name.
        name: the file's name.
        **hub: ``revision``, ``cache_dir``, ``token`` and ``subfolder``, as of `load_model`.

    Raises:
        FileNotFoundError: neither a directory nor a repository within reach.
    """
    from transformers.utils import cached_file

    if Path(path).is_dir():
        file = Path(path, hub.get("subfolder") or "", name)
        return file if file.is_file() else None
    try:
        found = cached_file(str(path), name, _raise_exceptions_for_missing_entries=False, **hub)
    except (OSError, ValueError) as error:
        raise not_found(path, reason=str(error), **hub) from error
    return None if found is None else Path(found)


def not_found(path: StrPath, *, reason: str = "", revision: str | None = None, **_: Any) -> FileNotFoundError:
    """What to raise where a name is neither a directory nor a repository within reach."""
    which = "" if revision is None else f" with a revision {revision!r}"
    why = f" ({line})" if (line := reason.strip().partition("\n")[0]) else ""
    return FileNotFoundError(f"{path}: no such directory, and no such repository{which} within reach on the hub{why}")


def push_model(
    model: LlanaGmnPreTrainedModel,
    repo_id: str,
    *,
    tags: Sequence[str] | str = (),
    max_shard_size: int | str = "50GB",
    commit_message: str = "Upload model",
    **options: Any,
) -> Any:
    """Upload a model: the files of `save_pretrained`, and a card where the repository has none yet.

    Args:
        model: the model.
        repo_id: name of the repository, ``"owner/name"``; it is made where there is none.
        tags: tags of a new card beside ours and the model's own (``model.add_model_tags``).
        max_shard_size: bytes of a file of weights at most, as of `save_pretrained`.
        commit_message: what the history of the repository says.
        **options: ``private``, ``token``, ``revision``, ``create_pr`` and ``commit_description``, as of transformers'
            ``push_to_hub``.

    Returns:
        huggingface_hub's ``CommitInfo``.
    """
    more = [*(getattr(model, "model_tags", None) or ()), *([tags] if isinstance(tags, str) else tags)]

    def save(folder: Path) -> None:
        model.save_pretrained(folder, max_shard_size=max_shard_size)

    def card(name: str) -> str:
        return model_card(model.config, name, tags=more)

    return push(save, repo_id, card=card, commit_message=commit_message, **options)


def push_processor(
    processor: ProcessorMixin, repo_id: str, *, commit_message: str = "Upload processor", **options: Any
) -> Any:
    """Upload a processor: the files of `save_pretrained`. A card would be its model's, and is left to it.

    Args:
        processor: the processor.
        repo_id: name of the repository, as of `push_model`.
        commit_message: what the history of the repository says.
        **options: as of `push_model`; ``tags`` and ``max_shard_size`` change nothing here.

    Returns:
        huggingface_hub's ``CommitInfo``.
    """
    for name in ("tags", "max_shard_size"):
        options.pop(name, None)
    return push(processor.save_pretrained, repo_id, card=None, commit_message=commit_message, **options)


def push_adapter(
    adapter: PeftModel | StrPath,
    repo_id: str,
    *,
    base_model: str | None = None,
    processor: ProcessorMixin | None = None,
    tags: Sequence[str] = (),
    commit_message: str = "Upload adapter",
    **options: Any,
) -> Any:
    """Upload an adapter: its matrices, what was trained beside them, its processor if any, and a card where there is none yet.

    (PEFT's own ``push_to_hub`` uploads the same weights with transformers' empty card.)

    Args:
        adapter: a model of PEFT around one of ours, or the directory of a saved one, as training writes it; what else stands in
            that directory stays here.
        repo_id: name of the repository, ``"owner/name"``; it is made where there is none.
        base_model: the base model's name on the hub, which is written into the adapter; None for the one it names.
        processor: a processor to go with it; None for the one in the directory, if any.
        tags: tags of a new card beside ours.
        commit_message: what the history of the repository says.
        **options: as of `push_model`.

    Returns:
        huggingface_hub's ``CommitInfo``.

    Raises:
        ValueError: the base model is a directory of this machine, or none is named.
        FileNotFoundError: no adapter there.
    """
    read: dict[str, Any] = {}

    def save(folder: Path) -> None:
        if isinstance(adapter, str | Path):
            _copy_adapter(Path(adapter), folder)
        else:
            adapter.save_pretrained(str(folder))  # type: ignore[union-attr]
        if processor is not None:
            processor.save_pretrained(folder)
        read.update(_with_base(read_json(folder / ADAPTER_CONFIG), base_model))
        write_json(read, folder / ADAPTER_CONFIG)

    def card(name: str) -> str:
        return adapter_card(read, name, tags=tags)

    return push(save, repo_id, card=card, commit_message=commit_message, **options)


def _copy_adapter(source: Path, folder: Path) -> None:
    if not (source / ADAPTER_CONFIG).is_file():
        raise FileNotFoundError(f"{source}: holds no adapter; expected a directory with {ADAPTER_CONFIG}")
    for pattern in _UPLOADED:
        for file in source.glob(pattern):
            shutil.copy(file, folder)
    if (source / _TEMPLATES).is_dir():
        shutil.copytree(source / _TEMPLATES, folder / _TEMPLATES)


def _with_base(config: dict[str, Any], base_model: str | None) -> dict[str, Any]:
    base = base_model or config.get("base_model_name_or_path")
    if not base:
        raise ValueError("the adapter does not name its base model; pass its name on the hub as base_model=")
    if Path(base).is_absolute() or Path(base).exists():
        raise ValueError(
            f"the adapter's base model is {base}, a directory of this machine; upload that too (push_to_hub) and pass its name "
            "as base_model="
        )
    return {**config, "base_model_name_or_path": base}
