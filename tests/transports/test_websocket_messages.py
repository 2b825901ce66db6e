"""Frames without sockets: what we send is what wsproto reads, what wsproto sends is what we read, and what is neither ends with a reason."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong
from wsproto.frame_protocol import CloseReason

from rpyc_transports.websocket_messages import MAX_MESSAGE, Mask, Messages, lay_mask, lay_mask_slowly

CLIENT, SERVER = ConnectionType.CLIENT, ConnectionType.SERVER
OTHER = {CLIENT: SERVER, SERVER: CLIENT}
sides = pytest.mark.parametrize("side", [CLIENT, SERVER], ids=["client", "server"])
payloads = st.one_of(
    st.binary(max_size=200), st.integers(0, 70_000).map(lambda size: bytes(range(256)) * (size // 256))
)


def received(messages: Connection, data: bytes, cuts: Iterable[int] = ()) -> list[Event]:
    """The events of what comes in these pieces."""
    events: list[Event] = []
    for start, end in pairwise([0, *sorted({cut for cut in cuts if cut < len(data)} - {0}), len(data)]):
        messages.receive_data(data[start:end])
        events += messages.events()
    return events


def payload(events: Iterable[Event]) -> bytes:
    return b"".join(event.data for event in events if isinstance(event, BytesMessage))


def frame(first: int, data: bytes = b"", *, mask: bytes = b"\1\2\3\4") -> bytes:
    """As a client sends it; without a mask as a server does."""
    size = len(data)
    masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(data)) if mask else data
    flag = 0x80 if mask else 0
    length = struct.pack("!B", flag | size) if size < 126 else struct.pack("!BH", flag | 126, size)
    return bytes([first]) + length + mask + masked


@sides
@given(sent=st.lists(payloads, max_size=5), cuts=st.lists(st.integers(0, 1000), max_size=10))
def test_what_we_send_is_what_wsproto_reads(side: ConnectionType, sent: list[bytes], cuts: list[int]) -> None:
    ours, theirs = Messages(side), Connection(OTHER[side])
    events = received(theirs, b"".join(ours.send(BytesMessage(data)) for data in sent), cuts)
    assert payload(events) == b"".join(sent)
    assert sum(isinstance(event, BytesMessage) and event.message_finished for event in events) == len(sent)


@sides
@given(
    sent=st.lists(st.tuples(payloads, st.booleans(), st.booleans()), max_size=5),
    cuts=st.lists(st.integers(0, 1000), max_size=10),
)
def test_what_wsproto_sends_is_what_we_read_with_pings_within_messages(
    side: ConnectionType, sent: list[tuple[bytes, bool, bool]], cuts: list[int]
) -> None:
    ours, theirs = Messages(side), Connection(OTHER[side])
    data = b""
    for part, finished, pinged in sent:
        data += theirs.send(BytesMessage(part, message_finished=finished))
        data += theirs.send(Ping(b"?")) if pinged else b""
    events = received(ours, data, cuts)
    assert payload(events) == b"".join(part for part, _, _ in sent)
    assert sum(isinstance(event, Ping) for event in events) == sum(pinged for _, _, pinged in sent)
    assert not ours.fault
    assert all(event.data for event in events if isinstance(event, BytesMessage)), "b'' would be the end of a stream"


@sides
@given(first=payloads, rest=payloads)
def test_what_came_behind_the_handshake_is_read(side: ConnectionType, first: bytes, rest: bytes) -> None:
    theirs = Connection(OTHER[side])
    ours = Messages(side, theirs.send(BytesMessage(first)))
    assert payload(ours.events()) == first
    assert payload(received(ours, theirs.send(BytesMessage(rest)))) == rest


@given(
    data=st.binary(max_size=300), key=st.binary(min_size=4, max_size=4), cuts=st.lists(st.integers(0, 300), max_size=5)
)
def test_a_mask_is_the_same_in_c_and_in_python_and_goes_on_from_piece_to_piece(
    data: bytes, key: bytes, cuts: list[int]
) -> None:
    expected = bytes(byte ^ key[index % 4] for index, byte in enumerate(data))
    assert bytes(lay_mask_slowly(data, key)) == bytes(lay_mask(data, key)) == expected
    mask = Mask(key)
    bounds = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    assert b"".join(mask.lay(memoryview(data)[start:end]) for start, end in pairwise(bounds)) == expected


def test_what_comes_is_passed_on_before_its_message_is_whole() -> None:
    ours, data = Messages(CLIENT), b"\x82\x7e\x10\x00" + bytes(100)
    assert payload(received(ours, data)) == bytes(100)


def test_a_long_payload_that_is_not_masked_is_not_copied() -> None:
    ours, chunk = Messages(CLIENT), bytes(1000)
    received(ours, b"\x82\x7e\x10\x00")
    (event,) = received(ours, chunk)
    assert isinstance(event, BytesMessage)
    assert event.data is chunk


FAULTS = {
    frame(0x81, b"text"): (CloseReason.UNSUPPORTED_DATA, "only binary messages are spoken here"),
    frame(0x82, b"x", mask=b""): (CloseReason.PROTOCOL_ERROR, "a frame that is not masked, from a client"),
    frame(0xC2, b"x"): (CloseReason.PROTOCOL_ERROR, "a frame of an extension that nobody asked for"),
    frame(0x83, b"x"): (CloseReason.PROTOCOL_ERROR, "a frame of an extension that nobody asked for"),
    frame(0x80, b"x"): (CloseReason.PROTOCOL_ERROR, "a message within a message, or the end of none"),
    frame(0x02, b"x") + frame(0x82, b"y"): (
        CloseReason.PROTOCOL_ERROR,
        "a message within a message, or the end of none",
    ),
    frame(0x09, b"x"): (CloseReason.PROTOCOL_ERROR, "a control frame that is long or in parts"),
    frame(0x89, bytes(126)): (CloseReason.PROTOCOL_ERROR, "a control frame that is long or in parts"),
    b"\x82\xff" + struct.pack("!Q", MAX_MESSAGE + 1) + bytes(4): (
        CloseReason.MESSAGE_TOO_BIG,
        f"a message has {MAX_MESSAGE} bytes at most here",
    ),
    b"\x82\xff" + b"\xff" * 8 + bytes(4): (
        CloseReason.MESSAGE_TOO_BIG,
        f"a message has {MAX_MESSAGE} bytes at most here",
    ),
    frame(0x88, b"\x03\xed"): (CloseReason.PROTOCOL_ERROR, "remote CLOSE with local-only reason"),
}


@pytest.mark.parametrize(("data", "expected"), FAULTS.items(), ids=range(len(FAULTS)))
def test_what_breaks_the_protocol_ends_it_with_a_reason_for_both(data: bytes, expected: tuple[int, str]) -> None:
    ours = Messages(SERVER)
    closing = received(ours, data)[-1]
    assert isinstance(closing, CloseConnection)
    assert closing.code == expected[0]
    assert ours.fault == expected[1]
    # trio-websocket sends it back, and the other side reads why.
    (heard,) = received(Connection(CLIENT), ours.send(closing.response()))
    assert isinstance(heard, CloseConnection)
    assert (heard.code, heard.reason) == expected
    assert ours.state is ConnectionState.CLOSED


def test_what_was_said_before_the_fault_is_heard() -> None:
    ours = Messages(SERVER)
    assert payload(received(ours, frame(0x82, b"good") + frame(0x81, b"bad"))) == b"good"
    assert not received(ours, frame(0x82, b"too late"))


def test_many_parts_of_one_message_count_together() -> None:
    ours = Messages(SERVER)
    ours.receive_data(frame(0x02, bytes(60_000)))
    assert len(payload(ours.events())) == 60_000
    for _ in range(MAX_MESSAGE // 60_000):
        ours.receive_data(frame(0x00, bytes(60_000)))
        events = list(ours.events())
    assert isinstance(events[-1], CloseConnection)
    assert events[-1].code == CloseReason.MESSAGE_TOO_BIG


def test_a_new_message_starts_counting_anew() -> None:
    ours = Messages(SERVER)
    for _ in range(100):
        assert len(payload(received(ours, frame(0x82, bytes(60_000))))) == 60_000


def test_a_goodbye_is_heard_and_answered() -> None:
    ours, theirs = Messages(SERVER), Connection(CLIENT)
    (closing,) = received(ours, theirs.send(CloseConnection(code=1001, reason="moving")))
    assert isinstance(closing, CloseConnection)
    assert (closing.code, closing.reason, ours.fault) == (1001, "moving", "")
    received(theirs, ours.send(closing.response()))
    assert theirs.state is ours.state is ConnectionState.CLOSED


def test_a_ping_that_crosses_our_goodbye_is_not_answered() -> None:
    ours, theirs = Messages(CLIENT), Connection(SERVER)
    ours.send(CloseConnection(code=1000))
    (ping,) = received(ours, theirs.send(Ping(b"?")))
    assert isinstance(ping, Ping)
    assert ours.send(ping.response()) == b""
    assert isinstance(ping.response(), Pong)


@sides
@given(data=st.binary(max_size=400), cuts=st.lists(st.integers(0, 400), max_size=5))
def test_any_bytes_are_payload_or_a_fault_and_never_more_than_came(
    side: ConnectionType, data: bytes, cuts: list[int]
) -> None:
    ours = Messages(side)
    events = received(ours, data, cuts)
    assert len(payload(events)) <= len(data)
    assert bool(ours.fault) <= isinstance(events[-1] if events else None, CloseConnection)
