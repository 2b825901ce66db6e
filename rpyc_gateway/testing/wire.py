"""For tests, yours too: a wire that can be slow, silent or cut while a program runs over it."""

from __future__ import annotations

import logging
import math
import socket
import struct
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Literal, Self, TypeAlias

import trio

from rpyc_gateway.errors import DialFailed
from rpyc_gateway.transport import Pipe, find_transport

__all__ = ["BadWire"]

Toward: TypeAlias = Literal["both", "target", "dialler"]

IN_FLIGHT = 1024  # pieces of up to 64 KiB each way; then the sender waits, as for a full window
RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER: on, no time

logger = logging.getLogger(__name__)


class BadWire:
    """A relay in front of a listener: dial `wire.url` instead of it, then break things.

        async with BadWire("tcp://127.0.0.1:18860") as wire:
            async with gw.open_session(wire.url) as session:
                wire.delay(0.05)      # every byte comes 50 ms later, each way
                wire.blackhole()      # nothing arrives any more, and nobody is told
                wire.mend()           # what was under way arrives after all, as TCP would have it
                wire.cut()            # both ends see a broken connection; new ones are taken

    It relays any number of connections, each with one of its own to the target, and treats all alike. `url` says where it
    listens: a free loopback port unless told otherwise; any transport does, `memory://name` for tests on a virtual clock.
    All methods are synchronous and take effect at once.
    """

    def __init__(self, target: str, url: str = "tcp://127.0.0.1:0") -> None:
        self.target = target
        self.url = url
        self.connections = 0  # made through it so far, those that are gone included
        self._latency = 0.0
        self._gates = {"target": Gate(), "dialler": Gate()}
        self._scopes: set[trio.CancelScope] = set()
        self._manager = trio.open_nursery()
        self._nursery: trio.Nursery | None = None

    def delay(self, seconds: float) -> None:
        """Let what is sent from now on arrive so much later, each way; order is kept."""
        if not 0 <= seconds < math.inf:
            raise ValueError(f"a delay of {seconds} s is not possible")
        self._latency = seconds

    def blackhole(self, *, toward: Toward = "both") -> None:
        """Deliver nothing any more, not even the end of a connection. With one direction only, it is the half-open kind."""
        for gate in self._toward(toward):
            gate.shut()

    def mend(self, *, toward: Toward = "both") -> None:
        """End a blackhole: everything that was held arrives."""
        for gate in self._toward(toward):
            gate.open()

    def cut(self) -> None:
        """Break all connections: both ends of each see a reset, or the end of the stream where a transport has no resets."""
        for scope in self._scopes:
            scope.cancel()

    async def __aenter__(self) -> Self:
        """Listen. Raises ConfigError if one of the URLs cannot be used."""
        find_transport(self.target)
        serve = partial(find_transport(self.url).serve, self.url, self._relay)
        self._nursery = await self._manager.__aenter__()
        try:
            (self.url, *_) = await self._nursery.start(serve)
        except BaseException:
            await self._stop(self._nursery)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._nursery is not None
        await self._stop(self._nursery)

    async def _stop(self, nursery: trio.Nursery) -> None:
        # The nursery hears nothing of an exception on its way out: it would wrap it in a group.
        nursery.cancel_scope.shield = True
        nursery.cancel_scope.cancel()
        await self._manager.__aexit__(None, None, None)

    def _toward(self, toward: Toward) -> list[Gate]:
        return list(self._gates.values()) if toward == "both" else [self._gates[toward]]

    async def _relay(self, near: Pipe) -> None:
        self.connections += 1
        with trio.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                async with find_transport(self.target).connect(self.target) as far:
                    await self._join(near, far)
            except* (DialFailed, trio.BrokenResourceError, trio.ClosedResourceError) as broken:
                _reset_on_close(near)
                logger.info("a connection through %s broke: %s", self.url, broken.exceptions[0])
            finally:
                self._scopes.discard(scope)

    async def _join(self, near: Pipe, far: Pipe) -> None:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._carry, near.stream, far.stream, self._gates["target"])
                nursery.start_soon(self._carry, far.stream, near.stream, self._gates["dialler"])
        except BaseException:
            _reset_on_close(near)
            _reset_on_close(far)
            raise

    async def _carry(self, source: trio.abc.Stream, sink: trio.abc.Stream, gate: Gate) -> None:
        send, receive = trio.open_memory_channel[tuple[float, bytes]](IN_FLIGHT)
        async with trio.open_nursery() as nursery, send:
            nursery.start_soon(_deliver, receive, sink, gate)
            data = b"more"
            while data:
                data = bytes(await source.receive_some(65536))
                await send.send((trio.current_time() + self._latency, data))


async def _deliver(pieces: trio.MemoryReceiveChannel[tuple[float, bytes]], sink: trio.abc.Stream, gate: Gate) -> None:
    """Bring each piece when it is due and the gate is open. An empty one is the end."""
    async with pieces:
        async for due, data in pieces:
            await trio.sleep_until(due)
            await gate.wait_open()
            if data:
                await sink.send_all(data)
            elif isinstance(sink, trio.abc.HalfCloseableStream):
                await sink.send_eof()
            else:
                await sink.aclose()


def _reset_on_close(pipe: Pipe) -> None:
    if isinstance(pipe.stream, trio.SocketStream):
        with suppress(OSError):  # it is closed already
            pipe.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)


class Gate:
    """Open at first. An event that can be taken back."""

    def __init__(self) -> None:
        self._opened = trio.Event()
        self._opened.set()

    def shut(self) -> None:
        if self._opened.is_set():
            self._opened = trio.Event()

    def open(self) -> None:
        self._opened.set()

    async def wait_open(self) -> None:
        while not self._opened.is_set():
            await self._opened.wait()
