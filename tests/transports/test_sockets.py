"""A socket that is trio's and any thread's at once; listeners that survive what knocks."""

from __future__ import annotations

import socket
from typing import Any

import pytest
import trio
import trio.testing

from rpyc_gateway.transport import Pipe
from rpyc_transports.sockets import serve_sockets, share


def trio_pair() -> tuple[trio.SocketStream, trio.SocketStream]:
    near, far = socket.socketpair()
    return tuple(trio.SocketStream(trio.socket.from_stdlib_socket(raw)) for raw in (near, far))  # type: ignore[return-value]


def shared(*streams: trio.SocketStream) -> Any:
    """The streams of what they become."""
    return tuple(share(stream, "somebody").stream for stream in streams)


async def shared_pair() -> tuple[trio.SocketStream, trio.SocketStream]:
    near, far = trio_pair()
    return shared(near, far)


async def clogged_pair() -> tuple[trio.SocketStream, trio.SocketStream]:
    pipes = [share(stream, "somebody") for stream in trio_pair()]
    for pipe in pipes:
        assert pipe.send_nowait is not None
        while pipe.send_nowait(bytes(65536)):
            pass
    return tuple(pipe.stream for pipe in pipes)  # type: ignore[return-value]


async def test_a_shared_stream_is_what_trio_says_a_stream_is() -> None:
    await trio.testing.check_half_closeable_stream(shared_pair, clogged_pair)


async def test_any_thread_sends_without_waiting_until_the_wire_is_full() -> None:
    near, far = trio_pair()
    pipe = share(near, "far")
    stream, send_nowait = pipe.stream, pipe.send_nowait
    assert send_nowait is not None

    def fill() -> bytes:
        sent = b""
        while True:
            piece = bytes([len(sent) % 251]) * 100_000
            taken = send_nowait(piece)
            sent += piece[:taken]
            if not taken:
                return sent

    async with stream, far:
        sent = await trio.to_thread.run_sync(fill)
        received = b""
        while len(received) < len(sent):
            received += await far.receive_some()
        assert received == sent


async def test_sending_on_what_is_broken_or_closed_is_an_os_error() -> None:
    near, far = trio_pair()
    pipe = share(near, "far")
    stream, send_nowait = pipe.stream, pipe.send_nowait
    assert send_nowait is not None
    await far.aclose()
    with pytest.raises(BrokenPipeError):
        send_nowait(b"anybody?")
    await stream.aclose()
    with pytest.raises(OSError, match="Bad file descriptor"):
        send_nowait(b"too late")


async def test_any_thread_reads_what_is_there_and_several_buffers_leave_in_order() -> None:
    near, far = (share(stream, "somebody") for stream in trio_pair())
    assert near.send_nowait is not None
    assert far.receive_nowait is not None
    async with near.stream, far.stream:
        assert far.receive_nowait(100) is None
        assert near.send_nowait(b"one, ", memoryview(b"two, "), b"three") == 15
        await trio.lowlevel.wait_readable(far.fileno)
        assert await trio.to_thread.run_sync(far.receive_nowait, 7) == b"one, tw"
        assert far.receive_nowait(100) == b"o, three"
        await near.stream.aclose()
        assert far.receive_nowait(100) == b""


async def test_a_connection_that_died_in_the_queue_disturbs_nobody() -> None:
    with socket.socket() as raw:
        raw.bind(("127.0.0.1", 0))
        raw.listen()
        address = raw.getsockname()
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(raw))
        dead = [True, False]

        def make_pipe(stream: trio.SocketStream) -> Pipe:
            if dead.pop(0):
                raise OSError("Transport endpoint is not connected")
            return Pipe(stream, "somebody")

        async def greet(pipe: Pipe) -> None:
            await pipe.stream.send_all(b"hello")

        async with trio.open_nursery() as nursery:
            assert await nursery.start(serve_sockets, [listener], ["here"], make_pipe, greet) == ["here"]
            async with await trio.open_tcp_stream(*address) as first:
                assert await first.receive_some() == b""
            async with await trio.open_tcp_stream(*address) as second:
                assert await second.receive_some() == b"hello"
            nursery.cancel_scope.cancel()
