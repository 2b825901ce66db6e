"""A namespace on a board for somebody at a prompt, or for a script."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import trio

from rpyc_gateway.cli.onboard.interpreters import CHUNK, BoardFailed, Interpreter, defined
from rpyc_gateway.cli.onboard.programs import SHOW, own_part, parts_of

__all__ = ["Exited", "Shell", "open_shell"]

SETTLING = 2.0  # seconds for what was interrupted to end: some do not
THINKING = 3.0  # seconds that one who presses TAB waits: another may be using the board

SHELL = """
import sys
def f(write):
    show = print
    space = {"__name__": "__main__"}
    #show
    def _gateway_step(source, evaluates):
        source = "".join(source)
        try:
            if not evaluates:
                return exec(source, space)
            value = eval(source, space)
            if value is not None:
                space["_"] = value
                return repr(value)
        except SystemExit as e:
            code = e.args[0] if e.args else 0
            return (code if code is None or isinstance(code, int) else str(code),)
    def names(owner, begun):
        if owner:
            found = dir(eval(owner, space))
        else:
            import builtins
            found = list(space) + dir(builtins)
        return tuple([n for n in found if n.startswith(begun)])
    s = sys.implementation
    return _gateway_step, names, "%s %s on %s" % (s.name, ".".join([str(n) for n in s.version[:3]]), sys.platform)
"""
STEPPER = "_gateway_step"


class Exited(Exception):
    """The board has raised SystemExit; `code` is what it was given."""

    def __init__(self, code: int | str) -> None:
        super().__init__(code)
        self.code = code


class Shell:
    """A namespace of its own on a board."""

    def __init__(self, board: Interpreter, step: Any, names: Any, about: str) -> None:
        self.about = about
        """What runs there."""
        self._board = board
        self._step = step
        self._names = names

    async def run(self, source: str, *, evaluates: bool) -> str | None:
        """Run statements; of an expression (`evaluates`) what its value looks like, None if it has none.

        Raises BoardFailed, with the traceback from there; Exited; LinkLost. Cancelled: the board is interrupted.
        """
        given: Any = source.strip() if evaluates else source
        if len(given) > CHUNK:
            given = await parts_of(self._board, given)
        try:
            found = await self._board.call(self._step, given, evaluates)
        except BoardFailed as exc:
            exc.traceback = own_part(exc.traceback, STEPPER)
            raise
        if isinstance(found, tuple):
            raise Exited(found[0] or 0)
        return found if isinstance(found, str) else None

    async def settle(self) -> None:
        """Wait until what was interrupted has ended there, or for a moment: then what it had printed is here."""
        with trio.move_on_after(SETTLING), suppress(BoardFailed):
            await self._board.evaluate("None")

    async def names(self, owner: str, begun: str) -> Sequence[str]:
        """The names that begin so: of an object, or without `owner` what can be written alone. None if the board has something else to do."""
        with trio.move_on_after(THINKING):
            try:
                return tuple(await self._board.call(self._names, owner, begun))
            except BoardFailed:  # there is no such object
                return ()
        return ()


async def open_shell(board: Interpreter, write: Callable[[str], object]) -> Shell:
    """A new namespace. `write` gets what is printed there, where the board does not show that by itself. Raises BoardFailed."""
    make = await board.evaluate(defined(SHELL.replace("#show", "" if board.shows else SHOW.strip())))
    return Shell(board, *await board.call(make, None if board.shows else write))
