"""A direction of a bad wire spoils what its seed says, whatever the cuts, and lets nothing overtake."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpyc_gateway.testing.conditions import Conditions, Course, Picker

SHARES = st.sampled_from([0.0, 0.01, 0.3, 1.0])


@given(data=st.binary(max_size=300), cuts=st.lists(st.integers(0, 300)), loss=SHARES, corruption=SHARES, seed=st.text())
def test_the_same_bytes_meet_the_same_fate_however_they_are_cut(
    data: bytes, cuts: list[int], loss: float, corruption: float, seed: str
) -> None:
    conditions = Conditions()
    conditions.loss, conditions.corruption = loss, corruption
    whole, pieces = Course(conditions, seed), Course(conditions, seed)
    heard = b"".join(pieces.spoil(data[a:b]) for a, b in pairwise([0, *sorted(cuts), len(data)]))
    assert heard == whole.spoil(data)
    if not loss:
        assert len(heard) == len(data)
        if not corruption:
            assert heard == data
    if corruption == 1 and not loss:
        assert not any(map(int.__eq__, heard, data))
    if loss == 1:
        assert heard == b""


def test_a_share_may_be_next_to_nothing() -> None:
    assert Picker(Random(1)).pick(1_000_000, 1e-20) == []


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5])
def test_a_share_is_one(share: float) -> None:
    picked = len(Picker(Random(1)).pick(1_000_000, share))
    assert picked == pytest.approx(1_000_000 * share, rel=0.1)


def test_a_share_may_change_on_the_way() -> None:
    picker = Picker(Random(1))
    assert picker.pick(1000, 0) == []
    assert picker.pick(3, 1) == [0, 1, 2]
    assert picker.pick(1000, 0) == []
    assert picker.pick(1000, 0.5)


@given(
    st.lists(st.tuples(st.integers(1, 1000), st.floats(0, 1)), max_size=20),
    st.floats(0, 1),
    st.floats(0, 1),
    st.floats(10, 10**6),
)
def test_nothing_overtakes_nothing_is_early_and_no_more_than_the_rate_leaves(
    pieces: list[tuple[int, float]], delay: float, jitter: float, rate: float
) -> None:
    conditions = Conditions()
    conditions.delay, conditions.jitter, conditions.rate = delay, jitter, rate
    course = Course(conditions, "seed")
    now = latest = 0.0
    for size, pause in pieces:
        left = course.leaves(size, now)
        arrival = course.arrives(left)
        assert left >= now + size / rate - 1e-9
        assert arrival >= max(latest, left + delay)
        assert arrival <= max(latest, left + delay + jitter)
        latest = arrival
        now = left + pause


def test_a_slow_wire_takes_small_pieces() -> None:
    conditions = Conditions()
    assert conditions.piece == 65536
    conditions.rate = 11_520
    assert conditions.piece == 230
    conditions.rate = 0.5
    assert conditions.piece == 1
