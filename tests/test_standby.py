"""The thread that takes over: it reads what nobody reads, looks after what is watched, and sleeps otherwise."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import threading
from queue import SimpleQueue

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
