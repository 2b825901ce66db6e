"""For tests, yours too: a wire that can be slow, noisy, silent or cut while a program runs over it."""

from __future__ import annotations

import logging
import math
import socket
import struct
from contextlib import suppress
from functools import partial
from random import Random
from types import TracebackType
from typing import Literal, Self, TypeAlias

import trio

from rpyc_gateway.errors import DialFailed
from rpyc_gateway.testing.conditions import Conditions, Course
from rpyc_gateway.transport import Pipe, find_transport

__all__ = ["BadWire"]

Toward: TypeAlias = Literal["both", "target", "dialler"]

IN_FLIGHT = 1024  # pieces of up to 64 KiB each way; then the sender waits, as for a full window
RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER: on, no time

logger = logging.getLogger(__name__)


class BadWire:
    """A relay in front of a listener: dial `wire.url` instead of it, then break things.

        async with BadWire("tcp://127.0.0.1:18860", seed=7) as wire:
            async with gw.open_session(wire.url) as session:
                wire.delay(0.05, jitter=0.02)   # every byte comes 50 to 70 ms later, each way
                wire.rate(11_520)               # no more than so many bytes per second pass, each way
                wire.corrupt(1e-6)              # one byte of a million is another one
                wire.lose(1e-6)                 # and one is missing
                wire.blackhole()                # nothing arrives any more, and nobody is told
                wire.mend()                     # what was under way arrives after all, as TCP would have it
                wire.cut()                      # both ends see a broken connection; new ones are taken
                wire.cut_after(1000)            # each connection breaks after so many more bytes
                wire.cut_often(30)              # some connection breaks, at random moments, every 30 s on average

    It relays any number of connections, each with one of its own to the target, and treats all alike. `url` says where it
    listens: a free loopback port unless told otherwise; any transport does, `memory://name` for tests on a virtual clock.
    All methods are synchronous and take effect at once. What is random follows from `seed`: the same bytes on the same connection meet
    the same fate, however they are cut into pieces.
    """

    def __init__(self, target: str, url: str = "tcp://127.0.0.1:0", *, seed: int = 0) -> None:
        self.target = target
        self.url = url
        self.connections = 0  # made through it so far, those that are gone included
        self._seed = seed
        self._moments = Random(f"{seed} moments")
        self._conditions = {"target": Conditions(), "dialler": Conditions()}
        self._links: dict[trio.CancelScope, Allowance] = {}
        self._cutting = trio.CancelScope()
        self._manager = trio.open_nursery()
        self._nursery: trio.Nursery | None = None

    def delay(self, seconds: float, *, jitter: float = 0.0, toward: Toward = "both") -> None:
        """Let what is sent from now on arrive so much later, and up to `jitter` seconds more; order is kept."""
        for time in (seconds, jitter):
            if not 0 <= time < math.inf:
                raise ValueError(f"a delay of {time} s is not possible")
        for way in self._toward(toward):
            way.delay, way.jitter = seconds, jitter

    def rate(self, bytes_per_second: float, *, toward: Toward = "both") -> None:
        """Let no more pass than that, on each connection, so that who sends more has to wait. `math.inf` lets all pass."""
        if not bytes_per_second > 0:
            raise ValueError(f"a rate of {bytes_per_second} bytes per second is not possible")
        for way in self._toward(toward):
            way.rate = bytes_per_second

    def lose(self, share: float, *, toward: Toward = "both") -> None:
        """Let that share of all bytes, 0 to 1, go missing: for lines that do. TCP would never."""
        for way in self._toward(toward):
            way.loss = _share(share)

    def corrupt(self, share: float, *, toward: Toward = "both") -> None:
        """Let that share of all bytes, 0 to 1, arrive as other ones."""
        for way in self._toward(toward):
            way.corruption = _share(share)

    def blackhole(self, *, toward: Toward = "both") -> None:
        """Deliver nothing any more, not even the end of a connection. With one direction only, it is the half-open kind."""
        for way in self._toward(toward):
            way.shut()

    def mend(self, *, toward: Toward = "both") -> None:
        """End a blackhole: everything that was held arrives."""
        for way in self._toward(toward):
            way.open()

    def cut(self) -> None:
        """Break all connections: both ends of each see a reset, or the end of the stream where a transport has no resets."""
        for scope in self._links:
            scope.cancel()

    def cut_after(self, size: int) -> None:
        """Break each connection that there is when so many more bytes have come, both ways together."""
        if size < 0:
            raise ValueError(f"{size} bytes are fewer than none")
        for allowance in self._links.values():
            allowance.left = size

    def cut_often(self, seconds: float) -> None:
        """Break a connection, whichever, at random moments, so many seconds apart on average; `math.inf` ends that."""
        if not seconds > 0:
            raise ValueError(f"a connection cannot break every {seconds} s")
        assert self._nursery is not None, "a wire that is not in use has no connections to break"
        self._cutting.cancel()
        self._cutting = trio.CancelScope()
        if seconds < math.inf:
            self._nursery.start_soon(self._cut_often, seconds, self._cutting)

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

    async def _cut_often(self, seconds: float, until: trio.CancelScope) -> None:
        with until:
            while True:
                await trio.sleep(self._moments.expovariate(1 / seconds))
                if self._links:
                    self._moments.choice(list(self._links)).cancel()

    def _toward(self, toward: Toward) -> list[Conditions]:
        return list(self._conditions.values()) if toward == "both" else [self._conditions[toward]]

    async def _relay(self, near: Pipe) -> None:
        self.connections += 1
        seed = f"{self._seed} {self.connections}"
        with trio.CancelScope() as scope:
            allowance = self._links[scope] = Allowance()
            try:
                async with find_transport(self.target).connect(self.target) as far:
                    await self._join(near, far, seed, allowance)
            except* (DialFailed, trio.BrokenResourceError, trio.ClosedResourceError) as broken:
                _reset_on_close(near)
                logger.info("a connection through %s broke: %s", self.url, broken.exceptions[0])
            finally:
                del self._links[scope]

    async def _join(self, near: Pipe, far: Pipe, seed: str, allowance: Allowance) -> None:
        try:
            async with trio.open_nursery() as nursery:
                for name, source, sink in (("target", near, far), ("dialler", far, near)):
                    way = self._conditions[name]
                    course = Course(way, f"{seed} {name}")
                    nursery.start_soon(_carry, source.stream, sink.stream, way, course, allowance)
        except BaseException:
            _reset_on_close(near)
            _reset_on_close(far)
            raise


async def _carry(
    source: trio.abc.Stream, sink: trio.abc.Stream, way: Conditions, course: Course, allowance: Allowance
) -> None:
    send, receive = trio.open_memory_channel[tuple[float, bytes]](IN_FLIGHT)
    async with trio.open_nursery() as nursery, send:
        nursery.start_soon(_deliver, receive, sink, way, allowance)
        data = b"more"
        while data:
            data = bytes(await source.receive_some(way.piece))
            left = course.leaves(len(data), trio.current_time())
            spoiled = course.spoil(data)
            if spoiled or not data:
                await send.send((course.arrives(left), spoiled))
            await trio.sleep_until(left)


async def _deliver(
    pieces: trio.MemoryReceiveChannel[tuple[float, bytes]], sink: trio.abc.Stream, way: Conditions, allowance: Allowance
) -> None:
    """Bring each piece when it is due and the way is open. An empty one is the end."""
    async with pieces:
        async for due, data in pieces:
            await trio.sleep_until(due)
            await way.wait_open()
            if data:
                await sink.send_all(allowance.take(data))
                allowance.check()
            elif isinstance(sink, trio.abc.HalfCloseableStream):
                await sink.send_eof()
            else:
                await sink.aclose()


class Allowance:
    """How many bytes a connection may still carry."""

    def __init__(self) -> None:
        self.left: float = math.inf

    def take(self, data: bytes) -> bytes:
        taken = data if len(data) <= self.left else data[: int(self.left)]
        self.left -= len(taken)
        return taken

    def check(self) -> None:
        if self.left <= 0:
            raise trio.BrokenResourceError("it was to break after so many bytes")


def _share(share: float) -> float:
    if not 0 <= share <= 1:
        raise ValueError(f"{share} is no share of all bytes: it is not in 0..1")
    return share


def _reset_on_close(pipe: Pipe) -> None:
    if isinstance(pipe.stream, trio.SocketStream):
        with suppress(OSError):  # it is closed already
            pipe.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
