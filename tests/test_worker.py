"""The threads that run served code: as many as are needed, one for each caller that wants the same one again."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from queue import SimpleQueue

import pytest

from rpyc_gateway import worker
from rpyc_gateway.worker import Workers


class Desk:
    """Hands out tasks and waits for what they say."""

    def __init__(self) -> None:
        self.workers = Workers()
        self.said: SimpleQueue[threading.Thread] = SimpleQueue()

    def report(self) -> None:
        self.said.put(threading.current_thread())

    def who(self) -> threading.Thread:
        return self.said.get(timeout=5)

    def blocked(self) -> threading.Event:
        """Keep a pooled thread busy until the event is set."""
        release = threading.Event()

        def wait() -> None:
            self.report()
            release.wait(10)
            self.report()

        self.workers.submit(wait)
        return release


def rest(desk: Desk, count: int) -> None:
    """Wait until so many threads of the pool are idle: each says so right after its task."""
    while desk.workers.statistics()[0] < count:
        os.sched_yield()


def test_a_thread_of_the_pool_is_used_again() -> None:
    desk = Desk()
    desk.workers.submit(desk.report)
    first = desk.who()
    rest(desk, 1)
    release = desk.blocked()
    assert desk.who() is first
    desk.workers.submit(desk.report)
    assert desk.who() is not first
    release.set()
    assert first.daemon
    assert first.name.startswith("rpyc-gateway worker")


def test_a_busy_pool_grows_so_that_one_slow_call_holds_nobody_up() -> None:
    desk = Desk()
    releases = [desk.blocked() for _ in range(3)]
    assert len({desk.who() for _ in range(3)}) == 3
    for release in releases:
        release.set()
    rest(desk, 3)


def test_tasks_of_one_key_run_in_one_thread_and_in_order() -> None:
    desk = Desk()
    done: list[int] = []
    for number in range(50):
        desk.workers.submit_to("caller", lambda number=number: done.append(number))  # type: ignore[misc]
    desk.workers.submit_to("caller", desk.report)
    desk.workers.submit_to("other", desk.report)
    assert desk.who() is not desk.who()
    assert done == list(range(50))
    assert desk.workers.statistics() == (0, 2)


def test_a_released_thread_does_what_it_was_given_and_ends() -> None:
    desk = Desk()
    hold = threading.Event()
    desk.workers.submit_to("caller", lambda: hold.wait(10))
    desk.workers.submit_to("caller", desk.report)
    desk.workers.release("caller")
    desk.workers.release("caller")
    assert desk.workers.statistics() == (0, 0)
    desk.workers.submit_to("caller", desk.report)  # stuck or not, the old thread is not waited for
    second = desk.who()
    hold.set()
    first = desk.who()
    assert first is not second
    first.join(10)
    assert not first.is_alive()
    assert second.is_alive()
    desk.workers.release("caller")


def test_an_idle_thread_of_the_pool_ends_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk()
    monkeypatch.setattr(worker, "IDLE_SECONDS", 0.001)
    desk.workers.submit(desk.report)
    thread = desk.who()
    thread.join(10)
    assert not thread.is_alive()
    assert desk.workers.statistics() == (0, 0)


def test_the_thread_of_a_caller_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk()
    monkeypatch.setattr(worker, "IDLE_SECONDS", 0.001)
    desk.workers.submit_to("caller", desk.report)
    thread = desk.who()
    for _ in range(20):
        thread.join(0.001)  # many times as long as a thread of the pool would wait
    desk.workers.submit_to("caller", desk.report)
    assert desk.who() is thread
    desk.workers.release("caller")


@pytest.fixture
def eager_threads() -> Iterator[None]:
    """Threads take turns as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("eager_threads")
def test_no_task_is_lost_between_a_release_and_the_next_task() -> None:
    """Three threads give tasks to one key while another one keeps releasing it: each task runs, each thread ends."""
    desk, done, lock = Desk(), [0], threading.Lock()
    over = threading.Event()

    def task() -> None:
        with lock:
            done[0] += 1
        desk.report()

    def give() -> None:
        for _ in range(100):
            desk.workers.submit_to("caller", task)

    def take() -> None:
        while not over.is_set():
            desk.workers.release("caller")

    givers = [threading.Thread(target=give) for _ in range(3)]
    taker = threading.Thread(target=take)
    for thread in (*givers, taker):
        thread.start()
    used = {desk.who() for _ in range(300)}
    over.set()
    for thread in (*givers, taker):
        thread.join(10)
    desk.workers.release("caller")
    for thread in used:
        thread.join(10)
        assert not thread.is_alive()
    assert done == [300]


def test_a_release_at_the_worst_moment_comes_after_the_task() -> None:
    desk = Desk()
    lock = desk.workers._lock

    class Meddling:
        """A lock behind which somebody waits to release the key, as soon as it is free."""

        def __enter__(self) -> None:
            lock.acquire()

        def __exit__(self, *_reason: object) -> None:
            lock.release()
            desk.workers._lock = lock
            desk.workers.release("caller")

    for _ in range(2):  # a thread that is new, and one that is not
        desk.workers._lock = Meddling()  # type: ignore[assignment]
        desk.workers.submit_to("caller", desk.report)
        desk.who().join(10)
        desk.workers.submit_to("caller", lambda: None)
    desk.workers.release("caller")


def test_what_a_task_held_dies_when_it_is_done() -> None:
    desk = Desk()

    class Thing:
        """Says so when it dies."""

        def __del__(self) -> None:
            desk.report()

    thing, ready = Thing(), threading.Event()
    desk.workers.submit_to("caller", lambda: ready.wait(10))
    desk.workers.submit_to("caller", lambda thing=thing: None)  # type: ignore[misc]
    del thing
    ready.set()
    assert desk.who().name.startswith("rpyc-gateway worker")
    desk.workers.release("caller")


@pytest.mark.parametrize("error", [ValueError("a defect"), SystemExit(3)])
def test_a_task_that_raises_is_logged_and_costs_nobody_else_anything(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    workers, done = Workers(), SimpleQueue[str]()

    def fail() -> None:
        raise error

    for submit in (workers.submit, lambda task: workers.submit_to("key", task)):
        submit(fail)
        submit(lambda: done.put("done"))
        assert done.get(timeout=10) == "done"
    assert [record.exc_info and record.exc_info[1] for record in caplog.records] == [error, error]
    workers.release("key")


def test_a_child_that_is_forked_has_threads_of_its_own() -> None:
    code = """
import os, threading
from rpyc_gateway.worker import workers
done = threading.Event()
workers.submit(done.set)
workers.submit_to("caller", lambda: None)
assert done.wait(10)
while not workers.statistics()[0]:
    os.sched_yield()
if child := os.fork():
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
else:
    said = [threading.Event(), threading.Event()]
    workers.submit(said[0].set)
    workers.submit_to("caller", said[1].set)
    os._exit(not all(event.wait(10) for event in said))
"""
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
