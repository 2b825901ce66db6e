"""What belongs to a thread behaves over there as it does here: each calling thread has one of its own."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import trio

import rpyc_gateway as gw
from rpyc_gateway import affinity, answering
from tests.blocking_house import House, open_blocking_lab
from tests.house import HOPS, open_house, open_lab, wait_until


@pytest.fixture
def house() -> Iterator[House]:
    with open_blocking_lab(3) as house:
        yield house


@pytest.fixture
def conn(house: House) -> Iterator[gw.BlockingSession]:
    with house.connect() as conn:
        yield conn


def in_threads(count: int, function: Callable[[int], Any]) -> list[Any]:
    """What `function` returns in so many threads at once; they are gone when this returns."""
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(function, range(count)))


def test_a_remote_rlock_belongs_to_the_thread_that_took_it(conn: gw.BlockingSession) -> None:
    lock = conn.modules.threading.RLock()
    with lock, lock:  # taken twice by one thread
        assert in_threads(1, lambda _: lock.acquire(False)) == [False]  # noqa: FBT003
    assert in_threads(1, lambda _: lock.acquire(False) and lock.release()) == [None]  # noqa: FBT003
    with pytest.raises(RuntimeError, match="un-acquired"):
        lock.release()


def test_a_lock_keeps_counting_right_under_contention(conn: gw.BlockingSession) -> None:
    conn.execute("import threading\nlock = threading.RLock()\ncount = [0]")
    lock, count = conn.namespace["lock"], conn.namespace["count"]

    def add(_: int) -> None:
        for _ in range(10):
            with lock:
                count[0] = count[0] + 1  # a read there, an addition here, a write there

    in_threads(4, add)
    assert count[0] == 40


def test_each_thread_sees_its_own_thread_local(conn: gw.BlockingSession) -> None:
    local = conn.modules.threading.local()
    together = threading.Barrier(3)

    def remember(number: int) -> tuple[int, bool]:
        missing = not hasattr(local, "number")
        local.number = number
        together.wait()
        return local.number, missing

    assert in_threads(3, remember) == [(0, True), (1, True), (2, True)]
    assert not hasattr(local, "number")


def test_each_thread_sees_its_own_context_variables(conn: gw.BlockingSession) -> None:
    conn.execute("import contextvars, decimal\nuser = contextvars.ContextVar('user', default='nobody')")
    user = conn.namespace["user"]
    token = user.set("ada")
    assert user.get() == "ada"
    assert in_threads(2, lambda number: (user.set(number), user.get())[1]) == [0, 1]
    assert conn.eval("(lambda f: f())(user.get)") == "ada"
    assert conn.eval("lambda f: f()")(lambda: user.get()) == "ada"  # called back, from here: still this thread
    user.reset(token)
    assert user.get() == "nobody"
    conn.modules.decimal.getcontext().prec = 5
    assert str(conn.eval("decimal.Decimal(1) / 3")) == "0.33333"


def test_an_sqlite_connection_is_used_in_the_thread_that_made_it(conn: gw.BlockingSession) -> None:
    together = threading.Barrier(3)

    def table(number: int) -> tuple[Any, ...]:
        database = conn.modules.sqlite3.connect(":memory:")  # check_same_thread is true
        database.execute("create table t (n)")
        together.wait()
        with database:
            database.executemany("insert into t values (?)", ((number,), (number + 10,)))
        together.wait()
        with contextlib.closing(database):
            return tuple(row[0] for row in database.execute("select n from t order by n"))

    assert in_threads(3, table) == [(0, 10), (1, 11), (2, 12)]
    database = conn.modules.sqlite3.connect(":memory:")
    with pytest.raises(sqlite3.ProgrammingError, match="same thread"):
        in_threads(1, lambda _: database.execute("select 1"))
    assert database.execute("select 1").fetchone() == (1,)
    database.close()


def test_threads_talk_through_a_condition_variable(conn: gw.BlockingSession) -> None:
    condition = conn.modules.threading.Condition()
    basket = conn.eval("[]")

    def consume(_: int) -> list[int]:
        taken = []
        for _ in range(3):
            with condition:
                while not len(basket):
                    condition.wait()
                taken.append(basket.pop(0))
                condition.notify_all()
        return taken

    def produce(_: int) -> None:
        for number in range(6):
            with condition:
                while len(basket):
                    condition.wait()
                basket.append(number)
                condition.notify_all()

    with ThreadPoolExecutor(3) as pool:
        consumers = [pool.submit(consume, number) for number in range(2)]
        pool.submit(produce, 0).result()
        assert sorted(consumers[0].result() + consumers[1].result()) == list(range(6))


def test_threads_meet_over_there(conn: gw.BlockingSession) -> None:
    count = 8
    barrier = conn.modules.threading.Barrier(count)  # which lets nobody pass before all are there, at once
    assert sorted(in_threads(count, lambda _: barrier.wait())) == list(range(count))


def test_a_slow_call_holds_nobody_up(conn: gw.BlockingSession) -> None:
    event = conn.modules.threading.Event()
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(event.wait)
        assert [conn.ping(number) for number in range(20)] == list(range(20))
        assert not slow.done()
        event.set()
        assert slow.result() is True


def test_the_far_thread_goes_with_the_near_one(house: House, conn: gw.BlockingSession) -> None:
    (far,) = house.sessions()
    assert far.statistics().threads <= 1  # that of this thread
    number = conn.modules.threading.get_ident()
    others = in_threads(5, lambda _: conn.modules.threading.get_ident())
    assert number not in others
    house.until(lambda: far.statistics().threads == 1)
    assert conn.modules.threading.get_ident() == number


def test_an_abandoned_call_costs_its_thread_and_not_the_next_call(house: House, conn: gw.BlockingSession) -> None:
    (far,) = house.sessions()
    conn.execute("import threading\nlocal = threading.local()\nlocal.name = 'first'\nstuck = threading.Event()")
    with pytest.raises(TimeoutError), gw.timeout(0.05):
        conn.eval("stuck.wait()")
    assert conn.eval("getattr(local, 'name', 'fresh')") == "fresh"
    house.until(lambda: far.statistics()[1:2] + far.statistics()[4:] == (0, 1, 1, 1))  # it is counted and shown
    conn.eval("stuck.set()")
    house.until(lambda: far.statistics()[4:] == (0, 0, 1))


def test_calls_that_are_stuck_are_capped(
    house: House, conn: gw.BlockingSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answering, "RUNNING", 3)
    (far,) = house.sessions()
    conn.execute("import threading\nstuck = threading.Event()")
    for _ in range(3):
        with pytest.raises(TimeoutError), gw.timeout(0.25):
            conn.eval("stuck.wait()")
    house.until(lambda: far.statistics().abandoned == 3)
    with pytest.raises(gw.LimitExceeded, match="3 calls run here already, those counted whose callers have left"):
        conn.ping()
    far._service.namespace["stuck"].set()
    house.until(lambda: far.statistics().running == 0)
    assert conn.ping("served again") == "served again"


def test_threads_past_the_bound_are_refused_and_never_moved(
    conn: gw.BlockingSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answering, "AFFINITIES", 3)
    conn.ping()
    together = threading.Barrier(4)

    def call(_: int) -> object:
        try:
            return conn.ping("served")
        except gw.LimitExceeded as error:
            return str(error)
        finally:
            together.wait()

    outcomes = in_threads(4, call)
    assert outcomes.count("served") == 2  # and this thread has the third
    refusals = {outcome for outcome in outcomes if outcome != "served"}
    assert refusals == {"lab does not serve this call: 3 threads of the caller have a thread here already"}
    assert conn.ping("this thread has its place") == "this thread has its place"


@HOPS
async def test_trio_code_may_ask_for_one_far_thread(hops: int) -> None:
    async with open_lab(hops) as lab:
        far_thread = lab.modules.threading.get_ident
        async with gw.thread(lab):
            lock = await lab.modules.threading.RLock()
            assert await lock.acquire()
            numbers = {await lab.modules.threading.get_ident() for _ in range(5)}
            assert len(numbers) == 1
            async with gw.thread(lab):  # a block in it has a thread of its own
                assert await lab.modules.threading.get_ident() not in numbers
                assert await lock.acquire(False) is False  # noqa: FBT003
            await lock.release()
            database = await lab.modules.sqlite3.connect(":memory:")
            assert await (await database.execute("select 7")).fetchone() == (7,)
            async with gw.thread(lab):
                with pytest.raises(sqlite3.ProgrammingError, match="same thread"):
                    await database.execute("select 7")
            await database.close()
        assert await far_thread() not in numbers


async def test_the_thread_of_a_block_goes_with_it_and_with_its_tasks() -> None:
    async with open_house("hq", "lab") as nodes, nodes[0].session("lab") as lab, trio.open_nursery() as nursery:
        await lab.ping()
        ((far, _),) = nodes[1]._serving._sessions.values()
        seen: list[int] = []
        over = trio.Event()

        async def work() -> None:
            seen.append(await lab.modules.threading.get_ident())
            await over.wait()
            seen.append(await lab.modules.threading.get_ident())

        async with gw.thread(lab):
            own = await lab.modules.threading.get_ident()
            nursery.start_soon(work)
            await wait_until(lambda: seen)
        assert seen == [own]  # a task of the block shares its thread
        await wait_until(lambda: far.statistics().threads == 0)
        over.set()
        await wait_until(lambda: len(seen) == 2)
        assert far.statistics().threads == 0  # and has none when the block is over: nobody would ever end it


async def test_a_block_is_about_one_session() -> None:
    async with open_house("hq", "lab") as nodes, nodes[0].session("lab") as lab, nodes[0].session("lab") as other:
        async with gw.thread(lab), gw.thread(other):
            await lab.ping()
            await other.ping()
            served = [far.statistics().threads for far, _ in nodes[1]._serving._sessions.values()]
            assert served == [1, 1]
        async with gw.thread(lab):
            await other.ping()
            await wait_until(
                lambda: not any(far.statistics().threads for far, _ in nodes[1]._serving._sessions.values())
            )


async def test_a_cancelled_call_of_a_block_costs_its_thread_and_not_those_behind_it() -> None:
    async with open_house("hq", "lab") as nodes, nodes[0].session("lab") as lab:
        await lab.execute(
            "import threading\nstuck = threading.Event()\nbegun = threading.Event()\n"
            "def wait():\n begun.set()\n stuck.wait()\n"
        )
        ((far, _),) = nodes[1]._serving._sessions.values()
        async with gw.thread(lab):
            own = await lab.modules.threading.get_ident()
            behind: list[int] = []

            async def queue_up() -> None:
                behind.append(await lab.modules.threading.get_ident())

            async with trio.open_nursery() as nursery:
                with trio.CancelScope() as scope:
                    async with trio.open_nursery() as stuck:
                        stuck.start_soon(_await, lab.namespace["wait"]())
                        await wait_until(far._service.namespace["begun"].is_set)
                        nursery.start_soon(queue_up)  # behind a call that does not end
                        await wait_until(lambda: far.statistics().running == 2)
                        scope.cancel()
            assert behind != [own]
        await lab.eval("stuck.set()")


async def test_a_cancelled_call_that_only_queued_leaves_its_thread_to_its_block() -> None:
    async with open_lab() as lab:
        await lab.execute("import threading\nfree = threading.Event()")
        async with gw.thread(lab), trio.open_nursery() as nursery:
            own = await lab.modules.threading.get_ident()
            nursery.start_soon(_await, lab.eval("free.wait()"))
            await wait_until(lambda: lab.statistics().asked == 1)
            with trio.move_on_after(0.05) as patience:
                await lab.modules.threading.get_ident()
            assert patience.cancelled_caught
            nursery.start_soon(_set_free, lab)
            assert await lab.modules.threading.get_ident() == own


async def _set_free(lab: Any) -> None:
    block = affinity._blocks.set(None)  # as a task from outside of the block
    await lab.eval("free.set()")
    affinity._blocks.reset(block)


async def test_a_task_that_outlives_its_block_keeps_no_thread_of_it() -> None:
    async with open_house("hq", "lab") as nodes, nodes[0].session("lab") as lab, trio.open_nursery() as nursery:
        await lab.execute("import trio\ngate = trio.Event()\nasync def nap(): await gate.wait()")
        ((far, _),) = nodes[1]._serving._sessions.values()
        async with gw.thread(lab):
            nursery.start_soon(_await, lab.namespace["nap"]())
            await wait_until(lambda: far.statistics().running == 1 and far.statistics().threads == 1)
            await wait_until(lambda: far._service.namespace["gate"].statistics().tasks_waiting)
        await wait_until(lambda: far.statistics().threads == 0)
        far._service.namespace["gate"].set()
        await wait_until(lambda: lab.statistics().asked == 0)
        assert far.statistics().threads == 0


def test_a_callback_needs_no_thread_where_one_waits_for_it(
    conn: gw.BlockingSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answering, "AFFINITIES", 0)
    with pytest.raises(gw.LimitExceeded, match="0 threads"):
        conn.ping()
    monkeypatch.setattr(answering, "AFFINITIES", 1)
    assert (
        conn.eval("lambda f: f()")(lambda: conn.ping("through the thread that waits"))
        == "through the thread that waits"
    )


async def _await(expression: Any) -> None:
    await expression


async def test_only_sessions_of_trio_code_have_blocks() -> None:
    with pytest.raises(TypeError, match="has its own"):
        async with gw.thread("lab"):  # type: ignore[arg-type]
            pass


async def test_calls_whose_thread_has_ended_before_they_began_are_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    late: list[Callable[[], object]] = []
    async with open_lab() as lab:
        await lab.execute("import threading\ntogether = threading.Barrier(2)")
        barrier = await lab.namespace["together"]
        answers: list[Any] = []

        async def call() -> None:
            answers.append(await barrier.wait())

        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                monkeypatch.setattr(answering.workers, "submit_to", lambda _key, task: late.append(task))
                for asked in (1, 2):
                    async with gw.thread(lab):
                        nursery.start_soon(call)
                        await wait_until(lambda asked=asked: len(late) == asked)
                await lab.ping("behind the ends of both threads")
                for task in late:
                    answering.workers.submit(task)
        assert sorted(answers) == [0, 1]
