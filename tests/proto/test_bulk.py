"""Long bodies: cut into chunks that take turns, and put together again from any fragments."""

from __future__ import annotations

import tracemalloc
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpyc_gateway.errors import ProtocolError
from rpyc_gateway.proto.bulk import CHUNK, SHARE, Body, BulkReceiver, BulkSender
from rpyc_gateway.proto.memory import FRESH, fresh_memory


def chunk(number: int, piece: bytes) -> bytes:
    return number.to_bytes(4, "big") + len(piece).to_bytes(4, "big") + piece


def everything(sender: BulkSender) -> bytes:
    wire = bytearray()
    while parts := sender.data_to_send():
        for part in parts:
            wire += part
    return bytes(wire)


# -- sending ------------------------------------------------------------------------------------------------------------


def test_what_is_announced_is_what_is_sent() -> None:
    sender = BulkSender()
    assert sender.announce([b"first", b"2nd"]) == (1, 5, 2, 3)
    assert not sender.waiting
    sender.add([b"first", b"2nd"])
    assert sender.waiting
    assert sender.announce([b"x"]) == (3, 1)
    assert everything(sender) == chunk(1, b"first") + chunk(2, b"2nd")
    assert not sender.waiting


def test_bodies_take_turns_by_the_chunk() -> None:
    sender = BulkSender()
    sender.add([b"a" * (CHUNK + 1), b"b"])
    numbers = []
    while parts := sender.data_to_send():
        numbers.append(bytes(parts[0]))
    assert [int.from_bytes(header[:4], "big") for header in numbers] == [1, 2, 1]
    assert [int.from_bytes(header[4:], "big") for header in numbers] == [CHUNK, 1, 1]


def test_a_body_is_not_copied() -> None:
    body = bytearray(b"before")
    sender = BulkSender()
    sender.add([memoryview(body)])
    body[:] = b"behind"
    assert everything(sender) == chunk(1, b"behind")


def test_the_end_drops_what_waits() -> None:
    sender = BulkSender()
    sender.add([b"x"])
    sender.clear()
    assert sender.data_to_send() == []


# -- receiving ----------------------------------------------------------------------------------------------------------


def test_a_body_is_complete_with_its_last_byte() -> None:
    receiver = BulkReceiver()
    body = receiver.expect(1, 5)
    assert receiver.receive_data(chunk(1, b"firs")) == 12
    assert not body.done
    receiver.receive_data(chunk(1, b"t"))
    assert body.data == b"first"
    assert body.done


def test_chunks_of_an_unknown_body_wait_with_all_behind_them() -> None:
    receiver = BulkReceiver()
    known = receiver.expect(1, 1)
    wire = chunk(2, b"early") + chunk(1, b"x")
    assert receiver.receive_data(wire) == 0  # no credit for what is held
    assert receiver.held == len(wire)
    assert not known.done
    body = receiver.expect(2, 5)
    assert receiver.receive_data(b"") == len(wire)
    assert (body.data, known.data, receiver.held) == (b"early", b"x", 0)


def test_a_chunk_of_length_nought_ends_its_body() -> None:
    receiver = BulkReceiver()
    body = receiver.expect(1, 5)
    receiver.receive_data(chunk(1, b"fir") + chunk(1, b""))
    assert body.aborted
    assert body.done
    assert body.data is None


@pytest.mark.parametrize(
    "wire",
    [chunk(1, b"too long"), chunk(1, b"fir") + chunk(1, b"sts"), b"\0\0\0\1\0\1\0\1" + b"x"],
    ids=["at once", "in two chunks", "a chunk beyond its bound"],
)
def test_too_much_is_the_peers_fault(wire: bytes) -> None:
    receiver = BulkReceiver()
    receiver.expect(1, 5)
    with pytest.raises(ProtocolError):
        receiver.receive_data(wire)


def test_a_body_is_named_once_and_is_not_empty() -> None:
    receiver = BulkReceiver()
    receiver.expect(1, 5)
    with pytest.raises(ProtocolError):
        receiver.expect(1, 5)
    with pytest.raises(ProtocolError):
        receiver.expect(2, 0)


def test_a_header_may_come_in_two_parts_and_its_body_later() -> None:
    receiver = BulkReceiver()
    wire = chunk(1, b"first")
    assert receiver.receive_data(wire[:3]) == 0
    assert receiver.receive_data(wire[3:10]) == 0
    assert receiver.receive_data(wire[10:]) == 0
    assert receiver.held == len(wire)
    receiver.expect(2, 1)
    assert receiver.receive_data(b"") == 0
    body = receiver.expect(1, 5)
    assert receiver.receive_data(memoryview(chunk(2, b"x"))) == len(wire) + 9
    assert body.data == b"first"


def test_a_body_is_in_memory_once() -> None:
    size = 1 << 23
    piece = bytes(CHUNK)
    receiver = BulkReceiver()
    tracemalloc.start()
    try:
        body = receiver.expect(1, size)
        for start in range(0, size, CHUNK):
            receiver.receive_data(memoryview(chunk(1, piece[: size - start])))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert body.data == bytes(size)
    assert peak < 1.25 * size


def test_a_size_is_a_claim_until_some_of_it_is_here() -> None:
    size = 1 << 26
    tracemalloc.start()
    try:
        body = Body(size)
        body.receive(bytes(size // SHARE - 1))
        here, _ = tracemalloc.get_traced_memory()
        body.receive(b"12")
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert here < 2 * size / SHARE
    assert size <= grown < size * 1.01


@given(
    bodies=st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=5),
    late=st.lists(st.booleans(), min_size=5, max_size=5),
    sizes=st.lists(st.integers(0, 30), max_size=30),
)
def test_bodies_survive_any_fragmentation(bodies: list[bytes], late: list[bool], sizes: list[int]) -> None:
    """Some are named before the first byte, the others when all bytes are there; what was consumed adds up."""
    sender, receiver = BulkSender(), BulkReceiver()
    pairs = sender.announce(bodies)
    sender.add(bodies)
    named = list(zip(pairs[::2], pairs[1::2], late, strict=False))
    wire, consumed, received = everything(sender), 0, dict[int, Body]()
    received |= {number: receiver.expect(number, size) for number, size, late in named if not late}
    total = len(wire)
    for size in [*sizes, total]:
        piece, wire = wire[:size], wire[size:]
        consumed += receiver.receive_data(piece)
    assert consumed + receiver.held == total
    received |= {number: receiver.expect(number, size) for number, size, late in named if late}
    consumed += receiver.receive_data(b"")
    assert consumed == total
    assert [received[number].data for number in pairs[::2]] == bodies


@given(st.lists(st.binary(max_size=20), max_size=8))
def test_noise_is_held_or_a_protocol_error(noise: list[bytes]) -> None:
    receiver = BulkReceiver()
    receiver.expect(0, 100)
    total = sum(map(len, noise))
    consumed = 0
    try:
        for piece in noise:
            consumed += receiver.receive_data(piece)
    except ProtocolError:
        return
    assert consumed + receiver.held == total


@pytest.mark.parametrize("size", [FRESH - 1, FRESH, FRESH + 1, 2 * FRESH + 777])
@pytest.mark.parametrize("can", [True, False])
def test_a_long_body_is_what_was_sent_whether_memory_for_all_of_it_can_be_had_or_not(
    monkeypatch: pytest.MonkeyPatch,
    size: int,
    can: bool,  # noqa: FBT001
) -> None:
    asked: list[tuple[int, int]] = []

    def fresh(wanted: int) -> BytesIO:
        asked.append((wanted, sum(map(len, pieces))))
        if not can:
            raise MemoryError
        return fresh_memory(wanted)

    monkeypatch.setattr("rpyc_gateway.proto.bulk.fresh_memory", fresh)
    body, pieces, sent = Body(size), list[bytes](), 0
    while sent < size:
        pieces.append(bytes([len(pieces) % 251]) * min(1_000_003, size - sent))
        sent += len(pieces[-1])
        body.receive(pieces[-1])
    assert body.data == b"".join(pieces)
    assert len(asked) == (size >= FRESH)
    for wanted, here in asked:
        assert wanted == size <= here * SHARE  # nobody can claim more
