"""A prompt for Python that runs elsewhere: blocks of several lines, history, completion."""

from __future__ import annotations

import _thread
import code
import importlib
import keyword
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

__all__ = ["history_file", "is_expression", "line_under_edit", "read_block", "wake_main_thread", "with_history"]

KEPT = 1000  # lines of history
INDENT = "    "
FIRST, NEXT = ">>> ", "... "

Names = Callable[[str, str], Sequence[str]]
"""The names there that begin with the second: of the object that the first is, or without one what can be written alone."""


def read_block(read: Callable[[str], str] = input) -> str:
    """A statement, with all of its lines. Raises what `read` raises."""
    lines = [read(FIRST)]
    while is_begun("\n".join(lines)):
        line = read(NEXT)
        lines.append(line if line.strip() else "")
    return "\n".join(lines)


def is_begun(source: str) -> bool:
    """Whether more must follow. What is wrong is whole: whoever runs it says why."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return code.compile_command(source) is None
    except (SyntaxError, ValueError, OverflowError):
        return False


def is_expression(source: str) -> bool:
    """Whether it is one expression, whose value is to be shown."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(source.strip(), "<stdin>", "eval")
    except (SyntaxError, ValueError, OverflowError):
        return False
    return True


def history_file() -> Path:
    """Where the lines are kept that were typed."""
    state = os.environ.get("XDG_STATE_HOME", "")
    root = Path(state) if os.path.isabs(state) else Path.home() / ".local" / "state"
    return root / "rpyc-gw" / "shell_history"


def line_under_edit() -> str:
    """What has been typed of the line that is not finished yet."""
    readline = editor()
    return str(readline.get_line_buffer()) if readline is not None else ""


def editor() -> Any:
    """The module readline, None where there is none (Windows)."""
    try:
        return importlib.import_module("readline")
    except ImportError:
        return None


def wake_main_thread() -> None:
    """Do as if Ctrl-C had been pressed, whatever the main thread waits for."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    else:  # Windows: when the next key is pressed
        _thread.interrupt_main()


@contextmanager
def with_history(names: Names) -> Iterator[None]:
    """In the body `input` has the history of earlier shells, and completes. What cannot be kept is not; what `input` had before it has afterwards."""
    readline = editor()
    if readline is None:
        yield
        return
    file = history_file()
    before = [readline.get_history_item(at) for at in range(1, readline.get_current_history_length() + 1)]
    completer, delimiters = readline.get_completer(), readline.get_completer_delims()
    readline.clear_history()
    with suppress(OSError):
        readline.read_history_file(file)
    readline.set_history_length(KEPT)
    readline.set_completer_delims(" \t\n`~!@#$%^&*()-=+[{]}\\|;:'\",<>/?")
    readline.set_completer(Completer(names))
    readline.parse_and_bind("bind ^I rl_complete" if "libedit" in (readline.__doc__ or "") else "tab: complete")
    try:
        yield
    finally:
        readline.set_completer(completer)
        readline.set_completer_delims(delimiters)
        with suppress(OSError):
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            file.touch(mode=0o600)
            readline.write_history_file(file)
        readline.clear_history()
        readline.set_history_length(-1)
        for line in before:
            readline.add_history(line)


class Completer:
    """What readline asks: the words that may stand in the place of one, one after another."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._found: list[str] = []

    def __call__(self, text: str, state: int) -> str | None:
        if state == 0:
            self._found = self._find(text)
        return self._found[state] if state < len(self._found) else None

    def _find(self, text: str) -> list[str]:
        if not text:
            return [INDENT]
        owner, dot, begun = text.rpartition(".")
        if dot and not all(part.isidentifier() for part in owner.split(".")):
            return []
        found = [name for name in self._names(owner, begun) if name.isidentifier()]
        if not dot:
            found += [word for word in keyword.kwlist if word.startswith(begun)]
        # As Python's own prompt: what is private only for who asks for it.
        return [owner + dot + name for name in sorted(set(found)) if begun.startswith("_") or name[0] != "_"]
