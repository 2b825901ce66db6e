"""Code that is written once, in blocking code and in trio code; what it is used for is tested in test_files.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trio

import rpyc_gateway as gw
from rpyc_gateway.faces import Face, run
from tests.blocking_house import House, open_blocking_lab


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with open_blocking_lab() as house:
        yield house


@pytest.fixture(params=["blocking", "trio"])
def do(request: pytest.FixtureRequest, house: House) -> Callable[[Callable[[Face, Any], Any]], Any]:
    """Do a job with a session, as the code of either face does."""

    def blocking(job: Callable[[Face, Any], Any]) -> Any:
        with house.connect() as conn:
            return run(lambda face: job(face, conn), conn)

    def in_trio(job: Callable[[Face, Any], Any]) -> Any:
        async def main() -> Any:
            async with gw.open_session(house.url, node="lab") as session:
                return await run(lambda face: job(face, session), session)

        return trio.run(main)

    return blocking if request.param == "blocking" else in_trio


def test_functions_are_called_here_and_there(do: Any) -> None:
    async def job(face: Face, conn: Any) -> Any:
        return await face.here(len, "ab"), await face.there(conn.eval, "1 + 2")

    assert do(job) == (2, 3)


def test_what_is_fetched_comes_in_order(do: Any) -> None:
    async def job(face: Face, conn: Any) -> Any:
        make = await face.there(conn.eval, "lambda: (n for n in range(100))")
        return [item async for item in face.fetch(await face.there(make), 8)]

    assert do(job) == list(range(100))


def test_what_is_lent_can_be_iterated_from_the_far_side(do: Any) -> None:
    async def job(face: Face, conn: Any) -> Any:
        make = await face.there(conn.eval, "lambda: (n for n in range(100))")
        async with face.lend(await face.there(make), 8) as lent:
            return await face.there(await face.there(conn.eval, "sum"), lent)

    assert do(job) == 4950


def test_what_ends_the_lent_items_is_raised_behind_them(do: Any) -> None:
    async def job(face: Face, conn: Any) -> Any:
        await face.there(conn.execute, "def broken():\n    yield 1\n    raise KeyError('broken')")
        broken = await face.there(conn.eval, "broken")
        taken = await face.there(conn.eval, "lambda items, seen: [seen(item) for item in items]")
        async with face.lend(await face.there(broken), 8) as lent:
            await face.there(taken, lent, seen.append)

    seen: list[int] = []
    with pytest.raises(KeyError, match="broken"):
        do(job)
    assert seen == [1]


def test_nobody_waits_for_items_that_are_no_longer_wanted(do: Any, house: House) -> None:
    """Neither the thread that iterates nor the far side that makes them."""

    async def job(face: Face, conn: Any) -> Any:
        make = await face.there(conn.eval, "lambda: iter(__import__('itertools').count())")
        first = await face.there(conn.eval, "lambda items: next(items)")
        async with face.lend(await face.there(make), 8) as lent:
            return await face.there(first, lent)

    assert do(job) == 0
    house.until_empty()


def test_a_file_is_closed_although_its_user_is_cancelled(house: House) -> None:
    closed = []

    async def main() -> None:
        async with gw.open_session(house.url, node="lab") as session:
            make = await session.eval("lambda tell: type('File', (), {'close': lambda self: tell()})()")
            file = await make(lambda: closed.append(True))

            async def job(face: Face) -> None:
                await face.leave(file)

            with trio.CancelScope() as scope:
                scope.cancel()
                await run(job, session)

    trio.run(main)
    assert closed == [True]
