"""The page itself: components, and what they set off.

The browser gets everything from this server (`guard.py` says so in every response): fonts are the system's, Gradio's analytics,
history and links are off.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gmn_encoder.extras import require
from gmn_encoder.nerfs.architectures import FAMILIES, paper_families
from gmn_encoder.nerfs.families import DEFAULT_FAMILY

from .events import ALL_FAMILIES, FAMILY_CHOICES, Events
from .state import MAX_QUESTION, Service
from .suggestions import QUESTIONS, fitting_question
from .uploads import ARCHIVE, MESH_EXTENSIONS, NERF_EXTENSIONS, fitted_extensions

if TYPE_CHECKING:
    import gradio as gr
else:
    gr = require("gradio", "serve")

TITLE = "Talk to a NeRF"
INTRODUCTION = (
    f"# {TITLE}\n\nA NeRF keeps a 3D object in the weights of a small neural network. The model on this page reads those weights "
    "themselves, without rendering them, and answers questions; the pictures are only for you."
)

# How many events are in work: most of them wait in the service's lines, which see to it that nobody fills them alone.
_MODEL: dict[str, Any] = {"concurrency_limit": 8, "concurrency_id": "model"}
_RENDER: dict[str, Any] = {"concurrency_limit": 12, "concurrency_id": "render", "show_progress": "hidden"}
_UPLOAD: dict[str, Any] = {"concurrency_limit": 12, "concurrency_id": "upload"}


def build_page(service: Service) -> gr.Blocks:
    """The page of a service; `running` serves it."""
    events = Events(service)
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(300, 3600)) as page:
        session = gr.State(None, delete_callback=lambda value: value.close() if value is not None else None)
        gr.Markdown(INTRODUCTION, elem_id="title")
        with gr.Row():
            with gr.Column(scale=5, min_width=320):
                gallery, family, upload, fitted = _choosing(service)
            with gr.Column(scale=8, min_width=320):
                with gr.Tab("Chat"):
                    picture, facts, chat, fitting = _chatting(events, session)
                with gr.Tab("Compare two"):
                    first, second = _comparing(events, session, service)
                with gr.Tab("Look-alikes"):
                    near = _neighbours()
        seen = [session, picture, facts, near]
        suggested: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        page.load(events.arrive, session, [session, gallery, first, second], api_visibility="private").then(
            events.show, session, seen, api_name="show", **_RENDER
        ).then(events.suggest, session, [session, fitting], **suggested)
        family.change(
            events.filter, [session, family], [session, gallery], api_visibility="private", show_progress="hidden"
        )
        gallery.select(
            events.pick, [session, family], [session, chat], api_visibility="private", show_progress="hidden"
        ).success(events.suggest, session, [session, fitting], **suggested).success(
            events.show, session, seen, api_visibility="private", **_RENDER
        )
        upload.upload(
            events.upload,
            [session, upload, fitted, first],
            [session, family, gallery, chat, first, second],
            api_name="upload",
            show_progress_on=gallery,
            **_UPLOAD,
        ).success(events.suggest, session, [session, fitting], **suggested).success(
            events.show, session, seen, api_visibility="private", **_RENDER
        )
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
    upload = gr.UploadButton("Upload a NeRF or an object", variant="primary", elem_id="upload")
    fitted = gr.Radio(
        [(FAMILIES[name].display_name, name) for name in paper_families()],
        value=DEFAULT_FAMILY,
        label="What is no NeRF yet is first fitted as",
    )
    others = [each for each in fitted_extensions() if each not in (*MESH_EXTENSIONS, ARCHIVE)]
    gr.Markdown(
        f"NeRFs: {' '.join(NERF_EXTENSIONS)} · meshes: {' '.join(MESH_EXTENSIONS)} · other programs' fields: "
        f"{' '.join(others)} · a folder of photographs with their cameras: {ARCHIVE} · up to "
        f"{service.options.max_upload / 2**20:g} MiB. Files are read, never executed, and removed when the server stops.",
        elem_id="note",
    )
    return gallery, family, upload, fitted


def _picture(label: str) -> Any:
    return gr.Image(
        label=label,
        show_label=False,
        interactive=False,
        height=300,
        buttons=[],
        type="filepath",
        elem_classes="turning",
    )


def _chatting(events: Events, session: Any) -> tuple[Any, Any, Any, Any]:
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
                texts = (*QUESTIONS, fitting_question(""))
                shortcuts = [gr.Button(text, size="sm", min_width=90) for text in texts]
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
    return picture, facts, chat, shortcuts[-1]


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
