"""``llana-gmn fit``: NeRFs from images, meshes, radiance fields of other programs and procedural objects."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .base import Command, InputErrors, device_named, stage_progress
from .foreign_arguments import add_placement_arguments, placement_request

if TYPE_CHECKING:
    from gmn_encoder.fitting.presets import FitSettings
    from gmn_encoder.fitting.sources import Source
    from gmn_encoder.nerfs.architectures import NerfArchitecture


class FitCommand(Command):
    name = "fit"
    help = "make NeRFs from posed images, meshes, radiance fields of other programs or procedural objects"
    example = "llana-gmn fit procedural:13 --family mlp,triplane,hash --out data --quality quick"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "sources",
            nargs="+",
            metavar="SOURCE",
            help="directory with images and transforms.json, a COLMAP model or the like; mesh file; radiance field of another "
            "program; directory of these; or procedural:N",
        )
        parser.add_argument(
            "--family", action="append", metavar="FAMILY", help="mlp, triplane, hash, or several with commas"
        )
        parser.add_argument(
            "--architecture",
            action="append",
            metavar="NAME",
            help="of the paper's Table 14, such as HASH-11T, or MLP-nano, TRI-nano, HASH-nano; repeatable",
        )
        parser.add_argument("--out", required=True, metavar="DIR", help="directory of the output, released layout")
        parser.add_argument("--quality", default="quick", help="nano, quick, standard or paper (default: quick)")
        parser.add_argument(
            "--seed", type=int, default=0, help="same seed, same weights on the same device (default: 0)"
        )
        parser.add_argument("--views", type=int, help="views of meshes, fields and procedural objects (default: 36)")
        parser.add_argument("--size", type=int, help="width and height of these views in pixels (default: 224)")
        parser.add_argument("--iterations", type=int, help="instead of the preset's")
        parser.add_argument("--batch", type=int, metavar="N", help="NeRFs at once (default: 16 on a GPU, else 1)")
        parser.add_argument(
            "--share-init", action="store_true", help="all NeRFs of a family start from the same weights"
        )
        parser.add_argument(
            "--background", metavar="COLOUR", help="R,G,B in 0..1 behind the object, for images without opacity"
        )
        parser.add_argument("--strict", action="store_true", help="refuse image folders with missing images")
        parser.add_argument(
            "--keep-poor", action="store_true", help="keep fits that end far below what their preset reaches"
        )
        parser.add_argument(
            "--class-id", metavar="NAME", help="class directory of meshes and images (default: their parent)"
        )
        parser.add_argument(
            "--copies",
            type=int,
            default=0,
            metavar="N",
            help="of objects of procedural: and manifest:, N copies that are recoloured, mirrored, stretched and turned, "
            "instead of the objects themselves",
        )
        add_placement_arguments(parser)
        parser.add_argument(
            "--resume",
            action=argparse.BooleanOptionalAction,
            default=True,
            help="keep finished NeRFs whose source has not changed and continue unfinished ones (default), or begin anew",
        )
        parser.add_argument("--device", help="where to fit, such as cpu or cuda (default: cuda where there is one)")

    def run(self, arguments: argparse.Namespace) -> int:
        from gmn_encoder.fitting.job import FitJob
        from gmn_encoder.fitting.quality import least_psnr

        device = device_named(arguments.device)
        settings = _settings(arguments)
        errors = InputErrors("fit", debug=arguments.debug)
        sources = _sources(arguments, next(iter(settings.values())), errors)
        with stage_progress(one_line=True) as progress:
            job = FitJob(
                out=arguments.out,
                settings=settings,
                seed=arguments.seed,
                batch=arguments.batch if arguments.batch is not None else 16 if device.type == "cuda" else 1,
                device=device,
                resume=arguments.resume,
                least_psnr=None if arguments.keep_poor or arguments.iterations else least_psnr(arguments.quality),
                on_error=errors.add,
                on_done=_say_done,
                on_skip=_say_skipped,
                progress=progress,
            )
            job.run(sources)
        return errors.status


def _settings(arguments: argparse.Namespace) -> dict[NerfArchitecture, FitSettings]:
    """The settings of each architecture asked for."""
    from gmn_encoder.fitting.presets import preset
    from gmn_encoder.nerfs.architectures import FAMILY_NAMES, parse_architecture
    from gmn_encoder.nerfs.families import DEFAULT_FAMILY

    names = []
    for text in arguments.family or ([] if arguments.architecture else [DEFAULT_FAMILY]):
        for family in text.split(","):
            if family not in FAMILY_NAMES:
                raise ValueError(f"--family is {family!r}; expected one or more of {', '.join(FAMILY_NAMES)}")
            names.append(FAMILY_NAMES[family])
    names += [name for text in arguments.architecture or [] for name in text.split(",")]
    changes: dict[str, Any] = {
        key: value for key in ("views", "size", "iterations") if (value := getattr(arguments, key)) is not None
    }
    if arguments.copies < 0:
        raise ValueError(f"--copies is {arguments.copies}; expected 0 or more")
    if not 0 <= arguments.seed < 1 << 31:
        raise ValueError(f"--seed is {arguments.seed}; expected 0 to {(1 << 31) - 1}")
    architectures = [parse_architecture(name) for name in names]
    if arguments.share_init:
        changes["share_initialisation"] = True
    return {each: preset(arguments.quality, each.family, **changes) for each in architectures}


def _sources(arguments: argparse.Namespace, settings: FitSettings, errors: InputErrors) -> list[Source]:
    from gmn_encoder.fitting.sources import find_sources
    from gmn_encoder.objects import ViewSettings
    from gmn_encoder.rendering.images import parse_background

    background = parse_background(arguments.background) if arguments.background else None
    views = ViewSettings(n_views=settings.views, size=settings.size, seed=arguments.seed)
    placement = placement_request(arguments)
    found: list[Source] = []
    for text in arguments.sources:
        try:
            found += find_sources(
                text,
                settings=views,
                seed=arguments.seed,
                background=background,
                class_id=arguments.class_id,
                placement=placement,
                strict=arguments.strict,
                copies=arguments.copies,
            )
        except (ValueError, OSError) as error:
            errors.add(error)
    return found


def _say_done(source: Source, architecture: NerfArchitecture, record: Mapping[str, Any]) -> None:
    views = record["held_out_views"]
    psnr = f"{record['psnr']:.2f} dB on {views} held-out views" if record["psnr"] else "not measured"
    notes = f" ({'; '.join(record['notes'])})" if record["notes"] else ""
    name = f"{architecture.name} {source.class_id}/{source.nerf_id}"
    print(f"{name}: {psnr}, {record['seconds']:.0f} s{notes}", flush=True)


def _say_skipped(source: Source, architecture: NerfArchitecture, record: Mapping[str, Any]) -> None:
    print(f"{architecture.name} {source.class_id}/{source.nerf_id}: finished before", flush=True)
