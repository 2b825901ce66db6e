"""Functions of two processes that call each other, down to where Python has no more room."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest
import trio

import rpyc_gateway as gw
from tests.blocking_house import House, open_blocking_lab
from tests.house import open_lab

LEVELS = 200 if sys.gettrace() is None else 100  # a tracer counts its own calls on the stack
DOWN = "def down(n, f):\n  if n == 0: return 0\n  return 1 + f(n - 1, down)\n"


@pytest.fixture(params=[1, 3], ids=["0 relays", "2 relays"])
def house(request: pytest.FixtureRequest) -> Iterator[House]:
    with open_blocking_lab(request.param) as house:
        yield house


def test_two_processes_call_each_other_as_deep_as_python_goes(house: House) -> None:
    assert sys.getrecursionlimit() == 1000
    with house.connect() as conn:
        conn.execute(DOWN)
        down = conn.namespace["down"]

        def here(n: int, f: Any) -> int:
            return 0 if n == 0 else 1 + f(n - 1, here)

        for _ in range(3):  # it is the same session ever after
            assert down(LEVELS, here) == LEVELS  # begun there
            assert here(LEVELS, down) == LEVELS  # begun here
            for begin, other in ((down, here), (here, down)):
                with pytest.raises(RecursionError):
                    begin(1000, other)
            _is_idle(conn, house)


def test_without_end_is_a_recursion_error_at_the_caller(house: House) -> None:
    with house.connect() as conn:
        conn.execute("def ping(f): return f(ping)")
        ping = conn.namespace["ping"]

        def pong(f: Any) -> Any:
            return f(pong)

        for begin, other in ((ping, pong), (pong, ping)):
            with pytest.raises(RecursionError) as caught:
                begin(other)
            assert "maximum recursion depth" in str(caught.value)
        _is_idle(conn, house)


def test_whoever_has_seen_the_recursion_error_may_go_on(house: House) -> None:
    with house.connect() as conn:
        conn.execute("def down(n, f):\n  try:\n    return 1 + f(n + 1, down)\n  except RecursionError:\n    return 1\n")
        down = conn.namespace["down"]

        def here(n: int, f: Any) -> int:
            return 1 + int(f(n + 1, here))

        assert LEVELS / 4 <= down(0, here) <= 500
        _is_idle(conn, house)


def _is_idle(conn: gw.BlockingSession, house: House) -> None:
    (far,) = house.sessions()
    assert conn.ping("still here") == "still here"
    house.until(lambda: far.statistics()[:2] == (0, 0) and far.statistics().running == 0)
    near = conn._session
    assert near.statistics()[:2] == (0, 0)
    assert near.asking._waiters == far.asking._waiters == {}
    assert near.asking.by_cause == far.asking.by_cause == {}


@pytest.mark.parametrize("hops", [1, 3])
async def test_tasks_and_threads_call_each_other_deeper_than_a_stack(hops: int) -> None:
    async with open_lab(hops) as lab:
        await lab.execute(DOWN)
        down = await lab.namespace["down"]

        async def here(n: int, f: Any) -> int:
            return 0 if n == 0 else 1 + await f(n - 1, here)

        assert await down(LEVELS, here) == LEVELS
        assert await here(LEVELS, down) == LEVELS
        assert await lab.ping("still here") == "still here"
        while lab.statistics().running:
            await trio.lowlevel.checkpoint()
        assert lab.statistics()[:2] == (0, 0)
