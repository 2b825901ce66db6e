"""Questions of trio tasks: those of one round leave together, and what happens to them in between."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from math import inf
from textwrap import dedent
from typing import Any

import pytest
import trio

import rpyc_gateway as gw
from rpyc_gateway.errors import Code
from rpyc_gateway.held import held_by
from rpyc_gateway.proto.frames import Failure
from rpyc_gateway.proto.messages import Call, Splitter, Verb
from rpyc_gateway.proto.speaking import Speaker
from rpyc_gateway.proto.values import LARGE
from rpyc_gateway.session import Session
from tests.house import messages_sent, open_house, open_lab


def kinds(writes: list[bytes]) -> list[list[type]]:
    """What was said, write by write."""
    return [[type(message) for message in Splitter().receive_data(data)] for data in writes]


@asynccontextmanager
async def somebody_waiting(lab: Session) -> AsyncIterator[None]:
    """Another task waits for an answer meanwhile: what tasks ask is put together."""
    await lab.execute(
        "import trio\nend = trio.Event()\nasync def wait(): await end.wait()\nasync def go_on(): end.set()"
    )
    waiting = await held_by(lab.root).caller.post(
        0, ((Verb.GET, 0, "namespace"), (Verb.OP, 1, "__getitem__", ("wait",)), (Verb.CALL, 2, (), {}))
    )
    yield
    await lab.namespace["go_on"]()
    assert await waiting.value() is None


def call_of(number: int) -> list[Any]:
    return [(Verb.CALL, 0, (number,), {})]


async def at_once(*asked: Callable[[], Awaitable[object]]) -> list[object]:
    """Let tasks ask in one round; what each comes to, errors too."""
    outcomes: list[object] = [None] * len(asked)

    async def ask(place: int) -> None:
        try:
            outcomes[place] = await asked[place]()
        except Exception as error:  # noqa: BLE001  # it is what it comes to
            outcomes[place] = type(error)

    async with trio.open_nursery() as nursery:
        for place in range(len(asked)):
            nursery.start_soon(ask, place)
    return outcomes


async def test_what_the_tasks_of_a_round_ask_leaves_together() -> None:
    async with open_lab() as lab:
        double = await lab.eval("lambda x: 2 * x")
        async with somebody_waiting(lab):
            sent = messages_sent(lab)
            got = await at_once(*((lambda number=number: double(number)) for number in range(50)))
            assert got == [2 * number for number in range(50)]
            assert [kind for write in kinds(sent) for kind in write] == [Call] * 50
            assert len(sent) <= 2  # the writer may have been about to send already


async def test_one_task_alone_waits_for_nobody() -> None:
    async with open_lab() as lab:
        sent = messages_sent(lab)
        posted = await held_by(lab.root).caller.post(0, ())
        assert kinds(sent) == [[Call]]
        posted.abandon()


async def test_tasks_that_asked_together_are_expected_to_do_so_again_until_one_is_alone() -> None:
    async with open_lab() as lab:
        double = await lab.eval("lambda x: 2 * x")
        caller, number = held_by(double).caller, held_by(double).number
        for posted in [await caller.post(number, call_of(n)) for n in range(3)]:
            await posted.value()
        sent = messages_sent(lab)
        for at_first in (True, False):
            posted = await caller.post(number, call_of(4))
            assert bool(sent) is not at_first
            assert await posted.value() == 8
            assert kinds(sent) == [[Call]]
            sent.clear()


async def test_an_operand_that_goes_by_reference_goes_at_once_whoever_else_asks() -> None:
    async with open_lab() as lab:
        count = await lab.eval("lambda it: len(it)")
        double = await lab.eval("lambda x: 2 * x")
        async with somebody_waiting(lab):
            mine = [1, 2, 3]
            sent = messages_sent(lab)
            got = await at_once(lambda: double(4), lambda: count(mine), lambda: double("x" * 10_000), lambda: double(5))
            assert got == [8, 3, "x" * 20_000, 10]
            assert max(map(len, sent)) < LARGE  # what is long goes by the other circuit


async def test_what_is_cancelled_before_the_end_of_its_round_is_not_asked() -> None:
    async with open_lab() as lab:
        await lab.execute("done = []")
        done = await lab.namespace["done"]
        async with somebody_waiting(lab):
            sent = messages_sent(lab)
            caller = held_by(done).caller
            append = await done.append
            sent.clear()
            given_up = await caller.post(held_by(append).number, call_of(7))
            kept = await caller.post(held_by(append).number, call_of(8))
            given_up.abandon()
            assert await kept.value() is None
            assert kinds(sent) == [[Call]]
            assert await lab.builtins.tuple(done) == (8,)


async def test_a_session_that_ends_in_the_middle_of_a_round_tells_all_who_asked() -> None:
    async with open_lab() as lab:
        double = await lab.eval("lambda x: 2 * x")
        caller = held_by(double).caller
        await lab.execute("import trio")
        asleep = await caller.post(0, ())
        posted = [await caller.post(0, ()) for _ in range(3)]
        lab.abort(Failure(Code.INTERNAL, "enough", "hq"))
        for one in (asleep, *posted):
            with pytest.raises(gw.GatewayError):
                await one.value()
            one.abandon()
        with pytest.raises(gw.GatewayError):
            await double(1)


async def test_what_was_asked_in_the_round_in_which_a_session_is_closed_still_goes() -> None:
    async with open_house("hq", "lab") as nodes:
        async with nodes[0].session("lab") as lab:
            await lab.execute("import sys\nsys.__dict__['test_posting'] = []")
            append = await lab.eval("__import__('sys').test_posting.append")
            caller, number = held_by(append).caller, held_by(append).number
            posted = [await caller.post(number, call_of(n)) for n in range(3)]
            sent = messages_sent(lab)
            lab.close()
            assert [kind for write in kinds(sent) for kind in write][:2] == [Call, Call]
            for one in posted:
                one.abandon()


async def test_threads_leave_their_places_to_the_questions_of_a_round() -> None:
    async with open_lab() as lab:
        await lab.execute("import threading; gate = threading.Event()")  # an answer would give a place back
        double = held_by(await lab.eval("lambda x: 2 * x if gate.wait(60) else None"))
        async with somebody_waiting(lab):
            posted = [await double.caller.post(double.number, call_of(n)) for n in range(3)]
            lab.rpc._most_asked = lab.statistics().asked + 3
            with pytest.raises(gw.LimitExceeded):
                await trio.to_thread.run_sync(double.caller.ask, double.number, call_of(4))
            lab.rpc._most_asked += 10
            await lab.namespace["gate"].set()
            assert [await value_or_error(one) for one in posted] == [0, 2, 4]
            assert await trio.to_thread.run_sync(double.caller.ask, double.number, call_of(4)) == 8


async def test_more_than_the_peer_takes_fails_those_who_are_too_many() -> None:
    """A thread may have looked before the last of them had its place."""
    async with open_lab() as lab:
        double = held_by(await lab.eval("lambda x: 2 * x"))
        async with somebody_waiting(lab):
            posted = [await double.caller.post(double.number, call_of(n)) for n in range(3)]
            lab.rpc._most_asked = lab.statistics().asked + 2
            assert [await value_or_error(one) for one in posted] == [0, 2, gw.LimitExceeded]


async def value_or_error(posted: Any) -> object:
    try:
        return await posted.value()
    except gw.GatewayError as error:
        return type(error)
    finally:
        posted.abandon()


async def test_what_cannot_go_the_short_way_goes_the_long_one(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_lab() as lab:
        double = await lab.eval("lambda x: 2 * x")
        monkeypatch.setattr(Speaker, "ask_together", lambda *_: None)
        async with somebody_waiting(lab):
            got = await at_once(*((lambda number=number: double(number)) for number in range(20)))
            assert got == [2 * number for number in range(20)]
            posted = await held_by(double).caller.post(held_by(double).number, call_of(1))
            with lab.turn:
                lab.asking.send_unsent()
                assert lab.rpc.data_to_send() == b""  # it is sent at once there, too
            assert await posted.value() == 2


async def test_a_method_that_a_thread_reads_is_read_before_what_tasks_ask() -> None:
    async with open_lab() as lab:
        double = await lab.eval("lambda x: 2 * x")
        async with somebody_waiting(lab):
            things = held_by(await lab.eval("[1]"))
            sent = messages_sent(lab)
            reading = await trio.to_thread.run_sync(things.caller.read, things, "append")
            assert await at_once(lambda: double(1), lambda: double(2)) == [2, 4]
            first, *_ = Splitter().receive_data(sent[0])
            assert isinstance(first, Call)
            assert b"append" in (first.steps or b"")
            assert reading.question


async def test_a_deadline_that_was_moved_to_the_beginning_of_time_sends_nothing() -> None:
    async with open_lab() as lab:
        sent = messages_sent(lab)
        with trio.CancelScope() as scope:
            scope.deadline = -inf
            await lab.ping()
        assert scope.cancelled_caught
        assert not sent


async def test_a_deadline_travels_with_what_is_put_together() -> None:
    async with open_lab() as lab:
        await lab.execute(
            dedent("""
            import rpyc_gateway.deadlines as deadlines
            def left():
                deadline = deadlines.current()
                return None if deadline is None else deadline.left
        """)
        )
        left = await lab.namespace["left"]

        async def in_time() -> object:
            with trio.fail_after(20):
                return await left()

        async with somebody_waiting(lab):
            bounded, free = await at_once(in_time, left)
        assert isinstance(bounded, float)
        assert 0 < bounded <= 20
        assert free is None or free > 20  # that of the test
