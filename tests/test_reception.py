"""Listeners, and callers that are not links yet."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from rpyc_gateway.config import Config, Listen, NodeSection, Relay
from rpyc_gateway.errors import (
    ConfigError,
)
from rpyc_gateway.gateway import open_node
from rpyc_gateway.reception import UNDECIDED
from rpyc_gateway.transport import find_transport
from tests.house import running
from tests.raw_peer import RawPeer


async def test_a_listener_that_other_machines_can_reach_is_refused(autojump_clock: MockClock) -> None:
    listen = Listen.model_construct(url="tcp://0.0.0.0:0", insecure=False)
    config = Config.model_construct(node=NodeSection(name="hq"), listen=(listen,), dial=(), serve=(), relay=Relay())
    with pytest.raises(ConfigError, match=r"0\.0\.0\.0.*insecure = true"):
        async with open_node(config):
            pytest.fail("it listens")


async def test_a_listener_that_cannot_be_bound_is_an_error_before_the_body(autojump_clock: MockClock) -> None:
    async with running("hq"):
        with pytest.raises(ConfigError, match="memory://hq"):
            async with running("hq"):
                pytest.fail("two listeners of one name")


async def test_callers_that_say_nothing_are_bounded_and_keep_nobody_out(autojump_clock: MockClock) -> None:
    async with running("hq") as hq, AsyncExitStack() as stack:
        connect = find_transport("memory://hq").connect
        silent = [await stack.enter_async_context(connect("memory://hq")) for _ in range(UNDECIDED + 1)]
        assert await silent[0].stream.receive_some() == b""
        assert len(hq._reception) == UNDECIDED
        await stack.enter_async_context(RawPeer("lab").link("memory://hq"))
        await hq.wait_route("lab")
        began = trio.current_time()
        assert await silent[-1].stream.receive_some() == b""
        assert trio.current_time() - began == pytest.approx(10, abs=1)
        await wait_all_tasks_blocked()
        assert len(hq._reception) == 0
