"""One message for an expression, one outcome for all who await it."""

from __future__ import annotations

import gc
import weakref
from textwrap import dedent
from typing import Any

import pytest
import trio
import trio.testing

import rpyc_gateway as gw
from rpyc_gateway import deadlines
from rpyc_gateway.held import held_by
from rpyc_gateway.proto.messages import Verb
from rpyc_gateway.session import Session
from tests.house import messages_sent, open_lab, wait_until

FAR = """
import trio
log = []
gate = trio.Event()
async def open_gate(): gate.set()
async def wait():
    log.append('begun')
    try: await gate.wait()
    except trio.Cancelled: log.append('cancelled'); raise
    return 42
"""


async def log_of(lab: Session) -> tuple[Any, ...]:
    return await lab.builtins.tuple(lab.namespace["log"])  # type: ignore[no-any-return]


async def begun(lab: Session) -> None:
    while "begun" not in await log_of(lab):
        await trio.lowlevel.checkpoint()


async def test_many_tasks_that_await_one_expression_get_one_outcome() -> None:
    async with open_lab() as lab:
        await lab.execute(dedent(FAR))
        expression = lab.namespace["wait"]()
        got: list[int] = []

        async def wait() -> None:
            got.append(await expression)

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(wait)
            await begun(lab)
            await lab.namespace["open_gate"]()
        assert got == [42] * 5
        assert await log_of(lab) == ("begun",)


@pytest.mark.parametrize("cancelled", [0, 1, 2])
async def test_one_that_is_cancelled_does_no_harm_to_the_others(cancelled: int) -> None:
    async with open_lab() as lab:
        await lab.execute(dedent(FAR))
        expression = lab.namespace["wait"]()
        got: list[object] = []
        scopes = [trio.CancelScope() for _ in range(3)]

        async def wait(scope: trio.CancelScope) -> None:
            with scope:
                got.append(await expression)

        async with trio.open_nursery() as nursery:
            for scope in scopes:
                nursery.start_soon(wait, scope)
                await trio.testing.wait_all_tasks_blocked()
            await begun(lab)
            scopes[cancelled].cancel()
            await lab.ping()
            await lab.namespace["open_gate"]()
        assert got == [42, 42]
        assert [scope.cancelled_caught for scope in scopes] == [n == cancelled for n in range(3)]
        assert await log_of(lab) == ("begun",)


async def test_with_the_last_that_is_cancelled_the_far_side_is() -> None:
    async with open_lab() as lab:
        await lab.execute(dedent(FAR))
        expression = lab.namespace["wait"]()
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(_await, expression)
            await begun(lab)
            nursery.cancel_scope.cancel()
        while "cancelled" not in await log_of(lab):
            await trio.lowlevel.checkpoint()
        with pytest.raises(gw.Cancelled, match="awaited before"):
            await expression


async def _await(expression: Any) -> None:
    await expression


async def test_cancelled_before_it_was_sent_it_may_still_be() -> None:
    async with open_lab() as lab:
        expression = lab.eval("6 * 7")
        sent = messages_sent(lab)
        with trio.CancelScope() as scope:
            scope.cancel()
            await expression
        assert not sent
        assert await expression == 42


async def test_cancelled_after_it_was_answered_the_value_is_still_there() -> None:
    async with open_lab() as lab:
        expression = lab.eval("6 * 7")
        assert await expression == 42
        with trio.CancelScope() as scope:
            scope.cancel()
            await expression
        assert scope.cancelled_caught
        assert await expression == 42


async def test_an_exception_is_raised_again_as_it_was() -> None:
    async with open_lab() as lab:
        expression = lab.eval("1/0")
        lengths = set()
        for _ in range(3):
            with pytest.raises(ZeroDivisionError) as caught:
                await expression
            lengths.add(len(caught.traceback))
        assert len(lengths) == 1
        too_deep: Any = ()
        for _ in range(100):
            too_deep = (too_deep,)
        wrong = lab.builtins.id(too_deep)
        for _ in range(2):
            with pytest.raises(gw.EncodeError):
                await wrong


async def test_a_failed_expression_is_not_kept_by_what_it_raised() -> None:
    async with open_lab() as lab:
        gc.collect()
        gc.disable()
        try:
            thing = await lab.eval("[1]")
            watch = weakref.ref(thing)
            with pytest.raises(AttributeError):
                await thing.nothing
            before = lab.statistics().imports
            del thing
            assert watch() is None
            await lab.ping()
            assert lab.statistics().imports == before - 1
        finally:
            gc.enable()


async def test_what_comes_for_nobody_goes_back() -> None:
    async with open_lab() as lab:
        root = held_by(lab.root)
        posted = await root.caller.post(0, ((Verb.GET, 0, "eval"), (Verb.CALL, 1, ("[1]",), {})))
        await wait_until(lambda: lab.statistics().asked == 0)
        posted.abandon()
        await lab.ping()
        assert lab.statistics().imports == 0
        with pytest.raises(gw.Cancelled):
            await _cancelled_in_the_far_side(lab)


async def _cancelled_in_the_far_side(lab: Session) -> None:
    await lab.execute("import rpyc_gateway as gw\ndef give_up(): raise gw.Cancelled('mine')")
    with trio.fail_after(1000):  # its own Cancelled is no deadline of ours
        await lab.namespace["give_up"]()


async def test_a_deadline_that_is_met_there_a_moment_earlier_leaves_the_outcome_to_the_others() -> None:
    async with open_lab() as lab:
        await lab.execute("from rpyc_gateway import Cancelled\ndef late(): raise Cancelled('its time was over')")
        expression = lab.namespace["late"]()
        heard: list[str] = []
        sending = trio.Event()

        async def impatient() -> None:
            with trio.CancelScope(deadline=trio.current_time() + deadlines.CLOSE_CALL / 2) as scope:
                sending.set()
                await expression
            heard.append("nothing" if scope.cancelled_caught else "too early")

        async def patient() -> None:
            await sending.wait()
            with pytest.raises(gw.Cancelled):
                await expression
            heard.append("an outcome")

        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(impatient)
                nursery.start_soon(patient)
        assert heard == ["nothing", "an outcome"]
