"""``llana-gmn retrieve``: the retrieval benchmark."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from .base import Command, InputErrors, stage_progress
from .embedding_arguments import FILE_HELP, add_embedding_arguments, embed_families, read_families, whole_numbers

if TYPE_CHECKING:
    from gmn_encoder.embeddings.records import EmbeddingSet


class RetrieveCommand(Command):
    name = "retrieve"
    help = "find the same object in other families by its embedding: recall@k for every pair of families"
    example = "llana-gmn retrieve mlp.safetensors triplane.safetensors hash.safetensors --published 17 --out recall.md"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("embeddings", nargs="*", metavar="EMBEDDINGS", help=FILE_HELP)
        add_embedding_arguments(parser)
        parser.add_argument("--split", default="test", help="which list of --data: train, val or test (default: test)")
        parser.add_argument(
            "--ks", default="1,5,10", metavar="K,...", help="how many neighbours count (default: 1,5,10)"
        )
        parser.add_argument(
            "--denominator",
            choices=("queries", "gallery"),
            default="queries",
            help="what hits are divided by; gallery as in the released script (default: queries)",
        )
        parser.add_argument(
            "--published", type=int, metavar="N", help="put the rows of the paper's table N above (6, 7, 17, 18)"
        )
        parser.add_argument(
            "--out", metavar="FILE", help="also write the table: .md, .tex, .html or .json (all figures)"
        )
        parser.add_argument(
            "--gallery", metavar="FILE.png", help="picture of queries and what they find; --data or paths say where"
        )
        parser.add_argument("--pair", metavar="QUERY/GALLERY", help="families of --gallery (default: the first two)")
        parser.add_argument("--rows", type=int, default=8, metavar="N", help="queries in --gallery (default: 8)")
        parser.add_argument(
            "--neighbours", type=int, default=10, metavar="N", help="items a row of --gallery (default: 10)"
        )
        parser.add_argument("--size", type=int, default=112, help="pixels of a view in --gallery (default: 112)")
        parser.add_argument(
            "--seed", type=int, default=0, help="seed of the draw of queries for --gallery (default: 0)"
        )

    def run(self, arguments: argparse.Namespace) -> int:
        from llana_eval.representation.retrieval_benchmark import retrieval_table, run_retrieval
        from llana_eval.tables import check_table_file, published_table, save_table

        errors = InputErrors(self.name, debug=arguments.debug)
        ks = whole_numbers(arguments.ks, "--ks")
        published = None if arguments.published is None else published_table(arguments.published)
        if arguments.out is not None:
            check_table_file(arguments.out)
        if not 16 <= arguments.size <= 1024:
            raise ValueError(f"--size is {arguments.size}; expected 16 to 1024 pixels")
        families = self._families(arguments, errors)
        with stage_progress() as progress:
            results = run_retrieval(families, ks=ks, denominator=arguments.denominator, progress=progress)
        table = retrieval_table(results, denominator=arguments.denominator)
        if published is not None:
            table = table.with_rows(published)
        print(table.markdown(), end="")
        if arguments.out is not None:
            details = {
                "denominator": arguments.denominator,
                "sources": arguments.embeddings or [str(arguments.data)],
                "results": [result.to_dict() for result in results],
            }
            save_table(table, arguments.out, details=details)
        if arguments.gallery is not None:
            self._gallery(arguments, families, errors)
        return errors.status

    def _families(self, arguments: argparse.Namespace, errors: InputErrors) -> dict[str, EmbeddingSet]:
        if arguments.embeddings:
            return read_families(arguments.embeddings)
        if arguments.data is None:
            raise ValueError("no embeddings given; name their files, or a data set with --data and --encoder")
        return embed_families(arguments, [arguments.split], errors)[0]

    def _gallery(self, arguments: argparse.Namespace, families: dict[str, EmbeddingSet], errors: InputErrors) -> None:
        from gmn_encoder.embeddings.records import join_embeddings
        from llana_eval.representation.retrieval_pictures import draw_gallery, gallery_rows

        if Path(arguments.gallery).suffix.lower() != ".png":
            raise ValueError(f"--gallery is {arguments.gallery!r}; expected a name that ends in .png")
        first, sign, second = (arguments.pair or "/".join(list(families)[:2])).partition("/")
        sets = {**families, "ALL": join_embeddings(families.values())}
        if not sign or first not in sets or second not in sets:
            raise ValueError(f"--pair is {arguments.pair!r}; expected two of {', '.join(sets)}, as in MLP/TRI")
        rows = gallery_rows(
            sets[first],
            sets[second],
            rows=arguments.rows,
            neighbours=arguments.neighbours,
            data=arguments.data,
            seed=arguments.seed,
        )
        with stage_progress() as progress:
            failed = draw_gallery(rows, arguments.gallery, size=arguments.size, progress=progress)
        for message in failed:
            errors.add(message)
