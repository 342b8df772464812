"""The server around the page: uvicorn on a socket, the guard, Gradio's application inside."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gmn_encoder.extras import require

from .access import Access, AccessOptions, is_any
from .guard import Guard
from .page import build_page
from .state import Service

if TYPE_CHECKING:
    import gradio as gr
else:
    gr = require("gradio", "serve")

_FONTS = ("system-ui", "sans-serif")
_START_SECONDS, _END_SECONDS = 60.0, 15.0
_CONNECTIONS = 1000
_SESSIONS = 2000
"""Visitors that are remembered; of those who left, for an hour."""
_KEPT_UPLOADS = 16
"""Uploads of the largest size for which there is room before they are read."""


@contextmanager
def running(
    service: Service, *, host: str = "127.0.0.1", port: int = 7860, access: AccessOptions | None = None, root: str = ""
) -> Iterator[str]:
    """Serve the page while the block runs; yields its address. Port 0 takes a free one.

    Args:
        service: what is served; it is stopped at the end.
        host, port: where to listen.
        access: who may ask for what.
        root: the path under which a proxy shows the page, such as ``/nerf``.

    Raises:
        OSError: the port is taken, or the host is not this machine.
    """
    listening = _socket(host, port)
    before = {name: os.environ.get(name) for name in ("GRADIO_TEMP_DIR", "GRADIO_ANALYTICS_ENABLED")}
    os.environ.update(GRADIO_TEMP_DIR=str(service.folder / "gradio"), GRADIO_ANALYTICS_ENABLED="False")
    try:
        guard = Guard(
            _application(service, root),
            Access(host, access or AccessOptions()),
            folder=service.folder,
            max_upload=service.options.max_upload,
            max_kept=_KEPT_UPLOADS * service.options.max_upload,
        )
        with _Serving(guard, listening):
            service.warm()
            try:
                yield _address(host, listening)
            finally:
                service.stop()
    finally:
        listening.close()
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _application(service: Service, root: str) -> Any:
    from fastapi import FastAPI

    page = build_page(service).queue(default_concurrency_limit=4, max_size=service.options.max_waiting, api_open=False)
    page.state_session_capacity = _SESSIONS
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    return gr.mount_gradio_app(
        app,
        page,
        path="/",
        root_path=root or None,
        show_error=False,
        max_file_size=service.options.max_upload,
        allowed_paths=[str(service.pictures)],
        enable_monitoring=False,
        run_history=False,
        footer_links=[],
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
        theme=gr.themes.Default(primary_hue="teal", font=_FONTS, font_mono=("monospace",)),
        head=f"<style>\n{Path(__file__).with_name('page.css').read_text(encoding='utf-8')}</style>",
    )


class _Serving:
    """A uvicorn server in a thread of its own, while the block runs."""

    def __init__(self, guard: Guard, listening: socket.socket) -> None:
        import uvicorn

        self._guard = guard
        config = uvicorn.Config(
            guard,
            log_level="error",
            access_log=False,
            server_header=False,
            lifespan="on",
            ws="none",
            limit_concurrency=_CONNECTIONS,
            timeout_graceful_shutdown=2,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([listening],), name="page", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()
        end = time.monotonic() + _START_SECONDS
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > end:
                raise OSError("the page's server did not start; its log says why")
            time.sleep(0.01)

    def __exit__(self, *_: object) -> None:
        self._guard.close()
        self._server.should_exit = True
        self._thread.join(_END_SECONDS)


def _socket(host: str, port: int) -> socket.socket:
    if not 0 <= port < 1 << 16:
        raise ValueError(f"port is {port}; expected 0 to {(1 << 16) - 1}")
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family, kind, protocol)
        try:
            if os.name == "posix":
                found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.bind(place)
            found.listen(128)
        except OSError:
            found.close()
            raise
        return found
    except OSError as error:
        raise OSError(
            f"{host}:{port} cannot be listened on ({error.strerror or error}); name another --port, or 0 for a free one"
        ) from error


def _address(host: str, listening: socket.socket) -> str:
    name = "localhost" if is_any(host) else host
    return f"http://{f'[{name}]' if ':' in name else name}:{listening.getsockname()[1]}/"
