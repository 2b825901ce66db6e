"""What a peer gave back dies once, and whoever must know that it has can wait for it."""

from __future__ import annotations

import threading
from collections.abc import Callable

from rpyc_gateway.burial import Burial, Graveyard


class Mourned:
    def __init__(self, at_death: Callable[[], object]) -> None:
        self.at_death = at_death

    def __del__(self) -> None:
        self.at_death()


def test_whoever_comes_first_lets_them_die() -> None:
    deaths: list[int] = []
    burial = Burial([Mourned(lambda: deaths.append(threading.get_ident())) for _ in range(3)])
    assert not burial.over
    assert deaths == []
    burial.finish()
    burial.finish()
    assert deaths == [threading.get_ident()] * 3
    assert burial.over


def test_whoever_comes_meanwhile_waits_until_they_have() -> None:
    begun, go_on, told = threading.Event(), threading.Event(), []

    def die() -> None:
        begun.set()
        go_on.wait()
        told.append("died")

    burial = Burial([Mourned(die)])
    first = threading.Thread(target=burial.finish)
    first.start()
    begun.wait()
    assert not burial.over

    def come_second() -> None:
        burial.finish(patience=30)
        told.append("waited")

    second = threading.Thread(target=come_second)
    second.start()
    go_on.set()
    second.join()
    assert told == ["died", "waited"]
    first.join()
    assert burial.over


def test_nobody_waits_twice_for_a_finalizer_that_hangs() -> None:
    begun, go_on = threading.Event(), threading.Event()
    burial = Burial([Mourned(lambda: (begun.set(), go_on.wait()))])
    first = threading.Thread(target=burial.finish)
    first.start()
    begun.wait()
    burial.finish(patience=0.01)
    assert burial.over  # as far as others are concerned
    burial.finish(patience=threading.TIMEOUT_MAX)
    go_on.set()
    first.join()


def test_a_finalizer_may_come_here_again() -> None:
    deaths: list[str] = []

    def die() -> None:
        burial.finish(patience=threading.TIMEOUT_MAX)  # a callback that runs on its stack
        deaths.append("died")

    burial = Burial([Mourned(die)])
    burial.finish()
    assert deaths == ["died"]


def test_what_somebody_else_has_is_not_buried_and_the_rest_dies_with_its_burial() -> None:
    graveyard, deaths = Graveyard(), list[str]()
    kept = Mourned(lambda: deaths.append("kept"))
    graveyard.take([Mourned(lambda: deaths.append("first")), kept])
    assert len(graveyard.garbage) == 1
    assert graveyard.take_shared() == [kept]
    (burial,) = graveyard.bury()
    assert (graveyard.garbage, deaths) == ([], [])
    burial.finish()
    assert deaths == ["first"]
    assert graveyard.bury() == []  # that one is over
    graveyard.take([Mourned(lambda: deaths.append("second"))])
    graveyard.bury()
    graveyard.take([Mourned(lambda: deaths.append("third"))])
    older, newer = graveyard.bury()
    newer.finish()
    assert deaths == ["first", "third"]
    assert graveyard.bury() == [older]


def test_what_has_another_owner_may_lose_it_at_any_moment_and_dies_in_a_burial_all_the_same() -> None:
    graveyard, deaths = Graveyard(), list[str]()
    owned = [Mourned(lambda: deaths.append("owned"))]
    given_back = [owned[0], Mourned(lambda: deaths.append("not owned"))]
    graveyard.take(given_back)
    assert given_back == []  # who told of them may keep that list, and must not be the last who has them
    owned.clear()
    assert deaths == []
    (burial,) = graveyard.bury()
    assert deaths == []
    burial.finish()
    assert sorted(deaths) == ["not owned", "owned"]
    assert graveyard.take_shared() == []
