"""How a call that nobody waits for ends: once, whatever ends it, and who is told."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import logging
import threading
import weakref
from collections.abc import Iterator
from queue import SimpleQueue
from typing import Any

import pytest

import rpyc_gateway as gw
from rpyc_gateway.errors import Code
from rpyc_gateway.proto.frames import Failure
from tests.blocking_house import House, open_blocking_lab

SETUP = """
import threading, trio
import rpyc_gateway as gw
gate = threading.Event()
begun = threading.Event()
ended = threading.Event()
class Thing: pass
def thing(): gate.wait(); return Thing()
async def forever():
    begun.set()
    try: await trio.sleep_forever()
    finally: ended.set()
def fail(): gate.wait(); raise LookupError("nothing here")
"""


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with open_blocking_lab(3) as house:
        yield house


@pytest.fixture
def conn(house: House) -> Iterator[gw.BlockingSession]:
    with house.connect() as conn:
        conn.execute(SETUP)
        yield conn
        if not conn.closed:
            conn.eval("gate.set()")


def started(conn: gw.BlockingSession, name: str = "gate.wait") -> gw.AsyncResult:
    return gw.async_(conn.eval(name))()


def open_gate(conn: gw.BlockingSession) -> None:
    conn.eval("gate.set()")


# -- waiting


def test_it_can_be_waited_for_like_an_event(conn: gw.BlockingSession) -> None:
    result = started(conn)
    assert (result.is_set(), result.is_ready) == (False, False)
    assert result.wait(0.01) is False
    assert result.wait(0) is False
    open_gate(conn)
    assert result.wait(60) is True
    assert result.wait() is True
    assert (result.is_set(), result.is_ready) == (True, True)


def test_many_threads_wait_for_one(conn: gw.BlockingSession) -> None:
    result = started(conn, "thing")
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(lambda: result.value) for _ in range(8)]
        open_gate(conn)
        assert all(one.result() is result.value for one in waiting)


def test_a_value_that_does_not_come_in_time_can_still_come(conn: gw.BlockingSession) -> None:
    result = started(conn)
    with pytest.raises(TimeoutError, match=r"no answer came in 0\.01 s; the call goes on"):
        result.result(0.01)
    assert not result.expired
    open_gate(conn)
    assert result.result(60) is True
    assert result.result() is True


def test_the_end_of_a_timeout_block_cancels_what_is_waited_for_there(conn: gw.BlockingSession) -> None:
    result = started(conn, "forever")
    with (
        pytest.raises(gw.TimedOut, match=r"timeout of 0\.05 s is over: the call was cancelled there"),
        gw.timeout(0.05),
    ):
        result.wait()
    assert result.expired
    assert conn.eval("ended.wait(60)")
    other = started(conn)
    with gw.timeout(0.05):
        assert other.wait(0.01) is False  # its own bound is over first: the call goes on
    open_gate(conn)
    assert other.value is True


def test_a_wait_inside_of_a_served_call_ends_with_that(conn: gw.BlockingSession) -> None:
    result = started(conn)
    heard: SimpleQueue[str] = SimpleQueue()

    def wait() -> None:
        heard.put("waits")
        try:
            result.wait()
        except gw.Cancelled as error:
            heard.put(type(error).__name__)

    call = gw.async_(conn.eval("lambda f: f()"))(wait)
    assert heard.get() == "waits"
    assert call.cancel()
    assert heard.get() == "Cancelled"
    assert not result.ready  # that goes on
    open_gate(conn)
    assert result.value is True


# -- callbacks


def test_callbacks_are_called_once_and_in_order(conn: gw.BlockingSession) -> None:
    result = started(conn)
    called: list[tuple[str, gw.AsyncResult]] = []
    result.add_callback(lambda result: called.append(("first", result.value and result)))
    result.on_ready(lambda result: called.append(("second", result)))
    assert called == []
    open_gate(conn)
    assert result.value is True
    assert called == [("first", result), ("second", result)]
    result.add_callback(lambda result: called.append(("late", result)))
    assert called[2:] == [("late", result)]
    assert result.wait()
    assert len(called) == 3


def test_whoever_waits_calls_them_and_else_a_thread_of_the_library_does(conn: gw.BlockingSession) -> None:
    gates = [conn.eval("threading.Event()") for _ in range(2)]
    threads: SimpleQueue[threading.Thread] = SimpleQueue()
    alone, waited = (gw.async_(gate.wait)() for gate in gates)
    for result in (alone, waited):
        result.add_callback(lambda result: threads.put(threading.current_thread()))
    gates[0].set()
    assert "rpyc-gateway worker" in threads.get().name
    release = threading.Thread(target=gates[1].set)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(lambda: (waited.wait(), threading.current_thread())[1])
        while not waited._waiting:
            threading.Event().wait(0.001)
        release.start()
        assert threads.get() is waiting.result()
    release.join()
    waited.add_callback(lambda result: threads.put(threading.current_thread()))
    assert threads.get_nowait() is threading.current_thread()


def test_a_callback_may_call_the_far_side_and_wait_for_more(conn: gw.BlockingSession) -> None:
    result = started(conn)
    told: SimpleQueue[Any] = SimpleQueue()
    result.add_callback(lambda result: told.put((result.value, conn.eval("6 * 7"), started(conn).value)))
    open_gate(conn)
    assert told.get() == (True, 42, True)


def test_a_callback_that_raises_is_logged_and_harms_nobody(
    conn: gw.BlockingSession, caplog: pytest.LogCaptureFixture
) -> None:
    result = started(conn)
    told: SimpleQueue[str] = SimpleQueue()
    result.add_callback(lambda result: 1 // 0)
    result.add_callback(lambda result: told.put("the next one"))
    open_gate(conn)
    assert told.get() == "the next one"
    assert result.value is True
    result.add_callback(lambda result: [][0])
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [ZeroDivisionError, IndexError]
    assert {record.getMessage() for record in caplog.records if record.exc_info} == {
        "a callback of an AsyncResult failed"
    }
    assert conn.ping(1) == 1
    with pytest.raises(TypeError, match="a callback is called with the result, which a NoneType cannot be"):
        result.add_callback(None)  # type: ignore[arg-type]


@pytest.mark.parametrize("end", ["answer", "raise", "close", "lost", "cancel", "expire", "set_expiry"])
def test_whatever_ends_it_callbacks_fire_exactly_once(
    end: str, conn: gw.BlockingSession, caplog: pytest.LogCaptureFixture
) -> None:
    result = started(conn, "fail" if end == "raise" else "gate.wait")
    told: SimpleQueue[gw.AsyncResult] = SimpleQueue()
    result.add_callback(told.put)
    if end in ("answer", "raise"):
        open_gate(conn)
    elif end == "close":
        conn.close()
    elif end == "lost":
        conn._session._connection.close(Failure(code=Code.LINK_LOST, text="cut by the test", hop="relay1"))
    elif end == "cancel":
        assert result.cancel()
        assert not result.cancel()
    else:
        result.set_expiry(0.05 if end == "expire" else -1)
    assert told.get() is result
    state = {"answer": "ready", "cancel": "cancelled", "expire": "expired", "set_expiry": "expired"}.get(end, "error")
    assert f"({state})" in repr(result)
    assert result.is_set()
    errors = {"raise": LookupError, "close": gw.SessionClosed, "lost": gw.LinkLost, "cancel": gw.Cancelled}
    if end != "answer":
        with pytest.raises(errors.get(end, gw.TimedOut)):
            result.value  # noqa: B018
    result.add_callback(told.put)
    assert told.get_nowait() is result
    assert told.empty()
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


# -- its expiry


def test_an_expiry_can_be_taken_back_and_moved(conn: gw.BlockingSession) -> None:
    first, second = started(conn), started(conn)
    first.set_expiry(0.02)
    first.set_expiry(None)
    second.set_expiry(1000)
    second.set_expiry(0.02)
    with pytest.raises(gw.TimedOut):
        second.wait()
    assert not first.expired
    open_gate(conn)
    assert first.value is True
    first.set_expiry(-1)
    assert (first.expired, first.value) == (False, True)
    with pytest.raises(ValueError, match="nan"):
        first.set_expiry(float("nan"))


def test_an_expiry_needs_nobody_who_waits(conn: gw.BlockingSession) -> None:
    result = started(conn, "forever")
    result.set_expiry(0.02)
    assert conn.eval("ended.wait(60)")
    assert result.expired


def test_thousands_of_expiries_that_were_not_needed_are_forgotten(conn: gw.BlockingSession) -> None:
    length = gw.timed(conn.builtins.len, 1000)
    for _ in range(2000):
        assert length("abc").value == 3
    expiries: Any = conn._session.asking._expiries
    assert len(expiries._ends) <= 1001


# -- dropped


def test_one_that_is_dropped_goes_on_and_leaves_nothing_behind(conn: gw.BlockingSession, house: House) -> None:
    result = started(conn, "thing")
    told: SimpleQueue[Any] = SimpleQueue()
    watched = weakref.ref(result)
    started(conn).add_callback(lambda result: told.put(result.value))
    del result
    open_gate(conn)
    assert told.get() is True
    session = conn._session
    far = house.sessions()[-1]
    house.until(lambda: session.statistics().asked == 0)
    gc.collect()
    assert watched() is None
    conn.ping()
    assert session.asking._waiters == {}
    house.until(lambda: far.statistics().exports == session.statistics().imports == 0)


def test_one_that_is_kept_does_not_keep_what_its_value_was(conn: gw.BlockingSession) -> None:
    result = started(conn, "thing")
    open_gate(conn)
    kept = result.value
    assert result.value is kept
    assert result._outcome is not None
    assert result._outcome.payload is None


# -- as a future


def test_futures_of_them_are_waited_for_together(conn: gw.BlockingSession) -> None:
    results = [started(conn) for _ in range(5)]
    futures = [result.future for result in results]
    assert concurrent.futures.wait(futures, timeout=0).done == set()
    open_gate(conn)
    assert {future.result() for future in concurrent.futures.as_completed(futures, timeout=60)} == {True}
    assert results[0].future is futures[0]
    assert started(conn).future.result(60) is True


def test_a_future_knows_the_exception(conn: gw.BlockingSession) -> None:
    future = started(conn, "fail").future
    open_gate(conn)
    assert isinstance(future.exception(60), LookupError)
    with pytest.raises(LookupError):
        future.result()


def test_a_future_that_is_cancelled_cancels_the_call(conn: gw.BlockingSession) -> None:
    result = started(conn, "forever")
    told: SimpleQueue[Any] = SimpleQueue()
    assert conn.eval("begun.wait(60)")
    future = result.future
    future.add_done_callback(told.put)
    assert future.cancel()
    assert future.cancel()
    assert told.get() is future
    assert future.cancelled()
    assert concurrent.futures.wait([future], timeout=60).not_done == set()
    with pytest.raises(gw.Cancelled):
        result.wait() and result.value
    assert conn.eval("ended.wait(60)")
    done = started(conn, "lambda: 1")
    assert done.value == 1
    assert not done.future.cancel()
    assert done.future.result() == 1


def test_a_call_that_is_cancelled_cancels_its_future(conn: gw.BlockingSession) -> None:
    result = started(conn, "forever")
    future = result.future
    assert result.cancel()
    with pytest.raises(concurrent.futures.CancelledError):
        future.result(60)
    expiring = started(conn, "forever")
    expiring.set_expiry(0.02)
    with pytest.raises(gw.TimedOut):
        expiring.future.result(60)


def test_asyncio_code_awaits_them(conn: gw.BlockingSession) -> None:
    async def main() -> list[bool]:
        waiting = [asyncio.wrap_future(started(conn).future) for _ in range(3)]
        open_gate(conn)
        return await asyncio.gather(*waiting)

    assert asyncio.run(main()) == [True] * 3
