"""Drives a board from its REPL to its REPL: finds that, uploads the agent, starts it, and brings the board back to its prompt at the end."""

from __future__ import annotations

import logging
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from math import inf

import trio

from rpyc_gateway.device.anyboard import AnyBoard
from rpyc_gateway.device.bare import arrive, open_agent
from rpyc_gateway.device.board import BROKEN, Board
from rpyc_gateway.device.installed import open_installed
from rpyc_gateway.device.repl import Platform, Repl, ReplFailed
from rpyc_gateway.device.small import SmallBoard
from rpyc_gateway.device.source import PART, agent, agent_names, parts
from rpyc_gateway.device.uploading import upload
from rpyc_gateway.errors import DialFailed
from rpyc_gateway.nursery import open_background
from rpyc_gateway.proto.lineframes import NONCE, Greeting
from rpyc_gateway.transport import Pipe

__all__ = ["open_board"]

BUFFER = 240  # bytes under way to a board: what the smallest buffer of its firmware holds
PIECE = 240  # bytes of its pieces, and what it takes as one
SMALL = 32_000  # bytes of free heap: below it pieces are shorter, and the upload is not checked
# While the heap is in one piece the dict of globals gets room for the agent's names: to grow it later takes more than is left in one.
SPACE = "for i in range(120):globals()[i]=0\nfor i in range(120):del globals()[i]\ndel i\n"
# Who has names like these three has an agent, or a part of one; anybody else keeps what is called so.
FORGET = """_g=globals()
if all([n in _g for n in{first}]):
 for _n in"{names}".split():_g.pop(_n,0)
 print(1)
_g.pop("_n",0)
_g.pop("_g")
"""
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
ESCAPES = b"\x01\x02\x03\x04\x05\r\x11\x13\x15\x17"  # the last two erase a line and a word at a REPL: the # as well

logger = logging.getLogger(__name__)


@asynccontextmanager
async def open_board(
    pipe: Pipe,
    *,
    progress: Callable[[int, int], object] | None = None,
    show: Callable[[bytes], object] | None = None,
    small: bool = False,
) -> AsyncIterator[AnyBoard]:
    """The board at the other end of `pipe`, with the agent in its RAM; nothing is written to its flash. Its stream stays its owner's to close.
    A bare Python is one, too.

    An agent that was installed, and is this one, is used as it is, and waits for the next when it is let go; else whatever the board was doing is interrupted.
    A board that is too small for the agent, or cannot talk to it, is driven by its REPL, and so is any other with `small`: a SmallBoard, which can do less. `progress` is told the bytes of the upload that are done, and all; `show` gets each line that is printed
    there, instead of the log `rpyc_gateway.console`. At the end the board is at its prompt again.

    Raises DialFailed, saying what the board said instead. Cancelled: the board is brought back to its prompt, if that takes no five seconds.
    """
    if pipe.interpreter is not None:
        nonce = secrets.token_bytes(NONCE)
        arrival = await arrive(pipe, replace(pipe.interpreter, whole=False), nonce)
        async with open_agent(pipe, arrival, nonce, show=show) as hosted:
            yield hosted
        return
    if not small:
        async with open_installed(pipe, show) as installed:
            if installed is not None:
                yield installed
                return
    repl = Repl(pipe.stream, pipe.peer, rate=pipe.rate)
    await repl.find()
    board: AnyBoard | None = None
    try:
        board = await start(repl, pipe, progress, show, small=small)
        async with open_background() as nursery:
            await board.serve(nursery)
            yield board
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + LEAVING):
            if board is None:
                await restore(repl, pipe.peer)
            else:
                await leave(board, repl, pipe)


async def start(
    repl: Repl,
    pipe: Pipe,
    progress: Callable[[int, int], object] | None,
    show: Callable[[bytes], object] | None,
    *,
    small: bool = False,
) -> AnyBoard:
    """Upload the agent and start it, if it can be. Raises DialFailed."""
    platform = await repl.probe()
    if not small and platform.free < ROOMY and (platform.binary or platform.usb):
        platform = await forget_earlier(repl, platform)
    sections = () if small else choose(platform, pipe.peer)
    if not sections:
        return SmallBoard(pipe, platform, repl, show)
    most = SMALL_PART if platform.free < SMALL else PART if platform.free < ROOMY else LARGE_PART
    try:
        roomy = platform.free >= SMALL
        source = [*([] if roomy else [SPACE]), *parts(agent(*sections), most)]
        await upload(repl, source, progress, checked=roomy, packed=platform.free >= ROOMY)
    except ReplFailed as exc:
        if "MemoryError" not in str(exc):
            raise
        raise DialFailed(f"{exc}; with `agent = false` in its [[device]] it is driven without the agent") from None
    nonce = secrets.token_bytes(NONCE)
    piece = SHORT if platform.free < SMALL else PIECE
    if pipe.rate < inf:
        piece = max(16, min(piece, int(pipe.rate * SECONDS)))
    hello = Greeting(nonce=nonce, mtu=piece, window=8, buffer=BUFFER, delay=DELAY, escapes=ESCAPES).encode()
    await repl.start(f"main({nonce!r},{hello[3 + 2 * NONCE :]!r},{piece})")
    board = Board(pipe, platform, nonce, show)
    board.feed(repl.rest)
    return board


async def forget_earlier(repl: Repl, platform: Platform) -> Platform:
    """Free the heap of an agent that has ended: it is still there, and there may be no room for two. What the board says of itself then. Raises DialFailed."""
    names = agent_names(*sections_for(platform))
    forget = FORGET.format(first=names[:3], names=" ".join((*names, "_u", "_b", "_z")))
    try:
        forgotten = await repl.run(forget)
    except DialFailed:  # noise, or no room for that either
        await repl.find()
        return platform
    return await repl.probe() if forgotten.strip() else platform


async def leave(board: AnyBoard, repl: Repl, pipe: Pipe) -> None:
    """End the agent, and bring the board back to its prompt."""
    if board.broken:
        return
    if not isinstance(board, Board):
        repl.read_again()
        await restore(repl, pipe.peer)
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
    """The sections of the agent for this board; none if it is too small, or has no binary input, which is logged."""
    lack = ""
    if platform.free < LEAST:
        lack = f"has {platform.free} bytes free, and the agent needs {LEAST}"
    elif not (platform.binary or platform.usb):
        lack = "has no binary input for the agent"
    if lack:
        told = f"{platform.implementation} {platform.version} on {platform.platform}"
        logger.info("%s: %s %s: it is driven by its REPL, which can do less (docs/devices.md)", peer, told, lack)
        return ()
    return sections_for(platform)


def sections_for(platform: Platform) -> tuple[str, ...]:
    port = "console" if platform.binary else "usb"
    return port, "micropython" if platform.printer else "others", "core", "callbacks"
