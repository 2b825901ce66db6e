"""Proxies that are dropped: the objects behind them die over there, whoever drops them, whenever, and however many."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress
from textwrap import dedent
from typing import Any

import pytest
import trio

import rpyc_gateway as gw
from rpyc_gateway.proto import messages as m
from tests.blocking_house import House, open_blocking_lab
from tests.house import HOPS, messages_sent, open_house

LAB = """
import threading, gc
alive = [0]
lock = threading.Lock()
class Thing:
    def __init__(self):
        with lock: alive[0] += 1
    def __del__(self):
        with lock: alive[0] -= 1
def make(n): return tuple(Thing() for _ in range(n))
def count(): return alive[0]
"""


@pytest.fixture(params=[1, 3], ids=["0 relays", "2 relays"])
def house(request: pytest.FixtureRequest) -> Iterator[House]:
    with open_blocking_lab(request.param) as house:
        yield house


@pytest.fixture
def conn(house: House) -> Iterator[gw.BlockingSession]:
    with house.connect() as conn:
        conn.execute(LAB)
        yield conn


def test_what_was_dropped_has_died_before_the_next_request_is_answered(conn: gw.BlockingSession) -> None:
    make, count = conn.namespace["make"], conn.namespace["count"]
    for number in range(1, 100):
        things = make(number)
        assert count() == number
        del things
        assert count() == 0


def test_it_has_died_also_where_a_sweep_came_between(house: House, conn: gw.BlockingSession) -> None:
    # The finalizer waits until the next request has arrived: that one must wait for it, not answer past it.
    conn.execute(
        "arrived = threading.Event()\nseen = []\n"
        "class Slow:\n  def __del__(self): seen.append('begun'); arrived.wait(0.2); seen.append('died')\n"
    )
    slow = conn.eval("Slow()")
    del slow
    session = conn._session
    session._token.run_sync_soon(session._flush)  # RELEASE by itself, as an idle session sends it
    (far,) = house.sessions()
    house.until(lambda: far._service.namespace["seen"])
    assert conn.eval("tuple(seen)") == ("begun", "died")


def test_a_finalizer_that_hangs_holds_up_one_call_as_it_would_here_and_no_more(conn: gw.BlockingSession) -> None:
    conn.execute("stuck = threading.Event()\nclass Hangs:\n  def __del__(self): stuck.wait()\n")
    hanging = conn.eval("Hangs()")
    del hanging
    with suppress(TimeoutError), gw.timeout(0.25):
        conn.ping("in whose thread it may run")
    assert [conn.ping(number) for number in range(50)] == list(range(50))
    conn.eval("stuck.set()")


def test_proxies_may_be_dropped_in_any_thread(house: House, conn: gw.BlockingSession) -> None:
    make, count = conn.namespace["make"], conn.namespace["count"]
    things = [make(50) for _ in range(8)]
    threads = [threading.Thread(target=things.pop) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert count() == 0


def test_proxies_may_be_dropped_by_the_garbage_collector_at_any_moment(conn: gw.BlockingSession) -> None:
    make, count = conn.namespace["make"], conn.namespace["count"]
    threshold = gc.get_threshold()
    gc.set_threshold(10)  # in the middle of everything
    try:
        for _ in range(200):
            cycle: list[Any] = [*make(3)]
            cycle.append(cycle)
            del cycle
    finally:
        gc.set_threshold(*threshold)
    left = 1
    for _ in range(20):
        gc.collect()  # does nothing while another thread is at it
        left = left and count()
    assert left == 0


def test_a_hundred_dropped_proxies_cost_no_message_of_their_own(conn: gw.BlockingSession) -> None:
    make, count = conn.namespace["make"], conn.namespace["count"]
    count()
    things = make(100)
    sent = messages_sent(conn._session)
    del things
    assert count() == 0
    splitter = m.Splitter()
    kinds = [type(message) for data in sent for message in splitter.receive_data(data)]
    assert kinds == [m.Release, m.Call]


def test_a_hundred_thousand_objects_leave_both_sides_where_they_were(house: House, conn: gw.BlockingSession) -> None:
    make, count = conn.namespace["make"], conn.namespace["count"]
    (far,) = house.sessions()

    def churn(rounds: int) -> None:
        for _ in range(rounds):
            assert len(make(1000)) == 1000
        for _ in range(rounds * 10):
            assert make(1)
        assert count() == 0

    before = _memory_after(lambda: churn(2), conn, far)
    after = _memory_after(lambda: churn(98 if len(house.nodes) == 1 else 8), conn, far)  # relays hold nothing of it
    assert after[0] == before[0]  # the tables of both sides
    assert after[1] - before[1] < 300_000  # and their memory; a byte for each object would be a third of it


def _memory_after(work: Any, conn: gw.BlockingSession, far: Any) -> tuple[object, int]:
    """The statistics of both sides and what is allocated in this process, in which both are, when the work is done."""
    tracemalloc.start()
    try:
        work()
        conn.ping()
        gc.collect()
        tables = far.statistics()[:4], conn._session.statistics()[:4]
        return tables, tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


@HOPS
async def test_a_hundred_thousand_objects_leave_both_sides_where_they_were_in_trio_code(hops: int) -> None:
    async with open_house(*["hq", "relay1", "relay2"][:hops], "lab") as nodes, nodes[0].session("lab") as lab:
        await lab.execute(LAB)
        ((far, _),) = nodes[-1]._serving._sessions.values()
        make, count = await lab.namespace["make"], await lab.namespace["count"]

        async def churn(rounds: int) -> tuple[object, int]:
            tracemalloc.start()
            try:
                for _ in range(rounds):
                    assert len(await make(1000)) == 1000
                    for _ in range(10):
                        assert await make(1)
                assert await count() == 0
                await lab.ping()
                gc.collect()
                tables = far.statistics()[:4], lab.statistics()[:4]
                return tables, tracemalloc.get_traced_memory()[0]
            finally:
                tracemalloc.stop()

        before = await churn(2)
        after = await churn(98 if hops == 1 else 8)
        assert after[0] == before[0]
        assert after[1] - before[1] < 300_000


@pytest.mark.parametrize(
    "ending", ["falls off the end", "leaves the block", "raises", "exits", "in a cycle", "in a thread"]
)
def test_a_program_that_ends_with_proxies_says_nothing_and_leaves_nothing(house: House, ending: str) -> None:
    ends = {
        "falls off the end": "",
        "leaves the block": "conn.close()",
        "raises": "sys.excepthook = lambda *_: None\nraise ValueError",
        "exits": "sys.exit(0)",
        "in a cycle": "things = [*things]; things.append(things); sys.things = things; f = lambda: things",
        "in a thread": "threading.Thread(target=lambda: (threading.main_thread().join(), conn.ping(), things)).start()",
    }
    script = dedent(f"""
        import sys, threading
        import rpyc_gateway as gw
        conn = gw.connect({house.url!r}, node="lab", name="laptop")
        conn.execute({LAB!r})
        things = conn.namespace["make"](100)
        callback = conn.eval("lambda f: f()")(lambda: things)
        method = things[0].__init__
        modules = conn.modules.os, conn.builtins.dict, conn.modules.threading.RLock()
    """)
    program = subprocess.run(
        [sys.executable, "-c", script + ends[ending]], capture_output=True, text=True, timeout=30, check=False
    )
    assert (program.stdout, program.stderr, program.returncode) == ("", "", 1 if ending == "raises" else 0)
    house.until_empty()
    gc.collect()
    assert house.ask(lambda: trio.lowlevel.current_statistics().tasks_living) < 100


def test_a_trio_program_that_ends_with_proxies_says_nothing_and_leaves_nothing(house: House) -> None:
    script = dedent(f"""
        import trio
        import rpyc_gateway as gw
        kept = []
        async def main():
            async with gw.open_session({house.url!r}, node="lab") as lab:
                await lab.execute({LAB!r})
                kept.append(await lab.namespace["make"](100))
                kept.append(lab.modules.os.path)
        trio.run(main)
    """)
    program = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False)
    assert (program.stdout, program.stderr, program.returncode) == ("", "", 0)
    house.until_empty()
