"""A WebSocket that is open as a trio stream, driven by trio-websocket."""

from __future__ import annotations

import operator
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import cast

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection
from wsproto import WSConnection

from rpyc_gateway.transport import Alone, Buffer, Pipe
from rpyc_transports.websocket_messages import Messages
from rpyc_transports.websocket_nowait import WithoutWaiting

__all__ = ["PromptStream", "WebSocketStream", "running"]

MESSAGE = 262_144  # bytes of one that is sent, a quarter of what is taken; the link gives half of it at once
READ = 131_072  # bytes to read at once: more than what TLS has ready at any time
CLOSE_WITHIN = 2.0  # seconds for the peer to say that it has heard our goodbye


class WebSocketStream(trio.abc.Stream):
    """A byte stream in binary messages, whose bounds mean nothing. It works while it is `running`. What threads do without waiting and what it does itself may take turns.

    It has no half-close: `aclose` says goodbye in both directions, and gives the peer two seconds for its own. The end of a connection without
    a goodbye is a BrokenResourceError, and so is a goodbye that complains.
    """

    def __init__(self, below: trio.abc.Stream, messages: Messages) -> None:
        # The host and path are for a request that has been made already; `messages` is all of a WSConnection that is used then.
        self.websocket = WebSocketConnection(
            below, cast("WSConnection", messages), host="", path="", receive_buffer_size=None
        )
        # It would wait for its turn to send, behind a writer who waits for this reader.
        self.websocket._initial_request = None  # noqa: SLF001
        self._below = below
        self._messages = messages
        self._left = b""  # of a message that was longer than what the reader wanted
        self._sending = Alone("send")
        self._receiving = Alone("receive")
        self._closed = False
        self._side: WithoutWaiting | None = None
        self._waiting = trio.CancelScope()  # of a reader
        self.wanted = trio.Event()  # it is to be closed: trio-websocket is to read

    def without_waiting(self, below: Pipe) -> WithoutWaiting:
        """The same for threads, on what the stream below is the stream of. Until the stream is closed nobody else reads."""
        self._side = WithoutWaiting(self._messages, below, lambda: self._sending.taken)
        return self._side

    @property
    def has_side(self) -> bool:
        """Whether threads may use it."""
        return self._side is not None

    async def _settle(self, data: Buffer | bytearray) -> Buffer | bytearray:
        """Send what the side of the threads has left in part; what remains to be sent of `data`."""
        if self._side is None:
            return data
        if self._side.end is not None:
            raise ConnectionClosed(self._side.end)
        unsent, owed = self._side.take_unsent()
        if unsent:
            async with self.websocket._stream_lock:  # noqa: SLF001  # trio-websocket answers pings at any moment
                await self._below.send_all(unsent)
        return memoryview(data)[owed:] if owed else data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        with self._sending, self._ends_in_words():
            data = await self._settle(data)
            if not data:
                await self._check()
            elif len(data) <= MESSAGE:
                await self.websocket.send_message(bytes(data))
            else:
                view = memoryview(data)
                for start in range(0, len(data), MESSAGE):
                    await self.websocket.send_message(bytes(view[start : start + MESSAGE]))
            await self._settle(b"")  # a ping was answered meanwhile

    async def wait_send_all_might_not_block(self) -> None:
        with self._sending, self._ends_in_words():
            await self._check()
            async with self.websocket._stream_lock:  # noqa: SLF001  # trio-websocket answers pings at any moment
                await self._below.wait_send_all_might_not_block()

    async def _check(self) -> None:
        await trio.lowlevel.checkpoint()
        if self.websocket.closed is not None:
            raise ConnectionClosed(self.websocket.closed)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        limit = MESSAGE if max_bytes is None else operator.index(max_bytes)
        if limit < 1:
            raise ValueError(f"max_bytes is at least 1, not {limit}")
        with self._receiving, self._ends_in_words():
            data = self._left
            if not data:
                try:
                    data = await self._next()
                except ConnectionClosed as exc:
                    if self._closed or exc.reason is None or not self._messages.is_goodbye(exc.reason.code):
                        raise
                    await trio.lowlevel.checkpoint()
                    return b""
            else:
                await trio.lowlevel.checkpoint()
            self._left = data[limit:]
            return data[:limit]

    async def _next(self) -> bytes:
        """What comes next; b"" after a goodbye. Where threads may read as well, nobody reads when nobody asks."""
        if self._side is None:
            return await self.websocket.get_message()  # type: ignore[return-value]  # `Messages` lets no text through
        while True:
            try:
                data = self._side.receive_nowait(READ)
            except OSError as exc:
                if self._side.end is not None:
                    raise ConnectionClosed(self._side.end) from None
                raise trio.BrokenResourceError(f"the connection broke off: {exc.strerror or exc}") from exc
            if data is not None:
                await trio.lowlevel.checkpoint()
                return data
            with trio.CancelScope() as self._waiting:
                await trio.lowlevel.wait_readable(self._side.fileno)
            if self._closed:
                raise ConnectionClosed(None)

    async def aclose(self) -> None:
        self._closed = True
        self._left = b""
        self._waiting.cancel()
        try:
            with trio.move_on_after(CLOSE_WITHIN), suppress(ConnectionClosed, trio.BrokenResourceError):
                await self._settle(b"")
                self.wanted.set()
                await self.websocket.aclose()
        finally:
            await trio.aclose_forcefully(self._below)

    @contextmanager
    def _ends_in_words(self) -> Iterator[None]:
        if self._closed:
            raise trio.ClosedResourceError("this WebSocket was closed here")
        try:
            yield
        except ConnectionClosed as exc:
            if self._closed:
                raise trio.ClosedResourceError("this WebSocket was closed here") from None
            code, reason = (1006, None) if exc.reason is None else (exc.reason.code, exc.reason.reason)
            raise trio.BrokenResourceError(self._messages.why(code, reason)) from exc


class PromptStream(trio.abc.HalfCloseableStream):
    """A TCP connection where what has arrived is acknowledged before more is waited for, and not 40 ms later with what is said next.

    There are proxies that keep the end of what they have to pass on until the beginning is acknowledged (Nagle's algorithm): tinyproxy
    and microsocks do. Each window of credit would take them 40 ms. Small pieces are left alone: an answer carries their acknowledgement.
    """

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._received = 0

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        self.acknowledge(self._received)
        data = await self._stream.receive_some(max_bytes)
        self._received = len(data)
        return data

    def promptly(self, receive: Callable[[int], bytes | None]) -> Callable[[int], bytes | None]:
        """The same for the `receive_nowait` of this connection."""

        def receive_nowait(limit: int) -> bytes | None:
            data = receive(limit)
            self.acknowledge(len(data or b""))
            return data

        return receive_nowait

    def acknowledge(self, received: int) -> None:
        """So much was received."""
        if received > SMALL and QUICK_ACK is not None:
            with suppress(OSError):  # it is closed or broken, as whoever reads next will hear
                self._stream.setsockopt(socket.IPPROTO_TCP, QUICK_ACK, 1)

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        await self._stream.aclose()


SMALL = 1000  # bytes; to acknowledge costs as much as to send
QUICK_ACK = getattr(socket, "TCP_QUICKACK", None)  # Linux's, and forgotten by it with every answer


@asynccontextmanager
async def running(stream: WebSocketStream, *, ping: float = 0) -> AsyncIterator[None]:
    """Read for the stream, give a sign of life every `ping` seconds (0: never), and close it at the end. Exceptions of the body stay what they are."""
    failure: BaseException | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_read, stream)
        if ping:
            nursery.start_soon(_give_signs_of_life, stream.websocket, ping)
        try:
            async with stream:
                yield
        except BaseException as exc:  # noqa: BLE001  # it is raised below: it passes the nursery by, which would wrap it in a group
            failure = exc
        nursery.cancel_scope.cancel()
    if failure is not None:
        try:
            raise failure
        finally:
            del failure


async def _read(stream: WebSocketStream) -> None:
    if stream.has_side:  # who reads without waiting must not find somebody else reading
        await stream.wanted.wait()
    await stream.websocket._reader_task()  # noqa: SLF001  # as its own wrap_client_stream does


async def _give_signs_of_life(websocket: WebSocketConnection, seconds: float) -> None:
    while websocket.closed is None:
        await trio.sleep(seconds)
        with suppress(ConnectionClosed):
            await websocket.pong()  # unasked: nobody has to answer, and the reader may be busy
