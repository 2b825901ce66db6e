"""Context managers that are elsewhere: entered and left with `async with`, and left there whatever becomes of whoever entered."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import AsyncIterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import trio

import rpyc_gateway as gw
from rpyc_gateway import program, stays
from rpyc_gateway.proto.messages import Verb
from rpyc_gateway.service import Service, expose
from rpyc_gateway.serving import Offer
from rpyc_gateway.session import Session
from tests.house import HOPS, messages_sent, open_house, open_lab, wait_until

FAR = """
import contextlib, threading, trio
log = []
class Resource:
    verdict = False
    def __init__(self, name='r'): self.name = name
    async def __aenter__(self):
        await trio.lowlevel.checkpoint()
        log.append('entered')
        return self
    async def __aexit__(self, kind, error, traceback):
        log.append(('left', None if error is None else type(error).__name__))
        await trio.lowlevel.checkpoint()
        log.append('left for good')
        return self.verdict
class Plain:
    verdict = False
    def __enter__(self):
        self.thread = threading.get_ident()
        log.append('entered')
        return self
    def __exit__(self, kind, error, traceback):
        assert self.thread == threading.get_ident()
        log.append(('left', None if error is None else type(error).__name__))
        return self.verdict
class Quiet(Resource): verdict = True
class PlainQuiet(Plain): verdict = True
class Replacing(Resource):
    async def __aexit__(self, *reason): raise KeyError('instead')
class PlainReplacing(Plain):
    def __exit__(self, *reason): raise KeyError('instead')
class Locked:
    async def __aenter__(self): raise PermissionError('locked')
    async def __aexit__(self, *reason): log.append('never')
class PlainLocked:
    def __enter__(self): raise PermissionError('locked')
    def __exit__(self, *reason): log.append('never')
class Stuck(Resource):
    async def __aenter__(self):
        log.append('entering')
        try: await trio.sleep_forever()
        except trio.Cancelled: log.append('cancelled'); raise
class SlowToLeave(Resource):
    async def __aexit__(self, *reason):
        log.append('leaving')
        try: await trio.sleep_forever()
        except trio.Cancelled: log.append('cancelled'); raise
@contextlib.asynccontextmanager
async def pump(callback):
    async with trio.open_nursery() as nursery:
        async def work():
            n = 0
            while True:
                await callback(n)
                n += 1
        nursery.start_soon(work)
        yield 'pumping'
        nursery.cancel_scope.cancel()
    log.append('pump over')
@contextlib.contextmanager
def opened():
    try: yield 'thing'
    finally: log.append('closed')
lock = threading.RLock()
"""


@contextlib.asynccontextmanager
async def far(hops: int = 1) -> AsyncIterator[Session]:
    async with open_lab(hops) as lab:
        await lab.execute(dedent(FAR))
        yield lab


async def log_of(lab: Session) -> tuple[Any, ...]:
    return await lab.builtins.tuple(lab.namespace["log"])  # type: ignore[no-any-return]


async def logged(lab: Session, what: object) -> None:
    while what not in await log_of(lab):
        await trio.lowlevel.checkpoint()


@HOPS
@pytest.mark.parametrize("kind", ["Resource", "Plain"])
async def test_a_block_is_two_messages_at_any_number_of_hops(kind: str, hops: int) -> None:
    async with far(hops) as lab:
        sent = messages_sent(lab)
        async with lab.namespace[kind]() as resource:
            assert len(sent) == 1
            entered = resource
        assert len(sent) == 2
        assert ("left", None) in await log_of(lab)
        del entered, resource


@pytest.mark.parametrize("kind", ["Resource", "Plain"])
async def test_a_manager_that_is_held_is_entered_as_often_as_it_allows(kind: str) -> None:
    async with far() as lab:
        resource = await lab.namespace[kind]()
        for _ in range(2):
            async with resource as entered:
                assert entered is resource
        assert (await log_of(lab)).count("entered") == 2
        assert (await log_of(lab)).count(("left", None)) == 2


async def test_a_manager_may_be_entered_again_inside() -> None:
    async with far() as lab:
        resource = await lab.namespace["Resource"]()
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(2):
                await stack.enter_async_context(resource)
            assert ("left", None) not in await log_of(lab)
        assert (await log_of(lab)).count(("left", None)) == 2


async def test_an_expression_that_was_awaited_is_what_it_came_to() -> None:
    async with far() as lab:
        resource = lab.namespace["Resource"]()
        await resource
        async with resource as entered:
            assert entered is await resource
        assert (await log_of(lab))[:1] == ("entered",)
        once = lab.namespace["Resource"]()
        async with once:
            pass
        with pytest.raises(RuntimeError, match="already sent"):
            async with once:
                pass


async def test_a_file_there_is_opened_and_closed(tmp_path: Path) -> None:
    async with far() as lab:
        path = str(tmp_path / "file")
        async with lab.builtins.open(path, "w") as file:
            await file.write("hello")
        assert await file.closed is True
        assert await trio.Path(path).read_text() == "hello"
        async with lab.namespace["opened"]() as thing:
            assert thing == "thing"
        assert "closed" in await log_of(lab)


@pytest.mark.parametrize("kind", ["Resource", "Plain"])
async def test_the_original_hears_of_an_exception_and_lets_it_pass(kind: str) -> None:
    async with far() as lab:
        error = ValueError("mine")
        with pytest.raises(ValueError, match="mine") as caught:
            async with lab.namespace[kind]():
                raise error
        assert caught.value is error
        assert ("left", "ValueError") in await log_of(lab)


@pytest.mark.parametrize("kind", ["Quiet", "PlainQuiet"])
async def test_the_original_may_suppress_an_exception(kind: str) -> None:
    async with far() as lab:
        async with lab.namespace[kind]():
            raise ValueError
        async with lab.eval("contextlib.suppress(KeyError)"):
            raise KeyError
        with pytest.raises(ValueError, match="other"):
            async with lab.eval("contextlib.suppress(KeyError)"):
                raise ValueError("other")


@pytest.mark.parametrize("kind", ["Replacing", "PlainReplacing"])
async def test_the_original_may_raise_another_exception(kind: str) -> None:
    async with far() as lab:
        with pytest.raises(KeyError, match="instead") as caught:
            async with lab.namespace[kind]():
                raise ValueError("first")
        assert isinstance(caught.value.__context__, ValueError)
        with pytest.raises(KeyError, match="instead"):
            async with lab.namespace[kind]():
                pass


@pytest.mark.parametrize("kind", ["Locked", "PlainLocked"])
async def test_what_cannot_be_entered_is_not_left(kind: str) -> None:
    async with far() as lab:
        with pytest.raises(PermissionError, match="locked"):
            async with lab.namespace[kind]():
                pytest.fail("it was entered")
        assert "never" not in await log_of(lab)
        with pytest.raises(TypeError, match="__enter__"):
            async with lab.builtins.object():
                pass


@HOPS
@pytest.mark.parametrize(("kind", "heard"), [("Resource", "Cancelled"), ("Plain", "Cancelled"), ("Quiet", "Cancelled")])
async def test_a_block_that_is_cancelled_is_left_there(kind: str, heard: str, hops: int) -> None:
    async with far(hops) as lab:
        sent = messages_sent(lab)
        with trio.CancelScope() as scope:
            async with lab.namespace[kind]():
                scope.cancel()
                await trio.sleep_forever()
        assert scope.cancelled_caught
        assert len(sent) == 2
        await logged(lab, ("left", heard))


async def test_a_failing_nursery_in_a_cancelled_block_stays_a_group() -> None:
    async with far() as lab:
        with trio.CancelScope() as scope:
            async with lab.namespace["Resource"]():
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(trio.sleep_forever)
                    scope.cancel()
        assert scope.cancelled_caught
        await logged(lab, ("left", "Cancelled"))


async def test_entering_can_be_cancelled() -> None:
    async with far() as lab:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:

                async def enter() -> None:
                    async with lab.namespace["Stuck"]():
                        pytest.fail("it was entered")

                nursery.start_soon(enter)
                await logged(lab, "entering")
                scope.cancel()
        await logged(lab, "cancelled")


async def test_what_was_entered_for_a_caller_that_is_gone_by_then_is_left() -> None:
    async with far() as lab:
        entering, gate, left = trio.Event(), trio.Event(), trio.Event()

        class Door:
            async def __aenter__(self) -> str:
                entering.set()
                with trio.CancelScope(shield=True):
                    await gate.wait()
                return "inside"

            async def __aexit__(self, *_reason: object) -> None:
                left.set()

        await lab.execute("async def use(door):\n    async with door: log.append('never')\n")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_await, lab.namespace["use"](Door()))
            await entering.wait()
            nursery.cancel_scope.cancel()
        gate.set()
        await left.wait()
        assert "never" not in await log_of(lab)


@pytest.mark.parametrize("kind", ["Resource", "Plain"])
async def test_whenever_a_block_is_cancelled_it_is_left_as_often_as_entered(kind: str) -> None:
    async with far() as lab:
        for step in range(100):
            with trio.move_on_after(step * 0.0001):
                async with lab.namespace[kind]():
                    await trio.sleep_forever()
        log = await log_of(lab)
        while log.count("entered") != sum(type(entry) is tuple for entry in log):
            log = await log_of(lab)
        gc.collect()
        await lab.ping()
        assert lab.statistics().imports == 0


async def _await(expression: Any) -> None:
    await expression


async def test_leaving_can_be_cancelled() -> None:
    async with far() as lab:
        async with trio.open_nursery() as nursery:

            async def use() -> None:
                async with lab.namespace["SlowToLeave"]():
                    pass

            nursery.start_soon(use)
            await logged(lab, "leaving")
            nursery.cancel_scope.cancel()
        await logged(lab, "cancelled")


async def test_tasks_of_a_manager_there_run_while_the_block_lasts() -> None:
    async with far() as lab:
        heard: list[int] = []

        async def hear(n: int) -> None:
            await trio.lowlevel.checkpoint()
            heard.append(n)

        async with lab.namespace["pump"](hear) as state:
            assert state == "pumping"
            await wait_until(lambda: len(heard) > 5)
        assert "pump over" in await log_of(lab)
        last = heard[-1]
        await lab.ping()
        assert heard[-1] == last
        with pytest.raises(BaseExceptionGroup) as caught:
            async with lab.namespace["pump"](hear):
                raise ValueError("mine")
        assert caught.group_contains(ValueError, match="mine")


async def test_one_thread_is_in_a_lock_from_entering_to_leaving() -> None:
    async with far() as lab:
        lock = await lab.namespace["lock"]
        async with lock:
            assert await lock.acquire(blocking=False) is False  # that is another thread
        assert await lab.eval("(lock.acquire(blocking=False), lock.release())[0]") is True


async def test_in_a_block_of_one_thread_that_enters_and_leaves() -> None:
    async with far() as lab:
        lock = await lab.namespace["lock"]
        async with gw.thread(lab):
            async with lock, lock:
                assert await lock.acquire(blocking=False) is True
                await lock.release()
            with trio.CancelScope() as scope:
                async with lock, lab.namespace["Plain"]():
                    scope.cancel()
                    await trio.sleep_forever()
            assert ("left", "Cancelled") in await log_of(lab)
            with pytest.raises(KeyError, match="instead"):
                async with lab.namespace["PlainReplacing"]():
                    raise ValueError
            async with lab.namespace["Quiet"](), lab.namespace["PlainQuiet"]():
                raise ValueError
        assert await lab.eval("(lock.acquire(blocking=False), lock.release())[0]") is True


@pytest.mark.parametrize("end", ["order", "abort"])
async def test_the_client_going_away_leaves_what_it_has_entered(end: str) -> None:
    left: list[str] = []

    class Door:
        async def __aenter__(self) -> None: ...

        async def __aexit__(self, kind: type[BaseException] | None, *_reason: object) -> None:
            left.append(kind.__name__ if kind else "nothing")

    class PlainDoor:
        def __enter__(self) -> None: ...

        def __exit__(self, kind: type[BaseException] | None, *_reason: object) -> None:
            left.append(kind.__name__ if kind else "nothing")

    class House(Service):
        @expose
        def doors(self) -> Any:
            return Door(), PlainDoor()

    async with open_house("hq", "relay", "lab", services={"house": Offer(House, ("*",))}) as nodes:
        with contextlib.suppress(gw.GatewayError):
            async with nodes[0].session("lab", service="house") as house:
                for door in await house.root.doors():
                    await door.__aenter__()
                if end == "abort":
                    house.close()
        await wait_until(lambda: len(left) == 2)
        assert left == ["Cancelled", "Cancelled"]


async def test_a_session_that_is_lost_in_a_block_is_an_error_of_the_block() -> None:
    async with far() as lab:
        with pytest.raises(gw.SessionClosed):
            async with lab.namespace["Resource"]():
                lab.close()
        with pytest.raises(gw.SessionClosed):
            async with lab.namespace["Resource"]():
                pass


async def test_what_came_by_value_is_not_entered_there() -> None:
    async with far() as lab:
        number = lab.eval("5")
        await number
        with pytest.raises(TypeError, match="int that is here"):
            async with number:
                pass


async def test_a_stay_ends_once() -> None:
    async with far() as lab:
        resource = await lab.namespace["Resource"]()
        await resource.__aenter__()
        await resource.__aexit__(None, None, None)
        with pytest.raises(RuntimeError, match="not entered"):
            await resource.__aexit__(None, None, None)


async def test_plain_with_says_what_to_write() -> None:
    async with far() as lab:
        with pytest.raises(TypeError, match="async with"):
            with lab.namespace["Plain"]:
                pass


async def test_what_a_peer_may_have_entered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rpyc_gateway.stays.STAYS", 2)
    async with far() as lab:
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(2):
                await stack.enter_async_context(lab.namespace["Resource"]())
            with pytest.raises(gw.LimitExceeded, match="entered already"):
                await stack.enter_async_context(lab.namespace["Resource"]())
        async with lab.namespace["Resource"]():
            pass


class Sticky:
    """What no peer should give for a stay."""

    def __init__(self) -> None:
        self.left: list[object] = []

    def __exit__(self, *reason: object) -> None:
        self.left.append(reason)


async def test_a_peer_cannot_make_a_cancelled_block_wait_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    sticky = Sticky()
    monkeypatch.setitem(program._VERBS, Verb.ENTER, lambda *_: (sticky, None))
    async with far() as lab:
        with trio.CancelScope() as scope:
            async with lab.namespace["Resource"]():
                scope.cancel()
                await trio.lowlevel.checkpoint()
        assert scope.cancelled_caught
        assert sticky.left == []


WAITING = """
free, entering = threading.Event(), []
class Waiting(Plain):
    def __enter__(self):
        entering.append(self)
        free.wait()
"""


async def enter_for_ever(waiting: Any) -> None:
    async with waiting():
        pass


async def test_threads_that_are_stuck_in_entering_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rpyc_gateway.stays.STAYS", 2)
    async with far() as lab:
        await lab.execute(WAITING)
        waiting = await lab.namespace["Waiting"]
        for entering in (1, 2):
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(enter_for_ever, waiting)
                    while await gw.ops.len(lab.namespace["entering"]) < entering:
                        pass
                    scope.cancel()
        with trio.fail_after(10), pytest.raises(gw.LimitExceeded, match="entered already"):
            await enter_for_ever(waiting)
        await lab.namespace["free"].set()
        await wait_until(lambda: not any(map(stays._threads_of, stays._threads)))
        async with lab.namespace["Plain"]():
            pass
