"""The life of a session: opened, used, closed, broken, and what it grants."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

import rpyc_gateway as gw
from rpyc_gateway.gateway import Node
from rpyc_gateway.serving import Offer
from tests.house import open_house, open_lab, wait_until


async def test_an_object_passed_as_argument_grants_its_public_names_only() -> None:
    async with open_lab() as lab:

        class Account:
            def __init__(self) -> None:
                self.owner = "lucy"
                self._pin = 1234

        account = Account()
        assert await (await lab.eval("lambda a: a.owner"))(account) == "lucy"
        for verb in ("a._pin", "setattr(a, '_pin', 1)", "delattr(a, '_pin')", "a.__init__.__globals__", "a.__dict__"):
            with pytest.raises(gw.NotExposed):
                await (await lab.eval(f"lambda a: {verb}"))(account)
        assert await (await lab.eval("lambda a: hasattr(a, '_pin')"))(account) is False
        for verb in ("f.__globals__", "f.__code__", "f.__self__"):
            with pytest.raises(gw.NotExposed):
                await (await lab.eval(f"lambda f: {verb}"))(lambda: 0)


async def test_a_client_serves_nothing() -> None:
    async with open_house("hq", "lab") as nodes, nodes[0].session("lab"):
        far = next(iter(nodes[1]._serving._sessions.values()))[0]
        with pytest.raises(gw.NotExposed):
            await far.root.eval("1")


class Lab(gw.Service):
    connected: int = 0

    def on_connect(self, session: object) -> None:
        type(self).connected += 1

    def on_disconnect(self, session: object) -> None:
        type(self).connected -= 1

    def secret(self) -> str:
        return "not for you"

    @gw.expose
    def measure(self, channel: int) -> float:
        return channel / 2

    @gw.expose
    async def slowly(self, value: int) -> int:
        await trio.lowlevel.checkpoint()
        return value


async def test_a_service_shows_what_it_exposes_and_hears_of_its_sessions() -> None:
    async with open_house("hq", "relay", "lab", services={"lab": Offer(Lab, ("*",))}) as nodes:
        async with nodes[0].session("lab", service="lab") as lab:
            assert Lab.connected == 1
            assert await lab.root.measure(3) == 1.5
            assert await lab.root.slowly(3) == 3
            for name in ("secret", "on_connect", "connected", "__class__", "_x"):
                with pytest.raises(gw.NotExposed):
                    await gw.ops.getattr(lab.root, name)
            with pytest.raises(gw.NotExposed):
                await gw.ops.setattr(lab.root, "measure", 1)
        await wait_until(lambda: Lab.connected == 0)


async def test_a_session_has_no_task_before_it_needs_one() -> None:
    async with open_house("hq", "lab") as nodes:
        before = tasks_of(*nodes)
        async with nodes[0].session("lab") as lab:
            assert await lab.eval("1 + 2") == 3
            assert await (await lab.eval("lambda: None"))() is None
            await wait_until(lambda: len(lab.rpc.imports) == 1)
            await wait_until(lambda: tasks_of(*nodes) == before + 1)  # which gives back what dies here
        await wait_until(lambda: tasks_of(*nodes) == before)
        async with nodes[0].session("lab") as lab:
            assert await lab.eval("1 + 2") == 3
            assert tasks_of(*nodes) == before
        await wait_until(lambda: not len(nodes[1]._serving))  # it is forgotten all the same


def tasks_of(*nodes: Node) -> int:
    return sum(len(node._nursery.child_tasks) for node in nodes)


async def test_a_session_waits_at_its_end_for_what_still_runs() -> None:
    ended = []

    async def linger() -> None:
        began.set()
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.testing.wait_all_tasks_blocked()
            ended.append("linger")

    began = trio.Event()
    async with open_house("hq", "lab") as nodes:
        async with trio.open_nursery() as nursery, nodes[0].session("lab") as lab:
            call = await lab.eval("lambda f: f()")
            nursery.start_soon(_expect, gw.SessionClosed, call(linger))
            await began.wait()
        assert ended == ["linger"]


async def test_a_defect_ends_one_session_and_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_house("hq", "lab") as nodes:
        async with nodes[0].session("lab") as good, nodes[0].session("lab") as bad:

            async def fail() -> None:
                raise KeyError("a defect")

            monkeypatch.setattr(bad, "_sweep", fail)
            function = await bad.eval("lambda: None")
            await bad.wait_closed()
            with pytest.raises(gw.SessionClosed):
                await function()
            assert await good.ping("fine") == "fine"
        assert "a defect ends the session" in caplog.text


async def test_closing_ends_what_is_pending_on_both_sides() -> None:
    async with open_house("hq", "lab") as nodes:
        async with nodes[0].session("lab") as lab, trio.open_nursery() as nursery:
            nursery.start_soon(_expect, gw.SessionClosed, lab.eval("__import__('threading').Event().wait()"))
            await wait_until(lambda: lab.statistics().asked == 1)
            far = next(iter(nodes[1]._serving._sessions.values()))[0]
            await wait_until(lambda: far.statistics().serving == 1)
            lab.close()
        assert lab.closed
        await far.wait_closed()
        assert far.statistics()[:3] == (0, 0, 0)
        assert (
            far.statistics().running == far.statistics().abandoned == 1
        )  # its thread waits for ever, as it was asked to
        with pytest.raises(EOFError, match="closed here"):
            await lab.ping()


async def _expect(kind: type[BaseException], expression: Any) -> None:
    with pytest.raises(kind):
        await expression


async def test_garbage_on_a_session_costs_that_session_only() -> None:
    async with open_house("hq", "lab") as nodes:
        async with nodes[0].session("lab") as good, nodes[0].session("lab") as bad:
            assert bad.circuit is not None
            with bad._connection.turn:
                bad.circuit.send(b"\xff\xff\xff\xff what is this")
            await bad.wait_closed()
            with pytest.raises(gw.ProtocolError, match="exceeds limit"):
                await bad.ping()
            assert await good.ping("fine") == "fine"


async def test_an_unknown_node_and_a_service_that_is_not_served_are_clear_errors() -> None:
    async with open_house("hq", "lab") as nodes:
        with pytest.raises(gw.Unreachable, match="mars"):
            async with nodes[0].session("mars"):
                pass
        with pytest.raises(gw.NoService, match="coffee"):
            async with nodes[0].session("lab", service="coffee"):
                pass


class Fragile(gw.Service):
    def on_disconnect(self, session: object) -> None:
        raise RuntimeError("the lamp fell down")


async def test_a_service_that_fails_when_its_session_ends_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with open_house("hq", "lab", services={"fragile": Offer(Fragile, ("*",))}) as nodes:
        async with nodes[0].session("lab", service="fragile"):
            far = next(iter(nodes[1]._serving._sessions.values()))[0]
        await far.wait_closed()
    assert "on_disconnect of Fragile failed" in caplog.text
