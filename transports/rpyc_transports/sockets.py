"""What tcp and unix sockets have in common: the non-blocking send, and serving listeners that are bound already."""

from __future__ import annotations

import socket
from collections.abc import Callable

import trio

from rpyc_gateway.transport import Handler, Pipe, handle

__all__ = ["SendNowait", "serve_sockets", "share"]

SendNowait = Callable[[bytes], int]

DONT_WAIT = getattr(socket, "MSG_DONTWAIT", 0)  # absent on Windows; the socket is non-blocking anyhow


def share(stream: trio.SocketStream) -> tuple[trio.SocketStream, SendNowait]:
    """The same connection as a stream, and as a non-blocking send for other threads.

    trio keeps its descriptor to itself, so it is taken out and wrapped again, with the standard socket kept in hand.
    """
    raw = socket.socket(fileno=stream.socket.detach())

    def send_nowait(data: bytes) -> int:
        try:
            return raw.send(data, DONT_WAIT)
        except BlockingIOError:
            return 0

    return trio.SocketStream(trio.socket.from_stdlib_socket(raw)), send_nowait


async def serve_sockets(
    listeners: list[trio.SocketListener],
    urls: list[str],
    make_pipe: Callable[[trio.SocketStream], Pipe],
    handler: Handler,
    task_status: trio.TaskStatus[list[str]],
) -> None:
    """Accept until cancelled, and close the listeners at the end. `make_pipe` raises OSError for a connection that died in the queue."""

    async def accepted(stream: trio.SocketStream) -> None:
        try:
            pipe = make_pipe(stream)
        except OSError:
            # It was reset before it was accepted: nobody is there to be told.
            return
        await handle(pipe, handler)

    async with trio.open_nursery() as nursery:
        await nursery.start(trio.serve_listeners, accepted, listeners)
        task_status.started(urls)
