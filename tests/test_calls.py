"""A served call whose caller loses interest."""

from __future__ import annotations

from typing import Any

import trio

import rpyc_gateway as gw
from tests.house import open_lab


async def test_cancelling_the_caller_cancels_the_far_task() -> None:
    async with open_lab(3) as lab:
        await lab.execute(
            "import trio\nseen = []\n"
            "async def nap():\n"
            "  try:\n    seen.append('begun')\n    await trio.sleep_forever()\n"
            "  finally: seen.append('over')\n"
        )
        seen = await lab.namespace["seen"]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_await, lab.namespace["nap"]())
            while await gw.ops.len(seen) < 1:
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        while await gw.ops.len(seen) < 2:
            await trio.lowlevel.checkpoint()
        assert await lab.builtins.tuple(seen) == ("begun", "over")


async def _await(expression: Any) -> None:
    await expression


async def test_a_far_thread_learns_of_a_cancellation_at_its_next_remote_operation() -> None:
    async with open_lab() as lab:
        await lab.execute(
            "ends = []\n"
            "def loop(f):\n"
            "  try:\n    while True: f()\n"
            "  except BaseException as e: ends.append(type(e).__name__)\n"
        )
        ends = await lab.namespace["ends"]
        called = trio.Event()

        async def tick() -> None:
            called.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(_await, lab.namespace["loop"](tick))
            await called.wait()
            nursery.cancel_scope.cancel()
        while await gw.ops.len(ends) < 1:
            await trio.lowlevel.checkpoint()
        assert await lab.builtins.tuple(ends) == ("Cancelled",)
        assert lab.statistics().asked == 0


async def test_a_loop_in_a_thread_may_ask_whether_anybody_still_waits() -> None:
    async with open_lab() as lab:
        await lab.execute(
            "import rpyc_gateway as gw\nends = []\n"
            "def loop(begun):\n"
            "  try:\n    begun()\n    while True: gw.checkpoint()\n"
            "  except gw.Cancelled as e: ends.append(str(e))\n"
        )
        ends = await lab.namespace["ends"]
        begun = trio.Event()

        async def tell() -> None:
            begun.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(_await, lab.namespace["loop"](tell))
            await begun.wait()
            nursery.cancel_scope.cancel()
        while await gw.ops.len(ends) < 1:
            await trio.lowlevel.checkpoint()
        assert "lost interest" in await ends[0]


def test_outside_of_a_served_call_there_is_nothing_to_cancel() -> None:
    gw.checkpoint()
