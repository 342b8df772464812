"""What stands around the page's application: every request and every response goes through here (ASGI).

Requests are checked (`access.py`), only the routes that the page needs are open, and bodies have a largest size. No response
names a file of the server: Gradio tells the browser the path of every picture and of every upload, and gets it back; on the way
out the server's folder becomes `PUBLIC`, on the way in `PUBLIC` becomes the folder. The browser is told to stay on this server.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from starlette.requests import ClientDisconnect

from .access import Access, Refused

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

PUBLIC = "/served"
MAX_BODY = 1 << 20
_ASSETS = ("/assets/", "/static/", "/svelte/")
_ROUTES = re.compile(
    r"/|/config/?|/theme\.css|/favicon\.ico|/robots\.txt|/manifest\.json|(/assets|/static|/svelte)/.+"
    r"|/gradio_api/(app_id/?|info/?|startup-events|heartbeat/[\w-]+|queue/(data|join|status)|upload|upload_progress|cancel|reset/?"
    r"|theme\.css|login_check/?|call/\w+(/\w+)?|file=.+)"
)
_HEADERS = (
    (
        b"content-security-policy",
        b"default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
        b"img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' ws: wss:; worker-src 'self' blob:; "
        b"object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"SAMEORIGIN"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
)

logger = logging.getLogger(__name__)


class Guard:
    """An ASGI application around another.

    Args:
        app: the application.
        access: checks requests.
        folder: the server's, which responses do not name.
        max_upload: bytes of the largest upload.
        max_kept: bytes that uploads may have together before they are read.
    """

    def __init__(self, app: Any, access: Access, *, folder: Path, max_upload: int, max_kept: int) -> None:
        self._app, self._access, self._folder = app, access, folder
        self._max_upload, self._max_kept = max_upload, max_kept
        path = str(folder)
        self._named = sorted({each.encode() for each in (path, quote(path), json.dumps(path)[1:-1])}, key=len)[::-1]
        self._running: set[asyncio.Task[Any]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.closed = False

    def close(self) -> None:
        """End all requests, from any thread."""
        self.closed = True
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(lambda: [task.cancel() for task in self._running])

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            self._loop = asyncio.get_running_loop()
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":  # the page has none
            await receive()
            await send({"type": "websocket.close", "code": 1008})

    async def _http(self, scope: Any, receive: Receive, send: Send) -> None:
        response = _Response(send, self._named)
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        try:
            if self.closed:
                raise Refused(503, "The server is ending.")
            scope, receive = await self._checked(scope, receive)
            await self._app(scope, receive, response.send)
        except Refused as refused:
            await response.refuse(refused)
        except ClientDisconnect:  # in the middle of an upload: nobody is there to answer
            pass
        except asyncio.CancelledError:
            if not self.closed:
                raise
            await response.end()
        finally:
            self._running.discard(task)

    async def _checked(self, scope: Any, receive: Receive) -> tuple[Any, Receive]:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        path, changes = scope["path"], scope["method"] not in ("GET", "HEAD")
        server, client = (str((scope.get(name) or ("",))[0]) for name in ("server", "client"))
        if sum(name == b"host" for name, _ in scope["headers"]) > 1:
            raise Refused(400, "A request has one Host.")
        self._access.check(headers, server=server, client=client, counts=changes)
        if not _ROUTES.fullmatch(path):
            raise Refused(404, "Not found.")
        scope = {**scope}
        if not path.startswith(_ASSETS):  # what is compressed inside cannot be read here
            scope["headers"] = [each for each in scope["headers"] if each[0].lower() != b"accept-encoding"]
        if path.startswith("/gradio_api/file="):
            scope["path"] = path.replace(f"file={PUBLIC}/", f"file={self._folder}/", 1)
            scope["raw_path"] = quote(scope["path"], safe="/=").encode()
        if not changes:
            return scope, receive
        if path == "/gradio_api/upload":
            await asyncio.to_thread(self._check_room)
            return scope, self._limited(receive, self._max_upload + MAX_BODY, headers)
        body = await _body(self._limited(receive, MAX_BODY, headers))
        body = self._with_files(body)
        scope["headers"] = [
            (name, str(len(body)).encode() if name.lower() == b"content-length" else value)
            for name, value in scope["headers"]
        ]
        return scope, _replayed(body, receive)

    def _check_room(self) -> None:
        kept = 0
        for file in (self._folder / "gradio").rglob("*"):
            try:
                kept += file.stat().st_size
            except OSError:
                continue
        if kept > self._max_kept:
            raise Refused(503, "Too many files came at once; try again in some minutes.", [("retry-after", "300")])

    def _limited(self, receive: Receive, most: int, headers: dict[str, str]) -> Receive:
        refused = Refused(413, f"This is more than the maximum allowed size of {most >> 20} MiB.")
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > most:
            raise refused
        got = 0

        async def limited() -> Message:
            nonlocal got
            message = await receive()
            got += len(message.get("body", b""))
            if got > most:
                raise refused
            return message

        return limited

    def _with_files(self, body: bytes) -> bytes:
        """A JSON body in which Gradio finds its files."""
        if PUBLIC.encode() not in body:
            return body
        try:
            return json.dumps(_with_folder(json.loads(body), str(self._folder))).encode()
        except (ValueError, RecursionError):
            return body


def _with_folder(value: Any, folder: str) -> Any:
    if isinstance(value, list):
        return [_with_folder(each, folder) for each in value]
    if not isinstance(value, dict):
        return value
    value = {key: _with_folder(each, folder) for key, each in value.items()}
    path = value.get("path")
    if isinstance(path, str) and path.startswith(f"{PUBLIC}/") and isinstance(value.get("meta"), dict):
        value["path"] = folder + path.removeprefix(PUBLIC)
    return value


async def _body(receive: Receive) -> bytes:
    parts = []
    while (message := await receive())["type"] == "http.request":
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            break
    return b"".join(parts)


def _replayed(body: bytes, receive: Receive) -> Receive:
    given = False

    async def replayed() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed


class _Response:
    """A response on its way out, without the server's folder."""

    def __init__(self, send: Send, named: list[bytes]) -> None:
        self._send, self._named = send, named
        self._start: Message | None = None
        self._reads, self._started, self._ended = False, False, False
        self._rest = b""

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._begin(message)
        elif message["type"] == "http.response.body":
            await self._continue(message.get("body", b""), more=bool(message.get("more_body")))
        else:
            await self._send(message)

    def _begin(self, message: Message) -> None:
        headers = [
            (name, value) for name, value in message["headers"] if not name.lower().startswith(b"access-control-")
        ]
        kinds = b" ".join(value for name, value in headers if name.lower() == b"content-type")
        self._reads = any(kind in kinds for kind in (b"text/", b"json", b"javascript"))
        self._start = {**message, "headers": [*headers, *_HEADERS]}

    async def _continue(self, body: bytes, *, more: bool) -> None:
        if self._reads:
            body = self._rest + body
            for name in self._named:
                body = body.replace(name, PUBLIC.encode())
            kept = _begun(body, self._named) if more else 0
            body, self._rest = body[: len(body) - kept], body[len(body) - kept :]
        if self._start is not None:
            start, self._start, self._started = self._start, None, True
            if self._reads:  # a length that was known before may be another now
                headers = [each for each in start["headers"] if each[0].lower() != b"content-length"]
                start["headers"] = headers if more else [*headers, (b"content-length", str(len(body)).encode())]
            await self._send(start)
        self._ended = not more
        await self._send({"type": "http.response.body", "body": body, "more_body": more})

    async def refuse(self, refused: Refused) -> None:
        if self._started:
            await self.end()
            return
        headers = [
            (b"content-type", b"application/json"),
            (b"connection", b"close"),
            *((name.encode(), value.encode("latin-1")) for name, value in refused.headers),
        ]
        await self.send({"type": "http.response.start", "status": refused.status, "headers": headers})
        await self._continue(json.dumps({"detail": refused.sentence}).encode(), more=False)

    async def end(self) -> None:
        if self._started and not self._ended:
            await self._continue(b"", more=False)


def _begun(body: bytes, named: list[bytes]) -> int:
    """How many bytes at the end of a body may be the beginning of a name."""
    for length in range(min(len(body), len(named[0]) - 1), 0, -1):
        if any(name.startswith(body[-length:]) for name in named):
            return length
    return 0
