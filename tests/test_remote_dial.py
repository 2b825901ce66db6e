"""Nodes that are dialled on somebody's behalf."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import cast

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from rpyc_gateway.config import Dial
from rpyc_gateway.errors import DuplicateNode
from rpyc_gateway.registry import Neighbour
from rpyc_gateway.remote_dial import SharedLinks
from rpyc_gateway.testing import BadWire
from tests.house import running, wait_nodes, wait_until


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


class Refused:
    """A node that is refused so many times, as if it were linked already, by a link that has just ended."""

    name = "relay"

    def __init__(self, times: int) -> None:
        self.times = times
        self.dials = 0

    @asynccontextmanager
    async def link_neighbour(self, _url: str) -> AsyncIterator[Neighbour]:
        self.dials += 1
        await trio.lowlevel.checkpoint()
        if self.dials <= self.times:
            raise DuplicateNode("lab already has a live link with a node named 'relay'", hop="lab")
        yield cast("Neighbour", SimpleNamespace(connection=SimpleNamespace(peer_name="lab"), over=trio.Event()))

    def holder(self, _name: str) -> Neighbour | None:
        return None


async def test_a_link_that_ends_while_it_stands_in_the_way_costs_one_more_dial() -> None:
    node = Refused(1)
    async with trio.open_nursery() as nursery:
        links = SharedLinks(node, nursery)
        link = await links.take("tcp://lab:1")
        assert (link.name, node.dials) == ("lab", 2)
        links.give_back(link)


async def test_another_node_of_our_name_is_told_after_the_second_dial() -> None:
    node = Refused(9)
    async with trio.open_nursery() as nursery:
        with pytest.raises(DuplicateNode, match="relay could not dial tcp://lab:1: lab already has a live link"):
            await SharedLinks(node, nursery).take("tcp://lab:1")
    assert node.dials == 2


async def test_a_relay_that_does_not_dial_for_us_is_named(autojump_clock: MockClock) -> None:
    onward = Dial(url="memory://lab", via="relay")
    async with running("relay"), running("hq", "memory://relay", onward) as hq:
        await hq.wait_route("relay")
        await wait_all_tasks_blocked()
        vain = hq.nodes()[-1]
        assert (vain.path, vain.link) == (("hq", "relay"), "memory://lab")
        assert "relay does not let hq use 'dial'" in vain.state


async def test_a_via_that_nobody_has_is_seen_at_once_and_told_once(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    onward = Dial(url="memory://lab", via="relya")
    async with running("lab"), running("relay", allow=("*",)), running("hq", "memory://relay", onward) as hq:
        await hq.wait_route("relay")
        await wait_all_tasks_blocked()
        assert hq.nodes()[-1].state == "dialling: waiting for a way to 'relya'"
        await trio.sleep(600)
        assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [
            "hq: memory://lab via relya: no way to 'relya' since 10 s; is that its name?"
        ]
        async with running("relya", "memory://relay", allow=("*",)):
            await hq.wait_route("lab")
        assert not any("waiting for a way" in info.state for info in hq.nodes() if info.name)


async def test_a_chain_that_ends_at_one_moment_does_not_complain_of_its_links(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    leave = trio.Event()

    async def relay(*, task_status: trio.TaskStatus[None]) -> None:
        async with running("relay", allow=("*",)):
            task_status.started()
            await leave.wait()

    onward = Dial(url="memory://lab", via="relay")
    async with running("lab"), trio.open_nursery() as nursery:
        await nursery.start(relay)
        async with running("hq", "memory://relay", onward) as hq:
            await hq.wait_route("lab")
            await wait_until(lambda: not hq._keeping.absent())
            leave.set()  # the signal that ends them all reaches relay first
            await wait_nodes(hq, lambda names: not names)
            await wait_all_tasks_blocked()
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []
