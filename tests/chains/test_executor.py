"""me - a - b - lab, real processes, and a second way there that is late, slow, or breaks: what becomes of work that is split over both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
import trio

import rpyc_gateway as gw
from rpyc_gateway.testing import BadWire
from tests.chains.processes import LAB_CHILD, LOOPBACK, connect_when_up, dial, listen, open_house

CALLS = 40


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with open_house() as house:
        b = house.start("b", listen(house.socket("b")) + dial(LAB_CHILD))
        a = house.start("a", listen(LOOPBACK) + dial(b.url))
        connect_when_up(a.url, "lab").close()
        yield a.url


def note(number: int) -> list[int]:
    import threading

    threading.noted.append(number)  # type: ignore[attr-defined]
    return [number]


async def test_a_late_and_slow_wire_changes_nothing_but_the_time(url: str) -> None:
    def story(late: str) -> None:
        with gw.Executor([(url, "lab"), (late, "lab")], per_node=3) as pool:
            assert list(pool.map(lambda n: {n: str(n)}, range(CALLS))) == [{n: str(n)} for n in range(CALLS)]
            chunks = pool.map(lambda n: [n], range(500), chunksize=100)
            assert list(chunks) == [[n] for n in range(500)]

    async with BadWire(url) as wire:
        wire.delay(0.02, jitter=0.03)
        wire.rate(50_000)
        await trio.to_thread.run_sync(story, wire.url)


async def test_a_wire_that_breaks_anywhere_loses_what_was_begun_and_nothing_runs_twice(url: str) -> None:
    async with BadWire(url, seed=5) as wire:
        for size in range(1, 4000, 400):
            with trio.fail_after(30):
                await trio.to_thread.run_sync(_work_until_it_breaks, url, wire, size)


def _work_until_it_breaks(url: str, wire: BadWire, size: int) -> None:
    with gw.connect(url, node="lab") as safe, gw.connect(wire.url, node="lab") as weak:
        safe.modules.threading.noted = safe.builtins.list()
        with gw.Executor([weak, safe], per_node=2) as pool:
            trio.from_thread.run_sync(wire.cut_after, size)
            calls = [pool.submit(note, number) for number in range(CALLS)]
            errors = [call.exception() for call in calls]
        lost = [number for number, error in enumerate(errors) if error is not None]
        assert len(lost) <= 2
        assert all(isinstance(errors[number], gw.LinkLost | gw.SessionClosed) for number in lost)
        noted = Counter(gw.obtain(safe.modules.threading.noted))
        assert set(noted.values()) == {1}
        assert set(range(CALLS)) - set(lost) <= set(noted)
        assert [call.result() for call, error in zip(calls, errors, strict=True) if error is None] == [
            [number] for number in range(CALLS) if number not in lost
        ]


async def test_with_all_ways_broken_nobody_waits(url: str) -> None:
    async with BadWire(url) as wire:

        def story() -> None:
            with gw.Executor([(wire.url, "lab")] * 2, per_node=2) as pool:
                calls = [pool.submit(wait_for_ever, number) for number in range(CALLS)]
                for call in calls[:4]:
                    while not call.running():
                        trio.from_thread.run(trio.sleep, 0.001)
                trio.from_thread.run_sync(wire.cut)
                errors = Counter(type(call.exception()) for call in calls)
            assert errors == {gw.LinkLost: 4, gw.Unreachable: CALLS - 4}

        await trio.to_thread.run_sync(story)


def wait_for_ever(_: int) -> None:
    import threading

    threading.Event().wait()
