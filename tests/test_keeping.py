"""What a node reaches for again and again: boards at once, peers with patience, and nothing once it leaves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
import trio.testing

from rpyc_gateway.dialer import Backoff, Dialer
from rpyc_gateway.errors import DialFailed, LinkLost
from rpyc_gateway.keeping import LONGEST_ABSENCE, Keeping
from rpyc_gateway.node_service import NodeInfo

ABSENT = NodeInfo("", ("hq",), 0, "serial:///dev/ttyACM0", "")


class Attempts:
    """Each is up for so many seconds, if any, and then it is lost."""

    def __init__(self, up: float = 0.0) -> None:
        self.up = up
        self.begun: list[float] = []
        self.ended = 0.0
        self.pauses: list[float] = []

    async def __call__(self, dialer: Dialer) -> None:
        if self.begun:
            self.pauses.append(trio.current_time() - self.ended)
        self.begun.append(trio.current_time())
        if self.up:
            dialer.up()
            await trio.sleep(self.up)
        self.ended = trio.current_time()
        raise LinkLost("it is gone") if self.up else DialFailed("nobody there")


@asynccontextmanager
async def keeping() -> AsyncIterator[Keeping]:
    async with trio.open_nursery() as nursery:
        yield Keeping(nursery, lambda: False)
        nursery.cancel_scope.cancel()


async def test_a_board_that_was_there_for_a_second_is_had_again_at_once(autojump_clock: trio.testing.MockClock) -> None:
    board = Attempts(up=1.5)
    async with keeping() as kept:
        kept.keep_board(ABSENT, "pico", "", board)
        await trio.sleep(60)
    assert max(board.pauses) < 1


async def test_a_peer_has_to_be_there_for_longer_and_is_dialled_ever_more_rarely(
    autojump_clock: trio.testing.MockClock,
) -> None:
    peer = Attempts(up=1.5)
    async with keeping() as kept:
        kept.keep_link(ABSENT, "link to relay", "", peer)
        await trio.sleep(600)
    assert max(peer.pauses) > LONGEST_ABSENCE


async def test_a_board_that_is_away_is_looked_for_every_eight_seconds_at_least(
    autojump_clock: trio.testing.MockClock,
) -> None:
    board, peer = Attempts(), Attempts()
    async with keeping() as kept:
        kept.keep_board(ABSENT, "pico", "", board)
        kept.keep_link(ABSENT, "link to relay", "", peer)
        await trio.sleep(1000)
    assert max(board.pauses) < LONGEST_ABSENCE + 0.1
    assert LONGEST_ABSENCE < max(peer.pauses) < Backoff.CAP + 0.1


async def test_what_is_reached_for_in_vain_is_told_with_the_reason(autojump_clock: trio.testing.MockClock) -> None:
    async with keeping() as kept:
        kept.keep_board(ABSENT, "pico", "", Attempts())
        there = kept.keep_link(ABSENT, "link to relay", "", Attempts(up=1e9))
        await trio.testing.wait_all_tasks_blocked()
        assert [info.state for info in kept.absent()] == ["waiting: nobody there"]
        assert there.dialer.state == "up"


async def test_what_is_given_up_is_neither_tried_nor_told_again(autojump_clock: trio.testing.MockClock) -> None:
    board = Attempts()
    async with keeping() as kept:
        had = kept.keep_board(ABSENT, "pico", "", board)
        await trio.testing.wait_all_tasks_blocked()
        had.scope.cancel()
        await trio.sleep(100)
        assert kept.absent() == []
        assert len(board.begun) == 1


async def test_a_node_that_leaves_makes_no_more_attempts(autojump_clock: trio.testing.MockClock) -> None:
    peer = Attempts(up=5.0)
    departed = False
    async with trio.open_nursery() as nursery:
        kept = Keeping(nursery, lambda: departed)
        kept.keep_link(ABSENT, "link to relay", "", peer)
        await trio.sleep(2)
        departed = True
        await trio.sleep(100)
        assert len(peer.begun) == 1
        nursery.cancel_scope.cancel()
