"""The command line of a function or dataclass: for scripts that only start something.

Names, types, defaults and help stand in one place, the signature and the docstring. Arguments by position are words of the
command line, keywords are options. Words, paths, numbers, booleans, choices (`Literal`) and sequences of words are understood; an
argument of another type is for Python alone.
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin


def parse_arguments(function: Callable[..., Any], arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """What a command line gives a function, by name; arguments that are not given are left out.

    Args:
        function: the function or dataclass.
        arguments: words of the command line; None for those of this process.
    """
    return vars(argument_parser(function).parse_args(arguments))


def argument_parser(function: Callable[..., Any]) -> argparse.ArgumentParser:
    """A parser for a function's arguments, described by the docstring of its module."""
    parser = argparse.ArgumentParser(
        description=sys.modules[function.__module__].__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )
    lines = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", inspect.cleandoc(function.__doc__ or ""), re.MULTILINE)
    meaning = {name: " ".join(text.split()) for name, text in lines}
    for name, parameter in inspect.signature(function, eval_str=True).parameters.items():
        needed, word = parameter.default is parameter.empty, parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        if (options := _options(parameter.annotation)) is None:
            continue
        if word and "nargs" in options and not needed:
            options["nargs"] = "*"
        if not word and needed:
            options["required"] = True
        default = "" if needed or parameter.default in (None, ()) else f" (default: {parameter.default})"
        help = f"{meaning.get(name, '').removesuffix('.')}{default}".replace("%", "%%")
        parser.add_argument(name if word else f"--{name.replace('_', '-')}", help=help, **options)
    return parser


def _options(annotation: Any) -> dict[str, Any] | None:
    """What `ArgumentParser.add_argument` needs to know of a type; None for one that no command line writes."""
    members = get_args(annotation)
    if get_origin(annotation) is Literal:
        return {"choices": members}
    if Sequence[str] in (annotation, *members):
        return {"nargs": "+"}
    if annotation is bool:
        return {"action": argparse.BooleanOptionalAction}
    kinds = [kind for kind in (int, float, str, Path) if kind in (annotation, *members)]
    return {"type": kinds[0]} if kinds else None
