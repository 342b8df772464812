"""``llana-gmn chat``."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from .base import Command, InputErrors
from .foreign_arguments import add_cache_arguments, open_foreign
from .model_arguments import add_answer_arguments, generation_options, load_answering

_HELP = """/nerf PATH  show a NeRF (or embeddings) before the next question
/history    what was said so far
/reset      start a new conversation
/quit       leave (so do Ctrl-D and an empty end of input)"""


class Chat(Command):
    name = "chat"
    help = "talk to NeRFs in the terminal"
    example = "llana-gmn chat --nerf data/nerf/02691156/1a04e3ea"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--nerf", action="append", default=[], help="a NeRF to begin with; several times for several"
        )
        parser.add_argument(
            "--question", action="append", default=[], help="ask this and leave; several times for several turns"
        )
        parser.add_argument("--system", help="a system message in place of LLaNA's")
        add_cache_arguments(parser)
        add_answer_arguments(parser, max_new_tokens=256)

    def run(self, arguments: argparse.Namespace) -> int:
        from ..inference.chat import ChatSession

        model, processor = load_answering(arguments)
        session = ChatSession(model, processor, system=arguments.system, **generation_options(arguments))
        errors = InputErrors(self.name, debug=arguments.debug)
        for path in open_foreign(arguments.nerf, arguments, errors):
            _add(session, path, errors)
        if arguments.question:
            if errors.messages:  # an answer would be about something else than what was named
                return errors.status
            for question in arguments.question:
                _answer(session, question, errors)
            return errors.status
        if sys.stdin.isatty():
            print(_HELP)
        while (line := _read()) is not None:
            if line.strip() == "/quit":
                break
            _turn(session, line.strip(), arguments, errors)
        return errors.status


def _read() -> str | None:
    try:
        return input("> " if sys.stdin.isatty() else "")
    except EOFError:
        return None


def _turn(session: Any, line: str, arguments: argparse.Namespace, errors: InputErrors) -> None:
    from ..inference.chat import history

    command, _, rest = line.partition(" ")
    if not line:
        return
    if command == "/nerf":
        for path in open_foreign([rest.strip()], arguments, errors):
            _add(session, path, errors)
    elif command == "/history":
        for role, text in history(session.messages):
            print(f"{role}: {text}")
    elif command == "/reset":
        session.reset()
    elif command == "/help":
        print(_HELP)
    elif command.startswith("/"):
        errors.add(f"{command}: no such command; /help lists them")
    else:
        _answer(session, line, errors)


def _add(session: Any, path: str, errors: InputErrors) -> None:
    try:
        if not path:
            raise ValueError("/nerf needs a path")
        print(f"[{_show(session, path)}]", file=sys.stderr)
    except (ValueError, OSError) as error:
        errors.add(error)


def _show(session: Any, path: str) -> str:
    """Show a NeRF, or all embeddings of a file, that say whose they are."""
    from gmn_encoder.embeddings.files import is_embedding_file, read_embeddings

    from ..checkpoints.encoders import check_origin, is_embedding_set

    members = read_embeddings(path) if is_embedding_set(path) else None
    if members is None and not is_embedding_file(path):
        return session.add_nerf(path)
    note = check_origin("" if members is None else members.encoder, session.encoder, path)
    name = session.add_nerf(path if members is None else members.values)
    if note:
        print(note, file=sys.stderr)
    return name if members is None else f"{path}, {len(members)} embeddings"


def _answer(session: Any, question: str, errors: InputErrors) -> None:
    from ..inference.context import ConversationFull

    try:
        for piece in session.stream(question):
            print(piece, end="", flush=True)
        print()
    except ConversationFull as error:
        print()
        errors.add(f"{error} with /reset")
    except ValueError as error:
        print()
        errors.add(error)
