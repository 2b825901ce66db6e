"""Remote functions that are started and not waited for, whatever kind of function they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import trio

import rpyc_gateway as gw
from tests.blocking_house import House, open_blocking_lab
from tests.house import open_lab

SETUP = """
import threading, time
gate = threading.Event()
class Counter:
    step = 1
    def __init__(self, start=0): self.count = start
    def add(self, n=1, *, times=1): self.count += n * times; return self.count
    def wait(self): gate.wait(); return self.count
    @classmethod
    def make(cls, start): return cls(start)
    def __call__(self, n): return self.count + n
counter = Counter(5)
def apply(function, *args, **kwargs): return function(*args, **kwargs)
async def later(value): return value
"""


@pytest.fixture(params=[1, 3], ids=["0 relays", "2 relays"], scope="module")
def house(request: pytest.FixtureRequest) -> Iterator[House]:
    with open_blocking_lab(request.param) as house:
        yield house


@pytest.fixture
def conn(house: House) -> Iterator[gw.BlockingSession]:
    with house.connect() as conn:
        conn.execute(SETUP)
        yield conn
        conn.eval("gate.set()")


def test_a_call_is_started_and_goes_on_while_others_are_made(conn: gw.BlockingSession) -> None:
    wait = gw.async_(conn.eval("gate.wait"))
    result = wait()
    assert not result.ready
    assert conn.eval("6 * 7") == 42  # in the same session, in the same thread
    assert not result.ready
    conn.eval("gate.set()")
    assert result.value is True
    assert result.ready
    assert not result.error
    assert not result.expired


def test_what_it_raises_is_raised_by_its_value_each_time(conn: gw.BlockingSession) -> None:
    to_int = gw.async_(conn.builtins.int)
    good, bad = to_int("8"), to_int("this is no number")
    assert good.value == 8
    bad.wait()
    assert (bad.ready, bad.error, good.error) == (True, True, False)
    for _ in range(2):
        with pytest.raises(ValueError, match="invalid literal") as caught:
            bad.value  # noqa: B018
        assert "invalid literal" in gw.remote_traceback(caught.value)


def test_methods_classes_objects_and_attributes_can_all_be_started(conn: gw.BlockingSession) -> None:
    counter = conn.namespace["counter"]
    assert gw.async_(counter.add)(2, times=3).value == 11
    kept = counter.add
    assert kept() == 12
    assert gw.async_(kept)().value == 13
    assert gw.async_(counter)(1).value == 14
    assert gw.async_(conn.namespace["Counter"].make)(7).value.count == 7
    assert gw.async_(conn.namespace["Counter"])(8).value.count == 8
    assert isinstance(gw.async_(conn.namespace["Counter"])().value, conn.namespace["Counter"])
    assert gw.async_(conn.modules.os.path.join)("a", "b").value == "a/b"
    assert gw.async_(conn.root.eval)("1 + 1").value == 2
    assert gw.async_(conn.namespace["later"])("in a task").value == "in a task"
    assert gw.async_(counter.add) is not gw.async_(counter.add)
    once = gw.async_(counter.add)
    assert gw.async_(once) is once


def test_arguments_are_what_they_are_in_any_call(conn: gw.BlockingSession) -> None:
    apply = gw.async_(conn.namespace["apply"])
    mine: list[int] = []
    assert apply(mine.append, 1).value is None
    assert mine == [1]
    assert apply(lambda a, *, b: (a, b), "a", b=conn.namespace["counter"].count).value == ("a", 5)
    assert apply(lambda value: value, mine).value is mine
    with pytest.raises(ZeroDivisionError):
        apply(lambda: 1 // 0).value  # noqa: B018


def test_one_message_starts_a_method(conn: gw.BlockingSession) -> None:
    counter: Any = conn.namespace["counter"]
    asked = conn._session.statistics().asked
    result = gw.async_(counter.wait)()
    assert conn._session.statistics().asked == asked + 1
    conn.eval("gate.set()")
    assert result.value == 5


def test_what_is_no_remote_function_is_refused_with_what_to_do(conn: gw.BlockingSession) -> None:
    with pytest.raises(
        TypeError, match=r"this builtin_function_or_method is of this process: run it in a thread \(conc"
    ):
        gw.async_(len)
    with pytest.raises(TypeError, match=r"with gw\.timeout\(seconds\)"):
        gw.timed(len, 5)
    with pytest.raises(TypeError, match=r"take gw\.async_\(conn\.root\.eval\) of this session"):
        gw.async_(conn.eval)
    with pytest.raises(TypeError, match="a list cannot be called"):
        gw.async_(conn.eval("[]"))
    with pytest.raises(TypeError, match="remote functions"):
        gw.async_(5)
    with pytest.raises(ValueError, match="nan"):
        gw.timed(conn.builtins.len, float("nan"))


async def test_trio_code_is_told_to_use_a_nursery() -> None:
    async with open_lab() as lab:
        with pytest.raises(TypeError, match="in trio code start a task in a nursery"):
            gw.async_(lab.builtins.len)
        with pytest.raises(TypeError, match="nursery"):
            gw.timed(await lab.eval("len"), 5)


async def test_a_blocking_proxy_is_started_in_a_thread_only() -> None:
    async with open_lab() as lab:
        conn = gw.BlockingSession(lab, lambda: None)
        length = await trio.to_thread.run_sync(lambda: gw.async_(conn.builtins.len))
        with pytest.raises(RuntimeError, match="the thread that runs trio"):
            length("abc")
        result = await trio.to_thread.run_sync(length, "abc")
        await trio.to_thread.run_sync(result.wait)
        assert result.value == 3  # it is here


def test_they_say_what_they_are(conn: gw.BlockingSession) -> None:
    assert repr(gw.async_(conn.builtins.len)) == "async_(<built-in function len>)"
    assert repr(gw.async_(conn.namespace["counter"].add)) == "async_(<method add of a Counter object>)"
    assert repr(gw.timed(conn.builtins.len, 1.5)) == "timed(<built-in function len>, 1.5)"
    assert repr(gw.timed(gw.async_(conn.builtins.len), 2)) == "timed(<built-in function len>, 2)"
    assert repr(gw.timed(gw.timed(conn.builtins.len, 2), None)) == "async_(<built-in function len>)"


def test_what_cannot_be_sent_fails_where_it_is_written(conn: gw.BlockingSession) -> None:
    deep: Any = ()
    for _ in range(200):
        deep = (deep,)
    with pytest.raises(gw.EncodeError):
        gw.async_(conn.builtins.len)(deep)
    assert conn._session.statistics().asked == 0
    assert conn.ping(1) == 1


def test_a_timed_call_that_takes_too_long_is_cancelled_over_there(conn: gw.BlockingSession, house: House) -> None:
    sleep = gw.timed(conn.modules.trio.sleep, 0.1)
    assert sleep(0).value is None
    assert gw.timed(sleep, None)(0.2).value is None  # which takes longer
    result = sleep(1000)
    with pytest.raises(TimeoutError, match=r"expiry of 0\.1 s is over.*whether it was done is unknown") as caught:
        result.value  # noqa: B018
    assert type(caught.value) is gw.TimedOut
    assert (result.expired, result.ready, result.error) == (True, False, False)
    far = house.sessions()[-1]
    house.until(lambda: far.statistics().running == 0)
