"""What a node tells anybody about the network it sees."""

from __future__ import annotations

from trio.testing import MockClock

from tests.house import running


async def test_the_service_node_tells_what_a_node_knows(autojump_clock: MockClock) -> None:
    async with running("lab"), running("relay", "memory://lab") as relay, running("hq", "memory://relay") as hq:
        await hq.wait_route("lab")
        async with hq.session("relay", service="node") as session:
            told = await session.root.nodes()
        assert told == tuple(map(tuple, relay.nodes()))
        assert ("lab", ("relay", "lab"), 1, "memory://lab", "up", "") in told
