"""Listeners, and callers that are not links yet."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, AsyncExitStack

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from rpyc_gateway.config import Config, Listen, NodeSection
from rpyc_gateway.doorway import PLACES, Doorway
from rpyc_gateway.errors import Code, ConfigError
from rpyc_gateway.gateway import open_node
from rpyc_gateway.proto.frames import FrameType, decode_failure
from rpyc_gateway.proto.framing import Framer
from rpyc_gateway.transport import Pipe, find_transport
from tests.house import running
from tests.raw_peer import RawPeer


async def test_a_listener_that_other_machines_can_reach_is_refused(autojump_clock: MockClock) -> None:
    listen = Listen(url="tcp://0.0.0.0:0")
    config = Config(node=NodeSection(name="hq")).but(listen=(listen,))
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
        silent = [await stack.enter_async_context(connect("memory://hq")) for _ in range(PLACES + 1)]
        await hear_limit(silent[0], "hq hears newer callers")
        assert len(hq._reception) == PLACES
        await stack.enter_async_context(RawPeer("lab").link("memory://hq"))
        await hq.wait_route("lab")
        began = trio.current_time()
        assert await silent[-1].stream.receive_some() == b""
        assert trio.current_time() - began == pytest.approx(10, abs=1)
        await wait_all_tasks_blocked()
        assert len(hq._reception) == 0


async def hear_limit(pipe: Pipe, text: str) -> None:
    """The listener says ERROR (LIMIT) in such words, and closes."""
    said = b""
    while data := await pipe.stream.receive_some():
        said += data
    ((kind, _, _, payload),) = Framer(16384, dialler=True).receive(said)
    failure = decode_failure(payload)
    assert (kind, failure.code, failure.hop) == (FrameType.ERROR, Code.LIMIT, "hq")
    assert text in failure.text


async def test_a_crowd_that_comes_at_one_moment_waits_its_turn_and_is_all_let_in(autojump_clock: MockClock) -> None:
    async with running("hq"), AsyncExitStack() as stack:
        slow = [await stack.enter_async_context(hq_pipe()) for _ in range(PLACES)]
        crowd = [RawPeer(f"lab{number}") for number in range(2 * PLACES)]
        async with trio.open_nursery() as nursery:
            for peer in crowd:
                nursery.start_soon(peer.stay, "memory://hq")
            await wait_all_tasks_blocked()
            for peer in crowd:
                await peer.wait(lambda peer: peer.connection.mux.up or peer.told)
                assert peer.told == []
            assert trio.current_time() == pytest.approx(1, abs=0.1)  # nobody was cut before its second was over
            nursery.cancel_scope.cancel()
        for pipe in slow[:1]:
            await hear_limit(pipe, "no link within 1 s")


async def test_the_queue_at_the_door_has_an_end_and_says_so(autojump_clock: MockClock) -> None:
    async with running("hq") as hq, AsyncExitStack() as stack:
        queue = hq._reception._doorway.queue
        for _ in range(PLACES + queue):
            await stack.enter_async_context(hq_pipe())
            await wait_all_tasks_blocked()
        await hear_limit(await stack.enter_async_context(hq_pipe()), f"{queue} callers wait to be heard by hq")


async def test_of_those_who_are_turned_away_not_all_are_told_why(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rpyc_gateway.reception.PARTINGS", 1)
    async with running("hq") as hq, AsyncExitStack() as stack:
        hq._reception._doorway = Doorway(places=1, queue=1)
        for _ in range(2):
            await stack.enter_async_context(hq_pipe())
            await wait_all_tasks_blocked()
        told, dropped = [await stack.enter_async_context(hq_pipe()) for _ in range(2)]
        await wait_all_tasks_blocked()
        assert await dropped.stream.receive_some() == b""
        await hear_limit(told, "1 callers wait to be heard by hq")


def hq_pipe() -> AbstractAsyncContextManager[Pipe]:
    return find_transport("memory://hq").connect("memory://hq")
