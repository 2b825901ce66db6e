"""Links and processes that die while they are used: whoever waits hears of it and where it was, and the chain comes back."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Literal, NamedTuple

import pytest
import trio
from trio.testing import MockClock

import rpyc_gateway as gw
from rpyc_gateway.config import Config, Dial, Listen, NodeSection, Serve
from rpyc_gateway.gateway import Node, open_node
from rpyc_gateway.testing import BadWire
from tests.chains.processes import LAB_CHILD, LOOPBACK, House, Process, connect_when_up, dial, listen, serve, wait_until

BOUND = 1.0  # seconds from the death of a process to the error in the caller's hands
WAIT = """
import threading
def wait_for_ever(started):
    started()
    threading.Event().wait()
async def wait_as_a_task(started):
    import trio
    await started()
    await trio.sleep_forever()
"""


class Chain(NamedTuple):
    """hq - relay - lab, each a process that the one before dials; and `side`, which hq dials too."""

    hq: Process
    relay: Process
    lab: Process


@pytest.fixture
def chain(house: House) -> Chain:
    lab = house.start("lab", listen(LOOPBACK) + serve())
    relay = house.start("relay", listen(LOOPBACK) + dial(lab.url))
    side = house.start("side", listen(LOOPBACK) + serve())
    hq = house.start("hq", listen(house.socket("hq")) + dial(relay.url) + dial(side.url))
    connect_when_up(hq.url, "lab").close()
    connect_when_up(hq.url, "side").close()
    return Chain(hq, relay, lab)


def test_a_relay_is_killed_in_the_middle_of_a_call_and_comes_back(chain: Chain, house: House) -> None:
    with gw.connect(chain.hq.url, node="side") as bystander, gw.connect(chain.hq.url, node="lab") as conn:
        conn.execute(WAIT)
        pending = Caller(conn, "wait_for_ever")
        pending.started.wait(5)
        chain.relay.kill()
        error = pending.error(within=BOUND)
        assert isinstance(error, gw.LinkLost)
        assert error.hop == "hq"
        assert "relay" in str(error)
        assert "hq" in str(error)
        assert conn.closed
        with pytest.raises(gw.LinkLost, match="relay"):
            conn.eval("6 * 7")
        assert bystander.eval("6 * 7") == 42
        with pytest.raises(gw.Unreachable, match="hq knows no way to 'lab'"):
            gw.connect(chain.hq.url, node="lab")

        house.start("relay", listen(chain.relay.url) + dial(chain.lab.url))
        with connect_when_up(chain.hq.url, "lab", within=10) as again:
            assert again.path[1:] == ("hq", "relay", "lab")
            assert again.eval("6 * 7") == 42
        assert bystander.eval("6 * 7") == 42


async def test_a_relay_is_killed_while_trio_code_waits_for_a_thread_and_for_a_task(chain: Chain) -> None:
    async with (
        gw.open_session(chain.hq.url, node="side") as bystander,
        gw.open_session(chain.hq.url, node="lab") as lab,
    ):
        await lab.execute(WAIT)
        send, started = trio.open_memory_channel[None](2)
        scope = trio.CancelScope()

        async def wait(function: str) -> None:
            with pytest.raises(gw.LinkLost, match="relay") as lost:
                await lab.namespace[function](partial(send.send, None))
            assert lost.value.hop == "hq"

        with scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait, "wait_for_ever")
                nursery.start_soon(wait, "wait_as_a_task")
                await started.receive()
                await started.receive()
                chain.relay.kill()
                scope.deadline = trio.current_time() + BOUND
        assert not scope.cancelled_caught, f"a caller has heard nothing for {BOUND:g} s"
        with pytest.raises(gw.LinkLost, match="relay"):
            await lab.eval("6 * 7")
        assert await bystander.eval("6 * 7") == 42


def test_the_lab_is_killed_in_the_middle_of_a_call(chain: Chain) -> None:
    with gw.connect(chain.hq.url, node="side") as bystander, gw.connect(chain.hq.url, node="lab") as conn:
        conn.execute(WAIT)
        pending = Caller(conn, "wait_for_ever")
        pending.started.wait(5)
        chain.lab.kill()
        error = pending.error(within=BOUND)
        assert isinstance(error, gw.LinkLost)
        assert error.hop == "relay"
        assert "lab" in str(error)
        assert bystander.eval("6 * 7") == 42
        with pytest.raises(gw.Unreachable, match="lab"):
            gw.connect(chain.hq.url, node="lab")


async def test_the_lab_is_killed_while_its_answer_is_under_way(chain: Chain) -> None:
    async with gw.open_session(chain.hq.url, node="lab") as lab, trio.open_nursery() as nursery:
        before = chain.relay.work

        async def kill_midway() -> None:
            await wait_until(lambda: chain.relay.work >= before + 5)
            chain.lab.kill()

        nursery.start_soon(kill_midway)
        with pytest.raises(gw.LinkLost, match="lab") as lost:
            await lab.eval("bytes(1 << 30)")
        assert lost.value.hop == "relay"


def test_a_relay_that_its_neighbour_has_started_is_started_again(house: House) -> None:
    hq = house.start("hq", listen(house.socket("hq")) + dial(LAB_CHILD))
    with connect_when_up(hq.url, "lab") as conn:
        pid = conn.modules.os.getpid()
        conn.execute(WAIT)
        with pytest.raises(gw.LinkLost, match="lab") as lost:
            conn.namespace["wait_for_ever"](lambda: os.kill(pid, signal.SIGKILL))
        assert lost.value.hop == "hq"
    with connect_when_up(hq.url, "lab", within=10) as again:
        assert again.modules.os.getpid() != pid


# -- half-open: bytes vanish and nobody is told; in virtual time, since it takes twenty seconds to be sure


class Wired(NamedTuple):
    """hq - side, and hq - wire - lab."""

    hq: Node
    wire: BadWire


@asynccontextmanager
async def open_wired() -> AsyncIterator[Wired]:
    async with AsyncExitStack() as stack:
        for name in ("lab", "side"):
            await stack.enter_async_context(
                open_node(quiet_node(name, serve=(Serve(service="classic", allow=("*",)),)))
            )
        wire = await stack.enter_async_context(BadWire("memory://lab", "memory://wire"))
        dials = (Dial(url=wire.url), Dial(url="memory://side"))
        hq = await stack.enter_async_context(open_node(quiet_node("hq", dial=dials)))
        await hq.wait_route("lab")
        await hq.wait_route("side")
        yield Wired(hq, wire)


def quiet_node(name: str, *, dial: tuple[Dial, ...] = (), serve: tuple[Serve, ...] = ()) -> Config:
    return Config(node=NodeSection(name=name), listen=(Listen(url=f"memory://{name}"),), dial=dial, serve=serve)


@pytest.mark.parametrize("toward", ["both", "target", "dialler"])
async def test_a_link_that_is_silent_is_dead_in_twenty_seconds_and_made_again(
    toward: Literal["both", "target", "dialler"], autojump_clock: MockClock
) -> None:
    async with open_wired() as (hq, wire):
        async with gw.open_session("memory://hq", node="lab") as lab, hq.session("side") as bystander:
            await lab.execute(WAIT)
            began = 0.0

            async def fall_silent() -> None:
                nonlocal began
                wire.blackhole(toward=toward)
                began = trio.current_time()

            with pytest.raises(gw.LinkLost, match="lab") as lost:
                await lab.namespace["wait_as_a_task"](fall_silent)
            assert trio.current_time() - began < 21
            assert lost.value.hop == "hq"
            assert await bystander.eval("6 * 7") == 42
        wire.mend()
        with trio.fail_after(120):
            await hq.wait_route("lab")
        async with gw.open_session("memory://hq", node="lab") as again:
            assert await again.eval("6 * 7") == 42


async def test_a_link_that_is_only_slow_lives(autojump_clock: MockClock) -> None:
    async with open_wired() as (_, wire), gw.open_session("memory://hq", node="lab") as lab:
        wire.delay(2.0)
        began = trio.current_time()
        assert await lab.eval("6 * 7") == 42
        assert trio.current_time() - began >= 4
        await trio.sleep(3600)
        wire.delay(0)
        assert await lab.eval("6 * 7") == 42
        assert wire.connections == 1


class Caller(threading.Thread):
    """A call in a thread of its own."""

    def __init__(self, conn: gw.BlockingSession, function: str) -> None:
        super().__init__(daemon=True)
        self.started = threading.Event()
        self._function = conn.namespace[function]
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self._function(self.started.set)
        except BaseException as error:  # noqa: BLE001  # it is what the test waits for
            self._error = error

    def error(self, *, within: float) -> BaseException | None:
        self.join(within)
        assert not self.is_alive(), f"the caller has heard nothing for {within:g} s"
        return self._error
