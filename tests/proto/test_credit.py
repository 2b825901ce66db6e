"""Credit grows with the line, and ends with the budget."""

from __future__ import annotations

import pytest

from rpyc_gateway.errors import Code
from rpyc_gateway.proto import frames
from rpyc_gateway.proto.credit import BUDGET, LARGEST, NEAR, SWIFT
from rpyc_gateway.proto.frames import CircuitClass, Failure, FrameType, Open
from rpyc_gateway.proto.framing import Framer
from rpyc_gateway.proto.stream import WINDOW
from tests.proto.pair import Pair, pair, pulled

ROUND_TRIP = 0.1
OVER = Failure(Code.CANCELLED, "enough", "near")


def distant(rtt: float | None = ROUND_TRIP) -> Pair:
    """A link with a way between its ends that far has measured."""
    both = pair()
    both.far.mux._link.rtt = rtt
    both.far.mux._link._pings = 1
    return both


def opened(both: Pair) -> int:
    label = both.near.mux.open(Open(), CircuitClass.BULK)
    both.exchange()
    both.far.mux.accept(label, ())
    both.exchange()
    both.far.listen()
    return label


def granted(both: Pair, label: int) -> int:
    """How much more near may send."""
    stream = both.near.mux._table[label]
    return stream.allowed - stream.sent


def transfer(both: Pair, label: int, *, within: float, times: int = 1) -> None:
    """Near sends what it may, and far consumes half a window of it after so many seconds: and so on."""
    for _ in range(times):
        both.near.mux.send(label, bytes(granted(both, label)))
        both.exchange()
        both.now += within
        both.far.mux.consume(label, window(both, label) // 2)
        both.exchange()


def window(both: Pair, label: int) -> int:
    return both.far.mux._table[label].window


def unconsumed(both: Pair, label: int) -> int:
    stream = both.far.mux._table[label]
    return stream.received - stream.consumed


def test_a_stream_that_uses_its_credit_swiftly_gets_twice_as_much_until_it_has_enough() -> None:
    both = distant()
    label = opened(both)
    assert granted(both, label) == WINDOW
    transfer(both, label, within=1.9 * ROUND_TRIP)  # nobody knows how long it took to the first half
    assert (window(both, label), granted(both, label)) == (WINDOW, WINDOW // 2)
    transfer(both, label, within=1.9 * ROUND_TRIP)
    assert (window(both, label), granted(both, label)) == (2 * WINDOW, WINDOW * 3 // 2)
    transfer(both, label, within=1.9 * ROUND_TRIP, times=10)
    assert (window(both, label), granted(both, label)) == (LARGEST, LARGEST // 2)


def test_a_slow_line_keeps_its_small_window() -> None:
    both = distant()
    label = opened(both)
    transfer(both, label, within=2.1 * ROUND_TRIP, times=10)
    assert window(both, label) == WINDOW


def test_a_neighbour_in_no_time_at_all_is_given_some() -> None:
    both = distant(0.0)
    label = opened(both)
    transfer(both, label, within=0.9 * SWIFT, times=2)
    assert window(both, label) == 2 * WINDOW


@pytest.mark.parametrize(("rtt", "most"), [(None, NEAR), (0.9 * SWIFT, NEAR), (SWIFT, LARGEST)])
def test_a_long_way_takes_more(rtt: float | None, most: int) -> None:
    both = distant(rtt)
    label = opened(both)
    transfer(both, label, within=0.0, times=12)
    assert window(both, label) == most


def test_who_grants_more_asks_once_how_far_it_is() -> None:
    both = pair()
    both.far.mux._link.rtt = 3.0  # what a greeting took that had to wait
    label = opened(both)
    both.near.mux.send(label, bytes(WINDOW))
    both.exchange()
    framer = Framer(65535, dialler=True)
    framer.receive(frames.encode_frame(FrameType.HELLO, frames.MAGIC))
    both.far.mux.consume(label, WINDOW // 2)
    said = pulled(both.far.mux, both.now)
    assert [kind for kind, *_ in framer.receive(said)] == [FrameType.PING, FrameType.CREDIT]
    both.far.mux.consume(label, WINDOW // 2)
    more = pulled(both.far.mux, both.now)
    assert [kind for kind, *_ in framer.receive(more)] == [FrameType.CREDIT]
    both.near.mux.receive_data(said + more, both.now)
    both.now += ROUND_TRIP
    both.far.mux.receive_data(pulled(both.near.mux, both.now), both.now)
    assert both.far.mux.rtt == pytest.approx(ROUND_TRIP)


def test_the_link_s_budget_bounds_all_its_streams_and_leaves_some_for_the_next() -> None:
    both = distant()
    labels = [opened(both) for _ in range(12)]
    for label in labels:
        transfer(both, label, within=0.0, times=10)
    windows = [window(both, label) for label in labels]
    assert windows[:6] == [LARGEST] * 6
    assert windows == sorted(windows, reverse=True)
    assert sum(windows) - len(windows) * WINDOW == BUDGET - both.far.mux.credit.left
    assert both.far.mux.credit.left > 0
    late = opened(both)
    transfer(both, late, within=0.0, times=10)
    assert window(both, late) > WINDOW


@pytest.mark.parametrize("end", ["finished", "stopped", "reset", "lost"])
def test_what_ends_gives_its_share_back(end: str) -> None:
    both = distant()
    label = opened(both)
    transfer(both, label, within=0.0, times=10)
    assert both.far.mux.credit.left < BUDGET
    if end == "finished":
        both.far.mux.consume(label, unconsumed(both, label))
        both.near.mux.finish(label)
        both.far.mux.finish(label)
    elif end == "stopped":  # what came and what still comes will never be consumed
        both.far.mux.stop(label, OVER)
        both.far.mux.finish(label)
        both.exchange()
        both.near.mux.finish(label)
    elif end == "reset":
        both.near.mux.send(label, bytes(granted(both, label)))
        both.exchange()
        both.near.mux.reset(label, OVER)
    else:
        both.far.mux.fail(OVER)
    both.exchange()
    assert both.far.mux.credit.left == BUDGET
    assert both.far.mux.statistics().streams == 0


@pytest.mark.parametrize("end", ["consumed", "reset"])
def test_what_came_before_the_end_and_was_not_consumed_is_still_somebody_s(end: str) -> None:
    """Else a peer could fill one stream after the other, and end each."""
    both = distant()
    label = opened(both)
    transfer(both, label, within=0.0, times=10)
    waiting = unconsumed(both, label)
    assert waiting
    both.near.mux.finish(label)
    both.far.mux.finish(label)
    both.exchange()
    assert both.far.mux.statistics().streams == 0
    left = both.far.mux.credit.left
    assert left == BUDGET - (LARGEST - WINDOW)
    both.far.mux.consume(label, waiting - 1)
    assert both.far.mux.credit.left == left
    if end == "consumed":
        both.far.mux.consume(label, 1)
    else:
        both.far.mux.reset(label, OVER)
    assert both.far.mux.credit.left == BUDGET


def test_nothing_is_kept_of_streams_that_had_no_share() -> None:
    both = distant()
    for _ in range(5):
        label = opened(both)
        both.near.mux.send(label, b"nobody takes this")
        both.near.mux.finish(label)
        both.far.mux.finish(label)
        both.exchange()
    assert not both.far.mux._owing
