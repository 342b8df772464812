"""``llana-gmn plot``: the embedding space as a picture."""

from __future__ import annotations

import argparse
import sys

from .base import Command, InputErrors
from .embedding_arguments import FILE_HELP, add_embedding_arguments, embed_families, read_families


class PlotCommand(Command):
    name = "plot"
    help = "draw embeddings in two dimensions (t-SNE, UMAP, PCA), a colour for each class, a marker for each family"
    example = "llana-gmn plot mlp.safetensors triplane.safetensors hash.safetensors --out space.png"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("embeddings", nargs="*", metavar="EMBEDDINGS", help=FILE_HELP)
        parser.add_argument("--out", required=True, metavar="FILE", help="picture to write: .png, .pdf or .svg")
        add_embedding_arguments(parser)
        parser.add_argument("--split", default="test", help="which list of --data: train, val or test (default: test)")
        parser.add_argument("--method", choices=("tsne", "umap", "pca"), default="tsne", help="(default: tsne)")
        parser.add_argument("--perplexity", type=float, default=30.0, help="t-SNE's perplexity (default: 30)")
        parser.add_argument(
            "--limit", type=int, metavar="N", help="draw N random objects only, the same of every family"
        )
        parser.add_argument("--title", help="(default: method and number of embeddings)")
        parser.add_argument("--seed", type=int, default=0, help="seed of the projection and of --limit (default: 0)")

    def run(self, arguments: argparse.Namespace) -> int:
        from gmn_encoder.embeddings.records import join_embeddings
        from llana_eval.representation.plots import (
            NAMES,
            check_figure_file,
            embedding_figure,
            project,
            sample_objects,
            save_figure,
        )

        check_figure_file(arguments.out)
        errors = InputErrors(self.name, debug=arguments.debug)
        if arguments.embeddings:
            families = read_families(arguments.embeddings)
        elif arguments.data is not None:
            families = embed_families(arguments, [arguments.split], errors)[0]
        else:
            raise ValueError("no embeddings given; name their files, or a data set with --data and --encoder")
        members = join_embeddings(families.values())
        if arguments.limit is not None:
            members = sample_objects(members, arguments.limit, seed=arguments.seed)
        points = project(members.values, method=arguments.method, seed=arguments.seed, perplexity=arguments.perplexity)
        title = arguments.title or f"{NAMES[arguments.method]} of {len(members)} embeddings"
        save_figure(embedding_figure(points, members, title=title), arguments.out)
        print(f"{len(members)} embeddings in {arguments.out}", file=sys.stderr)
        return errors.status
