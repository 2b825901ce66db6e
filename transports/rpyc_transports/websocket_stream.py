"""A WebSocket that is open as a trio stream, driven by trio-websocket."""

from __future__ import annotations

import operator
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import cast

import trio
from trio_websocket import CloseReason, ConnectionClosed, WebSocketConnection
from wsproto import WSConnection

from rpyc_transports.websocket_messages import Messages

__all__ = ["PromptStream", "WebSocketStream", "running"]

MESSAGE = 262_144  # bytes of one that is sent, a quarter of what is taken; the link gives half of it at once
CLOSE_WITHIN = 2.0  # seconds for the peer to say that it has heard our goodbye
GOODBYES = (1000, 1001, 1005)  # normal closure; going away; none of those that say why


class WebSocketStream(trio.abc.Stream):
    """A byte stream in binary messages, whose bounds mean nothing. It works while it is `running`.

    It has no half-close: `aclose` says goodbye in both directions, and gives the peer two seconds for its own. The end of a connection without
    a goodbye is a BrokenResourceError, and so is a goodbye that complains.
    """

    def __init__(self, below: trio.abc.Stream, messages: Messages) -> None:
        # The host and path are for a request that has been made already; `messages` is all of a WSConnection that is used then.
        self.websocket = WebSocketConnection(
            below, cast("WSConnection", messages), host="", path="", receive_buffer_size=None
        )
        self._below = below
        self._messages = messages
        self._left = b""  # of a message that was longer than what the reader wanted
        self._sending = _Alone("another task is sending")
        self._receiving = _Alone("another task is receiving")
        self._closed = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        with self._sending, self._ends_in_words():
            if not data:
                await self._check()
            elif len(data) <= MESSAGE:
                await self.websocket.send_message(bytes(data))
            else:
                view = memoryview(data)
                for start in range(0, len(data), MESSAGE):
                    await self.websocket.send_message(bytes(view[start : start + MESSAGE]))

    async def wait_send_all_might_not_block(self) -> None:
        with self._sending, self._ends_in_words():
            await self._check()

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
                    data = await self.websocket.get_message()  # type: ignore[assignment]  # `Messages` lets no text through
                except ConnectionClosed as exc:
                    if self._closed or self._messages.fault or exc.reason is None or exc.reason.code not in GOODBYES:
                        raise
                    await trio.lowlevel.checkpoint()
                    return b""
            else:
                await trio.lowlevel.checkpoint()
            self._left = data[limit:]
            return data[:limit]

    async def aclose(self) -> None:
        self._closed = True
        self._left = b""
        try:
            with trio.move_on_after(CLOSE_WITHIN):
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
            raise trio.BrokenResourceError(self._why(exc.reason)) from exc

    def _why(self, reason: CloseReason | None) -> str:
        if self._messages.fault:
            return f"the peer broke the protocol of WebSocket: {self._messages.fault}"
        if reason is None or reason.code == 1006:
            return "the connection broke off, without the goodbye of WebSocket"
        said = f": {reason.reason}" if reason.reason else ""
        return f"the peer has closed the WebSocket ({reason.code}, {reason.name.lower().replace('_', ' ')}{said})"


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
        if self._received > SMALL and QUICK_ACK is not None:
            with suppress(OSError):  # it is closed or broken, as `receive_some` will say
                self._stream.setsockopt(socket.IPPROTO_TCP, QUICK_ACK, 1)
        data = await self._stream.receive_some(max_bytes)
        self._received = len(data)
        return data

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        await self._stream.aclose()


SMALL = 1000  # bytes; to acknowledge costs as much as to send
QUICK_ACK = getattr(socket, "TCP_QUICKACK", None)  # Linux's, and forgotten by it with every answer


class _Alone:
    """One task at a time."""

    def __init__(self, otherwise: str) -> None:
        self._otherwise = otherwise
        self._taken = False

    def __enter__(self) -> None:
        if self._taken:
            raise trio.BusyResourceError(self._otherwise)
        self._taken = True

    def __exit__(self, *_: object) -> None:
        self._taken = False


@asynccontextmanager
async def running(stream: WebSocketStream, *, ping: float = 0) -> AsyncIterator[None]:
    """Read for the stream, give a sign of life every `ping` seconds (0: never), and close it at the end. Exceptions of the body stay what they are."""
    failure: BaseException | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.websocket._reader_task)  # noqa: SLF001  # as its own wrap_client_stream does
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


async def _give_signs_of_life(websocket: WebSocketConnection, seconds: float) -> None:
    while websocket.closed is None:
        await trio.sleep(seconds)
        with suppress(ConnectionClosed):
            await websocket.pong()  # unasked: nobody has to answer, and the reader may be busy
