"""Tables of objects that somebody else keeps: who dies is forgotten, and no line of Python runs meanwhile."""

from __future__ import annotations

import gc
import re
import sys
from pathlib import Path
from types import FrameType

import pytest
import trio

import rpyc_gateway
import rpyc_gateway.proxy as proxy_module
from rpyc_gateway import stays
from rpyc_gateway.classes import describe
from rpyc_gateway.waiters import thread_number
from rpyc_gateway.weak import WeakTable


class Thing:
    """Something that can die."""


def lines_run_by_a_collection() -> list[str]:
    """The Python functions that run while the garbage collector does, but for those that tools have put there."""
    called: list[str] = []

    def trace(frame: FrameType, event: str, _arg: object) -> None:
        if event == "call":
            called.append(frame.f_code.co_qualname)

    others = gc.callbacks[:]
    gc.callbacks.clear()
    sys.setprofile(trace)
    try:
        gc.collect()
    finally:
        sys.setprofile(None)
        gc.callbacks[:] = others
    return called


@pytest.fixture
def no_garbage() -> None:
    """What other tests have left is no matter here."""
    gc.collect()


def test_a_fact_is_known_as_long_as_its_object_lives() -> None:
    table: WeakTable[Thing, str] = WeakTable()
    thing = Thing()
    assert table.keep("key", thing, "a fact") is thing
    assert table.object("key") is thing
    assert table.fact("key") == "a fact"
    assert list(table) == [thing]
    del thing
    assert table.object("key") is table.fact("key") is None
    assert list(table) == []


def test_what_was_kept_first_stays() -> None:
    table: WeakTable[Thing, int] = WeakTable()
    first, second = Thing(), Thing()
    table.keep("key", first, 1)
    assert table.keep("key", second, 2) is first
    assert table.fact("key") == 1
    del first
    assert table.keep("key", second, 2) is second
    assert table.fact("key") == 2


def test_a_fact_may_change() -> None:
    table: WeakTable[Thing, int] = WeakTable()
    thing = Thing()
    table.keep("key", thing, 1)
    table.change("key", 2)
    table.change("nobody", 3)
    assert table.fact("key") == 2
    assert len(table) == 1


def test_the_dead_make_room() -> None:
    table: WeakTable[Thing, None] = WeakTable()
    for number in range(100):
        table.keep(number, Thing(), None)
    last = Thing()
    table.keep("last", last, None)
    assert len(table) == 1


def test_a_successor_under_the_same_key_survives_the_burial_of_the_first() -> None:
    table: WeakTable[Thing, None] = WeakTable()
    heir = Thing()
    table.keep("key", Thing(), None)
    table.keep("key", heir, None)
    table.keep("another", heir, None)
    assert table.object("key") is heir


# -- a KeyboardInterrupt that comes during a collection is raised in the first line that runs ---------------------------


@pytest.mark.usefixtures("no_garbage")
def test_no_line_runs_when_the_class_of_a_proxy_dies() -> None:
    """It would be printed and forgotten there: one Ctrl-C in some hundred was."""

    class Remote:
        """Nobody keeps the class that stands for it."""

    proxy_module.make_class(describe(Remote()), (proxy_module.Proxy,))
    assert lines_run_by_a_collection() == []


@pytest.mark.usefixtures("no_garbage")
def test_no_line_runs_when_a_class_that_was_described_dies() -> None:
    describe(type("Local", (), {})())
    assert lines_run_by_a_collection() == []


@pytest.mark.usefixtures("no_garbage")
def test_no_line_runs_when_a_session_dies_that_knew_calling_threads() -> None:
    class Ear:
        def thread_ended(self, number: int) -> None:
            raise AssertionError(number)

    ear = Ear()
    ear.me = ear  # type: ignore[attr-defined]
    thread_number(ear)
    del ear
    assert lines_run_by_a_collection() == []


@pytest.mark.usefixtures("no_garbage")
async def test_no_line_runs_when_a_nursery_dies_whose_tasks_were_in_context_managers() -> None:
    async with trio.open_nursery() as nursery:
        stays._threads_of(nursery).add(Thing())  # type: ignore[arg-type]
    cycle = [nursery]
    cycle.append(cycle)  # type: ignore[arg-type]
    del nursery, cycle
    assert lines_run_by_a_collection() == ["Nursery.__del__"]  # trio's own


def test_the_weak_containers_of_the_standard_library_are_not_used() -> None:
    """Their callbacks are lines of Python."""
    package = Path(rpyc_gateway.__file__).parent
    for module in package.rglob("*.py"):
        assert not re.search(r"\bWeak(Key|Value)Dictionary\b|\bWeakSet\b", module.read_text()), module
