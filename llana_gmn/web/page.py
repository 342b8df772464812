"""The page itself: components, what they set off, and the server.

The browser gets everything from this server: fonts are the system's, Gradio's analytics, history and links are off, and a
Content-Security-Policy forbids requests to anywhere else.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gmn_encoder.extras import require
from gmn_encoder.nerfs.architectures import FAMILIES, paper_families
from gmn_encoder.nerfs.families import DEFAULT_FAMILY

from .events import ALL_FAMILIES, FAMILY_CHOICES, Events
from .state import MAX_QUESTION, Service
from .uploads import MESH_EXTENSIONS, NERF_EXTENSIONS

if TYPE_CHECKING:
    import gradio as gr
else:
    gr = require("gradio", "serve")

TITLE = "Talk to a NeRF"
INTRODUCTION = (
    f"# {TITLE}\n\nA NeRF keeps a 3D object in the weights of a small neural network. The model on this page reads those weights "
    "themselves, without rendering them, and answers questions; the pictures are only for you."
)
QUESTIONS = ("What is this object?", "What colour is it?", "Describe it.")

_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' ws: wss:; worker-src 'self' blob:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'"
)
_FONTS = ("system-ui", "sans-serif")
_MODEL: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "model"}
_RENDER: dict[str, Any] = {"concurrency_limit": 2, "concurrency_id": "render", "show_progress": "hidden"}
_FIT: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "fit"}


def build_page(service: Service) -> gr.Blocks:
    """The page of a service; `running` serves it."""
    events = Events(service)
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(3600, 86400)) as page:
        session = gr.State(None, delete_callback=lambda value: value.close() if value is not None else None)
        gr.Markdown(INTRODUCTION, elem_id="title")
        with gr.Row():
            with gr.Column(scale=5, min_width=320):
                gallery, family, upload, fitted = _choosing(service)
            with gr.Column(scale=8, min_width=320):
                with gr.Tab("Chat"):
                    picture, facts, chat = _chatting(events, session)
                with gr.Tab("Compare two"):
                    first, second = _comparing(events, session, service)
                with gr.Tab("Look-alikes"):
                    near = _neighbours()
        seen = [session, picture, facts, near]
        page.load(events.arrive, session, [session, gallery, first, second], api_visibility="private").then(
            events.show, session, seen, api_name="show", **_RENDER
        )
        family.change(
            events.filter, [session, family], [session, gallery], api_visibility="private", show_progress="hidden"
        )
        gallery.select(
            events.pick, [session, family], [session, chat], api_visibility="private", show_progress="hidden"
        ).success(events.show, session, seen, api_visibility="private", **_RENDER)
        upload.upload(
            events.upload,
            [session, upload, fitted, first],
            [session, family, gallery, chat, first, second],
            api_name="upload",
            show_progress_on=gallery,
            **_FIT,
        ).success(events.show, session, seen, api_visibility="private", **_RENDER)
    return page


def _tiles(elem_id: str) -> Any:
    """Pictures to choose from."""
    return gr.Gallery(
        show_label=False,
        columns=4,
        height=390,
        allow_preview=False,
        object_fit="contain",
        interactive=False,
        buttons=[],
        elem_id=elem_id,
    )


def _choosing(service: Service) -> tuple[Any, Any, Any, Any]:
    family = gr.Radio(FAMILY_CHOICES, value=ALL_FAMILIES, label="NeRFs", container=False)
    gallery = _tiles("gallery")
    upload = gr.UploadButton("Upload a NeRF or a mesh", variant="primary", elem_id="upload")
    fitted = gr.Radio(
        [(FAMILIES[name].display_name, name) for name in paper_families()],
        value=DEFAULT_FAMILY,
        label="Meshes are first fitted as",
    )
    gr.Markdown(
        f"NeRFs: {' '.join(NERF_EXTENSIONS)} · meshes: {' '.join(MESH_EXTENSIONS)} · up to "
        f"{service.options.max_upload / 2**20:g} MiB. Files are read, never executed, and removed when the server stops.",
        elem_id="note",
    )
    return gallery, family, upload, fitted


def _picture(label: str) -> Any:
    return gr.Image(
        label=label,
        show_label=False,
        interactive=False,
        height=240,
        buttons=[],
        type="filepath",
        elem_classes="turning",
    )


def _chatting(events: Events, session: Any) -> tuple[Any, Any, Any]:
    with gr.Row():
        with gr.Column(scale=2, min_width=220):
            picture = _picture("The NeRF")
            facts = gr.Markdown(elem_id="facts")
        with gr.Column(scale=4, min_width=300):
            chat = gr.Chatbot(
                show_label=False,
                height=300,
                render_markdown=False,
                buttons=[],
                placeholder="Ask about the object on the left.",
                elem_id="chat",
            )
            with gr.Row(elem_classes="asked"):
                shortcuts = [gr.Button(text, size="sm", min_width=90) for text in QUESTIONS]
            question = gr.Textbox(
                placeholder="Your question",
                show_label=False,
                max_length=MAX_QUESTION,
                submit_btn=True,
                elem_id="question",
            )
            with gr.Row(elem_classes="turns"):
                stop = gr.Button("Stop", size="sm", min_width=80)
                restart = gr.Button("New conversation", size="sm", min_width=80)
    outputs = [session, question, chat]
    asked: list[Any] = [
        question.submit(
            events.ask, [session, question, chat], outputs, api_name="ask", show_progress="minimal", **_MODEL
        )
    ]
    for button in shortcuts:
        asked.append(
            button.click(
                events.ask,
                [session, button, chat],
                outputs,
                api_visibility="private",
                show_progress="minimal",
                **_MODEL,
            )
        )
    chat.clear(
        events.restart, session, [session, chat], cancels=asked, api_visibility="private", show_progress="hidden"
    )
    stop.click(None, None, None, cancels=asked, api_visibility="private")
    restart.click(events.restart, session, [session, chat], cancels=asked, api_name="restart", show_progress="hidden")
    return picture, facts, chat


def _comparing(events: Events, session: Any, service: Service) -> tuple[Any, Any]:
    choices = [(entry.title, entry.key) for entry in service.gallery.entries]
    chosen, answers = [], []
    with gr.Row():
        for label in ("First", "Second"):
            with gr.Column(min_width=240):
                chosen.append(gr.Dropdown(choices, value=None, label=label))
                picture = _picture(label)
                chosen[-1].change(
                    events.look, [session, chosen[-1]], [session, picture], api_visibility="private", **_RENDER
                )
    question = gr.Textbox(
        value=QUESTIONS[0], label="One question", max_length=MAX_QUESTION, submit_btn=True, elem_id="compared"
    )
    with gr.Row():
        for label in ("About the first", "About the second"):
            answers.append(gr.Textbox(label=label, lines=2, interactive=False, min_width=240))
    answers.append(gr.Textbox(label="About both together", lines=2, interactive=False))
    both = gr.Checkbox(
        value=True, label="Ask about both together, too (for models trained on several NeRFs at once)", container=False
    )
    question.submit(
        events.compare,
        [session, *chosen, question, both],
        [session, *answers],
        api_name="compare",
        show_progress="minimal",
        **_MODEL,
    )
    return chosen[0], chosen[1]


def _neighbours() -> Any:
    gr.Markdown("Nearest to the chosen NeRF among all families, by the cosine of their embeddings.")
    return _tiles("near")


@contextmanager
def running(service: Service, *, host: str = "127.0.0.1", port: int = 7860) -> Iterator[str]:
    """Serve the page while the block runs; yields its address. Port 0 takes a free one.

    Raises `OSError` where the port is taken or the host is not this machine.
    """
    port = _free_port(host, port)
    before = {name: os.environ.get(name) for name in ("GRADIO_TEMP_DIR", "GRADIO_ANALYTICS_ENABLED")}
    os.environ.update(GRADIO_TEMP_DIR=str(service.folder / "gradio"), GRADIO_ANALYTICS_ENABLED="False")
    page = build_page(service)
    try:
        _, address, _ = page.queue(default_concurrency_limit=4, max_size=64).launch(
            server_name=host,
            server_port=port,
            share=False,
            inline=False,
            inbrowser=False,
            quiet=True,
            prevent_thread_lock=True,
            show_error=False,
            max_file_size=service.options.max_upload,
            allowed_paths=[str(service.folder / "pictures")],
            enable_monitoring=False,
            run_history=False,
            footer_links=[],
            ssr_mode=False,
            mcp_server=False,
            pwa=False,
            theme=gr.themes.Default(primary_hue="teal", font=_FONTS, font_mono=("monospace",)),
            head=f"<style>\n{Path(__file__).with_name('page.css').read_text(encoding='utf-8')}</style>",
            app_kwargs={"middleware": _middleware()},
        )
        yield address
    finally:
        page.close(verbose=False)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _free_port(host: str, port: int) -> int:
    if not 0 <= port < 1 << 16:
        raise ValueError(f"port is {port}; expected 0 to {(1 << 16) - 1}")
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(place)
            return int(probe.getsockname()[1])
    except OSError as error:
        raise OSError(
            f"{host}:{port} cannot be listened on ({error.strerror or error}); name another --port, or 0 for a free one"
        ) from error


def _middleware() -> list[Any]:
    """Adds the headers that keep the browser on this server to every response."""
    from starlette.middleware import Middleware

    return [Middleware(_Headers)]


class _Headers:
    _HEADERS = (
        (b"content-security-policy", _POLICY.encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"),
    )

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *self._HEADERS]
            await send(message)

        await self._app(scope, receive, send_with_headers if scope["type"] == "http" else send)
