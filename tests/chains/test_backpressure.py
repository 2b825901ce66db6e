"""Somebody at an end of a chain stops reading: who sends to them waits, nobody in between fills up, and nothing is lost."""

from __future__ import annotations

import hashlib
import random
import sys
from collections.abc import Iterator
from typing import NamedTuple

import pytest
import trio

import rpyc_gateway as gw
from tests.chains.processes import (
    LOOPBACK,
    House,
    Process,
    connect_when_up,
    dial,
    listen,
    open_house,
    serve,
    wait_idle,
    wait_until,
)

MIB = 1 << 20
BULK = 64 * MIB  # far more than a relay may keep,
ROOM = 4 * MIB  # which is a window for each hop of a circuit, the reads under way, and what the allocator makes of them


class Chain(NamedTuple):
    """client - near - far - lab."""

    house: House
    near: Process
    far: Process
    lab: Process

    def memory(self) -> list[int]:
        return [self.near.memory, self.far.memory]

    def grown(self, since: list[int]) -> list[int]:
        return [now - was for now, was in zip(self.memory(), since, strict=True)]


@pytest.fixture(scope="module")
def chain() -> Iterator[Chain]:
    with open_house() as house:
        lab = house.start("lab", listen(LOOPBACK) + serve())
        far = house.start("far", listen(LOOPBACK) + dial(lab.url))
        near = house.start("near", listen(house.socket("near")) + dial(far.url))
        connect_when_up(near.url, "lab").close()
        yield Chain(house, near, far, lab)


async def test_a_lab_that_hangs_fills_no_relay_and_gets_everything_later(chain: Chain) -> None:
    data = random.Random(7).randbytes(BULK)
    url = chain.near.url
    async with gw.open_session(url, node="lab") as lab, gw.open_session(url, node="far", service="node") as bystander:
        digest = await lab.eval("lambda data: __import__('hashlib').sha256(data).hexdigest()")
        await digest(data[: 8 * MIB])  # whatever a relay needs once and for all
        before = chain.memory()
        async with trio.open_nursery() as nursery:

            async def send() -> None:
                assert await digest(data) == hashlib.sha256(data).hexdigest()

            with chain.lab.stopped():
                nursery.start_soon(send)
                await wait_idle(chain.near, chain.far)
                assert max(chain.grown(before)) < ROOM
                assert await bystander.ping("still here?") == "still here?"
        assert max(chain.grown(before)) < ROOM


CLIENT = """
import hashlib, sys
import rpyc_gateway as gw
with gw.connect(sys.argv[1], node="lab") as conn:
    conn.execute("import random")
    conn.eval("bytes(8 << 20)")
    print("ready", file=sys.stderr)
    data = conn.modules.random.Random(7).randbytes(int(sys.argv[2]))
    print("got", hashlib.sha256(data).hexdigest(), file=sys.stderr)
"""


async def test_a_client_that_hangs_fills_no_relay_and_gets_everything_later(chain: Chain) -> None:
    client = chain.house.run("client", sys.executable, "-W", "error", "-c", CLIENT, chain.near.url, str(BULK))
    await trio.to_thread.run_sync(client.wait_line, "ready")
    before, begun = chain.memory(), chain.near.work
    await wait_until(lambda: chain.near.work >= begun + 2)  # it is under way: all of it costs a relay some five ticks
    with client.stopped():
        await wait_idle(chain.near, chain.far, chain.lab)
        assert max(chain.grown(before)) < ROOM
    got = await trio.to_thread.run_sync(client.wait_line, r"got (\w+)")
    assert got[1] == hashlib.sha256(random.Random(7).randbytes(BULK)).hexdigest()
    assert max(chain.grown(before)) < ROOM
