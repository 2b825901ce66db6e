"""Answers on their way back: together where calls came together, and none waits for a call that does not end."""

from __future__ import annotations

from rpyc_gateway.held import held_by
from rpyc_gateway.proto.messages import Splitter, Verb
from tests.house import messages_sent, open_house, open_lab


async def test_an_answer_does_not_wait_for_a_call_that_does_not_end() -> None:
    """Answers to calls that came together leave together, unless one of these takes long."""
    async with open_lab() as lab:
        await lab.execute("import threading\nend = threading.Event()\ndef wait(): end.wait()\ndef quick(): return 1")
        wait, quick, end = [await lab.namespace[name] for name in ("wait", "quick", "end")]
        program = [(Verb.CALL, 0, (), {})]
        posted = [await held_by(one).caller.post(held_by(one).number, program) for one in (*(quick,) * 10, wait)]
        assert [await one.value() for one in posted[:-1]] == [1] * 10
        await end.set()
        assert await posted[-1].value() is None


async def test_the_answers_to_what_came_together_leave_together() -> None:
    async with open_house("hq", "lab") as nodes, nodes[0].session("lab") as lab:
        double = await lab.eval("lambda x: 2 * x")
        ((far, _),) = nodes[1]._serving._sessions.values()
        caller, number = held_by(double).caller, held_by(double).number
        writes = messages_sent(far)
        posted = [await caller.post(number, ((Verb.CALL, 0, (n,), {}),)) for n in range(50)]
        assert [await one.value() for one in posted] == [2 * n for n in range(50)]
        said = [Splitter().receive_data(write) for write in writes]
        assert sorted(answer.question for write in said for answer in write) == sorted(one.question for one in posted)
        assert len(said) < 25
