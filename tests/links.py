"""Two connections that are linked with each other, and ears on their streams, for tests of the driver of a link."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import trio
from trio.testing import memory_stream_pair

from rpyc_gateway.connection import Connection
from rpyc_gateway.errors import Code
from rpyc_gateway.proto.frames import (
    CircuitClass,
    Failure,
    Hello,
    Limits,
    Open,
    Routes,
)
from rpyc_gateway.transport import Pipe
from rpyc_transports.sockets import share

CALL = CircuitClass.CALL
AWAY = Failure(Code.SHUTDOWN, "restarting", "near")


def hello(name: str) -> Hello:
    return Hello(name=name, vat=name.encode().ljust(16, b"-"), limits=Limits())


@dataclass
class Ear:
    """A handler that writes down what it hears, and takes what it gets at once unless told to wait."""

    connection: Connection
    label: int = 0
    patient: bool = False
    heard: list[tuple[object, ...]] = field(default_factory=list)
    got: bytearray = field(default_factory=bytearray)
    sent: int = 0
    thread: int = 0
    changed: trio.Event = field(default_factory=trio.Event)

    def note(self, *fact: object) -> None:
        self.heard.append(fact)
        self.connection.in_trio(self.wake)

    def wake(self) -> None:
        self.changed.set()
        self.changed = trio.Event()

    def accepted(self, path: tuple[str, ...]) -> None:
        self.note("accepted", path)

    def refused(self, failure: Failure) -> None:
        self.note("refused", failure)

    def received(self, data: bytes) -> None:
        assert self.connection.turn.held
        self.got += data
        if not self.patient:
            self.connection.mux.consume(self.label, len(data))
        self.note("received", len(data))

    def received_alone(self, data: bytes) -> None:
        self.received(data)

    def finished(self) -> None:
        self.note("finished")

    def reset(self, failure: Failure) -> None:
        self.note("reset", failure)

    def stopped(self, failure: Failure) -> None:
        self.note("stopped", failure)

    def drained(self, count: int) -> None:
        self.thread = threading.get_ident()
        self.sent += count
        self.note("drained", count)

    async def wait(self, true: Callable[[], bool]) -> None:
        while not true():
            await self.changed.wait()


class Node:
    """An owner that welcomes everybody and takes every stream."""

    def __init__(self) -> None:
        self.heard: list[tuple[object, ...]] = []
        self.ears: dict[int, Ear] = {}
        self.up = trio.Event()
        self.over = trio.Event()
        self.take: Callable[[Connection, int], Ear | None] = self.listen
        self.welcoming = True
        self.thread = 0

    def listen(self, connection: Connection, label: int) -> Ear | None:
        connection.mux.accept(label, ("near", "far"))
        return Ear(connection, label)

    def greeted(self, connection: Connection, peer: Hello) -> None:
        self.heard.append(("greeted", peer.name))
        if self.welcoming:
            connection.welcome()
        else:
            connection.refuse(Failure(Code.DUPLICATE, "near is here already", "far"))

    def established(self, connection: Connection) -> None:
        self.heard.append(("established",))
        self.up.set()

    def routed(self, connection: Connection, routes: Routes) -> None:
        self.heard.append(("routed", routes))

    def probed(self, connection: Connection) -> None:
        self.heard.append(("probed",))

    def leaving(self, connection: Connection, failure: Failure, grace: float) -> None:
        self.heard.append(("leaving", failure, grace))

    def lost(self, connection: Connection, failure: Failure) -> None:
        self.thread = threading.get_ident()
        self.heard.append(("lost", failure))
        self.over.set()

    def opened(self, connection: Connection, label: int, request: Open, kind: CircuitClass) -> Ear | None:
        self.heard.append(("opened", request.service, kind))
        ear = self.take(connection, label)
        if ear is not None:
            self.ears[label] = ear
        return ear


@dataclass
class Hop:
    near: Connection
    far: Connection
    here: Node
    there: Node

    def open(self, service: str = "clock", *, patient: bool = False) -> Ear:
        ear = Ear(self.near, patient=patient)
        ear.label = self.near.open(Open(service=service), CALL, ear)
        return ear


def in_memory() -> tuple[Pipe, Pipe]:
    one, two = memory_stream_pair()
    return Pipe(one, "memory one"), Pipe(two, "memory two")


def over_sockets(*, direct: bool = True, buffer: int = 0) -> tuple[Pipe, Pipe]:
    """A socket pair; with `direct` as transports give it, ready for any thread."""
    pipes = []
    for end in socket.socketpair():
        if buffer:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(end))

        def send_nowait(*buffers: bytes | memoryview, fd: int = end.fileno()) -> int:
            try:
                return os.writev(fd, buffers)
            except BlockingIOError:
                return 0

        pipes.append(Pipe(stream, "socket", send_nowait=send_nowait if direct else None))
    return pipes[0], pipes[1]


def as_transports_share_them() -> tuple[Pipe, Pipe]:
    """A socket pair that threads may read as well as write, so that its writer minds the time too."""
    near, far = (trio.SocketStream(trio.socket.from_stdlib_socket(end)) for end in socket.socketpair())
    return share(near, "socket"), share(far, "socket")


@asynccontextmanager
async def hop(pipes: tuple[Pipe, Pipe]) -> AsyncIterator[Hop]:
    """Two connections that run, and have greeted each other; left by cancelling them."""
    here, there = Node(), Node()
    near, far = (
        Connection(pipes[0], hello("near"), here, dialler=True),
        Connection(pipes[1], hello("far"), there, dialler=False),
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(near.run)
        await nursery.start(far.run)
        await here.up.wait()
        await there.up.wait()
        yield Hop(near, far, here, there)
        nursery.cancel_scope.cancel()


ways = pytest.mark.parametrize(
    "pipes", [in_memory, over_sockets, lambda: over_sockets(direct=False), as_transports_share_them]
)
timers = pytest.mark.parametrize("pipes", [in_memory, as_transports_share_them])
"""With a task that minds the time, and with a writer that does."""
Pipes = Callable[[], tuple[Pipe, Pipe]]
