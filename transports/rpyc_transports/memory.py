"""`memory://name`: pipes inside one trio run, for tests and for nodes that share a process. Bounded like a kernel's pipe."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from operator import index

import trio

from rpyc_gateway.errors import ConfigError, DialFailed
from rpyc_gateway.transport import Alone, Handler, Pipe, handle, without_secrets

__all__ = ["MemoryStream", "MemoryTransport", "memory_streams"]

PREFIX = "memory://"
CAPACITY = 65536  # bytes in flight each way: what a Linux pipe holds

_listeners: trio.lowlevel.RunVar[dict[str, Callable[[Pipe], None]]] = trio.lowlevel.RunVar("rpyc_transports.memory")


class MemoryTransport:
    """A name lives as long as its listener, and means something in one trio run only."""

    @asynccontextmanager
    async def connect(self, url: str) -> AsyncIterator[Pipe]:
        """Meet the listener of that name. Raises DialFailed if there is none in this trio run."""
        await trio.lowlevel.checkpoint()
        accept = _names().get(_name(url))
        if accept is None:
            raise DialFailed(
                f"{without_secrets(url)}: {self.check(url) or 'nobody listens there in this process (each trio run has names of its own)'}"
            )
        near, far = memory_streams()
        accept(Pipe(far, url, private=True))
        async with near:
            yield Pipe(near, url, private=True)

    async def serve(
        self, url: str, handler: Handler, *, task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Answer to that name until cancelled. Raises ConfigError if somebody does already."""
        names, name = _names(), _name(url)
        problem = self.check(url) or ("somebody listens there already" if name in names else None)
        if problem:
            raise ConfigError([f"{without_secrets(url)}: {problem}"])
        async with trio.open_nursery() as nursery:
            names[name] = lambda pipe: nursery.start_soon(handle, pipe, handler)
            try:
                task_status.started([url])
                await trio.sleep_forever()
            finally:
                del names[name]

    def is_private(self, url: str) -> bool:
        return True

    def is_guarded(self, url: str) -> bool:
        return False

    def check(self, url: str) -> str | None:
        name = _name(url)
        return None if name.isprintable() and name and "?" not in name else "is not of the form memory://name"


def _name(url: str) -> str:
    return url[len(PREFIX) :] if url.lower().startswith(PREFIX) else ""


def _names() -> dict[str, Callable[[Pipe], None]]:
    try:
        return _listeners.get()
    except LookupError:
        _listeners.set({})
        return _listeners.get()


class Flow:
    """One direction: what was written and not yet read. Whoever waits on it looks again after each change."""

    __slots__ = ("changed", "data", "ended", "unread")

    def __init__(self) -> None:
        self.data = bytearray()
        self.ended = False  # the writer writes no more
        self.unread = False  # the reader reads no more
        self.changed = trio.lowlevel.ParkingLot()

    def write(self, data: memoryview) -> int:
        taken = min(len(data), CAPACITY - len(self.data))
        self.data += data[:taken]
        self.changed.unpark_all()
        return taken

    def read(self, limit: int) -> bytes:
        taken = bytes(self.data[:limit])
        del self.data[:limit]
        self.changed.unpark_all()
        return taken

    def end(self) -> None:
        self.ended = True
        self.changed.unpark_all()

    def abandon(self) -> None:
        self.unread = True
        self.data.clear()
        self.changed.unpark_all()


class MemoryStream(trio.abc.HalfCloseableStream):
    """One end of a pair. Keeps trio's contract for streams, down to who is told what about whose close."""

    def __init__(self, incoming: Flow, outgoing: Flow) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._sending = Alone("send")
        self._receiving = Alone("receive")

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Cancelled midway: a part of the data has been sent, and nobody knows how much."""
        with self._sending, memoryview(data) as view:
            self._check_writable()
            await trio.lowlevel.checkpoint()
            sent = 0
            while True:
                self._check_writable()
                sent += self._outgoing.write(view[sent:])
                if sent == len(view):
                    return
                await self._outgoing.changed.park()

    async def wait_send_all_might_not_block(self) -> None:
        with self._sending:
            if self._outgoing.ended:
                raise trio.ClosedResourceError("this stream was closed for sending")
            await trio.lowlevel.checkpoint()
            while len(self._outgoing.data) >= CAPACITY and not self._outgoing.unread:
                await self._outgoing.changed.park()
                self._check_writable()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        limit = CAPACITY if max_bytes is None else index(max_bytes)
        if limit < 1:
            raise ValueError(f"max_bytes must be at least 1, not {limit}")
        with self._receiving:
            await trio.lowlevel.checkpoint()
            while True:
                if self._incoming.unread:
                    raise trio.ClosedResourceError("this stream was closed")
                if self._incoming.data or self._incoming.ended:
                    return self._incoming.read(limit)
                await self._incoming.changed.park()

    async def send_eof(self) -> None:
        with self._sending:
            if self._incoming.unread:
                raise trio.ClosedResourceError("this stream was closed")
            await trio.lowlevel.checkpoint()
            self._outgoing.end()

    async def aclose(self) -> None:
        self._outgoing.end()
        self._incoming.abandon()
        await trio.lowlevel.checkpoint()

    def _check_writable(self) -> None:
        if self._outgoing.ended:
            raise trio.ClosedResourceError("this stream was closed for sending")
        if self._outgoing.unread:
            raise trio.BrokenResourceError("the other end was closed")


def memory_streams() -> tuple[MemoryStream, MemoryStream]:
    """Two ends that hear each other."""
    one, other = Flow(), Flow()
    return MemoryStream(one, other), MemoryStream(other, one)
