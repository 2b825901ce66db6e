"""How long a caller waits, and that everybody who works for it knows."""

from __future__ import annotations

import math
import socket
import threading
from collections.abc import Iterator

import pytest
import trio

import rpyc_gateway as gw
from rpyc_gateway import deadlines
from tests.blocking_house import House, open_blocking_lab
from tests.house import open_lab

SOON = 0.25  # for waits that end by the timeout only
LONG = 1000.0  # for those that must not


@pytest.fixture(params=[1, 3], ids=["0 relays", "2 relays"])
def house(request: pytest.FixtureRequest) -> Iterator[House]:
    with open_blocking_lab(request.param) as house:
        yield house


@pytest.fixture
def conn(house: House) -> Iterator[gw.BlockingSession]:
    with house.connect() as conn:
        conn.execute(
            "import threading, time, trio\nimport rpyc_gateway as gw\nends = []\nstuck = threading.Event()\n"
            "def end(error): ends.append(type(error).__name__)\n"
            "def spin(f):\n  try:\n    while True: f()\n  except BaseException as e: end(e); raise\n"
            "async def nap():\n  try: await trio.sleep_forever()\n  except trio.Cancelled as e: end(e); raise\n"
        )
        yield conn


def test_a_call_without_an_answer_is_given_up_in_time_and_the_far_side_hears_of_it(
    house: House, conn: gw.BlockingSession
) -> None:
    with pytest.raises(TimeoutError, match=r"timeout of 0\.25 s is over.*whether it was done is unknown") as caught:
        with gw.timeout(SOON):
            conn.eval("stuck.wait()")
    assert type(caught.value) is gw.TimedOut
    assert isinstance(caught.value, gw.Cancelled)
    assert conn.ping("on we go") == "on we go"
    (far,) = house.sessions()
    house.until(lambda: far.statistics()[1] == 0)
    conn.eval("stuck.set()")
    house.until(lambda: far.statistics().running == 0)
    assert conn._session.asking._waiters == {}


def test_what_is_left_of_the_time_travels_and_cancels_a_task(conn: gw.BlockingSession) -> None:
    with pytest.raises(TimeoutError), gw.timeout(SOON):
        conn.namespace["nap"]()
    conn.eval("[time.sleep(0.001) for _ in iter(lambda: len(ends), 1)]")
    assert conn.eval("tuple(ends)") == ("Cancelled",)


def test_a_far_thread_notices_at_its_next_checkpoint_or_remote_operation(conn: gw.BlockingSession) -> None:
    for looks_up in (conn.eval("gw.checkpoint"), lambda: None):
        conn.execute("ends.clear()")
        with pytest.raises(TimeoutError), gw.timeout(SOON):
            conn.namespace["spin"](looks_up)
        conn.eval("[time.sleep(0.001) for _ in iter(lambda: len(ends), 1)]")
        assert conn.eval("ends[0] in ('TimedOut', 'Cancelled')")


def test_the_far_side_needs_no_word_from_us_to_notice(
    conn: gw.BlockingSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conn._session.rpc, "cancel", lambda _question: None)  # as if the CANCEL never arrived
    with pytest.raises(TimeoutError), gw.timeout(SOON):
        conn.namespace["spin"](conn.eval("gw.checkpoint"))
    conn.eval("[time.sleep(0.001) for _ in iter(lambda: len(ends), 1)]")
    assert conn.eval("tuple(ends)") == ("TimedOut",)


def test_the_nearest_end_counts(conn: gw.BlockingSession) -> None:
    with gw.timeout(LONG):
        with pytest.raises(TimeoutError, match=r"0\.25 s"), gw.timeout(SOON):
            conn.eval("stuck.wait()")
        assert conn.ping(1) == 1
    with gw.timeout(SOON), pytest.raises(TimeoutError, match=r"0\.25 s"), gw.timeout(LONG):
        conn.eval("stuck.wait()")
    with gw.timeout(math.inf):
        assert conn.ping(2) == 2
    assert deadlines.current() is None


def test_one_block_bounds_all_that_is_in_it_together(conn: gw.BlockingSession) -> None:
    with gw.timeout(SOON):
        with pytest.raises(TimeoutError, match="unknown"):
            conn.eval("stuck.wait()")
        for _ in range(2):  # and nothing more is begun
            with pytest.raises(TimeoutError, match="the call was not made"):
                conn.ping()
        with pytest.raises(TimeoutError):
            gw.checkpoint()
    assert conn.ping("later") == "later"


def test_a_timeout_longer_than_a_thread_can_wait_is_a_long_one(conn: gw.BlockingSession) -> None:
    with gw.timeout(threading.TIMEOUT_MAX * 2):
        assert conn.ping(1) == 1
    with pytest.raises(ValueError, match="nan"), gw.timeout(math.nan):
        pass


def test_callbacks_and_onward_calls_inherit_what_is_left(house: House) -> None:
    with house.connect() as conn:
        conn.execute(
            f"import rpyc_gateway as gw\nfrom rpyc_gateway import deadlines\nonward = gw.connect({house.url!r}, node='lab')\n"
            "onward.execute('from rpyc_gateway import deadlines')\n"
            "def left(): return deadlines.current().left\n"
            "def there_and_back(f): return f(left)\n"
        )
        with gw.timeout(LONG):
            mine = deadlines.current()
            assert mine is not None
            lefts = [
                conn.eval("left()"),  # in a thread over there
                conn.namespace["there_and_back"](lambda f: deadlines.current().left),  # type: ignore[union-attr]
                conn.namespace["there_and_back"](lambda f: f()),  # a callback of a callback
                conn.eval("onward.eval('deadlines.current().left')"),  # a call that the served call makes elsewhere
            ]
            assert all(0 < left <= LONG for left in lefts)
            with gw.timeout(LONG / 10):
                assert 0 < conn.eval("onward.eval('deadlines.current().left')") <= LONG / 10
        assert conn.eval("deadlines.current()") is None
        conn.eval("onward.close()")


def test_a_served_call_that_waits_elsewhere_is_freed_by_its_deadline(house: House) -> None:
    stuck = threading.Event()
    with house.connect() as conn:
        (far,) = house.sessions()
        conn.execute("def call(f): return f()")
        with pytest.raises(TimeoutError), gw.timeout(SOON):
            conn.namespace["call"](lambda: conn.namespace["call"](conn.modules.threading.Event().wait))
        with pytest.raises(TimeoutError), gw.timeout(SOON):
            conn.eval("lambda f: f()")(conn.modules.threading.Event().wait)
        house.until(lambda: far.statistics()[:2] == (0, 0))
        stuck.set()


async def test_in_trio_code_the_deadline_of_a_scope_is_that_of_the_far_side() -> None:
    async with open_lab(3) as lab:
        await lab.execute("from rpyc_gateway import deadlines\nimport trio")
        with trio.move_on_after(LONG):
            assert 0 < await lab.eval("deadlines.current().left") <= LONG

            async def callback() -> float:
                return trio.current_effective_deadline() - trio.current_time()

            assert 0 < await (await lab.eval("lambda f: f()"))(callback) <= LONG
        with trio.move_on_after(SOON) as scope:
            await lab.eval("trio.sleep_forever()")
        assert scope.cancelled_caught
        assert await lab.ping("on we go") == "on we go"


async def test_trio_code_is_told_of_its_own_scopes() -> None:
    with pytest.raises(RuntimeError, match="fail_after"), gw.timeout(1):
        pass


def test_connect_takes_no_longer_than_it_may(house: House) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # which takes the connection and says nothing
        port = silent.getsockname()[1]
        with pytest.raises(TimeoutError, match="what was begun is undone"), gw.timeout(SOON):
            gw.connect(f"tcp://127.0.0.1:{port}")
    with gw.timeout(LONG), house.connect() as conn:
        assert conn.ping(1) == 1
    with gw.timeout(-1), pytest.raises(TimeoutError, match="is over"):
        house.connect()
    with house.connect() as conn, pytest.raises(TimeoutError), gw.timeout(0):
        conn.ping()
    assert conn.closed  # leaving needs no time


def test_a_timeout_of_the_far_sides_own_is_an_answer_like_any_other(conn: gw.BlockingSession) -> None:
    with pytest.raises(gw.TimedOut, match=r"timeout of 0\.01 s") as caught:
        conn.execute("with gw.timeout(0.01):\n  while True: gw.checkpoint()")
    assert gw.remote_path(caught.value)[0] == "lab"
