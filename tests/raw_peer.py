"""A neighbour made by hand: it speaks links and streams, says what a test tells it to, and remembers what it hears."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio

from rpyc_gateway.connection import Connection
from rpyc_gateway.errors import Code
from rpyc_gateway.proto.frames import CircuitClass, Failure, Hello, Limits, Open, Route, Routes
from rpyc_gateway.receiving import StreamHandler
from rpyc_gateway.transport import find_transport


class Ear:
    """Hears one stream. It consumes what it hears, unless told not to."""

    def __init__(
        self, connection: Connection, label: int = 0, *, request: Open | None = None, thirsty: str = "yes"
    ) -> None:
        self.connection = connection
        self.label = label
        self.request = request
        self.thirsty = thirsty
        self.data = b""
        self.path: tuple[str, ...] | None = None
        self.ends: list[object] = []  # "finished", or ("refused" | "reset" | "stopped", failure)
        self._changed = trio.Event()

    async def wait(self, reached: Callable[[Ear], object]) -> None:
        while not reached(self):
            await self._changed.wait()

    async def wait_end(self) -> object:
        await self.wait(lambda ear: ear.ends)
        return self.ends[0]

    def say(self, data: bytes) -> None:
        with self.connection.turn as mux:
            mux.send(self.label, data)

    def finish(self) -> None:
        with self.connection.turn as mux:
            mux.finish(self.label)

    def end_with(self, failure: Failure) -> None:
        with self.connection.turn as mux:
            mux.reset(self.label, failure)

    def stop(self, failure: Failure) -> None:
        with self.connection.turn as mux:
            mux.stop(self.label, failure)

    def accept(self) -> None:
        assert self.request is not None
        with self.connection.turn as mux:
            mux.accept(self.label, (*self.request.path, mux.hello.name))

    def accepted(self, path: tuple[str, ...]) -> None:
        self.path = path
        self._tell()

    def received(self, data: bytes) -> None:
        self.data += data
        if self.thirsty == "yes":
            with self.connection.turn as mux:
                mux.consume(self.label, len(data))
        self._tell()

    def received_alone(self, data: bytes) -> None:
        self.received(data)

    def finished(self) -> None:
        self._end("finished")

    def refused(self, failure: Failure) -> None:
        self._end(("refused", failure))

    def reset(self, failure: Failure) -> None:
        self._end(("reset", failure))

    def stopped(self, failure: Failure) -> None:
        self._end(("stopped", failure))

    def drained(self, count: int) -> None:
        pass

    def _end(self, end: object) -> None:
        self.ends.append(end)
        self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


class Echo(Ear):
    """Says again what it hears, and finishes when its peer has."""

    def received(self, data: bytes) -> None:
        self.say(data)

    def drained(self, count: int) -> None:
        with self.connection.turn as mux:
            mux.consume(self.label, count)

    def finished(self) -> None:
        super().finished()
        self.finish()


class RawPeer:
    """The Owner of one link. `answer` decides about each OPEN: a StreamHandler takes it, a Failure refuses it.

    It is a "client", a "node" that announces itself, or a "silent node" that does not get round to it.
    """

    def __init__(self, name: str, *, limits: Limits | None = None, kind: str = "node") -> None:
        announce = kind != "client"
        self._kind = kind
        self.hello = Hello(
            name=name, vat=secrets.token_bytes(16), announce=announce, routes=announce, limits=limits or Limits()
        )
        self.answer: Callable[[Connection, int, Open], StreamHandler | Failure] = accept_and_listen
        self.ears: list[Ear] = []
        self.routes: dict[str, Route] = {}
        self.withdrawn: list[str] = []
        self.told: list[object] = []  # ("leaving" | "lost", failure)
        self.kinds: list[CircuitClass] = []
        self._changed = trio.Event()

    @property
    def connection(self) -> Connection:
        return self._connection

    @asynccontextmanager
    async def link(self, url: str) -> AsyncIterator[RawPeer]:
        """Dial, and wait until the link is there, or refused."""
        async with find_transport(url).connect(url) as pipe, trio.open_nursery() as nursery:
            self._connection = Connection(pipe, self.hello, self, dialler=True)
            nursery.start_soon(self._connection.run)
            await self.wait(lambda peer: peer.connection.mux.up or peer.told)
            yield self
            nursery.cancel_scope.cancel()

    async def stay(self, url: str) -> None:
        """Link, until cancelled."""
        async with self.link(url):
            await trio.sleep_forever()

    async def wait(self, reached: Callable[[RawPeer], object]) -> None:
        while not reached(self):
            await self._changed.wait()

    def open(self, target: str, *, kind: CircuitClass = CircuitClass.CALL, **request: object) -> Ear:
        ear = Ear(self.connection)
        path = request.pop("path", (self.hello.name,))
        ear.label = self.connection.open(Open(target=target, path=path, **request), kind, ear)
        return ear

    def announce(self, *routes: Route) -> None:
        self.connection.announce(Routes(announce=routes))

    def greeted(self, connection: Connection, peer: Hello) -> None:
        connection.welcome()

    def established(self, connection: Connection) -> None:
        if self._kind == "node":
            connection.announce(Routes(announce=(Route((self.hello.name,), 0, 0),)))
        self._tell()

    def routed(self, connection: Connection, routes: Routes) -> None:
        self.withdrawn += routes.withdraw
        for node in routes.withdraw:
            self.routes.pop(node, None)
        self.routes |= {route.path[-1]: route for route in routes.announce}
        self._tell()

    def probed(self, connection: Connection) -> None:
        pass

    def leaving(self, connection: Connection, failure: Failure, grace: float) -> None:
        self.told.append(("leaving", failure))
        self._tell()

    def lost(self, connection: Connection, failure: Failure) -> None:
        self.told.append(("lost", failure))
        self._tell()

    def opened(self, connection: Connection, label: int, request: Open, kind: CircuitClass) -> StreamHandler | None:
        self.kinds.append(kind)
        answer = self.answer(connection, label, request)
        if isinstance(answer, Failure):
            connection.mux.reject(label, answer)
            return None
        if isinstance(answer, Ear):
            self.ears.append(answer)
        self._tell()
        return answer

    def _tell(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


def accept_and_listen(connection: Connection, label: int, request: Open) -> Ear:
    ear = Ear(connection, label, request=request)
    ear.accept()
    return ear


def accept_and_echo(connection: Connection, label: int, request: Open) -> Ear:
    ear = Echo(connection, label, request=request)
    ear.accept()
    return ear


def listen_without_a_word(connection: Connection, label: int, request: Open) -> Ear:
    return Ear(connection, label, request=request, thirsty="no")


def no(connection: Connection, label: int, request: Open) -> Failure:
    return Failure(Code.DENIED, "not for you", "lab")
