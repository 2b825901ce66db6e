"""me - a - b - lab, real processes: calls that nobody waits for, events, and batches; and what becomes of them when the way breaks."""

from __future__ import annotations

import concurrent.futures
import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
import trio

import rpyc_gateway as gw
from rpyc_gateway.testing import BadWire
from tests.chains.processes import LAB_CHILD, LOOPBACK, House, Process, connect_when_up, dial, listen, open_house

SETUP = """
import threading, trio
begun, ended, gate = threading.Event(), threading.Event(), threading.Event()
async def forever():
    begun.set()
    try: await trio.sleep_forever()
    finally: ended.set()
class Counter:
    def __init__(self, count=0): self.count = count
    def add(self, n): self.count += n; return self.count
"""


def start_chain(house: House) -> tuple[Process, Process]:
    b = house.start("b", listen(house.socket("b")) + dial(LAB_CHILD))
    a = house.start("a", listen(LOOPBACK) + dial(b.url))
    connect_when_up(a.url, "lab").close()
    return a, b


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with open_house() as house:
        yield start_chain(house)[0].url


@pytest.fixture
def conn(url: str) -> Iterator[gw.BlockingSession]:
    with gw.connect(url, node="lab", name="me") as conn:
        conn.execute(SETUP)
        assert conn.path == ("me", "a", "b", "lab")
        yield conn


# -- what RPyC's tutorial (part 5) and its page on asynchronous operation show


def test_the_tutorial_calls_sleep_and_int(conn: gw.BlockingSession) -> None:
    conn.modules.time.sleep(0.01)  # it blocks until the call returns
    asleep = gw.async_(conn.modules.time.sleep)
    assert repr(asleep) == "async_(<built-in function sleep>)"

    res = asleep(0.3)
    assert repr(res).startswith("<AsyncResult object (pending) at 0x")
    assert (res.ready, res.ready) == (False, False)
    res.wait()
    assert res.ready
    assert res.value is None
    assert repr(res).startswith("<AsyncResult object (ready) at 0x")

    aint = gw.async_(conn.builtins.int)  # the remote type
    x = aint("8")
    x.wait()
    assert (x.ready, x.error, x.value) == (True, False, 8)
    x = aint("this is not a valid number")
    x.wait()
    assert (x.ready, x.error) == (True, True)
    with pytest.raises(ValueError, match="invalid literal for int"):
        x.value  # noqa: B018


def test_the_tutorial_s_timed_sleep(conn: gw.BlockingSession) -> None:
    timed_sleep = gw.timed(conn.modules.time.sleep, 0.25)
    async_res = timed_sleep(0.01)  # returns immediately
    assert async_res.value is None
    async_res = timed_sleep(1000)
    with pytest.raises(TimeoutError):
        async_res.value  # noqa: B018
    assert async_res.expired


MONITOR = """
import os, threading
import rpyc_gateway as gw
class FileMonitor:
    def __init__(self, filename, callback, interval=1):
        self.filename = filename
        self.interval = interval
        self.last_stat = None
        self.callback = gw.async_(callback)  # an event: sent, and not waited for
        self.stopped = threading.Event()
        self.looked = threading.Event()
        self.thread = threading.Thread(target=self.work)
        self.thread.start()
    def stop(self):
        self.stopped.set()
        self.thread.join()
    def work(self):
        while not self.stopped.wait(self.interval):
            stat = os.stat(self.filename)
            if self.last_stat is not None and self.last_stat.st_size != stat.st_size:
                self.callback(self.last_stat, stat)
            self.last_stat = stat
            self.looked.set()
"""


def test_the_tutorial_s_file_monitor_sends_events(conn: gw.BlockingSession, tmp_path: Path) -> None:
    """Nothing has to serve in the background here: the client answers while it does something else, or nothing."""
    conn.execute(MONITOR)
    path = tmp_path / "floop.bloop"
    path.touch()
    events: SimpleQueue[tuple[int, int]] = SimpleQueue()

    def on_file_changed(old_stat: Any, new_stat: Any) -> None:
        events.put((old_stat.st_size, new_stat.st_size))

    monitor = conn.namespace["FileMonitor"](str(path), on_file_changed, interval=0.005)
    monitor.looked.wait()
    path.write_text("shmoop")
    assert events.get() == (0, 6)
    path.write_text("shmoopgroop")
    size = 6
    while size != 11:  # the monitor may have looked between truncating and writing
        before, after = events.get()
        assert before == size
        size = after
    monitor.stop()


# -- three hops


def test_thousands_are_under_way_and_each_gets_its_own(conn: gw.BlockingSession) -> None:
    square = gw.async_(conn.eval("lambda n: n * n"))
    results = [square(n) for n in range(3000)]
    assert [result.value for result in results] == [n * n for n in range(3000)]
    futures = [square(n).future for n in range(100)]
    assert sorted(future.result() for future in concurrent.futures.as_completed(futures)) == [n * n for n in range(100)]


def test_an_expiry_cancels_through_all_hops(conn: gw.BlockingSession) -> None:
    for end in ("expiry", "cancel", "future", "timeout"):
        conn.execute("begun.clear(); ended.clear()")
        result = gw.async_(conn.namespace["forever"])()
        assert conn.eval("begun.wait(30)")
        if end == "expiry":
            result.set_expiry(0.01)
        elif end == "cancel":
            result.cancel()
        elif end == "future":
            result.future.cancel()
        else:
            with pytest.raises(gw.TimedOut), gw.timeout(0.01):
                result.wait()
        assert conn.eval("ended.wait(30)")


def test_a_batch_over_three_hops(conn: gw.BlockingSession) -> None:
    counter, seen = conn.namespace["Counter"](1), []
    with gw.batch(conn) as b:
        first = b(counter).add(2)
        second = b.namespace["Counter"](first).add(first)
        b.eval("lambda f, x: f(x)")(seen.append, second)
        for _ in range(2000):
            b(counter).add(1)
        last = b(counter).count
    assert (first.value, second.value, last.value, seen) == (3, 6, 2003, [6])


async def test_unfinished_results_are_arguments_in_trio_code(url: str) -> None:
    async with gw.open_session(url, node="lab", name="me") as lab:
        await lab.execute(SETUP)
        counter = await lab.namespace["Counter"](1)
        made = lab.namespace["Counter"](counter.add(2))
        assert await made.add(gw.ops.len(lab.modules.os.path.join("a", lab.eval("'bc'")))) == 7
        assert await gw.ops.add(counter.count, lab.builtins.max(3, (lab.eval("4")))) == 7
        with pytest.raises(ZeroDivisionError):
            await counter.add(lab.eval("1 // 0"))
        assert await counter.count == 3
        with trio.move_on_after(0.1) as scope:
            await counter.add(lab.namespace["forever"]())
        assert scope.cancelled_caught
        assert await counter.count == 3
        assert await lab.namespace["ended"].wait(30)


# -- when the way breaks


def test_a_relay_that_is_killed_ends_all_that_is_under_way_once(house: House) -> None:
    a, b = start_chain(house)
    with gw.connect(a.url, node="lab", name="me") as conn:
        conn.execute(SETUP)
        wait, told = gw.async_(conn.eval("gate.wait")), SimpleQueue[gw.AsyncResult]()
        results = [wait() for _ in range(200)]
        for result in results:
            result.add_callback(told.put)
        batch_ends: SimpleQueue[BaseException] = SimpleQueue()
        in_batch = threading.Thread(target=_batch_until_it_ends, args=(conn, batch_ends))
        in_batch.start()
        assert conn.eval("begun.wait(30)")
        b.kill()
        for result in results:
            with pytest.raises((gw.LinkLost, gw.SessionClosed), match="b"):
                result.value  # noqa: B018
        assert isinstance(batch_ends.get(), gw.LinkLost | gw.SessionClosed)
        in_batch.join()
        assert_told_once(told, results)
        with pytest.raises(gw.GatewayError):
            wait()


def assert_told_once(told: SimpleQueue[gw.AsyncResult], results: list[gw.AsyncResult]) -> None:
    assert {told.get() for _ in results} == set(results)
    assert told.empty()


def _batch_until_it_ends(conn: gw.BlockingSession, ends: SimpleQueue[BaseException]) -> None:
    try:
        with gw.batch(conn) as b:
            b.namespace["forever"]()
    except gw.GatewayError as error:
        ends.put(error)


async def test_a_late_and_slow_wire_changes_nothing_but_the_time(url: str) -> None:
    async with BadWire(url) as wire:
        wire.delay(0.02, jitter=0.03)
        wire.rate(50_000)

        def story() -> None:
            with gw.connect(wire.url, node="lab", name="me") as conn:
                with gw.batch(conn) as b:
                    values = [b.eval(str(n)) for n in range(20)]
                assert [value.value for value in values] == list(range(20))
                results = [gw.async_(conn.root.eval)(str(n)) for n in range(20)]
                assert [result.value for result in results] == list(range(20))

        await trio.to_thread.run_sync(story)


@pytest.mark.parametrize("face", ["async_", "batch"])
async def test_a_wire_that_breaks_anywhere_ends_everything_in_words(url: str, face: str) -> None:
    async with BadWire(url, seed=3) as wire:
        for size in range(1, 6000, 500):
            with trio.fail_after(30):
                await trio.to_thread.run_sync(_talk_until_it_breaks, wire, size, face)
        wire.mend()


def _talk_until_it_breaks(wire: BadWire, size: int, face: str) -> None:
    told: SimpleQueue[gw.AsyncResult] = SimpleQueue()
    results: list[gw.AsyncResult] = []
    with gw.connect(wire.url, node="lab", name="me") as conn:
        text = gw.async_(conn.builtins.str)
        trio.from_thread.run_sync(wire.cut_after, size)
        with pytest.raises((gw.LinkLost, gw.SessionClosed)) as caught:  # noqa: PT012
            while True:
                if face == "batch":
                    with gw.batch(conn) as b:
                        values = [b.builtins.str(n) for n in range(5)]
                    assert [value.value for value in values] == list("01234")
                    continue
                for n in range(10):
                    results.append(text(n))
                    results[-1].add_callback(told.put)
                assert [result.value for result in results[-10:]] == [str(n) for n in range(10)]
        assert str(caught.value)
        for result in results:
            with pytest.raises(gw.GatewayError) if result.error else contextlib.nullcontext():
                result.value  # noqa: B018
        assert_told_once(told, results)
