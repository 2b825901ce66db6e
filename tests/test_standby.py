"""The thread that takes over: it reads what nobody reads, looks after what is watched, and sleeps otherwise."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import pytest

from rpyc_gateway.standby import Standby, standby


class Place:
    """A descriptor, and what comes on it."""

    def __init__(self) -> None:
        self.near, self.far = socket.socketpair()
        self.near.settimeout(0)
        self.fileno = self.near.fileno()
        self.came: SimpleQueue[bytes] = SimpleQueue()

    def read_standing_by(self) -> None:
        self.came.put(self.near.recv(100))

    def close(self) -> None:
        self.near.close()
        self.far.close()


class Looked:
    """Something to look after, so many times."""

    def __init__(self, times: int) -> None:
        self.times = times
        self.threads: list[int] = []
        self.done = threading.Event()

    def look(self) -> bool:
        self.threads.append(threading.get_ident())
        if len(self.threads) == self.times:
            self.done.set()
        return len(self.threads) < self.times


def test_it_reads_what_it_waits_for_until_it_is_dismissed() -> None:
    keeper, place, other = Standby(), Place(), Place()
    assert keeper.wait_for(place)
    assert keeper.wait_for(other)
    place.far.send(b"one")
    assert place.came.get(timeout=10) == b"one"
    keeper.dismiss(place)
    keeper.dismiss(place)  # once more is no harm
    place.far.send(b"two")
    other.far.send(b"three")
    assert other.came.get(timeout=10) == b"three"
    assert place.came.empty()
    keeper.dismiss(other)
    place.close()
    other.close()


class InTheMiddle:
    """An epoll that lets something happen just before it unregisters."""

    def __init__(self, epoll: Any, happens: Callable[[], None]) -> None:
        self._epoll = epoll
        self._happens = happens

    def unregister(self, fileno: int) -> None:
        self._happens()
        self._epoll.unregister(fileno)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._epoll, name)


def test_a_link_that_gets_the_number_of_one_that_is_dismissed_just_now_is_read() -> None:
    """Nobody else would: it was silent until its peer gave it up, a quarter of a minute later."""
    keeper, place, newcomer = Standby(), Place(), Place()
    keeper.wait_for(place)

    def take_over_its_number() -> None:
        os.dup2(newcomer.near.fileno(), place.fileno)
        newcomer.fileno = place.fileno
        keeper.wait_for(newcomer)

    taking_over = threading.Thread(target=take_over_its_number)

    def happens() -> None:
        taking_over.start()
        taking_over.join(0.1)  # it may have to wait until the other is dismissed

    epoll = keeper._epoll
    keeper._epoll = InTheMiddle(epoll, happens)  # type: ignore[assignment]
    keeper.dismiss(place)
    keeper._epoll = epoll
    taking_over.join()
    newcomer.far.send(b"hello")
    assert newcomer.came.get(timeout=10) == b"hello"
    keeper.dismiss(newcomer)
    newcomer.close()
    place.close()


def test_who_has_something_unread_is_known_as_long_as_that_wakes_the_thread() -> None:
    """It span otherwise, until the thread that dismissed had its turn again."""
    keeper, place = Standby(), Place()
    keeper.wait_for(place)
    known: list[object] = []
    keeper._epoll = InTheMiddle(keeper._epoll, lambda: known.append(keeper._waiting.get(place.fileno)))  # type: ignore[assignment]
    keeper.dismiss(place)
    assert known == [place]
    assert keeper._waiting == {}
    place.close()


def test_a_descriptor_that_is_closed_is_not_waited_for() -> None:
    keeper, place = Standby(), Place()
    place.close()
    assert not keeper.wait_for(place)


def test_it_looks_until_it_is_told_to_look_no_more_though_it_slept_before() -> None:
    keeper = Standby()
    for times in (1, 5):
        looked = Looked(times)
        keeper.watch(looked)
        assert looked.done.wait(10)
        assert len(looked.threads) == times
        assert threading.get_ident() not in looked.threads


def test_who_wants_to_be_looked_after_while_that_ends_is_looked_after() -> None:
    keeper = Standby()

    class Again(Looked):
        def look(self) -> bool:
            more = super().look()
            if len(self.threads) == 1:
                keeper.watch(self)  # as another thread would, just before this says no
                return False
            return more

    looked = Again(2)
    keeper.watch(looked)
    assert looked.done.wait(10)


def test_a_defect_is_logged_and_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    keeper, place, looked = Standby(), Place(), Looked(2)

    def fail() -> bool:
        raise ZeroDivisionError

    looked.look, look = fail, looked.look  # type: ignore[method-assign]
    with caplog.at_level(logging.CRITICAL + 1, logger="rpyc_gateway.standby"):
        keeper.watch(looked)
        keeper.wait_for(place)
        place.far.send(b"one")
        assert place.came.get(timeout=10) == b"one"
        looked.look = look  # type: ignore[method-assign]
        assert looked.done.wait(10)
    keeper.dismiss(place)
    place.close()


def test_a_process_has_one_and_a_child_that_is_forked_its_own() -> None:
    assert standby() is standby()
    code = """
import os
from rpyc_gateway.standby import standby
ours = standby()
if child := os.fork():
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
else:
    os._exit(standby() is ours)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
    assert standby().pid == os.getpid()


def test_who_is_dismissed_late_takes_nothing_from_whoever_has_its_number_now() -> None:
    keeper, gone, place = Standby(), Place(), Place()
    assert keeper.wait_for(place)
    gone.fileno = place.fileno
    keeper.dismiss(gone)
    place.far.send(b"one")
    assert place.came.get(timeout=10) == b"one"
    keeper.dismiss(place)
    for each in (gone, place):
        each.close()
