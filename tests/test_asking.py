"""Questions of ours: many at once, cancelled, too late, and what their errors say."""

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
from rpyc_gateway.proto.messages import Verb
from rpyc_gateway.proxy import blocking_proxy
from rpyc_gateway.session import Session
from rpyc_gateway.waiters import Outcome, TaskWaiter, ThreadWaiter
from tests.house import HOPS, open_house, open_lab, wait_until


@HOPS
async def test_an_exception_keeps_type_arguments_notes_and_traceback_and_says_where_it_was(hops: int) -> None:
    async with open_lab(hops) as lab:
        with pytest.raises(FileNotFoundError, match="No such file") as caught:
            await lab.builtins.open("/no/such/file")
        error = caught.value
        assert (error.errno, error.filename) == (2, "/no/such/file")
        assert "FileNotFoundError" in gw.remote_traceback(error)
        assert gw.remote_path(error)[0] == "lab"
        assert gw.remote_path(error)[-1] == ("relay1" if hops == 3 else "lab")
        await lab.execute("def chained():\n try: 1/0\n except ZeroDivisionError as e: raise KeyError('k') from e")
        with pytest.raises(KeyError) as again:
            await lab.namespace["chained"]()
        assert isinstance(again.value.__cause__, ZeroDivisionError)


async def test_a_hundred_calls_in_flight_are_answered_each_with_its_own() -> None:
    async with open_lab() as lab:
        double = await lab.eval("lambda x: 2 * x")
        answers: dict[int, int] = {}

        async def ask(number: int) -> None:
            answers[number] = await double(number)

        async with trio.open_nursery() as nursery:
            for number in range(100):
                nursery.start_soon(ask, number)
        assert answers == {number: 2 * number for number in range(100)}


async def test_a_deadline_travels() -> None:
    async with open_lab() as lab:
        await lab.execute("import trio\nleft = []\nasync def nap():\n await trio.sleep_forever()\n")
        with trio.move_on_after(0.05) as scope:
            await lab.namespace["nap"]()
        assert scope.cancelled_caught
        assert await lab.ping(1) == 1


async def test_a_peer_that_names_what_it_was_never_given_hears_so() -> None:
    async with open_lab() as lab:
        with pytest.raises(gw.ProtocolError, match="object 999"):
            await lab._asking.ask_async(999, ((Verb.GET, 0, "x"),))
        assert await lab.ping(1) == 1


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


async def test_what_is_cancelled_before_it_is_sent_is_not_done() -> None:
    async with open_lab() as lab:
        done = await lab.eval("[]")
        with trio.CancelScope() as scope:
            scope.cancel()
            await done.append(1)
        assert await gw.ops.len(done) == 0


async def test_the_end_of_an_iterator_can_be_raised_by_a_coroutine() -> None:
    async with open_lab() as lab:
        walk = await lab.eval("iter([])")
        with pytest.raises(StopAsyncIteration):
            await gw.ops.next(walk)


async def test_an_exception_says_its_way_from_either_side() -> None:
    async with open_lab(2) as lab:
        await lab.execute(
            "def tell(f):\n try: f()\n except KeyError as e: return gw.remote_path(e)\nimport rpyc_gateway as gw"
        )

        def fail() -> None:
            raise KeyError("k")

        assert await lab.namespace["tell"](fail) == ("hq", "relay1")


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
