"""``llana-gmn render``: pictures of a NeRF, or points on its surface."""

from __future__ import annotations

import argparse
import sys

from .base import Command, device_named, stage_progress

_GIF_VIEWS = 24
_VISIBLE = 0.01  # opacity below which a picture that is all background calls for a word


class RenderCommand(Command):
    name = "render"
    help = "render a NeRF: one view or a contact sheet as PNG, a turntable as GIF, a coloured point cloud"
    example = "llana-gmn render nerf/shapenet/mlp/02691156/1a04e3eab45ca15dd86060f189eb133 --out views.png --views 9"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("nerf", metavar="NERF", help="directory in the released layout, .pth or .safetensors")
        parser.add_argument("--out", metavar="FILE", help="picture to write: .png or .gif")
        parser.add_argument(
            "--points",
            metavar="FILE",
            help="coloured points of the surface to write: .ply, or .npy as PointLLM reads them",
        )
        parser.add_argument(
            "--views", type=int, metavar="K", help="cameras around the object (default: 1, or 24 for a GIF)"
        )
        parser.add_argument("--size", type=int, default=224, help="width and height of a view in pixels (default: 224)")
        parser.add_argument(
            "--background", default="1,1,1", metavar="COLOUR", help="R,G,B in 0..1 or transparent (default: 1,1,1)"
        )
        parser.add_argument(
            "--elevation", type=float, default=30.0, metavar="DEGREES", help="of the cameras (default: 30)"
        )
        parser.add_argument("--count", type=int, default=8192, metavar="N", help="points of --points (default: 8192)")
        parser.add_argument("--seed", type=int, default=0, help="of the places of --points (default: 0)")
        parser.add_argument(
            "--unit-sphere",
            action="store_true",
            help="points with their mean at the origin, the farthest at distance 1 (default: world coordinates)",
        )
        parser.add_argument("--device", help="where to render, such as cpu or cuda (default: cuda where there is one)")

    def run(self, arguments: argparse.Namespace) -> int:
        from gmn_encoder import load_nerf
        from gmn_encoder.rendering import cameras, images, render, surface
        from gmn_encoder.rendering.occupancy import find_occupancy

        if not arguments.out and not arguments.points:
            raise ValueError("nothing to write; name a picture with --out, or a point cloud with --points")
        kind = images.image_format(arguments.out) if arguments.out else None
        if arguments.points:
            surface.points_format(arguments.points)
        background = images.parse_background(arguments.background)
        if not 1 <= arguments.size <= 4096:
            raise ValueError(f"--size is {arguments.size}; expected 1 to 4096 pixels")
        if arguments.count < 1:
            raise ValueError(f"--count is {arguments.count}; expected at least 1 point")
        views = arguments.views if arguments.views is not None else _GIF_VIEWS if kind == "GIF" else 1
        device = device_named(arguments.device)
        poses = cameras.turntable(views, elevation=arguments.elevation, size=arguments.size).to(device)
        nerf = load_nerf(arguments.nerf).to(device)
        with stage_progress() as progress:
            grid = find_occupancy(nerf, progress=progress).to(device)
            if arguments.out:
                seen = render.render_views(nerf, poses, grid, progress=progress)
                images.save_images(images.to_images(seen, background), arguments.out)
                if float(seen.opacity.max()) < _VISIBLE:
                    print(f"llana-gmn render: {nerf.name}: nothing in it is dense enough to be seen", file=sys.stderr)
            if arguments.points:
                options = {"count": arguments.count, "seed": arguments.seed, "progress": progress}
                xyz, rgb = surface.surface_points(nerf, grid, **options)
                xyz = surface.in_unit_sphere(xyz) if arguments.unit_sphere else xyz
                surface.write_points(xyz, rgb, arguments.points)
        return 0
