"""Captions of many NeRFs.

Inputs go through in windows of some batches. Inside a window they are sorted, by the length of their prompts and then by
architecture (a batch pads little, and the encoder stacks NeRFs of one architecture); outside, the order of the inputs is kept.
Files are written so that an interrupted run continues where it stopped, with any number of processes.
"""

from __future__ import annotations

import concurrent.futures
import glob
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch

from gmn_encoder.files import StrPath, atomic_path, write_json
from gmn_encoder.nerf import Nerf
from gmn_encoder.nerf_io import load_nerf

from .checkpoints import read_json
from .modeling import LlanaGmnForConditionalGeneration
from .processing import LlanaGmnProcessor, NerfLike, read_embedding

DEFAULT_QUESTION = "What is this object?"
WINDOW_BATCHES = 16

_T = TypeVar("_T")
_Loaded = tuple[int, Any, str]
OnError = Callable[[int, Exception], None]


def caption_nerfs(
    model: LlanaGmnForConditionalGeneration,
    processor: LlanaGmnProcessor,
    nerfs: Sequence[NerfLike],
    *,
    question: str | Sequence[str] = DEFAULT_QUESTION,
    batch_size: int = 16,
    on_error: OnError | None = None,
    seed: int = 0,
    **generation: Any,
) -> Iterator[tuple[int, str]]:
    """What the model says about each NeRF.

    Args:
        nerfs: records, paths or embeddings.
        question: one for all, or one each.
        batch_size: prompts generated together.
        on_error: called with the place and the error of an input that cannot be read, which is then left out; None to raise.
        seed: set anew for each window, for sampling.
        **generation: for `generate`; by default greedy, 128 new tokens.

    Yields:
        ``(place, caption)`` in the order of `nerfs`.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    questions = [question] * len(nerfs) if isinstance(question, str) else list(question)
    if len(questions) != len(nerfs):
        raise ValueError(f"{len(questions)} questions came with {len(nerfs)} NeRFs; pass one for all, or one each")
    options = {"max_new_tokens": 128, "do_sample": False, **generation}
    window = batch_size * WINDOW_BATCHES
    windows = (range(start, min(start + window, len(nerfs))) for start in range(0, len(nerfs), window))

    def load(places: Sequence[int]) -> list[_Loaded]:
        return [(i, nerf, questions[i]) for i in places for nerf in _load(nerfs[i], i, on_error)]

    for number, loaded in enumerate(_ahead(load, windows)):
        torch.manual_seed(seed + number)
        lengths = {text: len(processor.tokenizer(text)["input_ids"]) for text in {text for _, _, text in loaded}}
        loaded.sort(key=lambda item: (lengths[item[2]], _architecture_key(item[1]), item[0]))
        captions: dict[int, str] = {}
        batches = [loaded[start : start + batch_size] for start in range(0, len(loaded), batch_size)]
        for batch, inputs in zip(batches, _ahead(lambda batch: _inputs(processor, batch), batches), strict=True):
            ids = model.generate(**inputs.to(model.device), **options)
            texts = processor.post_process(ids, inputs)
            captions.update((i, text) for (i, _, _), text in zip(batch, texts, strict=True))
        yield from sorted(captions.items())


def _load(nerf: NerfLike, place: int, on_error: OnError | None) -> list[Any]:
    try:
        if not isinstance(nerf, str | os.PathLike):
            return [nerf]
        return [read_embedding(nerf) if Path(nerf).suffix in (".npy", ".h5") else load_nerf(nerf)]
    except (ValueError, OSError) as error:
        if on_error is None:
            raise
        on_error(place, error)
        return []


def _architecture_key(nerf: Any) -> str:
    return nerf.architecture.name if isinstance(nerf, Nerf) else ""


def _inputs(processor: LlanaGmnProcessor, batch: Sequence[_Loaded]) -> Any:
    return processor.apply_chat_template(
        [_messages(nerf, text) for _, nerf, text in batch],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs={"padding": True},
    )


def _messages(nerf: Any, question: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "nerf", "nerf": nerf}, {"type": "text", "text": question}]}]


def _ahead(function: Callable[[Any], _T], items: Iterable[Any]) -> Iterator[_T]:
    """The function of each item, one item ahead of its reader, in a thread of its own."""
    with concurrent.futures.ThreadPoolExecutor(max_workers=1) as pool:
        pending: concurrent.futures.Future[_T] | None = None
        for item in items:
            submitted = pool.submit(function, item)
            if pending is not None:
                yield pending.result()
            pending = submitted
        if pending is not None:
            yield pending.result()


class CaptionFile:
    """A JSONL file of ``{"nerf", "question", "caption"}``, filled by any number of processes, in the order of its inputs.

    Each process appends to a part of its own beside the file; `finish` puts the parts together. What stands in the file and in
    parts that an interrupted run left is not done again.

    Args:
        path: the file.
        nerfs: the inputs, in order.
        question: asked of each.
        settings: everything else that decides what the captions are; a file made with others is refused.
        rank, world_size: of this process.

    Raises:
        ValueError: a file that was written with other settings, or is not such a file.
    """

    def __init__(
        self,
        path: StrPath,
        nerfs: Sequence[StrPath],
        *,
        question: str,
        settings: Mapping[str, Any],
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self._path = Path(path)
        self._nerfs = list(dict.fromkeys(str(nerf) for nerf in nerfs))
        self._question = question
        self._settings = {"question": question, **settings}
        self._rank, self._world_size = rank, world_size
        self._part = self._path.with_name(f"{self._path.name}.part-{rank}")
        self._settings_path = _settings_path(self._path)
        self._check_settings()
        self._done = self._read()

    @property
    def done(self) -> int:
        """How many of the inputs had a caption when this process started."""
        return sum(nerf in self._done for nerf in self._nerfs)

    def missing(self) -> list[str]:
        """The inputs without a caption that are this process's to do: its share, neighbours together."""
        missing = [nerf for nerf in self._nerfs if nerf not in self._done]
        share = -(-len(missing) // self._world_size)
        return missing[self._rank * share : (self._rank + 1) * share]

    def start(self) -> None:
        """Write down the settings. One process does, before any other writes."""
        write_json(self._settings, self._settings_path)

    def write(self, nerf: str, caption: str) -> None:
        record = {"nerf": nerf, "question": self._question, "caption": caption}
        try:
            with open(self._part, "a", encoding="utf-8") as file:
                file.write(json.dumps(record, ensure_ascii=False) + "\n")
        except OSError as error:
            raise OSError(f"{self._part}: cannot be written: {error.strerror or error}") from error

    def finish(self) -> int:
        """Put all parts into the file, in the order of the inputs; returns how many captions it holds. One process does."""
        done = self._read()
        order = [
            *(nerf for nerf in done if nerf not in set(self._nerfs)),
            *(nerf for nerf in self._nerfs if nerf in done),
        ]
        with atomic_path(self._path) as temporary:
            lines = (json.dumps(done[nerf], ensure_ascii=False) + "\n" for nerf in order)
            temporary.write_text("".join(lines), encoding="utf-8")
        for part in _parts(self._path):
            part.unlink()
        return len(order)

    def _check_settings(self) -> None:
        if not self._settings_path.is_file():
            if self._path.exists():
                raise ValueError(
                    f"{self._path}: is there already, and not of this command; name another file, or --overwrite"
                )
            return
        before = read_json(self._settings_path)
        for key in sorted({*before, *self._settings}):
            old, new = before.get(key), json.loads(json.dumps(self._settings.get(key)))
            if old != new:
                raise ValueError(
                    f"{self._path}: was begun with {key} {old!r}, now {new!r}; name another file, or --overwrite"
                )

    def _read(self) -> dict[str, dict[str, Any]]:
        done = {}
        for file in [self._path, *_parts(self._path)]:
            if not file.is_file():
                continue
            for line in file.read_text(encoding="utf-8", errors="replace").split("\n"):
                if not line:
                    continue
                try:
                    record = json.loads(line)
                    done[record["nerf"]] = record
                except (ValueError, KeyError, TypeError):
                    if file == self._path:
                        raise ValueError(f"{file}: has a line that is no caption: {line[:60]!r}") from None
                    # the last line of an interrupted run
        return done


def remove_captions(path: StrPath) -> None:
    """Delete a caption file and all that belongs to it."""
    path = Path(path)
    for file in [path, _settings_path(path), *_parts(path)]:
        file.unlink(missing_ok=True)


def _settings_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.settings.json")


def _parts(path: Path) -> list[Path]:
    return sorted(path.parent.glob(f"{glob.escape(path.name)}.part-*"))
