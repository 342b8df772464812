"""``llana-gmn pose``: the rotation that turns one NeRF into another."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from .base import Command, device_named
from .foreign_arguments import add_cache_arguments, open_nerf

if TYPE_CHECKING:
    from gmn_encoder.nerfs.record import Nerf
    from gmn_encoder.pose.estimate import PoseEstimate

_SHOWN = 6  # near-equal answers


class PoseCommand(Command):
    name = "pose"
    help = "find the rotation that turns one NeRF into another, of any families and sizes, with an error estimate"
    example = "llana-gmn pose mug.safetensors turned/mug.safetensors --json"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        add_pose_arguments(parser)
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def run(self, arguments: argparse.Namespace) -> int:
        _, _, found = find_pose(arguments)
        print(json.dumps(found.to_dict(), indent=2) if arguments.json else format_pose(found))
        return 0


def add_pose_arguments(parser: argparse.ArgumentParser) -> None:
    """``A B``, ``--similarity`` and where to work, of commands that compare two NeRFs' poses."""
    parser.add_argument(
        "a", metavar="A", help="the NeRF that is turned: a file, a directory, or another program's field"
    )
    parser.add_argument("b", metavar="B", help="the NeRF that it is turned to")
    parser.add_argument(
        "--similarity", action="store_true", help="look for a scale and a shift too, as between fields captured apart"
    )
    parser.add_argument(
        "--encoder",
        metavar="ENC",
        help="a trained SANE encoder, whose rotation head gives one more guess to begin with",
    )
    parser.add_argument("--device", help="where to query them, such as cpu or cuda (default: cuda where there is one)")
    add_cache_arguments(parser)


def find_pose(arguments: argparse.Namespace) -> tuple[Nerf, Nerf, PoseEstimate]:
    """A, B and the pose between them, as `add_pose_arguments` say. Raises `ValueError` or `OSError`."""
    from gmn_encoder import SaneEncoder, estimate_pose, load_encoder, load_nerf

    device = device_named(arguments.device)
    a, b = (load_nerf(open_nerf(path, arguments).path).to(device) for path in (arguments.a, arguments.b))
    guesses = None
    if arguments.encoder:
        encoder = load_encoder(arguments.encoder).to(device)
        if not isinstance(encoder, SaneEncoder):
            kind = encoder.config.model_type
            raise ValueError(
                f"--encoder {arguments.encoder}: is a {kind!r}, which tells no rotation; expected a 'sane' encoder"
            )
        guesses = encoder.relative_rotations([a], [b])
    return a, b, estimate_pose(a, b, similarity=arguments.similarity, guesses=guesses, device=device)


def format_pose(found: PoseEstimate) -> str:
    """What is known about a pose, for people."""
    lines = [
        f"rotation      {found.angle:.1f} degrees, standard error {found.error:.1f}",
        f"  quaternion  {_numbers(found.quaternion)} (w, x, y, z)",
        f"  euler       {_numbers(found.euler, 1)} degrees about fixed x, then y, then z",
        *(f"  matrix      {_numbers(row)}" for row in found.matrix.tolist()),
        f"mismatch      {found.mismatch:.3f} (0 equal, 1 nothing overlaps)",
    ]
    if found.scale != 1 or any(found.shift):
        lines.append(f"scale, shift  {found.scale:.3f}, {_numbers(found.shift)} world units")
    if found.axis is not None:
        lines.append(f"round         B looks much the same however it is turned about {_numbers(found.axis)}")
    if (runner := found.runner_up) is not None:
        lines.append(f"runner-up     {_numbers(runner.quaternion)}, mismatch {runner.mismatch:.3f}")
    if found.near_equal:
        away = ", ".join(f"{found.degrees_from(each):.0f}" for each in found.near_equal[:_SHOWN])
        lines.append(f"near-equal    {len(found.near_equal)} other answers, {away} degrees from this one")
    return "\n".join(lines)


def _numbers(values: tuple[float, ...] | list[float], digits: int = 4) -> str:
    return ", ".join(f"{value + 0.0:.{digits}f}" for value in values)
