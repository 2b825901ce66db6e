"""What is left behind is counted, and a task is cut short where one says."""

from __future__ import annotations

import os
import subprocess

import trio

from rpyc_gateway.testing.leftovers import Belongings, count_steps, interrupted


async def three_steps(seen: list[int]) -> None:
    for step in range(3):
        seen.append(step)
        await trio.lowlevel.checkpoint()


async def test_a_task_is_cut_short_at_each_of_its_steps() -> None:
    for at, expected in ((1, [0]), (2, [0, 1]), (3, [0, 1, 2]), (9, [0, 1, 2])):
        seen: list[int] = []
        with interrupted(at) as interruption:
            await three_steps(seen)
        assert seen == expected
        assert interruption.came == (at <= 3)


async def test_steps_of_tasks_that_it_starts_count_and_others_do_not() -> None:
    async def family() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(three_steps, [])
            nursery.start_soon(three_steps, [])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever)
        alone = await count_steps(family)
        nursery.start_soon(three_steps, [])
        assert await count_steps(family) == alone >= 8
        nursery.cancel_scope.cancel()


async def test_tasks_descriptors_and_children_that_are_more_are_named() -> None:
    before = Belongings.now()
    assert await before.what_is_more(0) == ""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever)
        descriptor = os.open(os.devnull, os.O_RDONLY)
        with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:  # noqa: ASYNC220
            more = await before.what_is_more(0.01)
            assert more.startswith("1 tasks and 2 descriptors (")
            assert f"{descriptor}: /dev/null" in more
            assert more.endswith(f"1 child processes (pid {process.pid})")
        os.close(descriptor)
        nursery.cancel_scope.cancel()
    assert await before.what_is_more(10) == ""
