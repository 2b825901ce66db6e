"""Nodes among neighbours: routes, ways through, and what happens when a neighbour dies or misbehaves."""

from __future__ import annotations

import sys
from contextlib import AsyncExitStack
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from rpyc_gateway.config import Config, Dial, Listen, NodeSection, Serve
from rpyc_gateway.errors import (
    Code,
    DialFailed,
    LinkLost,
    Unreachable,
)
from rpyc_gateway.gateway import Node, open_node
from rpyc_gateway.proto.frames import Route
from rpyc_gateway.testing import BadWire
from tests.house import refusal, running, wait_nodes
from tests.raw_peer import RawPeer, accept_and_echo


async def test_a_way_is_learnt_withdrawn_and_learnt_again(autojump_clock: MockClock) -> None:
    async with running("hq", "memory://relay") as hq:
        for _ in range(2):
            async with running("relay", "memory://lab"):
                async with running("lab"):
                    await hq.wait_route("lab")
                    async with hq.session("lab", service="greeter") as session:
                        assert await session.root.hello("again") == "hello again"
                        assert session.path == ("hq", "relay", "lab")
                await wait_nodes(hq, lambda names: names == {"relay"})
                with pytest.raises(Unreachable, match="hq knows no way to 'lab'"):
                    async with hq.session("lab", service="greeter"):
                        pytest.fail("there is no way")
            await wait_nodes(hq, lambda names: not names)


async def test_of_two_ways_the_shorter_is_used_and_the_other_stands_in(autojump_clock: MockClock) -> None:
    async with running("lab"), running("far", "memory://near"), running("near", "memory://lab") as near:
        async with running("hq", "memory://far") as hq:
            await hq.wait_route("lab")
            async with hq.link("memory://near"):
                await wait_nodes(hq, lambda _: hq._table.best()["lab"].path == ("near", "lab"))
            await wait_nodes(hq, lambda _: hq._table.best()["lab"].path == ("far", "near", "lab"))
        await near.wait_route("lab")


async def test_a_neighbour_that_announces_nonsense_loses_its_link_and_nobody_elses(autojump_clock: MockClock) -> None:
    async with running("hq") as hq, RawPeer("lab").link("memory://hq") as lab:
        async with RawPeer("liar").link("memory://hq") as liar:
            liar.announce(Route(("lab", "board"), 0, 0))
            await liar.wait(lambda peer: any(what == "lost" for what, _ in peer.told))
            assert liar.told[-1][1].code == Code.PROTOCOL
        assert lab.told == []
        await hq.wait_route("lab")


async def test_a_client_cannot_announce_itself(autojump_clock: MockClock) -> None:
    async with running("hq") as hq, RawPeer("me", kind="client").link("memory://hq") as client:
        client.announce(Route(("me",), 0, 0))
        await client.wait(lambda peer: any(what == "lost" for what, _ in peer.told))
        assert [info.name for info in hq.nodes()] == ["hq"]


async def test_a_node_that_leaves_says_so_and_takes_its_routes_along(autojump_clock: MockClock) -> None:
    async with running("hq", "memory://lab") as hq:
        async with RawPeer("user").link("memory://hq") as user:
            async with running("lab"):
                await user.wait(lambda peer: "lab" in peer.routes)
            await user.wait(lambda peer: "lab" in peer.withdrawn)
            assert user.told == []
        assert [(info.name, info.state) for info in hq.nodes()[:1]] == [("hq", "self")]


async def test_a_neighbour_is_known_before_its_first_route_has_come(autojump_clock: MockClock) -> None:
    async with running("hq"), RawPeer("lab", kind="silent node").link("memory://hq") as lab:
        async with RawPeer("user", kind="client").link("memory://hq") as user:
            user.open("lab")
            await lab.wait(lambda peer: peer.ears)


async def test_a_name_nobody_has_is_refused_by_the_node_that_was_asked(autojump_clock: MockClock) -> None:
    async with running("hq"), RawPeer("user", kind="client").link("memory://hq") as user:
        failure = refusal(await user.open("nowhere").wait_end())
        assert (failure.code, failure.hop) == (Code.UNREACHABLE, "hq")
        assert "'nowhere'" in failure.text


async def test_who_finds_no_way_is_told_what_there_is(autojump_clock: MockClock) -> None:
    onward = Dial(url="memory://lab", via="relay")
    async with running("relay"), running("hq", "memory://relay", onward) as hq:
        await hq.wait_route("relay")
        await wait_all_tasks_blocked()
        said = r"hq knows no way to 'lab' \(known: relay; still dialling: memory://lab via relay\)"
        with pytest.raises(Unreachable, match=said):
            async with hq.session("lab"):
                pytest.fail("there is no way")
        async with RawPeer("user", kind="client").link("memory://hq") as user:
            assert "(known: relay; still" in refusal(await user.open("lab").wait_end()).text


async def test_who_may_not_ask_for_the_nodes_does_not_learn_them_by_a_wrong_name(autojump_clock: MockClock) -> None:
    config = Config(
        node=NodeSection(name="hq"), listen=(Listen(url="memory://hq"),), serve=(Serve(service="node", allow=()),)
    )
    async with open_node(config), RawPeer("lab").link("memory://hq"):
        async with RawPeer("user", kind="client").link("memory://hq") as user:
            assert refusal(await user.open("labb").wait_end()).text == "hq knows no way to 'labb'"


@pytest.mark.parametrize(
    "wrong", [{"target": None}, {"service": None}, {"service": b"node"}, {"via": "relay"}, {"via": (1,)}, {"via": None}]
)
async def test_what_is_no_name_is_a_mistake_before_anything_is_sent(
    autojump_clock: MockClock, wrong: dict[str, Any]
) -> None:
    async with running("lab"), running("hq", "memory://lab") as hq:
        await hq.wait_route("lab")
        (what,) = wrong
        with pytest.raises(TypeError, match=f"`{what}` is a .* not "):
            async with hq.session(**({"target": "lab", "service": "greeter"} | wrong)):
                pytest.fail("it cannot be asked for")
        async with hq.session("lab", service="greeter") as session:
            assert await session.root.hello("you") == "hello you"


async def test_a_via_that_is_missing_is_never_skipped(autojump_clock: MockClock) -> None:
    async with running("relay"), running("hq", "memory://relay") as hq, RawPeer("lab").link("memory://hq") as lab:
        await hq.wait_route("relay")
        async with RawPeer("user", kind="client").link("memory://hq") as user:
            failure = refusal(await user.open("lab", via=("gone",)).wait_end())
            assert (failure.code, failure.hop) == (Code.UNREACHABLE, "hq")
            assert "'gone'" in failure.text
            assert "via" in failure.text
            failure = refusal(await user.open("lab", via=("hq", "relay", "gone")).wait_end())
            assert (failure.code, failure.hop) == (Code.UNREACHABLE, "relay")
        assert lab.ears == []


async def test_a_via_is_passed_although_there_is_a_shorter_way(autojump_clock: MockClock) -> None:
    async with running("relay") as relay, running("hq", "memory://relay") as hq:
        async with RawPeer("lab").link("memory://hq"), RawPeer("user", kind="client").link("memory://hq") as user:
            async with RawPeer("lab").link("memory://relay") as other:
                await hq.wait_route("relay")
                await relay.wait_route("lab")
                circuit = user.open("lab", via=("hq", "relay"))
                await other.wait(lambda lab: lab.ears)
                assert other.ears[0].request is not None
                assert other.ears[0].request.via == ()
                await circuit.wait(lambda ear: ear.path)
                assert circuit.path == ("user", "hq", "relay", "lab")


async def test_a_session_is_told_which_hop_has_died(autojump_clock: MockClock) -> None:
    async with running("lab"), BadWire("memory://lab", "memory://wire") as wire, running("relay", wire.url) as relay:
        async with running("hq", "memory://relay") as hq:
            await hq.wait_route("lab")
            async with hq.session("lab", service="greeter") as session:
                assert await session.root.hello("you") == "hello you"
                wire.cut()
                await session.wait_closed()
                with pytest.raises(LinkLost, match="lab") as caught:
                    await session.root.hello("you")
                assert caught.value.hop == "relay"
            await relay.wait_route("lab")  # it was dialled again
            await hq.wait_route("lab")
            async with hq.session("lab", service="greeter") as session:
                assert await session.root.hello("again") == "hello again"


async def test_a_session_needs_another_node(autojump_clock: MockClock) -> None:
    async with running("hq") as hq:
        for target, why in (("hq", "hq is this node itself"), ("", "no node is named, and hq has 0 links")):
            with pytest.raises(Unreachable, match=why):
                async with hq.session(target, service="greeter"):
                    pytest.fail("with itself")


async def test_a_dialer_comes_back_when_its_neighbour_does(autojump_clock: MockClock) -> None:
    async with running("hq", "memory://lab") as hq:
        await wait_all_tasks_blocked()
        (_, vain) = hq.nodes()
        assert (vain.name, vain.path, vain.link) == ("", ("hq",), "memory://lab")
        assert vain.state.startswith("waiting: ")
        for _ in range(2):
            async with running("lab"):
                await hq.wait_route("lab")
            await wait_nodes(hq, lambda names: not names)


async def test_circuits_may_end_in_order_while_a_node_leaves(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, AsyncExitStack() as stack:
        leave = trio.Event()

        async def gateway(*, task_status: trio.TaskStatus[Node]) -> None:
            async with running("hq") as hq:
                task_status.started(hq)
                await leave.wait()

        hq = await nursery.start(gateway)
        lab = await stack.enter_async_context(RawPeer("lab").link("memory://hq"))
        user = await stack.enter_async_context(RawPeer("user", kind="client").link("memory://hq"))
        await hq.wait_route("lab")
        lab.answer = accept_and_echo
        ends, hangs = user.open("lab"), user.open("lab")
        for circuit in (ends, hangs):
            circuit.say(b"begin, ")
            await circuit.wait(lambda ear: ear.data == b"begin, ")
        leave.set()
        await user.wait(lambda peer: peer.told)
        assert user.told[0][0] == "leaving"

        late = user.connection.mux.statistics().streams
        with pytest.raises(LinkLost, match="hq is shutting down"):
            user.open("lab")
        assert user.connection.mux.statistics().streams == late
        ends.say(b"end")
        ends.finish()
        assert await ends.wait_end() == "finished"
        assert ends.data == b"begin, end"
        end = await hangs.wait_end()
        assert isinstance(end, tuple)
        assert end[0] == "reset"


async def test_a_defect_met_on_one_link_ends_that_link_only(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        running("hq") as hq,
        RawPeer("lab").link("memory://hq") as lab,
        RawPeer("user").link("memory://hq") as user,
    ):
        await hq.wait_route("lab")
        await hq.wait_route("user")
        circuit = user.open("lab")
        await lab.wait(lambda peer: peer.ears)

        async with RawPeer("odd").link("memory://hq") as odd:
            await hq.wait_route("odd")
            crossing = user.open("odd")
            await odd.wait(lambda peer: peer.ears)
            with monkeypatch.context() as patch:
                patch.setattr(hq._table, "receive", lambda *_: 1 / 0)
                odd.announce(Route(("odd", "board"), 0, 0))
                await odd.wait(lambda peer: peer.told)
            await crossing.wait_end()
        circuit.say(b"fine")
        await lab.ears[0].wait(lambda ear: ear.data == b"fine")
        assert user.told == lab.told == []
    assert "ZeroDivisionError" in caplog.text


async def test_a_node_that_was_opened_without_fronts_refuses_a_bare_python() -> None:
    async with running("hub") as hub:
        with pytest.raises(DialFailed, match="a bare Python needs a front"):
            async with hub.link(f"stdio:{sys.executable}"):
                pass
