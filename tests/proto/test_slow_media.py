"""A link on a slow medium: frames that hold nobody up, and patience for what takes its time."""

from __future__ import annotations

from math import inf

import pytest

from rpyc_gateway.proto import frames
from rpyc_gateway.proto.events import Lost, Received
from rpyc_gateway.proto.frames import DATA, CircuitClass, Open
from rpyc_gateway.proto.framing import Framer
from rpyc_gateway.proto.mux import Mux

from .pair import START, Pair, Side, hello

RATE = 11520.0  # bytes per second: 115200 baud


def slow_pair(rate: float = RATE, message: int = 65536) -> Pair:
    both = Pair()
    both.near = Side(Mux(hello("near"), dialler=True, now=START, rate=rate, message=message))
    both.far = Side(Mux(hello("far"), dialler=False, now=START, rate=rate, message=message))
    both.exchange()
    return both


def opened(both: Pair, kind: CircuitClass) -> int:
    label = both.near.mux.open(Open(service="clock"), kind)
    both.exchange()
    both.far.mux.accept(label, ("near", "far"))
    both.exchange()
    return label


def sizes(wire: bytes) -> list[tuple[int, int]]:
    """(label, bytes of data) of each frame of data."""
    framer = Framer(65535, dialler=True)
    framer.receive(frames.encode_frame(frames.FrameType.HELLO, frames.MAGIC))
    return [(label, len(payload)) for kind, _, label, payload in framer.receive(wire) if kind == DATA]


@pytest.mark.parametrize(
    ("rate", "message", "most"),
    [(RATE, 65536, 280), (92160.0, 65536, 2296), (92160.0, 1024, 1016), (10.0, 65536, 56), (inf, 240, 65528)],
)
def test_a_frame_of_data_takes_25_ms_at_most_where_the_rate_is_known(rate: float, message: int, most: int) -> None:
    both = slow_pair(rate, message)
    label = opened(both, CircuitClass.BULK)
    both.near.mux.send(label, bytes(65536))
    assert max(size for _, size in sizes(both.pull(both.near, 200_000))) == min(most, 65528)


def test_a_call_is_alone_in_what_is_given_to_a_slow_medium() -> None:
    both = slow_pair()
    bulk, call = opened(both, CircuitClass.BULK), opened(both, CircuitClass.CALL)
    both.near.mux.send(bulk, bytes(10_000))
    both.near.mux.send(call, b"small")
    assert sizes(both.pull(both.near, 288)) == [(call, 5)]
    assert sizes(both.pull(both.near, 288)) == [(bulk, 280)]


def test_calls_share_what_is_given_and_so_do_all_on_a_fast_medium() -> None:
    both = slow_pair()
    calls = [opened(both, CircuitClass.CALL) for _ in range(3)]
    for label in calls:
        both.near.mux.send(label, b"small")
    assert sizes(both.pull(both.near, 288)) == [(label, 5) for label in calls]

    both = slow_pair(inf)
    bulk, call = opened(both, CircuitClass.BULK), opened(both, CircuitClass.CALL)
    both.near.mux.send(bulk, bytes(100))
    both.near.mux.send(call, b"small")
    assert sizes(both.pull(both.near)) == [(call, 5), (bulk, 100)]


@pytest.mark.parametrize(("rate", "patience"), [(inf, 5.0), (RATE, 5.18), (30.0, 73.3)])
def test_an_answer_is_given_the_time_that_the_medium_takes(rate: float, patience: float) -> None:
    mux = slow_pair(rate).near.mux
    mux.events()
    silent_until = mux.deadline()
    assert silent_until is not None
    mux.handle_timeout(silent_until)
    given_up_at = mux.deadline()
    assert given_up_at is not None
    assert given_up_at - silent_until == pytest.approx(patience, abs=0.1)
    mux.handle_timeout(given_up_at)
    assert any(isinstance(event, Lost) for event in mux.events())


def test_a_link_under_load_at_300_baud_lives() -> None:
    """Both ways at once, for an hour: what is heard of the peer is mostly bulk, and PINGs wait for the frame before them."""
    both = slow_pair(30.0)
    label = opened(both, CircuitClass.BULK)
    both.far.mux.consume(label, 0)
    free = {"near": both.now, "far": both.now}
    got = 0
    while both.now < START + 3600:
        both.near.mux.send(label, bytes(400 - both.near.mux.queued(label)))
        for name, side in (("near", both.near), ("far", both.far)):
            if free[name] <= both.now:
                both.deliver(both.other(side))  # what was begun then has left by now
                free[name] = both.now + len(both.pull(side, 64)) / 30
            deadline = side.mux.deadline()
            if deadline is not None and deadline <= both.now:
                side.mux.handle_timeout(both.now)
        for event in both.far.listen():
            assert not isinstance(event, Lost)
            if isinstance(event, Received):
                got += len(event.data)
                both.far.mux.consume(label, len(event.data))
        assert not any(isinstance(event, Lost) for event in both.near.listen())
        both.now += 0.5
    assert got > 3600 * 30 * 0.6
