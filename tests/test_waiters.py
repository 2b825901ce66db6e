"""Who waits for an answer: a thread serves its own chain of calls meanwhile, a task may be cancelled, and a thread's end is told."""

from __future__ import annotations

import gc
import threading

import pytest
import trio
import trio.testing

from rpyc_gateway.errors import Cancelled
from rpyc_gateway.proto.values import Payload
from rpyc_gateway.waiters import Outcome, TaskWaiter, ThreadWaiter, thread_number

ANSWER = Outcome(Payload(b"\x2a"))


# -- threads ------------------------------------------------------------------------------------------------------------


def test_a_thread_serves_the_callbacks_of_its_chain_until_the_answer_is_there() -> None:
    waiter, done = ThreadWaiter(), []
    waiter.run(lambda: done.append(threading.current_thread()))
    waiter.run(lambda: done.append(threading.current_thread()))
    waiter.complete(ANSWER)
    waiter.run(lambda: done.append("too late"))
    assert waiter.wait() is ANSWER
    assert done == [threading.current_thread()] * 2


def test_a_callback_may_wait_in_turn() -> None:
    outer, inner = ThreadWaiter(), ThreadWaiter()
    inner.complete(ANSWER)
    heard: list[Outcome] = []
    outer.run(lambda: heard.append(inner.wait()))
    outer.complete(Outcome())
    outer.wait()
    assert heard == [ANSWER]


def test_a_thread_that_waits_is_woken_from_another() -> None:
    waiter = ThreadWaiter()
    thread = threading.Thread(target=lambda: waiter.run(lambda: waiter.complete(ANSWER)))
    thread.start()
    assert waiter.wait() is ANSWER
    thread.join()


def test_what_was_handed_over_and_not_run_is_for_somebody_else() -> None:
    waiter, done = ThreadWaiter(), []
    waiter.complete(ANSWER)
    waiter.run(lambda: done.append(1))
    waiter.complete(Outcome())
    waiter.run(lambda: done.append(2))
    waiter.wait()
    first, late, second = waiter.leftovers()
    first()
    second()
    assert done == [1, 2]
    assert isinstance(late, Outcome)
    assert waiter.leftovers() == []


def test_an_interrupted_thread_stops_waiting() -> None:
    waiter = ThreadWaiter()
    waiter.interrupt("nobody wants it")
    outcome = waiter.wait()
    assert isinstance(outcome.error, Cancelled)
    assert str(outcome.error) == "nobody wants it"


def test_a_thread_does_not_keep_what_a_callback_was_given() -> None:
    waiter, gone = ThreadWaiter(), threading.Event()

    class Thing:
        """Says so when it dies."""

        def __del__(self) -> None:
            gone.set()

    thing = Thing()
    waiter.run(lambda thing=thing: None)  # type: ignore[misc]
    del thing
    thread = threading.Thread(target=waiter.wait)
    thread.start()
    assert gone.wait(10)
    waiter.complete(ANSWER)
    thread.join()


# -- tasks --------------------------------------------------------------------------------------------------------------


async def test_a_task_is_woken_by_its_outcome() -> None:
    waiter, heard = TaskWaiter(), []

    async def wait() -> None:
        heard.append(await waiter.wait())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        waiter.complete(ANSWER)
    assert heard == [ANSWER]


async def test_an_outcome_may_come_before_anybody_waits() -> None:
    waiter = TaskWaiter()
    waiter.complete(ANSWER)
    assert await waiter.wait() is ANSWER


async def test_a_cancelled_task_waits_no_more_and_a_late_outcome_harms_nobody() -> None:
    waiter = TaskWaiter()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(waiter.wait)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    waiter.complete(ANSWER)
    await trio.testing.wait_all_tasks_blocked()


async def test_a_task_that_is_cancelled_already_does_not_wait_at_all() -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await TaskWaiter().wait()
    assert scope.cancelled_caught


async def test_an_outcome_that_came_first_is_not_lost_to_a_cancel() -> None:
    waiter, heard = TaskWaiter(), []
    scope = trio.CancelScope()

    async def wait() -> None:
        with scope:
            heard.append(await waiter.wait())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        waiter.complete(ANSWER)
        scope.cancel()
    assert heard == [ANSWER]


# -- calling threads ----------------------------------------------------------------------------------------------------


class Ear:
    """Hears of threads that have ended."""

    def __init__(self) -> None:
        self.ended: list[int] = []

    def thread_ended(self, number: int) -> None:
        self.ended.append(number)


def in_a_thread(*ears: Ear) -> list[int]:
    numbers: list[int] = []
    thread = threading.Thread(target=lambda: numbers.extend(thread_number(ear) for ear in ears))
    thread.start()
    thread.join()
    gc.collect()
    return numbers


def test_a_thread_has_one_number_which_no_other_has() -> None:
    first, second = Ear(), Ear()
    assert thread_number(first) == thread_number(second) == thread_number(first)
    (one, also_one), (another,) = in_a_thread(first, second), in_a_thread(first)
    assert one == also_one
    assert len({one, another, thread_number(first)}) == 3


def test_the_end_of_a_thread_is_told_once_to_whoever_asked_for_its_number() -> None:
    first, second, stranger = Ear(), Ear(), Ear()
    numbers = in_a_thread(first, first, second)
    assert first.ended == second.ended == numbers[:1]
    assert stranger.ended == []


def test_a_listener_that_is_gone_is_not_told() -> None:
    ear, started, go = Ear(), threading.Event(), threading.Event()
    ended = ear.ended

    def call(ears: list[Ear]) -> None:
        thread_number(ears.pop())
        started.set()
        go.wait(10)

    thread = threading.Thread(target=call, args=([ear],))
    del ear
    thread.start()
    started.wait(10)
    gc.collect()
    go.set()
    thread.join()
    assert ended == []


@pytest.mark.parametrize("field", ["payload", "raised", "error"])
def test_an_outcome_is_one_of_three_things(field: str) -> None:
    assert getattr(Outcome(), field) is None
