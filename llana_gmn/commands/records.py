"""Commands that ask a model for hours: arguments, and a record file that any number of processes fill and that continues."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from gmn_encoder.files import StrPath

from .model_arguments import add_answer_arguments, generation_options, model_path

if TYPE_CHECKING:
    from accelerate import PartialState

    from gmn_encoder.digests import Digests

    from ..inference.record_file import RecordFile


def add_record_arguments(parser: argparse.ArgumentParser, *, max_new_tokens: int | None) -> None:
    """`add_answer_arguments`, and those of `open_records`."""
    add_answer_arguments(parser, max_new_tokens=max_new_tokens)
    parser.add_argument("--batch-size", type=int, default=16, help="prompts at a time (default: 16)")
    parser.add_argument("--seed", type=int, default=0, help="seed of sampling (default: 0)")
    parser.add_argument("--overwrite", action="store_true", help="begin anew where answers are there already")


def answer_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Options of `converse`."""
    return {"batch_size": arguments.batch_size, "seed": arguments.seed, **generation_options(arguments)}


def answer_settings(arguments: argparse.Namespace, known: Digests) -> dict[str, Any]:
    """Everything about the model that decides what its answers are."""
    from ..checkpoints.provenance import model_fingerprint

    path = model_path(arguments)
    return {
        "model": path,
        "model_sha256": model_fingerprint(path, known),
        "dtype": arguments.dtype,
        "bits": arguments.bits,
        "seed": arguments.seed,
        **generation_options(arguments),
    }


@contextmanager
def open_records(
    path: StrPath,
    asked: Callable[[Digests], Mapping[str, Mapping[str, Any]]],
    settings: Callable[[Digests], Mapping[str, Any]],
    *,
    overwrite: bool,
    state: PartialState,
    name_field: str = "name",
) -> Iterator[RecordFile]:
    """A record file as this process sees it, which no other job writes meanwhile. The main process says on stderr what had
    changed and is done again.

    Args:
        path: the file.
        asked, settings: functions that give the arguments of `RecordFile`, from digests of files that are remembered; called by
            the main process for all.
        overwrite: whether to remove what is there.
        state: this process among the others.
        name_field: the field of a record that holds its name.

    Raises:
        BeingWrittenError: another process is writing it.
        ValueError: what `RecordFile` refuses.
    """
    from accelerate.utils import broadcast_object_list

    from gmn_encoder.digests import Digests
    from gmn_encoder.locks import output_lock

    from ..inference.record_file import RecordFile, digests_path, remove_records

    with output_lock(path, hold=state.is_main_process):
        if overwrite and state.is_main_process:
            remove_records(path)
        known = Digests(digests_path(path))
        found: list[Any] = [asked(known), settings(known)] if state.is_main_process else [None, None]
        broadcast_object_list(found)
        place = {"rank": state.process_index, "world_size": state.num_processes}
        file = RecordFile(path, found[0], settings=found[1], name_field=name_field, **place)
        state.wait_for_everyone()
        if state.is_main_process:
            file.start()
            known.save()
            if file.changed:
                total = len(file.done) + len(file.changed)
                print(f"{path}: {len(file.changed)} of {total} had changed and are done again", file=sys.stderr)
        yield file


def has_changed(nerf: Any, of: Mapping[str, Any], known: Digests) -> bool:
    """Whether the file of a NeRF, or embedding, is no longer what a record of it is to be of: it was written to meanwhile."""
    from gmn_encoder.embeddings.files import content_hash

    if not isinstance(nerf, str | os.PathLike):
        return False
    try:
        return content_hash(nerf, known) != of["sha256"]
    except OSError:
        return True
