"""Who is heard, who waits outside, and who has to go."""

from __future__ import annotations

import socket
from contextlib import ExitStack

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from rpyc_gateway.doorway import OUTSIDE, PATIENCE, Crowded, Doorway, Hearing


class Callers:
    """What has become of each caller, by name."""

    def __init__(self, doorway: Doorway, nursery: trio.Nursery) -> None:
        self.inside: dict[str, Hearing] = {}
        self.log: list[str] = []
        self._doorway = doorway
        self._nursery = nursery

    async def come(self, *names: str, fileno: int = -1) -> None:
        for name in names:
            self._nursery.start_soon(self._call, name, fileno)
            await wait_all_tasks_blocked()

    async def _call(self, name: str, fileno: int) -> None:
        try:
            place = await self._doorway.enter(fileno)
        except Crowded:
            self.log.append(f"{name} turned away")
            return
        place.evict = lambda: self.log.append(f"{name} evicted")
        self.inside[name] = place
        self.log.append(f"{name} in")

    def leave(self, name: str) -> None:
        self._doorway.leave(self.inside.pop(name))


async def test_whoever_finds_a_place_is_heard_at_once(nursery: trio.Nursery) -> None:
    callers = Callers(Doorway(places=2), nursery)
    await callers.come("a", "b", "c")
    assert callers.log == ["a in", "b in"]
    callers.leave("a")
    await wait_all_tasks_blocked()
    assert callers.log[2:] == ["c in"]


async def test_a_place_that_is_left_twice_is_one_place(nursery: trio.Nursery) -> None:
    doorway = Doorway(places=1)
    callers = Callers(doorway, nursery)
    await callers.come("a", "b", "c")
    place = callers.inside["a"]
    doorway.leave(place)
    doorway.leave(place)
    await wait_all_tasks_blocked()
    assert callers.log == ["a in", "c in"]
    assert len(doorway) == 1


async def test_who_has_been_heard_longest_makes_room_but_not_before_its_time(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    callers = Callers(Doorway(places=2), nursery)
    await callers.come("a")
    await trio.sleep(PATIENCE / 2)
    await callers.come("b", "c")
    assert callers.log == ["a in", "b in"]
    await trio.sleep(PATIENCE / 2)
    await wait_all_tasks_blocked()
    assert callers.log[2:] == ["a evicted", "c in"]


async def test_the_newest_that_speaks_comes_first(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    callers = Callers(Doorway(places=1), nursery)
    await callers.come("a", "b", "c", "d")
    await trio.sleep(PATIENCE)
    await wait_all_tasks_blocked()
    assert callers.log == ["a in", "a evicted", "d in"]
    callers.leave("d")
    await wait_all_tasks_blocked()
    assert callers.log[3:] == ["c in"]
    await trio.sleep(PATIENCE)
    await wait_all_tasks_blocked()
    assert callers.log[4:] == ["c evicted", "b in"]


async def test_who_says_nothing_outside_waits_for_nobody_and_keeps_nobody_waiting(nursery: trio.Nursery) -> None:
    with ExitStack() as stack:
        callers = Callers(Doorway(places=1), nursery)
        near, far = (stack.enter_context(end) for end in socket.socketpair())
        await callers.come("a")
        await callers.come("silent", fileno=near.fileno())
        callers.leave("a")
        await wait_all_tasks_blocked()
        assert callers.log == ["a in"]
        await callers.come("b")
        callers.leave("b")
        far.send(b"x")
        await wait_all_tasks_blocked()
        assert callers.log == ["a in", "b in", "silent in"]


async def test_nobody_stands_outside_for_ever(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    with ExitStack() as stack:
        near, _ = (stack.enter_context(end) for end in socket.socketpair())
        callers = Callers(Doorway(places=1), nursery)
        await callers.come("a")
        await callers.come("silent", fileno=near.fileno())
        await trio.sleep(OUTSIDE)
        await wait_all_tasks_blocked()
        assert callers.log == ["a in", "silent turned away"]


async def test_outside_who_has_said_nothing_for_longest_goes_for_a_newer_one(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    with ExitStack() as stack:
        ends = [stack.enter_context(end) for _ in range(3) for end in socket.socketpair()]
        callers = Callers(Doorway(places=1, queue=2), nursery)
        await callers.come("a")
        await callers.come("b", fileno=ends[0].fileno())
        await callers.come("c", fileno=ends[2].fileno())
        ends[1].send(b"x")
        await wait_all_tasks_blocked()
        await callers.come("d", fileno=ends[4].fileno())
        assert callers.log == ["a in", "c turned away"]
        callers.leave("a")
        await wait_all_tasks_blocked()
        assert callers.log[2:] == ["b in"]


async def test_outside_who_has_spoken_goes_for_a_newer_one_once_it_has_had_its_time(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    callers = Callers(Doorway(places=1, queue=2), nursery)
    await callers.come("a")
    await trio.sleep(PATIENCE / 2)
    await callers.come("b", "c", "d")
    assert callers.log == ["a in", "d turned away"]
    await trio.sleep(PATIENCE / 2)
    await wait_all_tasks_blocked()
    assert callers.log[2:] == ["a evicted", "c in"]
    await callers.come("e")
    await trio.sleep(PATIENCE / 2)
    await callers.come("f")
    assert callers.log[4:] == ["b turned away"]


async def test_who_is_cancelled_outside_leaves_no_gap(nursery: trio.Nursery) -> None:
    doorway = Doorway(places=1)
    callers = Callers(doorway, nursery)
    await callers.come("a", "b")
    with trio.move_on_after(0):
        await doorway.enter()
    callers.leave("a")
    await wait_all_tasks_blocked()
    assert callers.log == ["a in", "b in"]


@pytest.mark.parametrize(("limit", "queue", "places"), [(20, 5, 5), (1024, 256, 128), (20_000, 1024, 128)])
def test_strangers_have_half_of_the_descriptors_at_most(
    limit: int, queue: int, places: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (limit, limit))
    doorway = Doorway()
    assert (doorway.queue, doorway._places) == (queue, places)
