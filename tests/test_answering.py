"""Calls of the peer: where they run, and what they come to."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import trio

import rpyc_gateway as gw
from rpyc_gateway import answering
from rpyc_gateway.answering import AFFINITIES
from rpyc_gateway.held import held_by
from rpyc_gateway.program import Face
from rpyc_gateway.proto.messages import Verb
from rpyc_gateway.proto.values import Draft
from rpyc_gateway.serving import Offer
from rpyc_gateway.session import Session
from rpyc_gateway.steps import write_steps
from rpyc_gateway.waiters import TaskWaiter
from rpyc_gateway.worker import workers
from tests.counting import Counted, told
from tests.house import Greeter, open_house, open_lab, wait_until


async def test_a_callback_runs_here_in_a_thread_or_as_a_task() -> None:
    async with open_lab() as lab:
        await lab.execute("def twice(f, x): return f(f(x))")
        twice = await lab.namespace["twice"]
        assert await twice(lambda x: x + 1, 40) == 42
        threads: list[int] = []

        async def increment(x: int) -> int:
            threads.append(threading.get_ident())
            await trio.lowlevel.checkpoint()
            return x + 1

        assert await twice(increment, 40) == 42
        assert set(threads) == {threading.get_ident()}


async def test_a_callback_that_raises_is_an_exception_there_and_here() -> None:
    async with open_lab() as lab:
        await lab.execute("def guard(f):\n try: f()\n except ValueError as e: return e.args\n")

        def refuse() -> None:
            raise ValueError("no", 7)

        assert await lab.namespace["guard"](refuse) == ("no", 7)
        with pytest.raises(ValueError, match="no") as caught:
            await (await lab.eval("lambda f: f()"))(refuse)
        assert gw.remote_path(caught.value) == ("hq", "lab")


async def test_a_peer_cannot_make_this_process_exit() -> None:
    async with open_lab() as lab:
        for text in ("exit(3)", "(_ for _ in ()).throw(KeyboardInterrupt)", "(_ for _ in ()).throw(GeneratorExit)"):
            with pytest.raises(gw.RemoteError):
                await lab.eval(text)
        assert await lab.ping("still here") == "still here"


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no picture of me")


async def test_what_cannot_be_sent_fails_its_call_only() -> None:
    async with open_lab() as lab:
        nested: Any = ()
        for _ in range(2000):
            nested = (nested,)
        with pytest.raises(gw.EncodeError, match="nested deeper"):
            await lab.builtins.id(nested)
        await lab.execute("deep = ()\nfor _ in range(2000): deep = (deep,)")
        with pytest.raises(gw.EncodeError, match="nested deeper"):
            await lab.namespace["deep"]

        def fail() -> None:
            raise ValueError(Unprintable())

        with pytest.raises(ValueError) as caught:  # noqa: PT011  # its text cannot be made, which is the point
            await (await lab.eval("lambda f: f()"))(fail)
        assert isinstance(caught.value.args[0], Unprintable)
        assert await lab.ping("alive") == "alive"


async def test_a_call_that_comes_before_its_session_has_begun_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    begin = trio.Event()
    run = Session.run

    async def run_late(self: Session, **options: Any) -> None:
        if not self.rpc.opener:
            await begin.wait()  # the circuit is open, and what comes on it is served
        await run(self, **options)

    monkeypatch.setattr(Session, "run", run_late)
    async with open_house("hq", "lab", services={"greeter": Offer(Greeter, ("*",))}) as nodes:
        async with nodes[0].session("lab", service="greeter") as session, trio.open_nursery() as nursery:
            greetings: list[str] = []

            async def greet() -> None:
                greetings.append(await session.root.hello("hq"))

            nursery.start_soon(greet)
            await wait_until(lambda: nodes[1]._serving._sessions)
            ((far, _),) = nodes[1]._serving._sessions.values()
            await wait_until(lambda: far._answering._early)
            begin.set()
        assert greetings == ["hello hq"]


async def test_the_threads_kept_for_callers_are_bounded() -> None:
    async with open_lab() as lab:
        f = held_by(await lab.eval("lambda: 1"))
        writer = lab._references.writer()

        async def ask(affinity: int) -> object:
            waiter = TaskWaiter()
            with lab.step():
                draft = writer.finish(write_steps(((Verb.CALL, 0, (), {}),), writer))
                question = lab.rpc.call(f.number, draft, cause=lab.rpc.new_cause(), affinity=affinity)
                lab.asking._waiters[question] = waiter
            return lab.asking._value(await waiter.wait(), Face.ASYNC)

        for affinity in range(1, AFFINITIES + 1):
            assert await ask(affinity) == 1
        with pytest.raises(gw.LimitExceeded, match="threads of the caller"):
            await ask(AFFINITIES + 1)
        assert await ask(1) == 1
        with lab.step():
            lab.rpc.end(1)
        assert await ask(AFFINITIES + 1) == 1


async def test_what_a_callback_raised_may_have_to_be_shown_by_the_peer() -> None:
    """The far thread waits for the callback; to show its object it must be asked as a part of that call."""

    def story(lab: Counted) -> None:
        thing = lab.root.eval(
            "type('Thing', (), {'__repr__': lambda self: 'the thing', '__str__': lambda self: 'a thing'})()"
        )

        def fail() -> None:
            raise LookupError(thing)

        with pytest.raises(LookupError, match="a thing"):
            lab.root.eval("lambda f: f()")(fail)

    await told(1, story)


SHY = """
import threading
class Shy(Exception):
    seen = []
    def __str__(self):
        self.seen.append(threading.get_ident())
        return "shy"
class Lamp:
    def switch(self): ...
lamp = Lamp()
lamp.switch = Shy()
"""


async def test_what_hides_a_method_runs_no_code_where_the_turn_is_held() -> None:
    async with open_lab() as lab:
        await lab.execute(SHY)
        lamp = await lab.namespace["lamp"]
        assert type(await lamp.switch).__name__ == "Shy"
        seen = await gw.obtain(lab.namespace["Shy"].seen)
        assert seen
        assert threading.get_ident() not in seen  # where all nodes of this test run trio


async def test_a_caller_whose_thread_was_lost_and_cannot_be_replaced_is_told_so_and_nobody_else_suffers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def story(lab: Counted) -> None:
        double = lab.root.eval("lambda x: 2 * x")
        assert double(1) == 2

        def full(*_: object) -> None:
            raise RuntimeError("can't start new thread")

        with monkeypatch.context() as patch:
            patch.setattr(workers, "submit_to", full)
            with pytest.raises(gw.LimitExceeded, match="can't start new thread"):
                double(2)
        assert double(3) == 6

    await told(1, story)


async def test_a_value_whose_description_raises_fails_its_call() -> None:
    async with open_lab() as lab:
        await lab.execute(
            "class Key:\n"
            "  def __hash__(self): return hash('method')\n"
            "  def __eq__(self, other): raise RuntimeError('no key of yours')\n"
            "class Thing:\n"
            "  def method(self): ...\n"
            "thing = Thing()\n"
            "thing.__dict__[Key()] = 1\n"
            "def get(): return thing\n"
        )
        with trio.fail_after(10):
            for text in ("thing", "get()"):
                with pytest.raises(RuntimeError, match="no key of yours"):
                    await lab.eval(text)
            with pytest.raises(RuntimeError, match="no key of yours"):
                await lab.namespace["get"]()
            assert await lab.ping("still here") == "still here"
        assert lab.statistics().asked == 0


@pytest.mark.parametrize("begin", [b"\x91", b"\xdc\x00\x01", b"\xdd\x00\x00\x00\x01"])
async def test_a_plain_method_is_read_at_once_however_its_program_is_written(
    begin: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_lab() as lab:
        await lab.execute("class Thing:\n  def method(self): return 7\n")
        thing = await lab.eval("Thing()")
        with monkeypatch.context() as patch:
            patch.setattr(answering, "ServedCall", None)  # that would run in a thread, behind what came after it
            program = Draft(begin + b"\x93\x00\x00\xa6method")
            method = await lab.asking.ask_async(held_by(thing).number, program)  # type: ignore[arg-type]
        assert await method() == 7
