"""Tables and pictures as pages to look at. A page is one file: pictures stand in it, nothing is fetched, all text is escaped."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from gmn_encoder.files import StrPath, write_bytes

from .tables import Table

_STYLE = (
    "body{font-family:system-ui,sans-serif;margin:2em;max-width:70em}table{border-collapse:collapse;margin:1em 0}"
    "caption{text-align:left;font-weight:bold;padding:.4em 0}th,td{padding:.25em .7em;border-bottom:1px solid #ccc;"
    "text-align:left;vertical-align:top}td.n{text-align:right}img{display:block;width:160px;height:160px}"
    "figure{margin:1.5em 0}figure img{width:auto;height:auto;max-width:100%}"
    ".right{color:#15803d}.wrong{color:#b91c1c}.none{width:160px;color:#888}td>pre{max-width:24em}pre{white-space:pre-wrap;margin:0;font:inherit}"
)


@dataclass(frozen=True)
class Picture:
    """A picture on a page: what is said over it, the picture, and what it shows in words."""

    title: str
    image: Image.Image
    note: str = ""


def write_page(
    path: StrPath, title: str, *, tables: Sequence[Table] = (), pictures: Sequence[Picture] = (), more: str = ""
) -> None:
    """Write a page that needs nothing else.

    Args:
        path: the HTML file.
        title: the page's title.
        tables, pictures: content of the page, in this order.
        more: HTML that follows them, such as `answers_html` makes.
    """
    body = "\n".join([*(table.html() for table in tables), *map(_figure, pictures), *([more] if more else [])])
    title = html.escape(title)
    page = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>\n'
        f"<style>{_STYLE}</style></head>\n<body>\n<h1>{title}</h1>\n{body}\n</body></html>\n"
    )
    write_bytes(page.encode(), path)


def write_tables(tables: Sequence[Table], stem: StrPath) -> list[Path]:
    """Write tables as ``<stem>.md``, ``<stem>.tex`` and a page ``<stem>.html``; returns the paths."""
    paths = [Path(f"{stem}{suffix}") for suffix in (".md", ".tex", ".html")]
    write_bytes("\n".join(table.markdown() for table in tables).encode(), paths[0])
    write_bytes("\n".join(table.latex() for table in tables).encode(), paths[1])
    write_page(paths[2], tables[0].title, tables=tables)
    return paths


def image_uri(image: Image.Image) -> str:
    """A picture as a ``data:`` URI of a PNG."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _figure(picture: Picture) -> str:
    title, note = html.escape(picture.title), html.escape(picture.note)
    caption = f"<figcaption><b>{title}</b><br>{note}</figcaption>"
    return f'<figure>{caption}<img alt="{title}" src="{image_uri(picture.image)}"></figure>'
