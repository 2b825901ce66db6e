"""An open WebSocket as a stream, in memory: sizes, goodbyes, complaints, accidents, and trio's own rules for a stream."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from wsproto.connection import ConnectionType

from rpyc_transports.websocket_messages import MAX_MESSAGE, Messages
from rpyc_transports.websocket_stream import PromptStream, WebSocketStream, running

CLIENT, SERVER = ConnectionType.CLIENT, ConnectionType.SERVER
PING = b"\x89\x00"


@asynccontextmanager
async def pair(*, ping: float = 0) -> AsyncIterator[tuple[WebSocketStream, WebSocketStream]]:
    """A client and a server that have shaken hands."""
    near, far = trio.testing.memory_stream_pair()
    client, server = WebSocketStream(near, Messages(CLIENT)), WebSocketStream(far, Messages(SERVER))
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(run, client, ping=ping))
        await nursery.start(partial(run, server))
        yield client, server
        nursery.cancel_scope.cancel()


async def run(stream: WebSocketStream, *, ping: float = 0, task_status: trio.TaskStatus[None]) -> None:
    async with running(stream, ping=ping):
        task_status.started()
        await trio.sleep_forever()


@asynccontextmanager
async def alone() -> AsyncIterator[tuple[WebSocketStream, trio.abc.HalfCloseableStream]]:
    """A client, and the bytes at the other end."""
    near, far = trio.testing.memory_stream_pair()
    stream = WebSocketStream(near, Messages(CLIENT))
    async with running(stream):
        yield stream, far
        await far.aclose()


async def receive_exactly(stream: trio.abc.ReceiveStream, size: int) -> bytes:
    got = bytearray()
    while len(got) < size:
        data = await stream.receive_some(size - len(got))
        assert data
        got += data
    return bytes(got)


async def test_it_keeps_trios_contract_of_a_stream() -> None:
    async with trio.open_nursery() as nursery:

        async def make() -> tuple[WebSocketStream, WebSocketStream]:
            near, far = trio.testing.memory_stream_pair()
            client, server = WebSocketStream(near, Messages(CLIENT)), WebSocketStream(far, Messages(SERVER))
            await nursery.start(run, client)
            await nursery.start(run, server)
            return client, server

        await trio.testing.check_two_way_stream(make, None)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("size", [1, 125, 126, 65_535, 65_536, 262_144, 262_145, MAX_MESSAGE + 1])
async def test_any_size_arrives_whole_in_messages_that_are_not_too_long(size: int) -> None:
    data = os.urandom(size)
    async with pair() as ends:
        for source, sink in (ends, ends[::-1]):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(source.send_all, data)
                assert await receive_exactly(sink, size) == data


@given(sent=st.lists(st.binary(max_size=300), max_size=10), wanted=st.lists(st.integers(1, 100), min_size=1))
def test_bounds_of_messages_mean_nothing(sent: list[bytes], wanted: list[int]) -> None:
    async def main() -> None:
        async with pair() as (client, server):
            got = b""
            async with trio.open_nursery() as nursery:

                @nursery.start_soon
                async def send() -> None:
                    for data in sent:
                        await client.send_all(data)
                    await client.aclose()

                while True:
                    data = await server.receive_some(wanted[len(got) % len(wanted)])
                    assert len(data) <= max(wanted)
                    if not data:
                        break
                    got += data
            assert got == b"".join(sent)

    trio.run(main)


async def test_a_reader_that_wants_less_gets_the_rest_later() -> None:
    async with pair() as (client, server):
        await client.send_all(b"hello")
        assert [await server.receive_some(2) for _ in range(3)] == [b"he", b"ll", b"o"]
        with pytest.raises(ValueError, match="at least 1"):
            await server.receive_some(0)


async def test_a_goodbye_is_the_end_and_stays_it() -> None:
    async with pair() as (client, server):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.aclose)
            assert await server.receive_some() == b""
        assert await server.receive_some() == b""
        with pytest.raises(
            trio.BrokenResourceError, match=r"the peer has closed the WebSocket \(1000, normal closure\)"
        ):
            await server.send_all(b"too late")
        with pytest.raises(trio.ClosedResourceError, match="was closed here"):
            await client.receive_some()


async def test_a_cut_connection_is_not_the_end() -> None:
    async with alone() as (stream, far):
        await far.aclose()
        with pytest.raises(trio.BrokenResourceError, match="broke off, without the goodbye of WebSocket"):
            await stream.receive_some()
        with pytest.raises(trio.BrokenResourceError, match="broke off"):
            await stream.send_all(b"x")


async def test_a_peer_that_complains_at_the_end_is_quoted() -> None:
    async with alone() as (stream, far):
        await far.send_all(b"\x88\x0d\x03\xf0not allowed")
        with pytest.raises(trio.BrokenResourceError, match=r"\(1008, policy violation: not allowed\)"):
            await stream.receive_some()


async def test_a_peer_that_breaks_the_protocol_is_told_and_said_to_have() -> None:
    async with alone() as (stream, far):
        await far.send_all(b"\x81\x02hi")
        with pytest.raises(trio.BrokenResourceError, match="broke the protocol of WebSocket: only binary messages"):
            await stream.receive_some()
        assert (await far.receive_some(1))[0] == 0x88


async def test_a_ping_is_answered_also_in_the_middle_of_a_message() -> None:
    async with alone() as (stream, far):
        await far.send_all(b"\x82\x05HE")
        assert await stream.receive_some() == b"HE"
        await far.send_all(b"LLO" + PING)
        assert await stream.receive_some() == b"LLO"
        pong = await far.receive_some()
        assert (pong[0], pong[1]) == (0x8A, 0x80)


async def test_a_goodbye_that_nobody_answers_takes_two_seconds(autojump_clock: trio.testing.MockClock) -> None:
    near, far = trio.testing.memory_stream_pair()
    async with running(WebSocketStream(near, Messages(CLIENT))):
        start = trio.current_time()
    assert trio.current_time() - start == 2
    assert (await far.receive_some(1))[0] == 0x88


async def test_cancelled_it_is_closed_at_once(autojump_clock: trio.testing.MockClock) -> None:
    async with alone() as (stream, far):
        start = trio.current_time()
        await trio.aclose_forcefully(stream)
        assert await far.receive_some() == b""
        assert trio.current_time() == start


async def test_signs_of_life_are_given_where_they_are_asked_for(autojump_clock: trio.testing.MockClock) -> None:
    near, far = trio.testing.memory_stream_pair()
    times: list[float] = []
    async with running(WebSocketStream(near, Messages(CLIENT)), ping=20):
        start = trio.current_time()
        for _ in range(3):
            pong = await far.receive_some()
            assert (pong[0], len(pong)) == (0x8A, 6), "an empty one, masked"
            times.append(trio.current_time() - start)
        await far.aclose()
    assert times == [20, 40, 60]


async def test_the_exception_of_a_user_stays_what_it_is() -> None:
    near, far = trio.testing.memory_stream_pair()
    with pytest.raises(ZeroDivisionError):  # noqa: PT012
        async with running(WebSocketStream(near, Messages(CLIENT))):
            await far.aclose()
            raise ZeroDivisionError


@pytest.mark.skipif(not hasattr(socket, "TCP_QUICKACK"), reason="it is Linux's")
async def test_what_has_arrived_is_acknowledged_before_more_is_waited_for() -> None:
    done: list[int] = []

    class Watched:
        """Of a SocketStream, what is used."""

        def setsockopt(self, level: int, option: int, value: int) -> None:
            assert (level, option, value) == (socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            done.append(0)

        async def receive_some(self, max_bytes: int) -> bytes:
            done.append(max_bytes)
            return bytes(max_bytes)

    stream = PromptStream(Watched())  # type: ignore[arg-type]
    for size in (5, 5000, 6000, 7, 8):
        assert len(await stream.receive_some(size)) == size
    assert done == [5, 5000, 0, 6000, 0, 7, 8]
    receive = stream.promptly(lambda limit: bytes(limit) if limit else None)
    done.clear()
    assert [len(receive(size) or b"") for size in (0, 5, 5000)] == [0, 5, 5000]
    assert done == [0]
