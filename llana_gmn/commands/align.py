"""``llana-gmn align``: one NeRF turned into another one's frame."""

from __future__ import annotations

import argparse
from pathlib import Path

from .base import Command, stage_progress
from .pose import add_pose_arguments, find_pose, format_pose

PICTURE_NAME, POSE_NAME = "alignment.png", "pose.json"


class AlignCommand(Command):
    name = "align"
    help = "turn one NeRF into another one's frame: find the rotation, fit the turned NeRF anew, and show both"
    example = "llana-gmn align mug.safetensors turned/mug.safetensors --out aligned"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        add_pose_arguments(parser)
        parser.add_argument(
            "--out", required=True, metavar="DIR", help=f"directory of the new NeRF, {POSE_NAME} and {PICTURE_NAME}"
        )
        parser.add_argument(
            "--quality",
            help="preset of the fit: nano, quick, standard, paper (default: nano for nano NeRFs, else quick)",
        )

    def run(self, arguments: argparse.Namespace) -> int:
        from gmn_encoder import load_nerf
        from gmn_encoder.files import atomic_path, write_json
        from gmn_encoder.fitting.aligned import alignment_picture, fit_moved

        a, b, found = find_pose(arguments)
        print(format_pose(found))
        device = next(iter(a.tensors.values())).device
        with stage_progress(one_line=True) as progress:
            directory = fit_moved(a, found, arguments.out, quality=arguments.quality, device=device, progress=progress)
        write_json(found.to_dict(), Path(arguments.out, POSE_NAME))
        picture = alignment_picture(*(nerf.to("cpu") for nerf in (a, load_nerf(directory), b)))
        with atomic_path(Path(arguments.out, PICTURE_NAME)) as temporary:
            picture.save(temporary, "PNG")
        print(f"{directory}: A in B's frame; {Path(arguments.out, PICTURE_NAME)}: A, A turned and B")
        return 0
