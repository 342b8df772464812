"""``llana-gmn caption``."""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .base import Command, InputErrors, process_state, with_rate
from .foreign_arguments import add_cache_arguments, open_foreign
from .model_arguments import load_answering
from .records import add_record_arguments, answer_options, answer_settings, open_records

if TYPE_CHECKING:
    from gmn_encoder.encoders.base import NerfEncoder

    from ..processing import NerfLike


@dataclass
class CaptionInputs:
    """What a command was given, by name.

    Attributes:
        nerfs: name -> path, or an embedding ``(D,)`` out of a file of many.
        hashes: name -> SHA-256 of its content.
        origins: file, or what stands for several -> fingerprint of the encoder of its embeddings, "" where it is not known.
    """

    nerfs: dict[str, NerfLike] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, given: Iterable[str]) -> CaptionInputs:
        """The NeRFs below paths, and the embeddings in files. Raises `ValueError` for broken files of many embeddings."""
        from gmn_encoder.embeddings.files import content_hashes, is_embedding_file
        from gmn_encoder.nerfs.files import find_nerfs

        from ..encoders import is_embedding_set

        found, paths = cls(), []
        for each in given:
            if is_embedding_set(each):
                found._add_set(each)
            else:
                paths += [str(path) for path in find_nerfs(each)]
        found.nerfs |= {path: path for path in paths}
        found.hashes |= dict(zip(paths, content_hashes(paths), strict=True))
        if single := [path for path in paths if is_embedding_file(path)]:
            found.origins[single[0] if len(single) == 1 else f"{single[0]} and {len(single) - 1} more"] = ""
        return found

    def _add_set(self, file: str) -> None:
        from gmn_encoder.embeddings.files import read_embeddings

        members = read_embeddings(file)
        self.origins[file] = members.encoder
        for row, values in enumerate(members.values.float()):
            name = members.paths[row] or f"{file}#{row}"
            self.nerfs[name] = values
            self.hashes[name] = hashlib.sha256(values.numpy().tobytes()).hexdigest()

    def check(self, encoder: NerfEncoder | None) -> None:
        """Say on stderr where nobody can tell whose embeddings these are; raise `ValueError` where they are not a model's."""
        from ..encoders import check_origin

        for source, origin in self.origins.items():
            if note := check_origin(origin, encoder, source):
                print(note, file=sys.stderr)


class Caption(Command):
    name = "caption"
    help = "captions of many NeRFs into a JSONL file, resumable"
    example = "llana-gmn caption --model llana-gmn-7b data/nerf/shapenet/mlp --out captions.jsonl"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("nerfs", nargs="+", help="NeRFs, directories of NeRFs, or embeddings")
        parser.add_argument(
            "--out", required=True, help="the JSONL file; the same command continues what was interrupted"
        )
        parser.add_argument("--question", default="What is this object?", help="asked of each NeRF")
        add_cache_arguments(parser)
        add_record_arguments(parser, max_new_tokens=128)

    def run(self, arguments: argparse.Namespace) -> int:
        from ..caption import caption_nerfs

        state, question = process_state(), arguments.question
        errors = InputErrors(self.name, debug=arguments.debug)
        with state.main_process_first():  # the others find what it fits
            inputs = CaptionInputs.read(open_foreign(arguments.nerfs, arguments, errors))
        file = open_records(
            arguments.out,
            lambda: {name: {"question": question, "sha256": content} for name, content in inputs.hashes.items()},
            lambda: {"question": question, **answer_settings(arguments)},
            overwrite=arguments.overwrite,
            state=state,
            name_field="nerf",
        )
        model, processor = load_answering(arguments, device=state.device)
        inputs.check(model.nerf_encoder)
        missing = file.missing()
        options = {"question": question, "on_error": lambda _, error: errors.add(error), **answer_options(arguments)}
        started, written = time.perf_counter(), 0
        captions = caption_nerfs(model, processor, [inputs.nerfs[name] for name in missing], **options)
        for place, caption in with_rate(captions, "captions", len(missing), disable=not state.is_main_process):
            file.append(missing[place], {"caption": caption})
            written += 1
        rate = written / max(time.perf_counter() - started, 1e-9)
        state.wait_for_everyone()
        if state.is_main_process:
            each = " in each process" if state.num_processes > 1 else ""
            print(
                f"{arguments.out}: {file.finish()} captions, {written} new{each}, {rate:.2f} captions/s{each}",
                file=sys.stderr,
            )
        return errors.status
