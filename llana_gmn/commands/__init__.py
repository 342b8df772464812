"""The command line: ``llana-gmn COMMAND``. One module a command, each a few lines over a public function."""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
from collections.abc import Sequence

from .. import __version__
from .base import Command, InputErrors

# In the order in which help lists them; a command's module has the command's name, its class is the only Command in it.
COMMANDS: tuple[str, ...] = (
    *("inspect", "fit", "render", "embed", "train-encoder"),
    *("retrieve", "classify", "plot"),
    *("pose", "align"),
    *("train", "chat", "caption", "evaluate", "score"),
    *("convert", "merge", "serve", "demo"),
)


def load_command(name: str) -> Command:
    module = importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
    (cls,) = (
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Command) and value.name == name
    )
    return cls()


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="llana-gmn", description="Talk to a NeRF: its weights in, answers out.")
    parser.add_argument("--version", action="version", version=f"llana-gmn {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in COMMANDS:
        command = load_command(name)
        subparser = subparsers.add_parser(
            name,
            help=command.help,
            description=command.help[0].upper() + command.help[1:] + ".",
            epilog=f"example:\n  {command.example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(subparser)
        subparser.add_argument("--debug", action="store_true", help="show tracebacks and debugging messages")
        subparser.set_defaults(run=command.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command. Returns 0 done, 1 an input failed (the others are done), 2 wrong usage, 130 interrupted."""
    arguments = build_parser().parse_args(argv)
    logging.basicConfig(
        level=logging.DEBUG if arguments.debug else logging.WARNING, format="llana-gmn: %(message)s", stream=sys.stderr
    )
    try:
        return arguments.run(arguments)
    except KeyboardInterrupt:
        print("llana-gmn: interrupted; what was finished is kept, the same command continues", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has gone; nobody is left to tell
        return 1
    except (ValueError, TypeError, OSError, ImportError) as error:
        if arguments.debug:
            raise
        print(f"llana-gmn {arguments.command}: {error}", file=sys.stderr)
        return 1
    except Exception as error:  # the last resort: nobody who names a file should have to read a traceback
        if arguments.debug:
            raise
        from gmn_encoder.files import reason

        kind = type(error).__name__
        print(f"llana-gmn {arguments.command}: {kind}: {reason(error)}; --debug shows where", file=sys.stderr)
        return 1


__all__ = ["COMMANDS", "Command", "InputErrors", "build_parser", "load_command", "main"]
