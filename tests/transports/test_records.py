"""TLS without waiting: nothing is lost, doubled or kept back, however little the wire takes and however it cuts what it carries."""

from __future__ import annotations

import ssl
import threading
from contextlib import suppress
from itertools import accumulate, pairwise
from random import Random
from typing import Any

import pytest
import trio
from hypothesis import example, given, settings
from hypothesis import strategies as st
from trio.testing import memory_stream_pair

from rpyc_gateway.transport import Pipe
from rpyc_transports import secured, trust
from rpyc_transports.records import AT_LEAST, CHUNK, HEADER, RECORD, Bounds, Records
from rpyc_transports.secured import ALPN, Secured, TlsStream, secure_accepted, secure_dialled
from rpyc_transports.sockets import share
from tests.transports.authority import Papers, make_oneself
from tests.transports.test_sockets import trio_pair


class Wire:
    """Carries bytes one way, as many at a time as it is told to take and to give."""

    def __init__(self) -> None:
        self.carried = bytearray()
        self.room = 0
        self.ended = False

    def send(self, *buffers: Any) -> int:
        (data,) = buffers
        taken = bytes(data[: self.room])
        self.room -= len(taken)
        self.carried += taken
        return len(taken)

    def receive(self, limit: int) -> bytes | None:
        data = bytes(self.carried[:limit])
        del self.carried[:limit]
        return data or (b"" if self.ended else None)


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ends are here: who closes waits in vain for the other."""
    monkeypatch.setattr(secured, "CLOSE_WITHIN", 0.05)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    return make_oneself(tmp_path_factory.mktemp("own"), "relay")


def connected(own: Papers) -> tuple[Records, Records, Wire]:
    """Two sides past their handshake, and the wire from the first to the second."""
    one = Records(trust.dialling({"pin": (own.pin,)}, ALPN))
    other = Records(trust.listening({"cert": str(own.cert), "key": str(own.key)}, ALPN))
    one.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="relay")
    other.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True)
    for side, far in ((one, other), (other, one)) * 3:
        with suppress(ssl.SSLWantReadError):
            side.do_handshake()
        far._incoming.write(side.take_unsent())
    wire = Wire()
    one.speak_on(Pipe(None, "", send_nowait=wire.send, receive_nowait=lambda _: None))  # type: ignore[arg-type]
    other.speak_on(Pipe(None, "", send_nowait=lambda *_: 0, receive_nowait=wire.receive))  # type: ignore[arg-type]
    return one, other, wire


def receive_all(side: Records, limit: int) -> bytes:
    """What is there, asked for as whoever does not poll before None is told."""
    heard = bytearray()
    while data := side.receive_nowait(limit):
        assert len(data) <= limit
        heard += data
    return bytes(heard)


@settings(deadline=None)
@given(
    pieces=st.lists(st.integers(0, 3 * CHUNK), min_size=1, max_size=5),
    rooms=st.lists(st.integers(0, 2 * CHUNK), min_size=1, max_size=5),
    limit=st.integers(1, 2 * AT_LEAST),
)
def test_what_is_sent_arrives_once_however_little_the_wire_takes(
    own: Papers, pieces: list[int], rooms: list[int], limit: int
) -> None:
    one, other, wire = connected(own)
    sent = Random(0).randbytes(sum(pieces))
    edges = list(accumulate(pieces, initial=0))
    heard, at, round_ = b"", 0, 0
    while len(heard) < len(sent):
        wire.room = rooms[round_ % len(rooms)] + (round_ >= len(rooms)) * CHUNK
        round_ += 1
        # The rest of what was offered before, cut where it was cut then.
        left = [sent[max(start, at) : end] for start, end in pairwise(edges) if end > at]
        if left:
            at += one.send_nowait(*left)
        heard += receive_all(other, limit)
    assert heard == sent
    assert at == len(sent)


@settings(deadline=None)
@given(
    sizes=st.lists(st.integers(1, 3 * CHUNK), min_size=1, max_size=4),
    cuts=st.lists(st.integers(1, 100_000), min_size=1),
)
@example(
    sizes=[3 * CHUNK], cuts=[RECORD - 250, AT_LEAST - 10]
)  # what is left of one record, and as much as a read takes
def test_who_asks_for_enough_is_told_everything_before_it_polls(own: Papers, sizes: list[int], cuts: list[int]) -> None:
    one, other, wire = connected(own)
    wire.room = 10**9
    for size in sizes:
        assert one.send_nowait(bytes(size)) == size
    on_the_way, wire.carried = bytes(wire.carried), bytearray()
    heard, at, index = 0, 0, 0
    while at < len(on_the_way):
        step = cuts[index % len(cuts)]
        wire.carried += on_the_way[at : at + step]
        at, index = at + step, index + 1
        while wire.carried:  # the descriptor tells of what is on the wire, and of nothing else
            data = other.receive_nowait(AT_LEAST)
            heard += len(data or b"")
        assert not receive_all(other, AT_LEAST)
    assert heard == sum(sizes)


def test_the_end_is_told_after_everything_else(own: Papers) -> None:
    one, other, wire = connected(own)
    wire.room = 10**6
    one.send_nowait(b"goodbye")
    with suppress(ssl.SSLWantReadError):
        one.unwrap()
    wire.carried += one.take_unsent()
    assert other.receive_nowait(AT_LEAST) == b"goodbye"
    wire.ended = True
    assert other.receive_nowait(AT_LEAST) == b""
    assert other.receive_nowait(AT_LEAST) == b""


def test_what_was_cut_or_garbled_is_an_error_after_what_was_right(own: Papers) -> None:
    one, other, wire = connected(own)
    wire.room = 10**6
    one.send_nowait(b"right")
    one.send_nowait(b"wrong")
    wire.carried[-1] ^= 1
    assert other.receive_nowait(AT_LEAST) == b"right"
    with pytest.raises(ssl.SSLError, match="BAD_RECORD_MAC"):
        other.receive_nowait(AT_LEAST)
    one, other, wire = connected(own)
    wire.ended = True
    with pytest.raises(ssl.SSLEOFError):
        other.receive_nowait(AT_LEAST)


@given(
    sizes=st.lists(st.integers(0, 70_000), min_size=1, max_size=5), cuts=st.lists(st.integers(1, 70_000), min_size=1)
)
def test_the_bounds_of_records_are_found_however_they_are_cut(sizes: list[int], cuts: list[int]) -> None:
    records = b"".join(b"\x17\x03\x03" + (size % 65536).to_bytes(2, "big") + bytes(size % 65536) for size in sizes)
    bounds, at, index = Bounds(), 0, 0
    while at < len(records):
        step = min(cuts[index % len(cuts)], bounds.due)
        bounds.follow(records[at : at + step])
        at, index = at + step, index + 1
    assert bounds.due == HEADER
    bounds.follow(records[:3])
    assert bounds.due == HEADER - 3


# -- as a pipe


def read_on_after(event: trio.Event, stream: trio.abc.Stream) -> None:
    """Let it read once, and then only when it is told to."""
    receive_some, begun = stream.receive_some, trio.Event()

    async def slow(max_bytes: int | None = None) -> bytes | bytearray:
        if begun.is_set():
            await event.wait()
        begun.set()
        return await receive_some(max_bytes)

    stream.receive_some = slow  # type: ignore[method-assign]


async def pipes(own: Papers) -> tuple[Pipe, Pipe]:
    """Two ends, of which the one that was dialled has spoken at once."""
    near, far = (share(stream, "somebody") for stream in trio_pair())
    ended: list[Pipe] = []
    spoken = trio.Event()
    read_on_after(spoken, far.stream)

    async def dial() -> None:
        dialled = await secure_dialled(near.stream, "relay", {"pin": (own.pin,)})
        await dialled.stream.send_all(b"at once")
        ended.append(dialled.pipe(near))
        spoken.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(dial)
        accepted = await secure_accepted(far.stream, {"cert": str(own.cert), "key": str(own.key)})
    return ended[0], accepted.pipe(far)


async def test_what_a_client_says_at_once_is_told_of_by_its_descriptor(own: Papers) -> None:
    near, far = await pipes(own)
    async with near.stream, far.stream:
        assert far.receive_nowait is not None
        with trio.fail_after(5):
            await trio.lowlevel.wait_readable(far.fileno)
        assert far.receive_nowait(far.receive_at_least) == b"at once"


async def test_what_was_sent_in_part_goes_on_in_a_task(own: Papers) -> None:
    near, far = await pipes(own)
    data = Random(1).randbytes(8 << 20)
    assert near.send_nowait is not None
    taken = 0
    while now := near.send_nowait(data[taken : taken + 100_000]):
        taken += now

    async def send_the_rest() -> None:
        await near.stream.send_all(data[taken:])
        await near.stream.aclose()

    heard = bytearray()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send_the_rest)
        async for piece in far.stream:
            heard += piece
        await far.stream.aclose()
    assert bytes(heard) == b"at once" + data


async def test_a_failure_is_in_words_for_threads_too(own: Papers) -> None:
    near, far = await pipes(own)
    async with far.stream:
        assert far.receive_nowait is not None
        assert far.receive_nowait(far.receive_at_least) == b"at once"
        await near.stream._wire._stream.aclose()  # type: ignore[attr-defined]
        with pytest.raises(OSError, match="the connection was cut: it ended without the goodbye of TLS") as caught:
            far.receive_nowait(far.receive_at_least)
        assert caught.value.errno is None


async def test_without_descriptors_there_is_no_side_for_threads(own: Papers) -> None:
    stream, _ = memory_stream_pair()
    tls = TlsStream(stream, trust.dialling({"pin": (own.pin,)}, ALPN), server_hostname="relay")
    assert Secured(tls, "").pipe(Pipe(stream, "somebody")).send_nowait is None


async def test_a_thread_may_read_while_trio_says_goodbye(own: Papers) -> None:
    for _ in range(20):
        near, far = await pipes(own)
        over = threading.Event()

        def read(pipe: Pipe = near, over: threading.Event = over) -> None:
            assert pipe.receive_nowait is not None
            with suppress(OSError):
                while not over.is_set():
                    pipe.receive_nowait(pipe.receive_at_least)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, read)
            await far.stream.send_all(bytes(1 << 18))
            nursery.start_soon(far.stream.aclose)
            await near.stream.aclose()
            over.set()
