"""BadWire does to a wire what it says, and nothing else."""

from __future__ import annotations

import math
import os
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
import trio
import trio.testing

from rpyc_gateway.errors import ConfigError, DialFailed
from rpyc_gateway.testing import BadWire
from rpyc_gateway.transport import Pipe, find_transport


async def echo(pipe: Pipe) -> None:
    try:
        async for data in pipe.stream:
            await pipe.stream.send_all(data)
    except trio.BrokenResourceError:
        return  # cut


@asynccontextmanager
async def echo_at(url: str) -> AsyncIterator[str]:
    async with trio.open_nursery() as nursery:
        (bound,) = await nursery.start(find_transport(url).serve, url, echo)
        yield bound
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def bad_wire(url: str = "memory://relay") -> AsyncIterator[tuple[BadWire, trio.abc.Stream]]:
    """An echo behind a bad wire, and one connection through it."""
    near = "memory://wire" if url.startswith("memory:") else "tcp://127.0.0.1:0"
    async with echo_at(url) as target, BadWire(target, near) as wire:
        async with find_transport(wire.url).connect(wire.url) as pipe:
            yield wire, pipe.stream


async def hears(stream: trio.abc.Stream, count: int) -> bytes:
    heard = b""
    while len(heard) < count:
        heard += await stream.receive_some() or pytest.fail(f"the end after {heard!r}")
    return heard


REAL = ["tcp://127.0.0.1:0", "unix", "memory://relay"]


@pytest.fixture(params=REAL)
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    if request.param == "unix":
        return f"unix://{tmp_path_factory.mktemp('s')}/relay.sock"
    return str(request.param)


async def test_left_alone_it_is_a_wire(url: str) -> None:
    data = bytes(range(256)) * 4096
    async with bad_wire(url) as (wire, stream):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.send_all, data)
            assert await hears(stream, len(data)) == data
        assert isinstance(stream, trio.abc.HalfCloseableStream)
        await stream.send_eof()
        assert await stream.receive_some() == b""
        assert wire.connections == 1


async def test_a_cut_is_seen_at_both_ends_and_new_connections_are_taken() -> None:
    heard: list[str] = []

    async def listen(pipe: Pipe) -> None:
        try:
            while await pipe.stream.receive_some():
                heard.append("data")
        except trio.BrokenResourceError:
            heard.append("reset")

    tcp = find_transport("tcp:")
    async with trio.open_nursery() as nursery:
        (target,) = await nursery.start(tcp.serve, "tcp://127.0.0.1:0", listen)
        async with BadWire(target) as wire:
            async with tcp.connect(wire.url) as pipe:
                await pipe.stream.send_all(b"hello")
                while heard != ["data"]:
                    await trio.lowlevel.checkpoint()
                wire.cut()
                with pytest.raises(trio.BrokenResourceError):
                    await pipe.stream.receive_some()
            while heard != ["data", "reset"]:
                await trio.lowlevel.checkpoint()
            async with tcp.connect(wire.url) as pipe:
                await pipe.stream.send_all(b"again")
                while heard != ["data", "reset", "data"]:
                    await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert wire.connections == 2


async def test_a_reset_from_one_end_is_a_reset_for_the_other() -> None:
    reset = trio.Event()

    async def listen(pipe: Pipe) -> None:
        await pipe.stream.send_all(b"here")
        with pytest.raises(trio.BrokenResourceError):
            await pipe.stream.receive_some()
        reset.set()

    tcp = find_transport("tcp:")
    async with trio.open_nursery() as nursery:
        (target,) = await nursery.start(tcp.serve, "tcp://127.0.0.1:0", listen)
        async with BadWire(target) as wire, tcp.connect(wire.url) as pipe:
            assert isinstance(pipe.stream, trio.SocketStream)
            assert await pipe.stream.receive_some() == b"here"  # a reset before that would meet nobody
            pipe.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            await pipe.stream.aclose()
            await reset.wait()
        nursery.cancel_scope.cancel()


async def test_a_delay_is_each_way_and_keeps_the_order(autojump_clock: trio.testing.MockClock) -> None:
    async with bad_wire() as (wire, stream):
        wire.delay(0.05)
        await stream.send_all(b"one")
        await trio.testing.wait_all_tasks_blocked()
        wire.delay(0)
        await stream.send_all(b"two")
        assert await hears(stream, 6) == b"onetwo"
        assert trio.current_time() == pytest.approx(0.05)
        wire.delay(0.05)
        await stream.send_all(b"three")
        assert await hears(stream, 5) == b"three"
        assert trio.current_time() == pytest.approx(0.15)


async def test_a_long_wire_holds_many_pieces_at_once(autojump_clock: trio.testing.MockClock) -> None:
    async with bad_wire() as (wire, stream):
        wire.delay(1)
        for number in range(50):
            await stream.send_all(bytes([number]))
            await trio.sleep(0.01)
        assert await hears(stream, 50) == bytes(range(50))
        assert trio.current_time() == pytest.approx(2.49)


async def test_in_a_blackhole_nothing_arrives_and_nobody_is_told(autojump_clock: trio.testing.MockClock) -> None:
    async with bad_wire() as (wire, stream):
        wire.blackhole()
        await stream.send_all(b"anybody?")
        assert isinstance(stream, trio.abc.HalfCloseableStream)
        await stream.send_eof()
        with trio.move_on_after(1000) as silence:
            await stream.receive_some()
        assert silence.cancelled_caught
        wire.mend()
        assert await hears(stream, 8) == b"anybody?"
        assert await stream.receive_some() == b""


async def test_a_blackhole_may_swallow_one_direction_only(autojump_clock: trio.testing.MockClock) -> None:
    async with bad_wire() as (wire, stream):
        wire.blackhole(toward="dialler")
        await stream.send_all(b"heard there")
        with trio.move_on_after(1000) as silence:
            await stream.receive_some()
        assert silence.cancelled_caught
        wire.blackhole(toward="target")
        wire.mend(toward="dialler")
        assert await hears(stream, 11) == b"heard there"


async def test_a_blackhole_can_be_cut(autojump_clock: trio.testing.MockClock) -> None:
    async with bad_wire() as (wire, stream):
        wire.blackhole()
        await stream.send_all(b"anybody?")
        await trio.testing.wait_all_tasks_blocked()
        wire.cut()
        assert await stream.receive_some() == b""


async def test_a_target_that_is_not_there_breaks_the_connection() -> None:
    async def dial(wire: BadWire) -> None:
        async with find_transport(wire.url).connect(wire.url) as pipe:
            await pipe.stream.receive_some()

    async with BadWire("memory://nobody") as wire:
        with pytest.raises((trio.BrokenResourceError, DialFailed)):  # the reset may even overtake the dialler
            await dial(wire)


async def test_it_leaves_nothing_behind_and_lets_exceptions_pass_as_they_are() -> None:
    before = set(os.listdir("/proc/self/fd"))

    async def fail() -> None:
        async with BadWire("tcp://127.0.0.1:1") as wire:
            assert wire.url.startswith("tcp://127.0.0.1:")
            raise ZeroDivisionError

    async def fail_while_cancelled(scope: trio.CancelScope) -> None:
        async with BadWire("tcp://127.0.0.1:1"):
            scope.cancel()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    with pytest.raises(ZeroDivisionError), trio.CancelScope() as scope:
        await fail_while_cancelled(scope)
    assert set(os.listdir("/proc/self/fd")) == before


async def test_urls_and_delays_that_are_not_possible_are_refused() -> None:
    for target, url in [("nothing:", "tcp://127.0.0.1:0"), ("tcp://127.0.0.1:1", "tcp://192.0.2.1:0")]:
        with pytest.raises(ConfigError):
            async with BadWire(target, url):
                pass
    for seconds in (-1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="is not possible"):
            BadWire("tcp://127.0.0.1:1").delay(seconds)


async def test_jitter_delays_by_chance_and_keeps_the_order(autojump_clock: trio.testing.MockClock) -> None:
    times = []
    async with bad_wire() as (wire, stream):
        wire.delay(0.1, jitter=0.1, toward="dialler")
        for number in range(20):
            before = trio.current_time()
            await stream.send_all(bytes([number]))
            assert await stream.receive_some() == bytes([number])
            times.append(trio.current_time() - before)
    assert all(0.1 <= time <= 0.2 for time in times)
    assert len(set(times)) > 10


async def test_a_slow_wire_carries_so_much_and_its_sender_waits(autojump_clock: trio.testing.MockClock) -> None:
    async with bad_wire() as (wire, stream):
        wire.rate(10_000, toward="target")
        await stream.send_all(bytes(1000))
        await hears(stream, 1000)
        assert trio.current_time() == pytest.approx(0.1)
        await stream.send_all(bytes(65536 + 20_000))  # a memory stream holds 64 KiB
        assert trio.current_time() >= 2
        await hears(stream, 65536 + 20_000)
        assert trio.current_time() == pytest.approx(8.65, abs=0.05)
        wire.rate(math.inf)
        await stream.send_all(bytes(60_000))
        await hears(stream, 60_000)
        assert trio.current_time() == pytest.approx(8.65, abs=0.05)


@pytest.mark.parametrize("seed", [1, 2])
async def test_what_is_lost_and_what_is_changed_follows_from_the_seed(seed: int) -> None:
    data = bytes(10_000)
    heard = []
    for _ in range(2):
        async with echo_at("memory://relay") as target, BadWire(target, "memory://wire", seed=seed) as wire:
            wire.lose(0.01, toward="target")
            wire.corrupt(0.01, toward="dialler")
            async with find_transport(wire.url).connect(wire.url) as pipe:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(pipe.stream.send_all, data)
                    heard.append(await hears(pipe.stream, 9_800))
    assert heard[0] == heard[1]
    assert 60 <= sum(map(bool, heard[0])) <= 140
    FATES.add(heard[0])
    assert len(FATES) == seed


FATES: set[bytes] = set()


async def test_a_connection_breaks_after_so_many_bytes(url: str) -> None:
    async with bad_wire(url) as (wire, stream):
        await stream.send_all(bytes(5000))
        await hears(stream, 5000)
        wire.cut_after(700)
        await stream.send_all(bytes(500))
        assert len(await hears(stream, 200)) == 200
        with suppress(trio.BrokenResourceError):  # or it just ends, where there are no resets
            while await stream.receive_some():
                pass
        async with find_transport(wire.url).connect(wire.url) as pipe:
            await pipe.stream.send_all(bytes(5000))
            await hears(pipe.stream, 5000)


async def test_connections_break_at_random_moments(autojump_clock: trio.testing.MockClock) -> None:
    async with echo_at("memory://relay") as target, BadWire(target, "memory://wire", seed=3) as wire:
        wire.cut_often(10)
        moments = []
        while len(moments) < 50:
            async with find_transport(wire.url).connect(wire.url) as pipe:
                assert await pipe.stream.receive_some() == b""
                moments.append(trio.current_time())
        assert moments[-1] == pytest.approx(500, rel=0.3)
        wire.cut_often(math.inf)
        async with find_transport(wire.url).connect(wire.url) as pipe:
            with trio.move_on_after(5000) as silence:
                await pipe.stream.receive_some()
        assert silence.cancelled_caught


async def test_what_is_not_possible_is_refused() -> None:
    wire = BadWire("memory://relay")
    for wrong in (
        lambda: wire.delay(1, jitter=-1),
        lambda: wire.rate(0),
        lambda: wire.rate(math.nan),
        lambda: wire.lose(1.5),
        lambda: wire.corrupt(-0.1),
        lambda: wire.corrupt(math.nan),
        lambda: wire.cut_after(-1),
        lambda: wire.cut_often(0),
    ):
        with pytest.raises(ValueError, match=r"not possible|no share|fewer than none|cannot break"):
            wrong()
