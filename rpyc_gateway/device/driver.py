"""Drives a board from its REPL to its REPL: finds that, uploads the agent, starts it, and brings the board back to its prompt at the end."""

from __future__ import annotations

import logging
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from math import inf

import trio

from rpyc_gateway.device.bare import arrive, open_agent
from rpyc_gateway.device.board import BROKEN, Board
from rpyc_gateway.device.repl import Platform, Repl
from rpyc_gateway.device.source import PART, agent, parts
from rpyc_gateway.errors import DialFailed
from rpyc_gateway.nursery import open_background
from rpyc_gateway.proto.lineframes import NONCE, Greeting
from rpyc_gateway.transport import Pipe

__all__ = ["open_board"]

BUFFER = 240  # bytes under way to a board: what the smallest buffer of its firmware holds
PIECE = 240  # bytes of its pieces, and what it takes as one
SMALL = 32_000  # bytes of free heap: below it pieces are shorter
SHORT = 96  # bytes, those
SMALL_PART = 500  # bytes of the parts of the agent that it compiles one by one
ROOMY = 64_000  # bytes of free heap: from there on fewer and longer parts are uploaded, each costs a few round trips
LARGE_PART = 3000  # bytes, those
SECONDS = 0.02  # that one of its pieces takes at most on a slow line
LEAST = 12_000  # bytes of free heap that the agent needs, on a board with words of 32 bits
DELAY = 50  # ms that a front waits for an answer before it asks whether the call has arrived
LINGER = 0.5  # seconds for an agent to end
RESTORING = 3.0  # seconds for one that is interrupted
LEAVING = 5.0  # seconds for all that
ESCAPES = b"\x01\x02\x03\x04\x05\r\x11\x13"

logger = logging.getLogger(__name__)


@asynccontextmanager
async def open_board(
    pipe: Pipe,
    *,
    progress: Callable[[int, int], object] | None = None,
    show: Callable[[bytes], object] | None = None,
) -> AsyncIterator[Board]:
    """The board at the other end of `pipe`, with the agent in its RAM; nothing is written to its flash. Its stream stays its owner's to close.
    A bare Python is one, too.

    Whatever it was doing is interrupted. `progress` is told the bytes of the upload that are done, and all; `show` gets each line that is printed
    there, instead of the log `rpyc_gateway.console`. At the end the board is at its prompt again.

    Raises DialFailed, saying what the board said instead. Cancelled: the board is brought back to its prompt, if that takes no five seconds.
    """
    if pipe.interpreter is not None:
        nonce = secrets.token_bytes(NONCE)
        arrival = await arrive(pipe, replace(pipe.interpreter, whole=False), nonce)
        async with open_agent(pipe, arrival, nonce, show=show) as hosted:
            yield hosted
        return
    repl = Repl(pipe.stream, pipe.peer, rate=pipe.rate)
    await repl.find()
    board = None
    try:
        board = await start(repl, pipe, progress, show)
        async with open_background() as nursery:
            board.feed(repl.rest)
            await board.serve(nursery)
            yield board
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + LEAVING):
            if board is None:
                await restore(repl, pipe.peer)
            else:
                await leave(board, repl, pipe)


async def start(
    repl: Repl, pipe: Pipe, progress: Callable[[int, int], object] | None, show: Callable[[bytes], object] | None
) -> Board:
    """Upload the agent and start it. Raises DialFailed."""
    platform = await repl.probe()
    sections = choose(platform, pipe.peer)
    most = SMALL_PART if platform.free < SMALL else PART if platform.free < ROOMY else LARGE_PART
    await repl.upload(parts(agent(*sections), most), progress)
    nonce = secrets.token_bytes(NONCE)
    piece = SHORT if platform.free < SMALL else PIECE
    if pipe.rate < inf:
        piece = max(16, min(piece, int(pipe.rate * SECONDS)))
    hello = Greeting(nonce=nonce, mtu=piece, window=8, buffer=BUFFER, delay=DELAY, escapes=ESCAPES).encode()
    await repl.start(f"main({nonce!r},{hello[3 + 2 * NONCE :]!r},{piece})")
    return Board(pipe, platform, nonce, show)


async def leave(board: Board, repl: Repl, pipe: Pipe) -> None:
    """End the agent, and bring the board back to its prompt."""
    if board.broken:
        return
    board.line.reset("the front lets go")
    with suppress(*BROKEN), trio.move_on_after(LINGER):
        await pipe.stream.send_all(b"\n" + board.line.last_words())
        if board.lost is None:
            await repl.wait_ended()
            await repl.leave()
            return
    await restore(repl, pipe.peer)


async def restore(repl: Repl, peer: str) -> None:
    """Bring a board back to its prompt that may be anywhere."""
    try:
        await repl.find(patience=RESTORING)
        await repl.leave()
    except DialFailed as exc:
        logger.warning("%s: the board was left without its prompt: %s", peer, exc)


def choose(platform: Platform, peer: str) -> tuple[str, ...]:
    """The sections of the agent for this board. Raises DialFailed if it is too small, or has no binary input."""
    if platform.free < LEAST:
        raise DialFailed(
            f"{peer}: {platform.implementation} {platform.version} on {platform.platform} has {platform.free} bytes free; the agent needs {LEAST}"
        )
    if platform.binary:
        port = "console"
    elif platform.usb:
        port = "usb"
    else:
        raise DialFailed(f"{peer}: {platform.implementation} on {platform.platform} has no binary input")
    return port, "micropython" if platform.printer else "others", "core", "callbacks"
