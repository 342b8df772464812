"""``llana-gmn serve``: the web page."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from .base import Command, InputErrors, stage_progress
from .foreign_arguments import add_cache_arguments, open_foreign
from .model_arguments import add_answer_arguments, generation_options, load_answering


class Serve(Command):
    name = "serve"
    help = "a web page to look at NeRFs, upload more, and talk about them"
    example = "llana-gmn serve --nerfs data --port 7860"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--nerfs",
            metavar="DIR",
            help="NeRFs of the gallery, searched, or a radiance field of another program (default: the ones that ship)",
        )
        parser.add_argument(
            "--limit", type=int, default=60, metavar="N", help="most NeRFs in the gallery (default: 60)"
        )
        parser.add_argument("--port", type=int, default=7860, help="0 takes a free one (default: 7860)")
        _add_access_arguments(parser)
        _add_limit_arguments(parser)
        parser.add_argument(
            "--quality", default="nano", help="preset of fits to meshes: nano, quick, standard (default: nano)"
        )
        add_cache_arguments(parser)
        add_answer_arguments(parser, max_new_tokens=128)

    def run(self, arguments: argparse.Namespace) -> int:
        from gmn_encoder.extras import require

        require("gradio", "serve")
        from ..default.objects import default_nerfs_path
        from ..web.server import running
        from ..web.state import Service

        options, access = _options(arguments), _access(arguments)
        model, processor = load_answering(arguments)
        nerfs = open_foreign([arguments.nerfs], arguments)[0] if arguments.nerfs else default_nerfs_path()
        errors = InputErrors(self.name, debug=arguments.debug)
        ended = threading.Event()
        where = {"host": arguments.host, "port": arguments.port, "root": arguments.root_path}
        with _Termination(ended), Service(model, processor, options=options) as service:
            with stage_progress() as progress:
                service.gallery.fill(nerfs, limit=arguments.limit, on_error=errors.add, progress=progress)
            with running(service, access=access, **where) as address:
                print(f"{address} (Ctrl-C ends it)", flush=True)
                try:
                    ended.wait()
                except KeyboardInterrupt:
                    print("llana-gmn serve: ended; uploads are removed", file=sys.stderr)
        return errors.status


def _add_access_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on; 0.0.0.0 opens it to the network, and needs --auth or --no-auth (default: 127.0.0.1)",
    )
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a name under which browsers reach the page besides its address, such as a proxy's; several times for several",
    )
    parser.add_argument("--root-path", default="", metavar="PATH", help="path under which a proxy shows the page")
    parser.add_argument(
        "--auth",
        metavar="USER:PASSWORD",
        help="what every visitor has to know; @FILE reads it from a file, which other users of the machine do not see",
    )
    parser.add_argument("--no-auth", action="store_true", help="let everyone in, on any --host")


def _add_limit_arguments(parser: argparse.ArgumentParser) -> None:
    from ..web.options import ServiceOptions

    usual = ServiceOptions()
    parser.add_argument(
        "--max-upload", type=float, default=64.0, metavar="MIB", help="largest file taken, MiB (default: 64)"
    )
    parser.add_argument(
        "--upload-memory",
        type=float,
        default=usual.upload_memory / 2**20,
        metavar="MIB",
        help="memory that an upload may take to be read, MiB (default: %(default)g)",
    )
    for name, what in (("upload", "NeRF may take to be read"), ("fit", "mesh may take to be fitted")):
        parser.add_argument(
            f"--{name}-seconds",
            type=float,
            default=getattr(usual, f"{name}_seconds"),
            metavar="S",
            help=f"how long an uploaded {what} (default: %(default)g)",
        )
    parser.add_argument(
        "--max-waiting",
        type=int,
        default=usual.max_waiting,
        metavar="N",
        help="questions, or uploads, that wait at a time (default: %(default)s)",
    )
    parser.add_argument(
        "--visitor-waiting",
        type=int,
        default=usual.visitor_waiting,
        metavar="N",
        help="of one visitor's address (default: %(default)s)",
    )
    parser.add_argument(
        "--rate-limit",
        type=int,
        default=120,
        metavar="N",
        help="actions in a minute from one address; 0 for no limit (default: %(default)s)",
    )


def _options(arguments: argparse.Namespace) -> Any:
    from gmn_encoder.fitting.presets import PRESETS

    from ..web.options import ServiceOptions

    if arguments.quality not in PRESETS:
        raise ValueError(f"--quality is {arguments.quality!r}; expected one of {', '.join(PRESETS)}")
    if arguments.beams > 1:
        raise ValueError(f"--beams is {arguments.beams}; answers that appear as they are written need 1")
    return ServiceOptions(
        max_upload=round(arguments.max_upload * 2**20),
        upload_memory=round(arguments.upload_memory * 2**20),
        upload_seconds=arguments.upload_seconds,
        fit_seconds=arguments.fit_seconds,
        max_waiting=arguments.max_waiting,
        visitor_waiting=arguments.visitor_waiting,
        fit_quality=arguments.quality,
        generation=generation_options(arguments),
    )


def _access(arguments: argparse.Namespace) -> Any:
    from ..web.access import AccessOptions, is_local

    if arguments.auth is not None and arguments.no_auth:
        raise ValueError("--auth and --no-auth contradict each other; name one")
    if arguments.auth is None and not arguments.no_auth and not is_local(arguments.host):
        raise ValueError(
            f"--host is {arguments.host}, which other machines reach; add --auth USER:PASSWORD (or --auth @FILE), "
            "or --no-auth to let everyone in"
        )
    password = arguments.auth
    if password is not None and password.startswith("@"):
        try:
            password = Path(password[1:]).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"--auth: {password[1:]} cannot be read; expected a file with USER:PASSWORD") from error
    try:
        return AccessOptions(hosts=tuple(arguments.allow_host), password=password, rate=arguments.rate_limit)
    except ValueError as error:
        raise ValueError(f"--allow-host, --auth or --rate-limit: {error}") from error


class _Termination:
    """Sets an event on SIGTERM, so that a service manager ends the server as Ctrl-C does."""

    def __init__(self, event: threading.Event) -> None:
        self._event = event

    def __enter__(self) -> None:
        self._main = threading.current_thread() is threading.main_thread()
        if self._main:
            self._before = signal.signal(signal.SIGTERM, lambda *_: self._event.set())

    def __exit__(self, *_: object) -> None:
        if self._main:
            signal.signal(signal.SIGTERM, self._before)
