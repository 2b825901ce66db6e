"""Messages and their bodies meet, whichever comes first."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from rpyc_gateway.errors import LimitExceeded, ProtocolError
from rpyc_gateway.proto.arrivals import Arrivals
from rpyc_gateway.proto.values import BODIES


def chunk(number: int, piece: bytes) -> bytes:
    return number.to_bytes(4, "big") + len(piece).to_bytes(4, "big") + piece


@dataclass
class Letterbox:
    """What was delivered, in order."""

    heard: list[tuple[bytes, tuple[bytes, ...]] | str] = field(default_factory=list)

    def deliver(self, packed: bytes, bodies: tuple[bytes, ...], lost: ProtocolError | None) -> None:
        self.heard.append("lost" if lost else (packed, bodies))


def test_a_small_message_overtakes_one_that_waits() -> None:
    box, arrivals = Letterbox(), Arrivals(limit=100)
    assert arrivals.add(b"large", (1, 3), box.deliver) == 0
    assert arrivals.add(b"small", (), box.deliver) == 0
    assert box.heard == [(b"small", ())]
    assert arrivals.receive_data(chunk(1, b"abc")) == 11
    assert box.heard == [(b"small", ()), (b"large", (b"abc",))]


def test_the_packed_part_may_be_the_first_body() -> None:
    box, arrivals = Letterbox(), Arrivals(limit=100)
    arrivals.add(None, (1, 3, 2, 1), box.deliver)
    arrivals.receive_data(chunk(2, b"x") + chunk(1, b"abc"))
    assert box.heard == [(b"abc", (b"x",))]


def test_bodies_that_came_before_their_message_are_taken_with_it() -> None:
    box, arrivals = Letterbox(), Arrivals(limit=100)
    wire = chunk(1, b"abc") + chunk(2, b"x")
    assert arrivals.receive_data(wire) == 0
    assert arrivals.add(b"first", (1, 3), box.deliver) == 11
    assert arrivals.add(b"second", (2, 1), box.deliver) == 9
    assert box.heard == [(b"first", (b"abc",)), (b"second", (b"x",))]


def test_a_body_that_will_not_come_costs_its_message_only() -> None:
    box, arrivals = Letterbox(), Arrivals(limit=100)
    arrivals.add(b"first", (1, 3, 2, 1), box.deliver)
    arrivals.add(b"second", (3, 1), box.deliver)
    arrivals.receive_data(chunk(1, b"") + chunk(2, b"x") + chunk(3, b"y"))
    assert box.heard == ["lost", (b"second", (b"y",))]


@pytest.mark.parametrize(
    ("packed", "bulk", "error"),
    [
        (None, (), ProtocolError),
        (b"", (1,), ProtocolError),
        (b"", (1, 0), ProtocolError),
        (b"", (1, 2, 1, 2), ProtocolError),
        (b"", (1, 60, 2, 41), LimitExceeded),
        (b"", (1, 2**64 - 1), LimitExceeded),
        (b"", tuple(range(1, 2 * BODIES + 3)), LimitExceeded),
    ],
    ids=["nothing at all", "half a pair", "empty", "named twice", "too long together", "too long", "too many"],
)
def test_what_cannot_be_announced(packed: bytes | None, bulk: tuple[int, ...], error: type[Exception]) -> None:
    box, arrivals = Letterbox(), Arrivals(limit=100 if len(bulk) < 100 else 2**40)
    with pytest.raises(error):
        arrivals.add(packed, bulk, box.deliver)
    assert box.heard == []


def test_after_the_end_nothing_is_delivered() -> None:
    box, arrivals = Letterbox(), Arrivals(limit=100)
    arrivals.add(b"", (1, 1), box.deliver)
    arrivals.clear()
    arrivals.receive_data(chunk(1, b"x"))
    assert box.heard == []
