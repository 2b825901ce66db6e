"""When a piece may be written, so that little is queued and the line is never idle; and what a thread leaves behind that was not waited for."""

from __future__ import annotations

import threading

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from rpyc_transports.portstream import AHEAD, Writing, in_thread
from tests.house import wait_until

RATE = 11_520.0


@given(st.lists(st.tuples(st.integers(1, 256), st.floats(0, 0.1)), max_size=50))
def test_no_more_is_queued_than_one_piece_and_a_little_and_the_line_is_not_idle(
    pieces: list[tuple[int, float]],
) -> None:
    writing, now, sent = Writing(RATE), 0.0, 0
    for count, late in pieces:
        now += max(0.0, writing.wait(now, 0))
        queued = max(0.0, writing.free - now)
        assert queued <= AHEAD + 1e-9
        idle = late - queued
        writing.wrote(count, now)
        sent += count
        now += late if idle <= 0 else 0.0
    assert now <= sent / RATE + 1e-6


def test_what_the_kernel_has_queued_counts_where_it_tells() -> None:
    """A line that is stopped by its peer does not go on."""
    writing = Writing(RATE)
    writing.wrote(100, 0.0)
    assert writing.wait(1.0, 0) < 0
    assert writing.wait(1.0, 1152) == pytest.approx(0.1 - AHEAD)


async def test_what_is_made_is_given() -> None:
    undone: list[int] = []
    assert await in_thread(lambda: 42, undone.append) == 42
    assert not undone


async def test_what_is_made_too_late_is_undone() -> None:
    go, undone = threading.Event(), list[int]()

    def make() -> int:
        go.wait(10)
        return 42

    with trio.move_on_after(0.01):
        await in_thread(make, undone.append)
    assert not undone
    go.set()
    await wait_until(lambda: undone == [42])


async def test_what_is_made_in_the_moment_of_the_cancellation_is_undone() -> None:
    undone: list[int] = []
    with trio.CancelScope() as scope:

        def make() -> int:
            trio.from_thread.run_sync(scope.cancel)
            return 42

        await in_thread(make, undone.append)
    await wait_until(lambda: undone == [42])
