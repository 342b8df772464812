"""What is done with visitors' files, in a process of its own that knows no other visitor (`isolation.py` starts it).

Reads or fits a NeRF, embeds it and renders it. Neither Gradio nor the language model is imported here. Messages to the server
are JSON: what comes out of a process that read a stranger's file is looked at, never unpickled.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

import gmn_encoder.encoders.gmn.encoder  # noqa: F401 (imported once, before any file comes)
from gmn_encoder.fitting.output import fit_notes
from gmn_encoder.fitting.single import fit_object
from gmn_encoder.nerfs.files import SAFETENSORS_NAME, load_nerf, save_nerf
from gmn_encoder.nerfs.finite import field_flag, nothing_to_see
from gmn_encoder.progress import Progress

from .options import PictureSizes
from .pictures import write_picture
from .uploads import opened, read_nerf

_MAX_FILE = 1 << 30
_PROGRESS_SECONDS = 0.2


def upload(arguments: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """Read a NeRF, or fit one to what was sent: its architecture and embedding; beside the upload stand then a checked copy and a
    still.

    Args:
        arguments: ``file``, what a visitor sent; ``fit``, family, quality and device of a fit; ``may_fit``, whether there is time
            for one; ``max_bytes``; ``encoder``, a directory, ``encoder_class``, where its class is imported from, and
            ``encoder_dtype``; ``tokens``, whether the model reads several vectors of a NeRF; ``still``, the picture's file, and
            ``sizes``; ``visible``, whether there must be something to see in it.
        progress: receives how far a fit is.

    Returns:
        ``architecture`` (`to_dict`), ``embedding``, what the model reads, D numbers or N times D, and ``notes`` about what was
        fitted; or ``to_fit``, where a fit is needed and may not be made.

    Raises:
        ValueError, OSError: what is wrong with the file.
    """
    received = Path(arguments["file"])
    source, to_fit = opened(received, max_bytes=arguments["max_bytes"])
    if to_fit and not arguments["may_fit"]:
        return {"to_fit": True}
    if to_fit:
        family = arguments["fit"]["family"]
        settings = {"quality": arguments["fit"]["quality"], "device": arguments["fit"]["device"]}
        source = fit_object(source, received.parent / "fit", families=[family], progress=progress, **settings)[family]
    notes = fit_notes(source) if to_fit else []
    nerf = read_nerf(source)
    if arguments["visible"] and (flag := field_flag(nerf)) is not None:
        raise ValueError(nothing_to_see(str(received), flag))
    module, _, name = arguments["encoder_class"].partition(":")
    encoder = getattr(importlib.import_module(module), name).from_pretrained(arguments["encoder"])
    encode = encoder.encode_tokens if arguments["tokens"] else encoder.encode
    embedding = encode([nerf], dtype=getattr(torch, arguments["encoder_dtype"]))[0].float()
    if not bool(torch.isfinite(embedding).all()):
        raise ValueError(f"{received}: its embedding has NaN or infinite values; its weights are too large to be read")
    save_nerf(nerf, received.parent / SAFETENSORS_NAME)
    write_picture(Path(arguments["still"]), nerf, turning=False, sizes=PictureSizes(**arguments["sizes"]))
    return {"architecture": nerf.architecture.to_dict(), "embedding": embedding.tolist(), "notes": notes}


def turn(arguments: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """Render the NeRF ``source`` turning into ``file``."""
    sizes = PictureSizes(**arguments["sizes"])
    write_picture(Path(arguments["file"]), load_nerf(arguments["source"]), turning=True, sizes=sizes, progress=progress)
    return {}


def nothing(arguments: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """So that the first visitor need not wait for the imports of this module."""
    return {}


JOBS: dict[str, Callable[[Mapping[str, Any], Progress], dict[str, Any]]] = {
    "upload": upload,
    "turn": turn,
    "nothing": nothing,
}


def work(
    channel: Connection, job: str, arguments: Mapping[str, Any], *, modules: Sequence[str], memory: int | None
) -> None:
    """Do a job in this process and say how it went: ``{"done": result}``, ``{"refused": sentence}``, ``{"broken": type}`` or
    ``{"too much": ...}``; before, ``{"progress": [stage, done, total]}``.

    Args:
        channel: where messages go.
        job: a name in `JOBS`.
        arguments: the job's.
        modules: modules that register families.
        memory: bytes that this process may have beyond what it has now; None for no limit.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the server's, which ends this process
    gc.freeze()  # what was imported is nobody's garbage
    torch.set_num_threads(1)
    if memory is not None:
        limit_memory(memory)
    say: Callable[[Mapping[str, Any]], None] = lambda message: channel.send_bytes(json.dumps(message).encode())  # noqa: E731
    try:
        for name in modules:
            importlib.import_module(name)
        say({"started": True})
        message: Mapping[str, Any] = {"done": JOBS[job](arguments, _told(say))}
    except (ValueError, OSError, ImportError) as error:
        message = {"refused": str(error)[:2000]}
    except (MemoryError, OverflowError, RecursionError) as error:
        message = {"too much": type(error).__name__}
    except Exception as error:
        alloc = isinstance(error, RuntimeError) and "memory" in str(error)  # torch's way to say it
        message = {"too much" if alloc else "broken": f"{type(error).__name__}: {error}"[:500]}
    with contextlib.suppress(OSError):  # nobody waits any more
        say(message)
    # Without the interpreter's farewell, in which libraries touch what a broken file may have left behind.
    os._exit(0)


def limit_memory(size: int) -> None:
    """Let this process have `size` more bytes of address space, write no file over 1 GiB and no core dump (POSIX)."""
    try:
        import resource

        used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except (ImportError, OSError):
        return
    for kind, limit in (
        (resource.RLIMIT_AS, used + size),
        (resource.RLIMIT_FSIZE, _MAX_FILE),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(kind, (limit, limit))
    os.nice(2)  # questions come first


def _told(say: Callable[[Mapping[str, Any]], None]) -> Progress:
    last = 0.0

    def progress(stage: str, done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last > _PROGRESS_SECONDS or done == total:
            last = time.monotonic()
            say({"progress": [stage, done, total]})

    return progress
