"""A nursery around somebody else's body."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from rpyc_gateway.nursery import open_background
from tests.house import running


async def test_what_the_body_raises_comes_out_as_it_is(autojump_clock: MockClock) -> None:
    async def fail() -> None:
        async with running("lab"), running("hq", "memory://lab") as hq:
            await hq.wait_route("lab")
            async with hq.session("lab", service="greeter"):
                raise FileNotFoundError("mine")

    with pytest.raises(FileNotFoundError, match="mine"):
        await fail()


async def test_a_task_that_fails_cancels_the_body_and_is_raised_in_a_group(autojump_clock: MockClock) -> None:
    async def fail() -> None:
        raise LookupError("a task's")

    with pytest.RaisesGroup(pytest.RaisesExc(LookupError, match="a task's")):
        async with open_background() as nursery:
            nursery.start_soon(fail)
            await trio.sleep_forever()


async def test_its_tasks_end_with_the_body_and_a_body_that_is_cancelled_is_just_that(autojump_clock: MockClock) -> None:
    ended = []

    async def serve() -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.append(trio.current_time())

    began = trio.current_time()
    with trio.move_on_after(5) as patience:
        async with open_background() as nursery:
            nursery.start_soon(serve)
            await trio.sleep(1)
        async with open_background() as nursery:
            nursery.start_soon(serve)
            await trio.sleep_forever()
    assert patience.cancelled_caught
    assert [when - began for when in ended] == [1, 5]
