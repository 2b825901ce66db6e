"""What is plugged in is seen within a second, at one look for all who wait."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

import pytest
import trio
from trio.testing import MockClock

from rpyc_gateway import transport
from rpyc_gateway.lookout import Lookout, Watch
from rpyc_gateway.transport import Place
from rpyc_transports.tcp import TcpTransport

BOARD = Place("look://board", "board", {})
OTHER = Place("look://other", "other", {})


class Bench(TcpTransport):
    """A transport around which things are plugged in."""

    def __init__(self) -> None:
        self.here: list[Place] = []
        self.looks = 0
        self.trouble = ""

    def places(self) -> list[Place]:
        self.looks += 1
        if self.trouble:
            raise OSError(self.trouble)
        return list(self.here)

    def fields(self, url: str) -> Collection[str]:
        return ()

    def fitting(self, url: str, places: Iterable[Place]) -> list[Place]:
        return [place for place in places if url in ("look://any", place.url)]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    bench = Bench()
    monkeypatch.setitem(transport._found, "look", bench)
    monkeypatch.setattr("trio.to_thread.run_sync", at_once)  # the clock would not wait for a thread
    return bench


async def at_once(call: Callable[[], object], *, abandon_on_cancel: bool) -> object:
    assert abandon_on_cancel
    await trio.lowlevel.checkpoint()
    return call()


async def test_a_change_is_seen_within_a_second_however_many_wait_for_it(
    bench: Bench, autojump_clock: MockClock
) -> None:
    lookout = Lookout()
    seen: list[float] = []

    async def wait(watch: Watch) -> None:
        await watch.wait_changed()
        seen.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            watch = Watch(lookout, BOARD.url)
            assert not await watch.look()
            nursery.start_soon(wait, watch)
        await trio.sleep(100.5)
        assert (seen, bench.looks) == ([], 101)
        bench.here = [OTHER]
        await trio.sleep(2)
        assert seen == []
        bench.here = [BOARD]
        plugged = trio.current_time()
    assert len(seen) == 20
    assert max(seen) <= plugged + 1
    looks = bench.looks
    await trio.sleep(100)
    assert bench.looks == looks  # nobody waits


async def test_what_has_changed_since_the_last_look_is_not_missed(bench: Bench, autojump_clock: MockClock) -> None:
    watch = Watch(Lookout(), "look://any")
    bench.here = [BOARD]
    assert await watch.look()
    bench.here = [OTHER]
    with trio.fail_after(1.1):
        await watch.wait_changed()


async def test_where_nobody_can_tell_there_may_be_something_and_no_change_is_seen(autojump_clock: MockClock) -> None:
    watch = Watch(Lookout(), "tcp://localhost:1")
    assert await watch.look()
    with trio.move_on_after(100) as waiting:
        await watch.wait_changed()
    assert waiting.cancelled_caught


async def test_a_system_that_cannot_be_looked_at_is_taken_to_be_as_it_was_and_told_once(
    bench: Bench, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    lookout = Lookout()
    bench.here = [BOARD]
    assert await lookout.find("look://any") == [BOARD]
    bench.trouble = "no /sys here"
    for _ in range(3):
        await lookout.wait_next()
        assert await lookout.find("look://any") == [BOARD]
    assert [record.getMessage() for record in caplog.records] == ["cannot see what is plugged in: no /sys here"]
