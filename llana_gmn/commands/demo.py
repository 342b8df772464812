"""``llana-gmn demo``: the main job on what the package ships, or on what a user brings."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from .base import Command, InputErrors, stage_progress
from .model_arguments import add_model_argument, model_path


class DemoCommand(Command):
    name = "demo"
    help = (
        "embed, describe, question, retrieve and score the NeRFs that ship, with the model that ships; writes a report. "
        "With --mesh, --images or --field the same for objects of your own: a page each"
    )
    example = "llana-gmn demo --mesh chair.glb --images photos --out demo"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--mesh", nargs="+", action="extend", default=[], metavar="FILE", help="fit and describe meshes of your own"
        )
        parser.add_argument(
            "--images",
            nargs="+",
            action="extend",
            default=[],
            metavar="DIR",
            help="the same for folders of posed images (transforms.json, COLMAP, LLFF, IDR)",
        )
        parser.add_argument(
            "--field",
            nargs="+",
            action="extend",
            default=[],
            metavar="FILE",
            help="the same for radiance fields of other programs: checkpoints, snapshots, folders of runs",
        )
        parser.add_argument(
            "--background", metavar="COLOUR", help="R,G,B in 0..1 behind the object, for images without opacity"
        )
        parser.add_argument("--out", default="demo", metavar="DIR", help="where files go (default: demo)")
        add_model_argument(parser)
        parser.add_argument("--nerfs", metavar="DIR", help="other NeRFs, with their objects.json")

    def run(self, arguments: argparse.Namespace) -> int:
        from gmn_encoder.rendering.images import parse_background
        from llana_eval.demo.own_objects import run_on_object
        from llana_eval.demo.shipped import run_demo
        from llana_gmn.checkpoints.loading import load_model
        from llana_gmn.default.objects import default_nerfs_path

        background = parse_background(arguments.background) if arguments.background else None
        model, processor = load_model(model_path(arguments))
        nerfs = Path(arguments.nerfs) if arguments.nerfs else default_nerfs_path()
        if not arguments.mesh and not arguments.images and not arguments.field:
            with stage_progress() as progress:
                result = run_demo(model, processor, nerfs, arguments.out, progress=progress)
            for table in result.tables:
                print(table.text())
            print(f"The report, with pictures and answers: {result.report}")
            return 0
        errors = InputErrors(self.name, debug=arguments.debug)
        for path in _own_objects(arguments, errors):
            try:
                with stage_progress() as progress:
                    result = run_on_object(
                        model, processor, path, nerfs, arguments.out, background=background, progress=progress
                    )
            except (ValueError, OSError) as error:
                errors.add(error)
                continue
            for table in result.tables:
                print(table.text())
            print(f"The page, with views and answers, after {result.seconds:.0f} s: {result.report}\n", flush=True)
        return errors.status


def _own_objects(arguments: argparse.Namespace, errors: InputErrors) -> Iterator[Path]:
    """Meshes, image folders, then fields; what is none of them, or whose page would be written over another, is reported."""
    from gmn_encoder.fitting.sources import source_ids
    from gmn_encoder.nerfs.importers import is_foreign

    pages = {"report": "the demo's own report"}  # name -> what has it
    given = ((arguments.mesh, False), (arguments.images, True), (arguments.field, None))
    for path, is_folder in [(path, is_folder) for paths, is_folder in given for path in paths]:
        name = source_ids(Path(path))[1]
        if not Path(path).exists():
            kind = {None: "radiance field", True: "folder of images", False: "mesh"}[is_folder]
            errors.add(f"{path}: no such file or directory; expected a {kind}")
        elif is_folder is None and not is_foreign(path):
            errors.add(f"{path}: no importer knows what this is; expected a radiance field of another program")
        elif is_folder is not None and Path(path).is_dir() != is_folder:
            errors.add(
                f"{path}: is a file; expected a directory with images and transforms.json (--mesh takes files)"
                if is_folder
                else f"{path}: is a directory; expected a mesh file (--images takes folders)"
            )
        elif name in pages:
            errors.add(f"{path}: its page {name}.html would be written over {pages[name]}; expected another name")
        else:
            pages[name] = f"that of {path}"
            yield Path(path)
