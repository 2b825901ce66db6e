"""Questions that wait for room, and answers that come when nobody waits any more."""

from __future__ import annotations

import contextlib
import gc
import operator
import threading
from functools import partial
from typing import Any

import pytest
import trio

import rpyc_gateway as gw
from rpyc_gateway.held import held_by
from rpyc_gateway.proxy import blocking_proxy
from rpyc_gateway.session import Session
from rpyc_gateway.waiters import Outcome, TaskWaiter, ThreadWaiter
from tests.house import open_house, open_lab, wait_until


async def test_more_questions_than_the_peer_takes_wait_for_their_turn() -> None:
    async with open_lab() as lab:
        double = await lab.eval("lambda x: 2 * x")
        answers: set[int] = set()

        async def ask(number: int) -> None:
            answers.add(await double(number))

        async with trio.open_nursery() as nursery:
            for number in range(3000):
                nursery.start_soon(ask, number)
        assert answers == {2 * number for number in range(3000)}


async def test_waiting_for_room_can_be_cancelled_and_ends_with_the_session() -> None:
    async with open_lab() as lab:
        await lab.execute("import trio\nasync def nap(n):\n await trio.sleep_forever()\n")
        nap = await lab.namespace["nap"]
        ends: list[type[BaseException]] = []

        async def ask(number: int) -> None:
            try:
                await nap(number)
            except (gw.SessionClosed, trio.Cancelled) as error:
                ends.append(type(error))
                raise

        with contextlib.suppress(ExceptionGroup):
            async with trio.open_nursery() as nursery:
                for number in range(1030):
                    nursery.start_soon(ask, number)
                await wait_until(lambda: lab.statistics().asked == 1024)
                with trio.CancelScope() as late:
                    late.cancel()
                    await ask(0)
                lab.close()
        assert len(ends) == 1031
        assert ends[0] is trio.Cancelled
        assert gw.SessionClosed in ends


async def test_an_answer_that_crosses_an_interrupt_of_a_thread_gives_back_what_it_carried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The worst moment: the question is closed, and its outcome has not reached the thread, which waits no more."""
    async with open_house("hq", "lab") as nodes, nodes[0].session("lab") as lab:
        make = blocking_proxy(held_by(await lab.eval("lambda: [1]")))
        ((far, _),) = nodes[1]._serving._sessions.values()
        complete, leftovers = ThreadWaiter.complete, ThreadWaiter.leftovers
        looked = threading.Event()

        def interrupted(self: ThreadWaiter, outcome: Outcome) -> None:
            self.interrupt("just now")
            looked.wait(0.2)  # which it must not do before the outcome is there
            complete(self, outcome)

        def look(self: ThreadWaiter) -> list[Any]:
            looked.set()
            return leftovers(self)

        monkeypatch.setattr(ThreadWaiter, "complete", interrupted)
        monkeypatch.setattr(ThreadWaiter, "leftovers", look)
        with pytest.raises(gw.Cancelled, match="just now"):
            await trio.to_thread.run_sync(partial(operator.call, make))
        await _all_came_back(lab, far, [make])


async def test_an_answer_that_crosses_the_cancelling_of_a_task_gives_back_what_it_carried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with open_house("hq", "lab") as nodes, nodes[0].session("lab") as lab:
        make = await lab.eval("lambda: [1]")
        ((far, _),) = nodes[1]._serving._sessions.values()
        complete = TaskWaiter.complete
        with trio.CancelScope() as scope:

            def cancelled(self: TaskWaiter, outcome: Outcome) -> None:
                scope.cancel()
                complete(self, outcome)

            monkeypatch.setattr(TaskWaiter, "complete", cancelled)
            await make()
        assert scope.cancelled_caught
        monkeypatch.undo()
        await _all_came_back(lab, far, [make])


async def _all_came_back(lab: Session, far: Session, kept: list[object]) -> None:
    """Nothing but what is kept here is lent by the far side."""
    gc.collect()  # an exception and its traceback are a cycle
    lab._flush()
    await wait_until(lambda: far.statistics().exports == len(kept))
