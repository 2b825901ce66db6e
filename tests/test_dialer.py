"""A dialer keeps a link up: it waits between attempts, says why, and never gives up."""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from rpyc_gateway.dialer import Backoff, Dialer
from rpyc_gateway.errors import Denied, DialFailed, DuplicateNode

REFUSED = DialFailed("tcp://relay:18860: connection refused")


class Link:
    """What the dialer dials: each attempt follows the next line of a script, then stays up for ever."""

    def __init__(self, *script: Exception | float) -> None:
        self.script: Iterator[Exception | float] = iter(script)
        self.dialled: list[float] = []

    async def attempt(self, dialer: Dialer) -> None:
        """An exception: dialling fails. A number: the link is up for so long, then it is over."""
        self.dialled.append(trio.current_time())
        line = next(self.script, float("inf"))
        if isinstance(line, Exception):
            raise line
        dialer.up()
        await trio.sleep(line)


@asynccontextmanager
async def dialling(link: Link, *, jitter: float = 1.0) -> AsyncIterator[Dialer]:
    async with trio.open_nursery() as nursery:
        dialer = Dialer("link to relay", link.attempt, random=lambda: jitter)
        nursery.start_soon(dialer.run)
        yield dialer
        nursery.cancel_scope.cancel()


def test_the_wait_doubles_up_to_a_cap_and_jitter_takes_all_of_it() -> None:
    backoff, waits = Backoff(), []
    for _ in range(9):
        waits.append(backoff.delay(1.0))
        assert backoff.delay(0.0) == 0
        assert backoff.delay(0.5) == waits[-1] / 2
        backoff = backoff.failed()
    assert waits == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    assert Backoff(10**6).delay(1.0) == 30


async def test_a_change_of_what_there_is_to_dial_ends_the_wait_and_begins_the_backoff_anew(
    autojump_clock: trio.testing.MockClock,
) -> None:
    link = Link(*20 * [REFUSED])

    async def wait_changed() -> None:
        await trio.sleep_until(20 if trio.current_time() < 20 else math.inf)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(Dialer("board", link.attempt, wait_changed=wait_changed, random=lambda: 1.0).run)
        await trio.sleep(25)
        nursery.cancel_scope.cancel()
    assert link.dialled == [0, 0.5, 1.5, 3.5, 7.5, 15.5, 20, 20.5, 21.5, 23.5]


async def test_who_cannot_wait_so_long_says_how_long(autojump_clock: trio.testing.MockClock) -> None:
    link = Link(*5 * [REFUSED])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Dialer("board", link.attempt, longest=1.5, random=lambda: 1.0).run)
        await trio.sleep(100)
        nursery.cancel_scope.cancel()
    assert link.dialled == [0, 0.5, 1.5, 3, 4.5, 6]


async def test_it_dials_until_it_is_up(autojump_clock: trio.testing.MockClock) -> None:
    link = Link(REFUSED, REFUSED, REFUSED)
    async with dialling(link) as dialer:
        await trio.sleep(100)
        assert link.dialled == [0, 0.5, 1.5, 3.5]
        assert (dialer.state, dialer.reason, dialer.retry_at) == ("up", "", None)


async def test_chance_spreads_the_attempts(autojump_clock: trio.testing.MockClock) -> None:
    link = Link(REFUSED, REFUSED, REFUSED)
    async with dialling(link, jitter=0.5):
        await trio.sleep(100)
        assert link.dialled == [0, 0.25, 0.75, 1.75]


async def test_a_link_that_was_up_is_dialled_again_without_old_grudges(autojump_clock: trio.testing.MockClock) -> None:
    link = Link(REFUSED, REFUSED, REFUSED, 60.0, REFUSED, 60.0)
    async with dialling(link):
        await trio.sleep(200)
        assert link.dialled == [0, 0.5, 1.5, 3.5, 64, 65, 125.5]


async def test_a_link_that_dies_at_once_is_dialled_ever_less_often(autojump_clock: trio.testing.MockClock) -> None:
    link = Link(0.0, 0.0, 0.0, 0.0)
    async with dialling(link):
        await trio.sleep(20)
    assert link.dialled == [0.0, 0.5, 1.5, 3.5, 7.5]


async def test_how_long_a_link_must_have_been_up_may_be_said(autojump_clock: trio.testing.MockClock) -> None:
    link = Link(1.0, 1.0, 0.5, 1.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Dialer("board", link.attempt, steady=1.0, random=lambda: 1.0).run)
        await trio.sleep(20)
        nursery.cancel_scope.cancel()
    assert link.dialled == [0.0, 1.5, 3.0, 4.5, 6.0]


async def test_what_it_waits_for_can_be_seen(autojump_clock: trio.testing.MockClock) -> None:
    async with dialling(Link(REFUSED, 10.0)) as dialer:
        assert (dialer.state, dialer.reason) == ("dialling", "")
        await trio.sleep(0.1)
        assert (dialer.state, dialer.reason, dialer.retry_at) == ("waiting", str(REFUSED), 0.5)
        await trio.sleep(1)
        assert dialer.state == "up"
        await trio.sleep(9.5)
        assert (dialer.state, dialer.reason, dialer.retry_at) == ("waiting", "the link ended", 11.0)


@pytest.mark.parametrize("refusal", [DuplicateNode("lab-7 is here already"), Denied("not from you")])
async def test_who_is_refused_waits_the_longest(refusal: Exception, autojump_clock: trio.testing.MockClock) -> None:
    link = Link(refusal, ExceptionGroup("from a nursery", [refusal]))
    async with dialling(link, jitter=0.1) as dialer:
        await trio.sleep(100)
        assert link.dialled == [0, 30, 60]
        assert dialer.state == "up"


async def test_each_change_is_logged_once(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "rpyc_gateway.dialer")
    other = DialFailed("tcp://relay:18860: no answer within 10 s")
    async with dialling(Link(REFUSED, REFUSED, REFUSED, other, 60.0)):
        await trio.sleep(100)
    assert [record.getMessage() for record in caplog.records] == [
        "link to relay: tcp://relay:18860: connection refused; next try in 0.5 s",
        "link to relay: tcp://relay:18860: no answer within 10 s; next try in 4.0 s",
        "link to relay: up",
        "link to relay: the link ended; next try in 0.5 s",
        "link to relay: up",
    ]


async def test_the_same_failure_of_another_process_is_the_same_failure(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    ends = [DialFailed(f"`ssh relay` (pid {pid}) ended with status 255") for pid in (811, 812, 813)]
    async with dialling(Link(*ends)) as dialer:
        await trio.sleep(2)
        assert dialer.reason == str(ends[2])
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [
        "link to relay: `ssh relay` (pid 811) ended with status 255; next try in 0.5 s"
    ]


async def test_several_reasons_make_one_line(autojump_clock: trio.testing.MockClock) -> None:
    group = ExceptionGroup("outer", [REFUSED, ExceptionGroup("inner", [REFUSED, trio.BrokenResourceError("it broke")])])
    async with dialling(Link(group)) as dialer:
        await trio.sleep(0.1)
        assert dialer.reason == f"{REFUSED}; it broke"


async def test_a_mistake_in_this_program_is_logged_with_its_traceback_and_dialling_goes_on(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with dialling(Link(ZeroDivisionError("oops"), trio.ClosedResourceError())) as dialer:
        await trio.sleep(0.1)
        assert dialer.reason == "ZeroDivisionError: oops"
        assert "Traceback" in caplog.text
        caplog.clear()
        await trio.sleep(0.5)
        assert dialer.reason == "ClosedResourceError"
        assert "Traceback" not in caplog.text
        await trio.sleep(10)
        assert dialer.state == "up"


async def test_cancelling_it_cancels_the_attempt(autojump_clock: trio.testing.MockClock) -> None:
    ended = trio.Event()

    async def attempt(dialer: Dialer) -> None:
        try:
            dialer.up()
            await trio.sleep_forever()
        finally:
            ended.set()

    with trio.move_on_after(5):
        await Dialer("link to relay", attempt).run()
    assert ended.is_set()
