"""Who is linked under which name, and what happens when two claim the same."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from rpyc_gateway.config import Config, Listen, NodeSection
from rpyc_gateway.errors import (
    Code,
    DialFailed,
    DuplicateNode,
)
from rpyc_gateway.gateway import Node, open_node
from rpyc_gateway.testing import BadWire
from tests.house import running
from tests.raw_peer import RawPeer, accept_and_echo


async def test_a_second_node_of_one_name_is_refused_by_naming_both_addresses(autojump_clock: MockClock) -> None:
    async with running("hq") as hq, BadWire("memory://hq", "memory://second-way") as wire:
        async with RawPeer("lab").link("memory://hq") as first:
            async with RawPeer("lab").link(wire.url) as second:
                what, failure = second.told[0]
                assert (what, failure.code, failure.hop) == ("lost", Code.DUPLICATE, "hq")
                assert "'lab'" in failure.text
                assert failure.text.count("memory://hq") == 2
            assert first.told == []
            await hq.wait_route("lab")


async def test_a_node_that_dials_a_second_one_of_a_name_it_is_linked_with_refuses_it(autojump_clock: MockClock) -> None:
    async with running("hq") as hq, RawPeer("lab").link("memory://hq"):
        await hq.wait_route("lab")
        async with running("other-lab"):
            pass
        config = Config(node=NodeSection(name="lab"), listen=(Listen(url="memory://impostor"),))
        async with open_node(config):
            with pytest.raises(DuplicateNode, match=r"memory://hq.*memory://impostor"):
                async with hq.link("memory://impostor"):
                    pytest.fail("two nodes of one name")


async def test_a_link_that_is_silent_loses_its_name_to_the_newcomer(autojump_clock: MockClock) -> None:
    async with running("hq") as hq, BadWire("memory://hq", "memory://dying") as wire:
        async with RawPeer("lab").link(wire.url) as old:
            await hq.wait_route("lab")
            wire.blackhole()
            began = trio.current_time()
            async with RawPeer("lab").link("memory://hq") as new:
                assert trio.current_time() - began == pytest.approx(2.0, abs=0.1)
                assert new.told == []
                assert old.told == []
                new.answer = accept_and_echo
                async with RawPeer("user", kind="client").link("memory://hq") as user:
                    circuit = user.open("lab")
                    circuit.say(b"who are you?")
                    await circuit.wait(lambda ear: ear.data)


async def test_of_several_newcomers_the_last_gets_the_name_of_a_silent_link(autojump_clock: MockClock) -> None:
    async with running("hq") as hq, BadWire("memory://hq", "memory://dying") as wire:
        async with RawPeer("lab").link(wire.url), trio.open_nursery() as nursery:
            await hq.wait_route("lab")
            wire.blackhole()
            newcomers = [RawPeer("lab") for _ in range(3)]
            for newcomer in newcomers:
                nursery.start_soon(newcomer.stay, "memory://hq")
                await wait_all_tasks_blocked()
            await newcomers[-1].wait(lambda peer: peer.connection.mux.up)
            await wait_all_tasks_blocked()
            assert [peer.told[:1] != [] for peer in newcomers] == [True, True, False]
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("name", ["me", "hq", "lab"])
async def test_clients_may_be_called_like_anybody(autojump_clock: MockClock, name: str) -> None:
    async with running("hq"), RawPeer("lab").link("memory://hq") as lab:
        async with RawPeer(name, kind="client").link("memory://hq") as one:
            async with RawPeer(name, kind="client").link("memory://hq") as two:
                assert one.told == two.told == lab.told == []
                two.open("lab").say(b"hello")
                await lab.wait(lambda peer: peer.ears)


async def test_a_node_does_not_link_with_itself(autojump_clock: MockClock) -> None:
    async with running("hq") as hq:
        with pytest.raises(DuplicateNode, match="this is myself"):
            async with hq.link("memory://hq"):
                pytest.fail("linked with itself")


async def test_a_neighbour_with_this_nodes_own_name_is_refused(autojump_clock: MockClock) -> None:
    async with running("hq"), RawPeer("hq").link("memory://hq") as impostor:
        assert impostor.told[0][1].code == Code.DUPLICATE


async def test_two_nodes_that_dial_each_other_at_once_keep_one_link(autojump_clock: MockClock) -> None:
    async with running("one") as one, running("two") as two, trio.open_nursery() as nursery:
        errors: list[str] = []

        async def dial(node: Node, url: str) -> None:
            try:
                async with node.link(url):
                    await trio.sleep(1)
            except (DuplicateNode, DialFailed) as error:
                errors.append(type(error).__name__)

        nursery.start_soon(dial, one, "memory://two")
        nursery.start_soon(dial, two, "memory://one")
        await trio.sleep(0.5)
        assert len(one._up) == len(two._up) == 1
        (link,), (back,) = one._up.values(), two._up.values()
        assert link.connection.dialler != back.connection.dialler
        assert errors == ["DuplicateNode"]
