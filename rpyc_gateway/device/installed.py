"""An agent that is on the flash of its board: found when it runs, used if it is the one of this version, and left to the next front."""

from __future__ import annotations

import logging
import secrets
from binascii import crc32
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from math import inf

import trio

from rpyc_gateway.device.board import BROKEN, Board
from rpyc_gateway.device.repl import Platform
from rpyc_gateway.device.source import agent
from rpyc_gateway.errors import GatewayError
from rpyc_gateway.nursery import open_background
from rpyc_gateway.proto.line import Line
from rpyc_gateway.proto.lineevents import Established
from rpyc_gateway.proto.lineframes import NONCE, Greeting
from rpyc_gateway.transport import Pipe

__all__ = ["MODULE", "open_installed", "version"]

MODULE = "gwagent"
HEARING = 0.3  # seconds for an agent to answer; a prompt is seen before
ASKING = 2.0  # seconds for it to say which one it is
LEAVING = 1.0  # seconds to tell it that its front lets go
CHUNK = 4096
PROMPT = b">>> "

# An agent that was uploaded, and lost its front, is no such module.
WHICH = f"""(lambda s,g:(s.modules[{MODULE!r}].VERSION,s.implementation[0],'.'.join(map(str,s.implementation[1][:3])),s.platform,(g.collect(),g.mem_free())[1],hasattr(s.stdin,'buffer'),hasattr(s,'print_exception')))(__import__('sys'),__import__('gc'))"""

logger = logging.getLogger(__name__)


def version(sections: Sequence[str]) -> str:
    """What an agent of these sections calls itself when it is installed. Raises KeyError for sections that there are not."""
    return f"{' '.join(sections)} {crc32(agent(*sections, 'installed').encode()):08x}"


@asynccontextmanager
async def open_installed(pipe: Pipe, show: Callable[[bytes], object] | None) -> AsyncIterator[Board | None]:
    """The board whose installed agent answers within 300 ms. None if none does, or it is another one, which is told in the log: then the REPL is to be looked for.

    `show` is that of `open_board`. Raises nothing. At the end the agent waits for its next front.
    """
    board = None
    try:
        async with open_background() as nursery:
            board = await adopted(pipe, nursery, show)
            if board is not None:
                yield board
    finally:
        if board is not None:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + LEAVING):
                await let_go(board, pipe)
    if board is None:
        yield None


async def adopted(pipe: Pipe, nursery: trio.Nursery, show: Callable[[bytes], object] | None) -> Board | None:
    nonce = await hear(pipe)
    if nonce is None:
        return None
    unknown = Platform("?", "?", "?", 0, binary=True, printer=False, usb=False)
    board = Board(pipe, unknown, nonce, show)
    with trio.move_on_after(ASKING), suppress(GatewayError):
        await board.serve(nursery)
        theirs, name, number, platform, free, binary, printer = await board.evaluate(WHICH)
        if theirs == expected(theirs):
            board.platform = Platform(name, number, platform, free, binary, printer, usb=theirs.startswith("usb"))
            return board
        logger.warning(
            "%s: the agent on its flash is another version: one is uploaded to its RAM, until `rpyc-gw device install` is run again",
            pipe.peer,
        )
    nursery.cancel_scope.cancel()
    return None


def expected(theirs: object) -> str | None:
    """What the agent calls itself that is like this one, of this version."""
    try:
        return version(str(theirs).split()[:-1])
    except KeyError:
        return None


async def hear(pipe: Pipe) -> bytes | None:
    """The nonce of an agent that answers, be it one that was uploaded and has lost its front."""
    line = Line(
        Greeting(nonce=secrets.token_bytes(NONCE)), dialler=True, now=trio.current_time(), rate=pipe.rate, patience=inf
    )
    with trio.move_on_after(HEARING), suppress(*BROKEN):
        await pipe.stream.send_all(line.data_to_send(trio.current_time()))
        while not line.unfinished.endswith(PROMPT):
            data = await pipe.stream.receive_some(CHUNK)
            if not data:
                break
            line.receive_data(bytes(data), trio.current_time())
            for event in line.events():
                if isinstance(event, Established):
                    return event.peer.nonce
    return None


async def let_go(board: Board, pipe: Pipe) -> None:
    """Tell the agent that its front has gone; what it still runs is interrupted."""
    if board.lost is not None:
        return
    key = b"" if board.idle else b"\x03"
    board.line.reset("the front lets go")
    with suppress(*BROKEN):
        await pipe.stream.send_all(key + b"\n" + board.line.last_words())
