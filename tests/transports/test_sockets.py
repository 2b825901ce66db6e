"""A socket that is trio's and any thread's at once; listeners that survive what knocks."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, TypeAlias

import pytest
import trio
import trio.testing
from trio.testing import MockClock, wait_all_tasks_blocked

from rpyc_gateway.doorway import PATIENCE, PLACES
from rpyc_gateway.transport import Handler, Pipe
from rpyc_transports.sockets import part, serve_handshakes, serve_sockets, share

ShakeHands: TypeAlias = Callable[[trio.SocketStream], Awaitable[Pipe | None]]


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


async def test_the_pipe_has_the_stream_that_was_shared() -> None:
    near, far = trio_pair()
    descriptor = near.socket.fileno()
    pipe = share(near, "somebody")
    assert pipe.stream is near
    assert pipe.fileno == near.socket.fileno() == descriptor
    async with near, far:
        await near.send_all(b"hello")
        assert await far.receive_some() == b"hello"
    assert near.socket.fileno() == -1
    with pytest.raises(OSError, match="descriptor"):
        os.fstat(descriptor)


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


@asynccontextmanager
async def greeting() -> AsyncIterator[tuple[tuple[str, int], trio.SocketListener]]:
    """A listener that greets everybody."""
    raw = socket.create_server(("127.0.0.1", 0))
    listener = trio.SocketListener(trio.socket.from_stdlib_socket(raw))

    async def greet(pipe: Pipe) -> None:
        await pipe.stream.send_all(b"hello")

    async with trio.open_nursery() as nursery:
        await nursery.start(serve_sockets, [listener], ["here"], lambda stream: share(stream, "somebody"), greet)
        yield raw.getsockname(), listener
        nursery.cancel_scope.cancel()


async def test_no_room_for_another_file_is_waited_out_and_said_once(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    refusals = [errno.EMFILE, errno.ENFILE] * 10
    real = trio.SocketListener.accept

    async def accept(listener: trio.SocketListener) -> trio.SocketStream:
        await trio.lowlevel.checkpoint()
        if refusals:
            code = refusals.pop()
            raise OSError(code, os.strerror(code))
        return await real(listener)

    monkeypatch.setattr(trio.SocketListener, "accept", accept)
    async with greeting() as (address, _), await trio.open_tcp_stream(*address) as stream:
        assert await stream.receive_some() == b"hello"
        assert trio.current_time() == pytest.approx(2, abs=0.1)  # a tenth of a second each: it does not spin
    said = [record.getMessage() for record in caplog.records]
    assert said == ["cannot accept a connection: Too many open files in system; others have to end first"]


async def test_a_listener_is_closed_when_it_is_cancelled() -> None:
    async with greeting() as (address, listener):
        pass
    assert listener.socket.fileno() == -1
    with pytest.raises(OSError, match="all attempts to connect"):
        await trio.open_tcp_stream(*address)


async def test_last_words_are_read_though_the_peer_has_said_more_than_anybody_read() -> None:
    async def talk(stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError):
            for _ in range(16):
                await stream.send_all(bytes(65536))
        await stream.send_eof()

    raw = socket.create_server(("127.0.0.1", 0))
    async with trio.SocketListener(trio.socket.from_stdlib_socket(raw)) as listener:
        async with await trio.open_tcp_stream(*raw.getsockname()) as near, trio.open_nursery() as nursery:
            far = await listener.accept()
            nursery.start_soon(talk, near)
            await part(far, b"goodbye")
            assert await near.receive_some() == b"goodbye"
            assert await near.receive_some() == b""


async def test_a_peer_that_neither_reads_nor_ends_is_left_after_two_seconds(autojump_clock: MockClock) -> None:
    near, far = trio_pair()
    async with near:
        await part(far, bytes(16 << 20))
        assert trio.current_time() == pytest.approx(2, abs=0.1)
        assert far.socket.fileno() == -1


# -- where the transport shakes hands first


@asynccontextmanager
async def guarded(shake_hands: ShakeHands, handler: Handler) -> AsyncIterator[tuple[str, int]]:
    raw = socket.create_server(("127.0.0.1", 0))
    listener = trio.SocketListener(trio.socket.from_stdlib_socket(raw))
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_handshakes, [listener], ["here"], shake_hands, handler)
        yield raw.getsockname()
        nursery.cancel_scope.cancel()


async def greet(pipe: Pipe) -> None:
    await pipe.stream.send_all(b"hello")


async def first_byte(stream: trio.SocketStream) -> Pipe | None:
    """The handshake of these tests: `y` is let in."""
    said = await stream.receive_some(1)
    if said == b"!":
        raise ZeroDivisionError("a defect of the transport")
    return share(stream, "somebody") if said == b"y" else None


async def test_who_shakes_hands_is_let_in_and_who_does_not_is_closed(caplog: pytest.LogCaptureFixture) -> None:
    async with guarded(first_byte, greet) as address:
        for said, heard in ((b"y", b"hello"), (b"n", b""), (b"!", b""), (b"y", b"hello")):
            async with await trio.open_tcp_stream(*address) as stream:
                await stream.send_all(said)
                assert await stream.receive_some() == heard
    assert "a defect of the transport" in caplog.text


async def test_handshakes_that_do_not_end_keep_nobody_out(autojump_clock: MockClock) -> None:
    async with guarded(first_byte, greet) as address, AsyncExitStack() as stack:
        silent = [await stack.enter_async_context(await trio.open_tcp_stream(*address)) for _ in range(PLACES + 20)]
        await wait_all_tasks_blocked()
        async with await trio.open_tcp_stream(*address) as stream:
            await stream.send_all(b"y")
            assert await stream.receive_some() == b"hello"
        assert trio.current_time() == pytest.approx(PATIENCE, abs=0.2)
        assert await silent[0].receive_some() == b""
        await silent[-1].send_all(b"y")
        assert await silent[-1].receive_some() == b"hello"
