"""Exceptions of a board, as sessions see them: the builtin ones as such, each other under its name."""

from __future__ import annotations

import ast
import builtins
import functools
import re
from contextlib import suppress
from typing import Any

from rpyc_gateway.device.anyboard import BoardError
from rpyc_gateway.device.conversation import Failure

__all__ = ["raised"]

KINDS = 256  # names of classes that are kept: a board has few, and one that invents them fills no memory
LONGEST = 64  # characters of such a name


def raised(error: BoardError) -> BaseException:
    """The exception of a board, as a builtin one if it is one, else of a class with its name, with the traceback from there as a note.

    A BoardError, with that note, what cannot be made of a text, and what would end a process.
    """
    failure: Failure = error.failure
    found = made(failure) or error
    found.add_note(f"on the board:\n{failure.traceback}" if failure.traceback else "on the board")
    return found


def made(failure: Failure) -> Exception | None:
    """The exception, if it can be made of a text and ends no process."""
    kind = getattr(builtins, failure.kind, None)
    if kind is None and failure.kind.isidentifier() and len(failure.kind) <= LONGEST:
        kind = named(failure.kind, Exception if failure.errno is None else OSError)
    if not (isinstance(kind, type) and issubclass(kind, Exception)):
        return None
    args: tuple[Any, ...] = (failure.text,)
    if issubclass(kind, OSError) and failure.errno is not None:
        args = (failure.errno, re.sub(r"^\[Errno \d+\] ", "", failure.text))  # which it puts there again
    elif kind is KeyError:
        with suppress(ValueError, SyntaxError):
            args = (ast.literal_eval(failure.text),)
    try:
        return kind(*args)
    except TypeError:  # some want more than a text
        return None


@functools.lru_cache(KINDS)
def named(kind: str, base: type[Exception]) -> type[Exception]:
    """The class of this name."""
    return type(kind, (base,), {"__module__": "board"})
