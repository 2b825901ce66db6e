"""What tcp and unix sockets have in common: pipes that any thread may use, and serving listeners that are bound already."""

from __future__ import annotations

import socket
from collections.abc import Callable

import trio

from rpyc_gateway.transport import Buffer, Handler, Pipe, handle

__all__ = ["serve_sockets", "share"]

DONT_WAIT = getattr(socket, "MSG_DONTWAIT", 0)  # absent on Windows; the socket is non-blocking anyhow


def share(stream: trio.SocketStream, peer: str, *, identity: str = "", private: bool = False) -> Pipe:
    """The connection as a Pipe: trio's stream, and what other threads may do without waiting. `stream` itself is of no use any more.

    trio keeps its descriptor to itself, so it is taken out and wrapped again, with the standard socket kept in hand.
    """
    raw = socket.socket(fileno=stream.socket.detach())
    send, receive = raw.send, raw.recv
    sendmsg = getattr(raw, "sendmsg", lambda buffers, _, flags: send(b"".join(buffers), flags))  # Windows has none

    def send_nowait(*buffers: Buffer) -> int:
        try:
            taken: int = send(buffers[0], DONT_WAIT) if len(buffers) == 1 else sendmsg(buffers, (), DONT_WAIT)
        except BlockingIOError:
            return 0
        return taken

    def receive_nowait(limit: int) -> bytes | None:
        try:
            return receive(limit, DONT_WAIT)
        except BlockingIOError:
            return None

    return Pipe(
        trio.SocketStream(trio.socket.from_stdlib_socket(raw)),
        peer,
        identity=identity,
        private=private,
        send_nowait=send_nowait,
        receive_nowait=receive_nowait,
        fileno=raw.fileno(),
    )


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
