"""Nodes that are dialled on somebody's behalf."""

from __future__ import annotations

from trio.testing import MockClock, wait_all_tasks_blocked

from rpyc_gateway.config import Dial
from rpyc_gateway.testing import BadWire
from tests.house import running, wait_nodes


async def test_a_node_is_dialled_through_another_and_again_when_it_is_lost(autojump_clock: MockClock) -> None:
    onward = Dial(url="memory://wire", via="relay")
    async with running("lab"), BadWire("memory://lab", "memory://wire") as wire, running("hq", onward) as hq:
        async with running("relay", "memory://hq", allow=("*",)):
            for _ in range(2):
                await hq.wait_route("lab")
                async with hq.session("lab", service="greeter") as session:
                    assert session.path == ("hq", "relay", "lab")
                wire.cut()
                await wait_nodes(hq, lambda names: "lab" not in names)
            await hq.wait_route("lab")
        await wait_nodes(hq, lambda names: not names)
        assert wire.connections >= 3


async def test_a_relay_that_does_not_dial_for_us_is_named(autojump_clock: MockClock) -> None:
    onward = Dial(url="memory://lab", via="relay")
    async with running("relay"), running("hq", "memory://relay", onward) as hq:
        await hq.wait_route("relay")
        await wait_all_tasks_blocked()
        vain = hq.nodes()[-1]
        assert (vain.path, vain.link) == (("hq", "relay"), "memory://lab")
        assert "relay does not let hq use 'dial'" in vain.state
