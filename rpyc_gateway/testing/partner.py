"""The other end of a pipe that is checked: the first 32 bytes say what part it plays. In the same process, or in one of its own."""

from __future__ import annotations

import hashlib
import json
import math
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from random import Random
from typing import Protocol

import trio

from rpyc_gateway.errors import LinkLost
from rpyc_gateway.transport import Pipe

__all__ = ["GREETING", "PART_SIZE", "Layer", "Partner", "describe", "digest", "exactly", "noise", "part"]


class Layer(Protocol):
    """What goes between a pipe and its user: `rpyc_gateway.reliable.reliable` is one. It is told on which side it is."""

    def __call__(self, pipe: Pipe, *, dialler: bool) -> AbstractAsyncContextManager[Pipe]: ...


PART_SIZE = 32

GREETING = b"\x01\x00\x00\x04RPGW"
"""What a partner says first: the beginning of a link (docs/protocol.md, section 1), which a transport may wait for."""

PIECE = 65536


class Failed(Exception):
    """What a handler raises that was asked to."""


class Partner:
    """A handler that does what the dialler asks for. `present` is how many of it are at work."""

    def __init__(self, layer: Layer | None = None, *, alone: bool = False) -> None:
        self.present = 0
        self._layer = layer or as_it_is
        self._alone = alone  # in a process of its own, that may be killed
        self._lent = trio.open_memory_channel[trio.abc.Stream](0)
        self._changed = trio.lowlevel.ParkingLot()

    async def __call__(self, pipe: Pipe) -> None:
        self.present += 1
        try:
            async with self._layer(pipe, dialler=False) as whole:
                await whole.stream.send_all(GREETING)
                await self._play(whole)
        except* (trio.BrokenResourceError, trio.ClosedResourceError, EndOfStream, LinkLost):
            pass  # the dialler has gone; that is its right at any moment
        finally:
            self.present -= 1
            self._changed.unpark_all()

    async def wait_gone(self) -> None:
        """Wait until no handler is at work."""
        while self.present:
            await self._changed.park()

    async def borrow(self) -> trio.abc.Stream:
        """The stream of the next pipe whose part is "lend"."""
        return await self._lent[1].receive()

    async def _play(self, pipe: Pipe) -> None:
        name, *numbers = bytes(await exactly(pipe.stream, PART_SIZE)).decode().split()
        if name == "lend":
            await self._lent[0].send(pipe.stream)
            await trio.sleep_forever()
        if name == "die" and self._alone:
            os.kill(os.getpid(), signal.SIGKILL)
        await PARTS[name](pipe, *map(int, numbers))


async def _echo(pipe: Pipe) -> None:
    async for data in pipe.stream:
        await pipe.stream.send_all(data)
    await _finish(pipe.stream)


async def _read(pipe: Pipe, size: int, piece: int) -> None:
    """Read so much, in small sips if asked to, and say what it was."""
    await pipe.stream.send_all(digest(await exactly(pipe.stream, size, piece)))
    await _echo(pipe)


async def _read_to_end(pipe: Pipe) -> None:
    heard = bytearray()
    async for data in pipe.stream:
        heard += data
    await pipe.stream.send_all(digest(heard))
    await _finish(pipe.stream)


async def _write(pipe: Pipe, size: int, seed: int) -> None:
    await pipe.stream.send_all(noise(seed, size))
    await _echo(pipe)


async def _write_and_leave(pipe: Pipe, size: int, seed: int) -> None:
    await pipe.stream.send_all(noise(seed, size))
    await pipe.stream.aclose()


async def _pour(pipe: Pipe) -> None:
    """Write for ever."""
    while True:
        await pipe.stream.send_all(bytes(PIECE))


async def _hold(_: Pipe) -> None:
    """Read nothing."""
    await trio.sleep_forever()


async def _leave(_: Pipe) -> None:
    await trio.lowlevel.checkpoint()


async def _die(pipe: Pipe) -> None:
    """Vanish as abruptly as can be."""
    await trio.aclose_forcefully(pipe.stream)


async def _fail(_: Pipe) -> None:
    raise Failed("as the check of the transport asked for")


async def _describe(pipe: Pipe) -> None:
    said = json.dumps(describe(pipe)).encode()
    await pipe.stream.send_all(len(said).to_bytes(4) + said)
    await _echo(pipe)


async def _finish(stream: trio.abc.Stream) -> None:
    """End in order: who only returns may take back what is still under way."""
    if isinstance(stream, trio.abc.HalfCloseableStream):
        await stream.send_eof()
    await stream.aclose()


PARTS: dict[str, Callable[..., Awaitable[None]]] = {
    "echo": _echo,
    "read": _read,
    "read-to-end": _read_to_end,
    "write": _write,
    "write-and-leave": _write_and_leave,
    "pour": _pour,
    "hold": _hold,
    "leave": _leave,
    "die": _die,
    "fail": _fail,
    "describe": _describe,
}


class EndOfStream(Exception):
    """The stream ended before all was there."""


@asynccontextmanager
async def as_it_is(pipe: Pipe, *, dialler: bool) -> AsyncIterator[Pipe]:
    """No layer at all."""
    yield pipe


def part(name: str, *numbers: int) -> bytes:
    """What to send first, to get a partner that plays this part."""
    return " ".join([name, *map(str, numbers)]).encode().ljust(PART_SIZE)


def noise(seed: int, size: int) -> bytes:
    """Bytes that both ends can make."""
    return Random(seed).randbytes(size)


def digest(data: bytes | bytearray) -> bytes:
    """32 bytes that stand for the data."""
    return hashlib.sha256(data).digest()


async def exactly(stream: trio.abc.ReceiveStream, size: int, piece: int = PIECE) -> bytearray:
    """So many bytes. Raises EndOfStream if the end comes first."""
    heard = bytearray()
    while len(heard) < size:
        data = await stream.receive_some(min(piece, size - len(heard)))
        if not data:
            raise EndOfStream(f"the stream ended after {len(heard)} of {size} bytes")
        heard += data
    return heard


def describe(pipe: Pipe) -> dict[str, object]:
    """What a pipe says of itself, for JSON."""
    return {
        "peer": pipe.peer,
        "identity": pipe.identity,
        "private": pipe.private,
        "reliable": pipe.reliable,
        "rate": None if pipe.rate == math.inf else pipe.rate,
        "message": pipe.message,
        "send_nowait": pipe.send_nowait is not None,
        "receive_nowait": pipe.receive_nowait is not None,
        "fileno": pipe.fileno,
    }
