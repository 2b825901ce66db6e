"""Calls that threads start: how many at a time, in which order, and what ends the waiting for room."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any

import pytest

import rpyc_gateway as gw
from rpyc_gateway.held import held_by
from rpyc_gateway.proto.messages import Verb
from rpyc_gateway.serving import Offer
from tests.blocking_house import House, open_blocking_lab

CALL = ((Verb.CALL, 0, (), {}),)
MOST = 768
"""Three quarters of the questions that a peer takes at a time."""


class Clerk(gw.Service):
    """Notes what it is told, in the order in which that comes."""

    def __init__(self) -> None:
        self.noted: list[int] = []
        self.gate = threading.Event()

    @gw.expose
    def note(self, number: int) -> int:
        self.noted.append(number)
        return number

    @gw.expose
    def notes(self) -> tuple[int, ...]:
        return tuple(self.noted)


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with open_blocking_lab(3, {"clerk": Offer(Clerk, ("*",), runs="trio")}) as house:
        yield house


@pytest.fixture
def conn(house: House) -> Iterator[gw.BlockingSession]:
    with house.connect() as conn:
        conn.execute("import threading, trio\nevent = trio.Event()\nasync def wait(): await event.wait(); return 1\n")
        conn.execute("def ident(n): return threading.get_ident()\nasync def let_go(): event.set()\n")
        yield conn
        conn.namespace["let_go"]()


def fill(conn: gw.BlockingSession) -> list[gw.AsyncResult]:
    wait = gw.async_(conn.namespace["wait"])
    return [wait() for _ in range(MOST)]


def in_line(conn: gw.BlockingSession, threads: int) -> None:
    asking: Any = conn._session.asking
    until(lambda: len(asking._line) >= threads)


def until(condition: Callable[[], bool]) -> None:
    while not condition():
        threading.Event().wait(0.001)


# -- how many


def test_more_than_the_far_side_takes_wait_for_room_and_all_are_done(conn: gw.BlockingSession) -> None:
    numbers: Any = conn.eval("[]")
    append = gw.async_(numbers.append)
    results = [append(number) for number in range(5000)]
    assert all(result.value is None for result in results)
    assert sorted(gw.obtain(numbers)) == list(range(5000))


def test_other_calls_have_room_when_no_more_can_be_started(conn: gw.BlockingSession) -> None:
    results = fill(conn)
    assert conn.eval("6 * 7") == 42
    started: SimpleQueue[gw.AsyncResult] = SimpleQueue()
    threads = [threading.Thread(target=lambda: started.put(gw.async_(conn.namespace["wait"])())) for _ in range(3)]
    for thread in threads:
        thread.start()
    in_line(conn, 3)
    assert started.empty()
    assert results[0].cancel()  # room for one
    more = [started.get()]
    in_line(conn, 2)
    assert conn._session.statistics().asked <= MOST + 1
    conn.namespace["let_go"]()
    more += [started.get() for _ in range(2)]
    assert {result.value for result in results[1:] + more} == {1}
    for thread in threads:
        thread.join()
    assert conn._session.asking._started == 0


def test_waiting_for_room_ends_in_time_and_nothing_is_sent(conn: gw.BlockingSession) -> None:
    results, wait = fill(conn), gw.async_(conn.namespace["wait"])
    with pytest.raises(gw.TimedOut, match=r"timeout of 0\.05 s is over: the call was not made"), gw.timeout(0.05):
        wait()
    assert conn._session.statistics().asked == MOST
    conn.namespace["let_go"]()
    assert {result.value for result in results} == {1}
    assert not conn._session.asking._line


@pytest.mark.parametrize(("others", "batches"), [(0, 1), (6, 1), (6, 2)])
def test_a_batch_leaves_room_for_ordinary_calls(conn: gw.BlockingSession, others: int, batches: int) -> None:
    asking: Any = conn._session.asking
    conn._session.rpc._most_asked = 9  # six of which may be started calls
    started = [gw.async_(conn.namespace["wait"])() for _ in range(others)]
    heard: SimpleQueue[list[int]] = SimpleQueue()

    def send() -> None:
        with gw.batch(conn) as b:
            waits = [b.namespace["wait"]() for _ in range(20)]
        heard.put([one.value for one in waits])

    threads = [threading.Thread(target=send) for _ in range(batches)]
    for thread in threads:
        thread.start()
    until(
        lambda: asking._started >= (others + batches if others else 6)
    )  # one call of each, as of any caller, if the others have the share
    assert conn.builtins.str(1) == "1"
    conn.namespace["let_go"]()
    assert [heard.get() for _ in threads] == [[1] * 20] * batches
    assert [result.value for result in started] == [1] * others
    for thread in threads:
        thread.join()


def test_whoever_waits_for_room_hears_of_the_end_of_the_session(house: House) -> None:
    conn = house.connect()
    conn.execute("import trio\nasync def wait(): await trio.sleep_forever()")
    wait = gw.async_(conn.namespace["wait"])
    conn._session.rpc._most_asked = 4  # so that more wait than have started
    for _ in range(3):
        wait()
    heard: SimpleQueue[str] = SimpleQueue()

    def start() -> None:
        try:
            wait()
        except gw.SessionClosed as error:
            heard.put(type(error).__name__)

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    in_line(conn, 8)
    conn.close()
    assert [heard.get() for _ in threads] == ["SessionClosed"] * 8
    with pytest.raises(gw.SessionClosed):
        wait()


def test_ctrl_c_ends_the_waiting_and_not_the_call(conn: gw.BlockingSession) -> None:
    result = gw.async_(conn.namespace["wait"])()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        conn.execute("def interrupt(f): f()")
        for wait in (result.wait, lambda: result.value, lambda: result.future.result()):
            alarm = threading.Thread(target=_interrupt_who_waits, args=(result,))
            alarm.start()
            with pytest.raises(KeyboardInterrupt):
                wait()
            alarm.join()
    finally:
        signal.signal(signal.SIGINT, before)
    assert not result.ready
    conn.namespace["let_go"]()
    assert result.value == 1


def test_ctrl_c_ends_the_waiting_for_room_and_others_get_it(conn: gw.BlockingSession) -> None:
    results, wait = fill(conn), gw.async_(conn.namespace["wait"])
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def interrupt() -> None:
        in_line(conn, 1)
        os.kill(os.getpid(), signal.SIGINT)

    alarm = threading.Thread(target=interrupt)
    try:
        alarm.start()
        with pytest.raises(KeyboardInterrupt):
            wait()
    finally:
        signal.signal(signal.SIGINT, before)
    alarm.join()
    assert not conn._session.asking._line
    started: SimpleQueue[gw.AsyncResult] = SimpleQueue()
    thread = threading.Thread(target=lambda: started.put(wait()))
    thread.start()
    in_line(conn, 1)
    results[0].cancel()
    assert not started.get().ready
    thread.join()


def test_ctrl_c_ends_a_batch_and_what_it_has_begun(conn: gw.BlockingSession, house: House) -> None:
    forever = conn.namespace["wait"]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def interrupt() -> None:
        os.kill(os.getpid(), signal.SIGINT)

    try:
        conn.execute("def call(f): f()")
        with pytest.raises(KeyboardInterrupt), gw.batch(conn) as b:  # noqa: PT012
            one, stuck = b.eval("1"), b(forever)()
            b.namespace["call"](lambda: threading.Thread(target=interrupt).start())
    finally:
        signal.signal(signal.SIGINT, before)
    assert one.value == 1
    with pytest.raises(gw.Cancelled, match="the batch was interrupted"):
        stuck.value  # noqa: B018
    far = house.sessions()[-1]
    house.until(lambda: far.statistics().running == 0)
    assert conn.ping(1) == 1


def _interrupt_who_waits(result: gw.AsyncResult) -> None:
    while not (result._waiting or (result._future is not None and result._future._condition._waiters)):
        threading.Event().wait(0.001)
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("what", ["start", "batch", "wait"])
def test_whoever_serves_a_call_that_is_cancelled_waits_no_more(conn: gw.BlockingSession, what: str) -> None:
    wait, call = gw.async_(conn.namespace["wait"]), conn.eval("lambda f: f()")
    conn._session.rpc._most_asked = 6  # four of which may be started calls
    results = [wait() for _ in range(4)]
    heard: SimpleQueue[str] = SimpleQueue()

    def served() -> None:
        heard.put("served")
        try:
            if what == "start":
                wait()
            elif what == "batch":
                with gw.batch(conn) as b:
                    b.namespace["wait"]()
            else:
                results[0].wait()
        except gw.Cancelled as error:
            heard.put(type(error).__name__)
            raise

    with pytest.raises(gw.Cancelled), gw.timeout(0.1):
        call(served)
    assert heard.get() == "served"
    assert heard.get() in ("Cancelled", "TimedOut")
    assert not conn._session.asking._line
    assert conn._session.asking.by_cause == {}
    until(lambda: conn._session.rpc.room > 1)  # what was cancelled is open until that is answered
    conn.namespace["let_go"]()
    others = results[what == "wait" :]  # a wait whose time is over cancels what it waits for
    assert [result.value for result in others] == [1] * len(others)


# -- in which order


def test_what_one_thread_starts_begins_in_its_order(house: House) -> None:
    with house.connect(service="clerk") as conn:
        note = gw.async_(conn.root.note)
        results = [note(number) for number in range(2000)]
        assert [result.value for result in results] == list(range(2000))
        assert conn.root.notes() == tuple(range(2000))


def test_a_slow_one_holds_up_nobody(conn: gw.BlockingSession) -> None:
    slow = gw.async_(conn.eval("threading.Event().wait"))
    stuck = [slow(1000) for _ in range(20)]
    assert gw.async_(conn.eval("lambda: 'quick'"))().value == "quick"
    assert conn.eval("'quick too'") == "quick too"
    for result in stuck:
        assert result.cancel()


# -- together


def test_programs_that_are_sent_together_run_in_the_thread_of_whoever_waits(conn: gw.BlockingSession) -> None:
    mine = conn.modules.threading.get_ident()
    ident = held_by(conn.namespace["ident"])
    asking = conn._session.asking
    for count in (0, 3, 2500):
        results = asking.ask_together([(ident.number, ((Verb.CALL, 0, (n,), {}),)) for n in range(count)])
        asking.see_through(results)
        assert [result.value for result in results] == [mine] * count
    assert asking.by_cause == {}
    assert asking._started == 0


def test_what_is_sent_together_ends_together_in_time(conn: gw.BlockingSession) -> None:
    wait, asking = held_by(conn.namespace["wait"]), conn._session.asking
    with pytest.raises(gw.TimedOut), gw.timeout(0.05):  # noqa: PT012
        results = asking.ask_together([(wait.number, CALL)] * 3)
        asking.see_through(results)
        results[0].value  # noqa: B018  # the far side may notice first
    assert (asking.by_cause, asking._waiters) == ({}, {})
    assert conn.ping(1) == 1


def test_callbacks_of_what_is_sent_together_run_on_the_stack_that_waits(conn: gw.BlockingSession) -> None:
    call = held_by(conn.eval("lambda f: f()"))
    run_in: list[threading.Thread] = []
    note = ((Verb.CALL, 0, (lambda: run_in.append(threading.current_thread()),), {}),)
    asking = conn._session.asking
    asking.see_through(asking.ask_together([(call.number, note)] * 2))
    assert run_in == [threading.current_thread()] * 2
