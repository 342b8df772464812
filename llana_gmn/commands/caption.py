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
from .records import add_record_arguments, answer_options, answer_settings, has_changed, open_records

if TYPE_CHECKING:
    from gmn_encoder.digests import Digests
    from gmn_encoder.encoders.base import NerfEncoder

    from ..model.processing import NerfLike


@dataclass
class CaptionInputs:
    """What a command was given, by name.

    Attributes:
        nerfs: name -> path, or an embedding ``(D,)`` out of a file of many.
        hashes: name of an embedding out of a file of many -> SHA-256 of its numbers.
        origins: file, or what stands for several -> fingerprint of the encoder of its embeddings, "" where it is not known.
    """

    nerfs: dict[str, NerfLike] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, given: Iterable[str]) -> CaptionInputs:
        """The NeRFs below paths, and the embeddings in files. Raises `ValueError` for broken files of many embeddings."""
        from gmn_encoder.embeddings.files import is_embedding_file
        from gmn_encoder.nerfs.files import find_nerfs

        from ..checkpoints.encoders import is_embedding_set

        found, paths = cls(), []
        for each in given:
            if is_embedding_set(each):
                found._add_set(each)
            else:
                paths += [str(path) for path in find_nerfs(each)]
        found.nerfs |= {path: path for path in paths}
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

    def asked(self, question: str, known: Digests) -> dict[str, dict[str, str]]:
        """Name -> what its caption is of: the question, and the SHA-256 of the NeRF's content, "" where it cannot be read."""
        from gmn_encoder.embeddings.files import content_hashes

        files = [name for name in self.nerfs if name not in self.hashes]
        hashes = {**self.hashes, **dict(zip(files, content_hashes(files, known=known), strict=True))}
        return {name: {"question": question, "sha256": hashes[name]} for name in self.nerfs}

    def check(self, encoder: NerfEncoder | None) -> None:
        """Say on stderr where nobody can tell whose embeddings these are; raise `ValueError` where they are not a model's."""
        from ..checkpoints.encoders import check_origin

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
            "--out",
            required=True,
            help="the JSONL file; the same command continues it, and does again what changed; another model is refused",
        )
        parser.add_argument("--question", default="What is this object?", help="asked of each NeRF")
        add_cache_arguments(parser)
        add_record_arguments(parser, max_new_tokens=128)

    def run(self, arguments: argparse.Namespace) -> int:
        from gmn_encoder.digests import Digests

        from ..inference.caption import caption_nerfs

        state, question = process_state(), arguments.question
        errors = InputErrors(self.name, debug=arguments.debug)
        with state.main_process_first():  # the others find what it fits
            inputs = CaptionInputs.read(open_foreign(arguments.nerfs, arguments, errors))
        with open_records(
            arguments.out,
            lambda known: inputs.asked(question, known),
            lambda known: {"question": question, **answer_settings(arguments, known)},
            overwrite=arguments.overwrite,
            state=state,
            name_field="nerf",
        ) as file:
            model, processor = load_answering(arguments, device=state.device)
            inputs.check(model.nerf_encoder)
            missing, known = file.missing(), Digests()
            options = {"on_error": lambda _, error: errors.add(error), **answer_options(arguments)}
            nerfs = [inputs.nerfs[name] for name in missing]
            started, written = time.perf_counter(), 0
            captions = caption_nerfs(model, processor, nerfs, question=question, **options)
            for place, caption in with_rate(captions, "captions", len(missing), disable=not state.is_main_process):
                if has_changed(nerfs[place], file.is_of(missing[place]), known):
                    errors.add(f"{missing[place]}: changed while it was captioned; run the same command again")
                    continue
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
