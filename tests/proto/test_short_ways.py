"""The short ways of a Mux come to the same as the long ones, or to nothing at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from rpyc_gateway.errors import Code
from rpyc_gateway.proto import frames
from rpyc_gateway.proto.events import Drained, Established, Received
from rpyc_gateway.proto.frames import CircuitClass, Failure, FrameType, Limits, Open, encode_frame, encode_offset
from rpyc_gateway.proto.mux import Mux
from tests.proto.pair import START, Pair, pair, pulled

OVER = Failure(Code.CANCELLED, "enough", "test")
LABEL = 1
Prepare = Callable[[Pair], object]


def prepared(situation: Prepare) -> Pair:
    """Near and far with a muted stream that both have taken, and then what the situation says."""
    both = pair(Limits(frame=3000), Limits(frame=3000))
    assert both.near.mux.open(Open(), CircuitClass.CALL) == LABEL
    both.exchange()
    both.far.mux.accept(LABEL, ())
    both.exchange()
    for side in (both.near, both.far):
        side.mux.mute(LABEL)
        side.listen()
    situation(both)
    return both


def state(mux: Mux) -> Any:
    """All that can be seen of a machine, and of its streams."""
    streams = {label: [getattr(stream, name) for name in stream.__slots__] for label, stream in mux._table.items()}
    seen = (mux.statistics(), mux.up, mux.deadline(), mux.ready, mux.wanted, mux.events(), mux.over())
    return str(streams), seen, pulled(mux, START), mux.events(), mux._early_sent


def credit_of(both: Pair, left: int) -> None:
    """Near may send so many bytes more, and far knows."""
    for stream in (both.near.mux._table[LABEL], both.far.mux._table[LABEL]):
        stream.sent = stream.received = stream.consumed = 65536 - left
        stream.renew_at = 65536


def second_stream(both: Pair) -> None:
    """Another stream of near has something to send."""
    label = both.near.mux.open(Open(), CircuitClass.CALL)
    both.exchange()
    both.far.mux.accept(label, ())
    both.exchange()
    both.near.listen()
    both.far.listen()
    both.near.mux.send(label, b"before you")


SITUATIONS: dict[str, Prepare] = {
    "at rest": lambda both: None,
    "not muted": lambda both: [setattr(side.mux._table[LABEL], "muted", False) for side in (both.near, both.far)],
    "little credit": lambda both: credit_of(both, 10),
    "not enough credit": lambda both: credit_of(both, 3),
    "credit to renew": lambda both: setattr(both.far.mux._table[LABEL], "renew_at", 4),
    "something waits": lambda both: both.near.mux.send(LABEL, b"first"),
    "another waits": second_stream,
    "credit to say": lambda both: both.near.mux._thirsty.update({LABEL: both.near.mux._table[LABEL]}),
    "an end to be said": lambda both: [side.mux.finish(LABEL) for side in (both.near, both.far)],
    "an end that was said": lambda both: [
        both.near.mux.finish(LABEL),
        both.exchange(),
        both.near.listen(),
        both.far.listen(),
    ],
    "an end that was heard": lambda both: [
        both.far.mux.finish(LABEL),
        both.exchange(),
        both.near.listen(),
        both.far.listen(),
    ],
    "not answered": lambda both: setattr(both.near.mux._table[LABEL], "answered", False),
    "over": lambda both: [side.mux.reset(LABEL, OVER) for side in (both.near, both.far)],
    "deaf": lambda both: both.far.mux.stop(LABEL, OVER),
    "told to stop": lambda both: [both.far.mux.stop(LABEL, OVER), both.exchange(), both.near.mux.events()],
    "half a frame is here": lambda both: both.far.mux.receive_data(
        encode_frame(FrameType.PING, 0, bytes(8))[:9], START
    ),
    "something to be told": lambda both: both.far.mux._link.events.append(Established()),
    "unconsumed": lambda both: both.far.mux.receive_data(encode_frame(FrameType.DATA, LABEL, b"x") * 2, START),
    "probing": lambda both: [side.mux.probe(START, 2.0) for side in (both.near, both.far)],
    "leaving": lambda both: [side.mux.leave(OVER, 5.0) for side in (both.near, both.far)],
    "lost": lambda both: [side.mux.fail(OVER) for side in (both.near, both.far)],
}

WIRES: dict[str, bytes] = {
    "a message": encode_frame(FrameType.DATA, LABEL, b"hello"),
    "two": encode_frame(FrameType.DATA, LABEL, b"hello") * 2,
    "half of one": encode_frame(FrameType.DATA, LABEL, b"hello")[:-1],
    "one and a half": encode_frame(FrameType.DATA, LABEL, b"hello") + b"12345",
    "half a header": encode_frame(FrameType.DATA, LABEL, b"hello")[:7],
    "nothing in it": encode_frame(FrameType.DATA, LABEL, b""),
    "the longest": encode_frame(FrameType.DATA, LABEL, bytes(3000)),
    "too long": encode_frame(FrameType.DATA, LABEL, bytes(3001)),
    "for nobody": encode_frame(FrameType.DATA, 99, b"hello"),
    "no data": encode_offset(FrameType.CREDIT, LABEL, 1 << 20),
    "an end": frames.encode_failure(FrameType.RESET, LABEL, OVER, 256),
}


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("situation", SITUATIONS)
def test_what_is_heard_the_short_way_is_what_is_received(situation: str, wire: str) -> None:
    short, long = prepared(SITUATIONS[situation]), prepared(SITUATIONS[situation])
    heard = short.far.mux.hear(WIRES[wire], START)
    if heard is not None:
        long.far.mux.receive_data(WIRES[wire], START)
        (event,) = long.far.mux.events()
        assert isinstance(event, Received)
        assert heard == (event.label, event.data)
        if long.far.mux._table[LABEL].muted:
            long.far.mux.consume(event.label, len(event.data))
    assert state(short.far.mux) == state(long.far.mux)
    if situation == "at rest":
        assert (heard is not None) == (wire in ("a message", "the longest"))


@pytest.mark.parametrize("size", [0, 1, 5, 2999, 3000, 3001, 5000])
@pytest.mark.parametrize("situation", SITUATIONS)
def test_what_is_said_the_short_way_is_what_is_sent(situation: str, size: int) -> None:
    short, long = prepared(SITUATIONS[situation]), prepared(SITUATIONS[situation])
    frame = short.near.mux.say(LABEL, bytes(size))
    if frame is not None:
        long.near.mux.send(LABEL, bytes(size))  # which the end of this direction would not allow
        assert frame == pulled(long.near.mux, START)
        if not long.near.mux._table[LABEL].muted:
            assert long.near.mux.events() == [Drained(LABEL, size)]  # whoever says it the short way knows
    assert state(short.near.mux) == state(long.near.mux)
    if situation == "at rest":
        assert (frame is not None) == (0 < size <= 3000)


@pytest.mark.parametrize("situation", SITUATIONS)
def test_a_machine_at_rest_has_nothing_to_tell_or_to_send(situation: str) -> None:
    both = prepared(SITUATIONS[situation])
    for side in (both.near, both.far):
        if side.mux.at_rest:
            left = (side.mux.hurried, side.mux.events(), side.mux.over(), side.mux.data_to_send(START))
            assert left == (False, [], [], [])
