"""Resets a board."""

from __future__ import annotations

from contextlib import suppress

import trio

from rpyc_gateway.cli.onboard.interpreters import BoardFailed, Interpreter, defined
from rpyc_gateway.device.repl import Repl, ReplFailed
from rpyc_gateway.errors import DialFailed, LinkLost
from rpyc_gateway.transport import find_transport

__all__ = ["reset", "reset_port"]

RESETTING = 2.0  # seconds for a board to say why it cannot be reset
NOTICING = 15.0  # seconds for a node to notice that its board has been reset

SOFT = "SystemExit"  # is what that is: it is for a REPL to obey

RESET = """
try:
    from machine import reset
except ImportError:
    try:
        from microcontroller import reset
    except ImportError:
        from machine import soft_reset as reset
"""


async def reset_port(url: str, name: str) -> None:
    """Reset the board at this URL, and leave it to its main.py. Raises DialFailed, BoardFailed."""
    async with find_transport(url).connect(url) as pipe:
        if pipe.interpreter is not None:
            raise BoardFailed(name, "", "this is a bare Python, of which each command starts another")
        repl = Repl(pipe.stream, pipe.peer, rate=pipe.rate)
        await repl.find()
        with trio.move_on_after(RESETTING):
            try:
                await repl.run(RESET + "reset()\n")
            except ReplFailed as exc:
                raise BoardFailed(name, "", str(exc)) from None
            except DialFailed:  # it has gone, as USB does
                return


async def reset(board: Interpreter) -> None:
    """Reset a board that is a node. Raises BoardFailed, also if nothing shows that it has been."""
    function = await board.evaluate(defined(RESET, "reset"))
    with trio.move_on_after(NOTICING) as scope, suppress(LinkLost):
        try:
            await board.call(function)
        except BoardFailed as exc:
            if not exc.said.endswith(SOFT):
                raise
            raise BoardFailed(
                board.name,
                "",
                "it has a soft reset only, which its agent survives: reset it at its port, or by its button",
            ) from None
    if scope.cancelled_caught:
        raise BoardFailed(board.name, "", f"it was told to reset, and its node has noticed nothing for {NOTICING:g} s")
