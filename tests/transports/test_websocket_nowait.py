"""A WebSocket for threads that do not wait, on a wire that takes and gives what it likes: nothing is lost, sent twice or mixed up."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong

from rpyc_gateway.transport import Buffer, Pipe
from rpyc_transports.websocket_messages import Messages
from rpyc_transports.websocket_nowait import CHUNK, MOST_UNSENT, WithoutWaiting
from rpyc_transports.websocket_stream import WebSocketStream

CLIENT, SERVER = ConnectionType.CLIENT, ConnectionType.SERVER


class Wire:
    """Takes so many bytes at each call, for ever if no more is said; and gives what `coming` has."""

    def __init__(self, takes: list[int]) -> None:
        self.sent = bytearray()
        self.coming: list[bytes] = []
        self._takes: Iterator[int] = iter(takes)
        near, self.far = trio.testing.memory_stream_pair()
        self.pipe = Pipe(near, "wire", send_nowait=self.send, receive_nowait=self.receive, fileno=0)

    def send(self, *buffers: Buffer) -> int:
        data = b"".join(buffers)
        taken = data[: next(self._takes, len(data))]
        self.sent += taken
        return len(taken)

    def receive(self, limit: int) -> bytes | None:
        if not self.coming:
            return None
        data = self.coming.pop(0)
        if len(data) > limit:
            self.coming.insert(0, data[limit:])
        return data[:limit]


def side(wire: Wire, kind: ConnectionType = CLIENT) -> WithoutWaiting:
    return WithoutWaiting(Messages(kind), wire.pipe, lambda: False)


def heard(sent: bytes) -> bytes:
    """What the far side reads of it."""
    far = Connection(SERVER)
    far.receive_data(bytes(sent))
    events = list(far.events())
    assert not any(isinstance(event, CloseConnection) for event in events)
    return b"".join(event.data for event in events if isinstance(event, BytesMessage))


@given(
    sent=st.lists(st.binary(min_size=1, max_size=300), max_size=6),
    takes=st.lists(st.integers(0, 200), max_size=30),
)
def test_what_was_not_taken_is_offered_again_and_arrives_once(sent: list[bytes], takes: list[int]) -> None:
    wire = Wire(takes)
    ours = side(wire)
    for data in sent:
        left = memoryview(data)
        while left:
            left = left[ours.send_nowait(left) :]
    assert heard(wire.sent) == b"".join(sent)


def test_a_long_one_goes_in_chunks_and_stops_where_the_wire_does() -> None:
    wire = Wire([CHUNK + 14, 100])
    data = bytes(range(256)) * 1024
    taken = side(wire).send_nowait(data[:1000], data[1000:])
    assert taken == CHUNK, "of the second chunk the wire has a part, and the caller still has all"
    wire = Wire([])
    assert side(wire).send_nowait(data[:1000], data[1000:]) == len(data)
    assert heard(wire.sent) == data


def test_a_ping_is_answered_behind_what_was_sent_in_part() -> None:
    wire = Wire([3, 0])
    ours = side(wire)
    assert ours.send_nowait(b"hello") == 0
    wire.coming = [Connection(SERVER).send(Ping(b"?"))]
    assert ours.receive_nowait(100) is None
    assert ours.send_nowait(b"hello") == 5
    far = Connection(SERVER)
    far.receive_data(bytes(wire.sent))
    assert [type(event) for event in far.events()] == [BytesMessage, Pong]


def test_who_pings_and_reads_nothing_fills_no_memory() -> None:
    wire = Wire([0] * 10_000)
    ours = side(wire)
    pings = Connection(SERVER).send(Ping(b"x" * 125)) * 2000
    wire.coming = [pings]
    while ours.receive_nowait(len(pings)) is not None or wire.coming:
        pass
    unsent, _ = ours.take_unsent()
    assert MOST_UNSENT <= len(unsent) < MOST_UNSENT + 200


@given(sent=st.lists(st.binary(min_size=1, max_size=200), min_size=1, max_size=5), limit=st.integers(1, 100))
def test_what_comes_is_given_as_it_comes(sent: list[bytes], limit: int) -> None:
    wire, far = Wire([]), Connection(SERVER)
    wire.coming = [far.send(BytesMessage(data)) for data in sent]
    ours, got = side(wire), b""
    while wire.coming:
        data = ours.receive_nowait(limit)
        assert data != b"", "that is the end"
        assert len(data or b"") <= limit
        got += data or b""
    assert got == b"".join(sent)
    assert ours.receive_nowait(limit) is None


def test_a_goodbye_is_answered_and_is_the_end_for_ever() -> None:
    wire, far = Wire([]), Connection(SERVER)
    wire.coming = [far.send(BytesMessage(b"last words")) + far.send(CloseConnection(1000))]
    ours = side(wire)
    assert ours.receive_nowait(100) == b"last words"
    assert [ours.receive_nowait(100) for _ in range(2)] == [b"", b""]
    far.receive_data(bytes(wire.sent))
    (answer,) = far.events()
    assert isinstance(answer, CloseConnection)
    with pytest.raises(OSError, match="the WebSocket is closed"):
        ours.send_nowait(b"too late")


ENDS = {
    b"": "the connection broke off, without the goodbye of WebSocket",
    b"\x81\x02hi": "the peer broke the protocol of WebSocket: only binary messages",
    b"\x88\x04\x03\xf0no": r"the peer has closed the WebSocket \(1008, policy violation: no\)",
}


@pytest.mark.parametrize(("data", "words"), ENDS.items())
def test_another_end_is_an_error_in_words_for_ever(data: bytes, words: str) -> None:
    wire = Wire([])
    wire.coming = [data]
    ours = side(wire)
    for _ in range(2):
        with pytest.raises(OSError, match=words) as caught:
            ours.receive_nowait(100)
        assert caught.value.errno is None


async def test_the_stream_goes_on_where_a_thread_could_not() -> None:
    wire = Wire([4])
    stream = WebSocketStream(wire.pipe.stream, Messages(CLIENT))
    ours = stream.without_waiting(wire.pipe)
    assert ours.send_nowait(b"hello") == 0
    await stream.send_all(b"hello, world")
    wire.sent += await wire.far.receive_some()
    assert heard(wire.sent) == b"hello, world"


async def test_the_stream_knows_of_an_end_that_a_thread_has_heard() -> None:
    wire = Wire([])
    wire.coming = [Connection(SERVER).send(CloseConnection(1000))]
    stream = WebSocketStream(wire.pipe.stream, Messages(CLIENT))
    assert stream.without_waiting(wire.pipe).receive_nowait(100) == b""
    assert await stream.receive_some() == b""
    with pytest.raises(trio.BrokenResourceError, match="has closed the WebSocket"):
        await stream.send_all(b"too late")


async def test_who_waits_until_more_is_taken_waits_for_the_wire(autojump_clock: trio.testing.MockClock) -> None:
    wire = Wire([0])
    near = wire.pipe.stream
    assert isinstance(near, trio.StapledStream)
    near.send_stream.wait_send_all_might_not_block_hook = partial(trio.sleep, 7)  # type: ignore[attr-defined]
    stream = WebSocketStream(near, Messages(CLIENT))
    assert stream.without_waiting(wire.pipe).send_nowait(b"hello") == 0
    await stream.wait_send_all_might_not_block()
    assert trio.current_time() == 7, "it would be asked again, and again say at once that it might not block"
