"""Commands that ask a model for hours: arguments, and a record file that any number of processes fill and that continues."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from gmn_encoder.files import StrPath

from .model_arguments import add_answer_arguments, generation_options, model_path

if TYPE_CHECKING:
    from accelerate import PartialState

    from ..record_file import RecordFile


def add_record_arguments(parser: argparse.ArgumentParser, *, max_new_tokens: int | None) -> None:
    """`add_answer_arguments`, and those of `open_records`."""
    add_answer_arguments(parser, max_new_tokens=max_new_tokens)
    parser.add_argument("--batch-size", type=int, default=16, help="prompts at a time (default: 16)")
    parser.add_argument("--seed", type=int, default=0, help="seed of sampling (default: 0)")
    parser.add_argument("--overwrite", action="store_true", help="begin anew where answers are there already")


def answer_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Options of `converse`."""
    return {"batch_size": arguments.batch_size, "seed": arguments.seed, **generation_options(arguments)}


def answer_settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """Everything about the model that decides what its answers are."""
    from ..provenance import model_fingerprint

    path = model_path(arguments)
    return {
        "model": path,
        "model_sha256": model_fingerprint(path),
        "dtype": arguments.dtype,
        "bits": arguments.bits,
        "seed": arguments.seed,
        **generation_options(arguments),
    }


def open_records(
    path: StrPath,
    asked: Callable[[], Mapping[str, Mapping[str, Any]]],
    settings: Callable[[], Mapping[str, Any]],
    *,
    overwrite: bool,
    state: PartialState,
    name_field: str = "name",
) -> RecordFile:
    """A record file as this process sees it. The main process says on stderr what had changed and is done again.

    Args:
        path: the file.
        asked, settings: functions of the arguments of `RecordFile`, called by the main process for all.
        overwrite: whether to remove what is there.
        state: this process among the others.
        name_field: the field of a record that holds its name.
    """
    from accelerate.utils import broadcast_object_list

    from ..record_file import RecordFile, remove_records

    if overwrite and state.is_main_process:
        remove_records(path)
    found: list[Any] = [asked(), settings()] if state.is_main_process else [None, None]
    broadcast_object_list(found)
    place = {"rank": state.process_index, "world_size": state.num_processes}
    file = RecordFile(path, found[0], settings=found[1], name_field=name_field, **place)
    state.wait_for_everyone()
    if state.is_main_process:
        file.start()
        if file.changed:
            total = len(file.done) + len(file.changed)
            print(f"{path}: {len(file.changed)} of {total} had changed and are done again", file=sys.stderr)
    return file
