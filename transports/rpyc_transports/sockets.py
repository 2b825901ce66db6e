"""What tcp and unix sockets have in common: pipes that any thread may use, and serving listeners that are bound already."""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from math import inf

import trio

from rpyc_gateway.transport import Buffer, Crowded, Doorway, Handler, Pipe, handle

__all__ = ["part", "serve_handshakes", "serve_sockets", "share"]

logger = logging.getLogger(__name__)

PART_WITHIN = 2.0  # seconds

# There is no room for another connection, in this process or in the system.
EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS}
EXHAUSTED_PAUSE = 0.1  # seconds; whoever waits does not notice, and nothing spins
COMPLAIN_EVERY = 60.0

DONT_WAIT = getattr(socket, "MSG_DONTWAIT", 0)  # absent on Windows; the socket is non-blocking anyhow


def share(stream: trio.SocketStream, peer: str, *, identity: str = "", private: bool = False) -> Pipe:
    """The connection as a Pipe: the stream, and what other threads may do without waiting.

    trio keeps the stream's socket to itself, so its descriptor is taken out and given back in another, with the standard socket kept in hand.
    """
    raw = socket.socket(fileno=stream.socket.detach())
    stream.socket = trio.socket.from_stdlib_socket(raw)
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
        stream,
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
            await trio.aclose_forcefully(stream)
            return
        await handle(pipe, handler)

    await _serve(listeners, urls, accepted, task_status)


async def serve_handshakes(
    listeners: list[trio.SocketListener],
    urls: list[str],
    shake_hands: Callable[[trio.SocketStream], Awaitable[Pipe | None]],
    handler: Handler,
    task_status: trio.TaskStatus[list[str]],
) -> None:
    """The same where the transport has something to agree on with a caller before there is a pipe.

    `shake_hands` gives None for a caller that has been sent away, and raises OSError for one that is gone; it is cancelled
    when it takes its time while others wait. Whatever it does, the stream is closed in the end.
    """
    doorway = Doorway()

    async def accepted(stream: trio.SocketStream) -> None:
        pipe = None
        try:
            place = await doorway.enter(stream.socket.fileno())
            try:
                with trio.CancelScope() as scope:
                    place.evict = scope.cancel
                    pipe = await shake_hands(stream)
            finally:
                doorway.leave(place)
        except (Crowded, OSError):
            return
        except Exception:  # a defect of the transport: the listener goes on
            logger.exception("the handshake with a caller failed")
            return
        else:
            if pipe is not None:
                await handle(pipe, handler)
        finally:
            await trio.aclose_forcefully(stream)

    await _serve(listeners, urls, accepted, task_status)


async def _serve(
    listeners: list[trio.SocketListener],
    urls: list[str],
    accepted: Callable[[trio.SocketStream], Awaitable[None]],
    task_status: trio.TaskStatus[list[str]],
) -> None:
    async with AsyncExitStack() as stack, trio.open_nursery() as nursery:
        for listener in listeners:
            await stack.enter_async_context(listener)
            nursery.start_soon(_accept_all, listener, accepted, nursery)
        task_status.started(urls)


async def _accept_all(
    listener: trio.SocketListener, accepted: Callable[[trio.SocketStream], Awaitable[None]], nursery: trio.Nursery
) -> None:
    complain_from = -inf
    while True:
        try:
            stream = await listener.accept()
        except OSError as exc:
            if exc.errno not in EXHAUSTED:
                raise
            # Whoever knocks stays in the system's queue, and `accept` would say the same again at once.
            if trio.current_time() >= complain_from:
                logger.warning("cannot accept a connection: %s; others have to end first", exc.strerror)
                complain_from = trio.current_time() + COMPLAIN_EVERY
            await trio.sleep(EXHAUSTED_PAUSE)
        else:
            nursery.start_soon(accepted, stream)
            del stream


async def part(stream: trio.SocketStream, last_words: bytes = b"") -> None:
    """Close, so that the peer can read the last words: unread data at a close would make the system drop what the peer has not taken.

    Takes two seconds at most. Cancelled, the stream is closed all the same.
    """
    try:
        with trio.move_on_after(PART_WITHIN), suppress(trio.BrokenResourceError, OSError):
            await stream.send_all(last_words)
            await stream.send_eof()
            while await stream.receive_some(65536):
                pass
    finally:
        await trio.aclose_forcefully(stream)
