"""``llana-gmn serve``: the web page."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
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
        parser.add_argument(
            "--host",
            default="127.0.0.1",
            help="address to listen on; 0.0.0.0 opens it to the network (default: 127.0.0.1)",
        )
        parser.add_argument("--port", type=int, default=7860, help="0 takes a free one (default: 7860)")
        parser.add_argument(
            "--max-upload", type=float, default=64.0, metavar="MIB", help="largest file taken, MiB (default: 64)"
        )
        parser.add_argument(
            "--quality", default="nano", help="preset of fits to meshes: nano, quick, standard (default: nano)"
        )
        add_cache_arguments(parser)
        add_answer_arguments(parser, max_new_tokens=128)

    def run(self, arguments: argparse.Namespace) -> int:
        from gmn_encoder.extras import require

        require("gradio", "serve")
        from ..defaults import default_nerfs_path
        from ..web.page import running
        from ..web.state import Service

        options = _options(arguments)
        model, processor = load_answering(arguments)
        nerfs = open_foreign([arguments.nerfs], arguments)[0] if arguments.nerfs else default_nerfs_path()
        errors = InputErrors(self.name, debug=arguments.debug)
        ended = threading.Event()
        with _Termination(ended), Service(model, processor, options=options) as service:
            with stage_progress() as progress:
                service.gallery.fill(nerfs, limit=arguments.limit, on_error=errors.add, progress=progress)
            with running(service, host=arguments.host, port=arguments.port) as address:
                print(f"{address} (Ctrl-C ends it)", flush=True)
                try:
                    ended.wait()
                except KeyboardInterrupt:
                    print("llana-gmn serve: ended; uploads are removed", file=sys.stderr)
        return errors.status


def _options(arguments: argparse.Namespace) -> Any:
    from gmn_encoder.fitting.presets import PRESETS

    from ..web.state import ServiceOptions

    if arguments.quality not in PRESETS:
        raise ValueError(f"--quality is {arguments.quality!r}; expected one of {', '.join(PRESETS)}")
    if arguments.beams > 1:
        raise ValueError(f"--beams is {arguments.beams}; answers that appear as they are written need 1")
    return ServiceOptions(
        max_upload=round(arguments.max_upload * 2**20),
        fit_quality=arguments.quality,
        generation=generation_options(arguments),
    )


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
