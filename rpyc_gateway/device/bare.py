"""A bare Python at the other end of a pipe: what it is sent, so that it becomes an agent or a whole node, and what it answers."""

from __future__ import annotations

import ast
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import trio
from msgspec import Struct

from rpyc_gateway.device.board import BROKEN, Board
from rpyc_gateway.device.repl import Platform
from rpyc_gateway.device.source import agent
from rpyc_gateway.errors import DialFailed
from rpyc_gateway.nursery import open_background
from rpyc_gateway.proto.lineframes import LARGEST_WINDOW, NONCE, Greeting
from rpyc_gateway.transport import Interpreter, Pipe
from rpyc_gateway.version import __version__

__all__ = ["Arrival", "arrive", "open_agent"]

PIECE = 60_000  # bytes, near the most that can be said: nothing is lost, and on a long way only so much is under way
BUFFER = 1 << 22  # bytes under way to it
RATE = 1e9  # bytes per second: a line of unknown rate would be given short pieces
LARGEST = 1 << 26  # bytes of a message: what the agent sends at most, and a quarter of what it says is free there
DELAY = 50  # ms, as with a board
HEAD = 8  # bytes
QUOTED = 80  # bytes of what it said, in an error
MAGIC = b"RPPY"
ESCAPES = b"\x03\x05"
PROBE = b"\x05"  # a thread there answers it with an empty line, whatever else it does

# A network may vanish without a word, and ssh waits for hours then.
PAUSE = 15.0  # seconds between two probes
SILENCE = 60.0  # seconds without a byte until it is given up: code that lets no other thread run is not dead at once
FORGOTTEN = 120.0  # seconds without a byte until it ends itself

# Any Python understands this, Python 2 too. Each is one line: `python3 -i` runs them one after another.
CHECK = """\
import os,sys;sys.ps1=sys.ps2='';\
_=(sys.version_info<(3,8) and 'Python 3.8 or later is needed there, and this is '+sys.version.split()[0]) \
or (os.name!='posix' and 'a bare Python has to be one of a POSIX system') \
or (os.isatty(0) and 'this is a terminal, and the agent needs a pipe') \
or (os.path.samestat(os.fstat(1),os.fstat(2)) and 'standard error goes where standard output goes: keep them apart (no 2>&1)');\
_=_ and (os.write(2,('rpyc-gateway: '+_+'\\n').encode()),os._exit(1))
"""


class Arrival(Struct, frozen=True):
    """What has become of a bare Python: a node that waits for our HELLO (`whole`), or an agent. The rest is said of itself by what was there."""

    whole: bool
    implementation: str
    version: str
    platform: str
    host: str
    pid: int

    @property
    def name(self) -> str:
        """A name for it as a node, which no other process of its host has."""
        number = f"-{self.pid}"
        host = re.sub(r"[^A-Za-z0-9._-]+", "-", self.host).lstrip("._-") or "python"
        return host[: 64 - len(number)] + number


async def arrive(pipe: Pipe, interpreter: Interpreter, nonce: bytes) -> Arrival:
    """Send the program, and hear what becomes of it. Raises DialFailed, with what was said there instead."""
    hello = Greeting(nonce=nonce, mtu=PIECE, window=LARGEST_WINDOW, buffer=BUFFER, delay=DELAY, escapes=ESCAPES)
    version = __version__.split(".")[:2] if interpreter.whole else None
    source = (
        f"{agent('hosted', 'core', 'callbacks', 'roomy')}begin({version!r},{interpreter.name!r},{FORGOTTEN})\n"
        f"main({nonce!r},{hello.encode()[3 + 2 * NONCE :]!r},{PIECE})\n"
    )
    run = f"exec(compile({source!r},'<the agent of rpyc-gateway>','exec'),{{'__name__':'rpyc_gateway_agent'}})\n"
    try:
        with trio.move_on_after(pipe.patience):
            await pipe.stream.send_all((CHECK + run).encode())
            return await hear(pipe)
    except BROKEN as exc:
        raise DialFailed(str(exc) or f"{pipe.peer}: the pipe broke") from exc
    raise DialFailed(f"{pipe.peer}: no Python answered within {pipe.patience:g} s")


async def hear(pipe: Pipe) -> Arrival:
    """The greeting, and not a byte of what follows: that may be read by others."""
    said = await at_least(pipe, b"", HEAD)
    if said[4:HEAD] != MAGIC:
        raise DialFailed(
            f"{pipe.peer}: this is a node already, and no bare Python: `stdio:?python=0 COMMAND` leaves the command as it is"
        )
    end = HEAD + int.from_bytes(said[2:4], "big")
    facts = (await at_least(pipe, said, end))[HEAD:end]
    try:
        match ast.literal_eval(facts.decode()):
            case ("agent" | "node" as what, str(kind), str(version), str(platform), str(host), int(pid)):
                return Arrival(what == "node", kind, version, platform, host, pid)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        pass  # told below
    raise DialFailed(f"{pipe.peer}: asked what it is, it said {facts[:QUOTED]!r}")


async def at_least(pipe: Pipe, said: bytes, count: int) -> bytes:
    """`said` and what follows, up to so many bytes, or a few more: what looked for a greeting may have held back some, fewer than there are facts."""
    while len(said) < count:
        more = await pipe.stream.receive_some(count - len(said))
        if not more:
            raise DialFailed(f"{pipe.peer}: it has ended, and did not answer")
        said += more
    return said


@asynccontextmanager
async def open_agent(
    pipe: Pipe, arrival: Arrival, nonce: bytes, *, show: Callable[[bytes], object] | None = None
) -> AsyncIterator[Board]:
    """What `arrive` has made an agent, as a board. At the end its input ends, by which it ends itself: its stream stays its owner's to close.

    Raises DialFailed.
    """
    platform = Platform(
        arrival.implementation, arrival.version, arrival.platform, LARGEST, binary=True, printer=False, usb=False
    )
    stream = Watched(pipe.stream)
    # The stream says itself which program it was that has ended.
    line = Pipe(stream, f"Python on {arrival.host}", reliable=False, rate=RATE)
    board = Board(line, platform, nonce, show, mtu=PIECE, largest=LARGEST, lossless=True)
    async with open_background() as nursery:
        nursery.start_soon(stream.probe)
        await board.serve(nursery)
        yield board


class Watched(trio.abc.Stream):
    """The stream of an agent. Its end, and that it has fallen silent, are errors that say so: an agent does not end by itself."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._sending = trio.Lock()

    async def probe(self) -> None:
        """See to it that something is heard now and then."""
        with suppress(*BROKEN):  # whoever reads is told
            while True:
                await trio.sleep(PAUSE)
                await self.send_all(PROBE)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        async with self._sending:
            await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        async with self._sending:
            await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        with trio.move_on_after(SILENCE):
            data = await self._stream.receive_some(max_bytes)
            if not data:
                raise trio.BrokenResourceError("Python has ended there, with status 0")
            return data
        raise trio.BrokenResourceError(f"it has said nothing for {SILENCE:g} s: is the network gone?")

    async def aclose(self) -> None:
        await self._stream.aclose()
