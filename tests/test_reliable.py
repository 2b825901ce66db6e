"""A reliable pipe over one that is not: streams as trio wants them, and nodes joined over a noisy line, on a clock that jumps."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from math import inf

import pytest
import trio
from trio.testing import check_half_closeable_stream, memory_stream_pair

from rpyc_gateway import transport
from rpyc_gateway.reliable import reliable
from rpyc_gateway.transport import Handler, Pipe, handle

from .house import enter_chain
from .proto.line_pair import Noise, flips


class Cable(trio.abc.Stream):
    """One end of a cable that takes its time and does things to bytes."""

    def __init__(self, stream: trio.StapledStream, rate: float, noise: Noise | None) -> None:
        self.stream = stream
        self.rate = rate
        self.noise = noise
        self.silent = False
        self.carried = 0

    async def send_all(self, data: bytes) -> None:
        self.carried += len(data)
        if self.rate < inf:
            await trio.sleep(len(data) / self.rate)
        if self.silent:
            await trio.lowlevel.checkpoint()
            return
        await self.stream.send_all(self.noise(bytes(data)) if self.noise else data)

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        return bytes(await self.stream.receive_some(max_bytes))

    async def aclose(self) -> None:
        await self.stream.aclose()


def cable(*, rate: float = inf, noise: Noise | None = None) -> tuple[Cable, Cable]:
    near, far = memory_stream_pair()
    return Cable(near, rate, noise), Cable(far, rate, noise)


def over(stream: trio.abc.Stream, rate: float = inf) -> Pipe:
    return Pipe(stream, "the cable", reliable=False, rate=rate)


@asynccontextmanager
async def joined(near: Cable, far: Cable) -> AsyncIterator[tuple[Pipe, Pipe]]:
    """Both ends of a line, in session."""
    pipes: dict[str, Pipe] = {}
    both, stop = trio.Event(), trio.Event()

    async def listen(task_status: trio.TaskStatus[None]) -> None:
        async with reliable(over(far, far.rate), dialler=False) as pipe:
            pipes["far"] = pipe
            both.set()
            task_status.started()
            await stop.wait()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(nursery.start, listen)
        async with reliable(over(near, near.rate), dialler=True) as pipe:
            await both.wait()
            yield pipe, pipes["far"]
            stop.set()


async def test_a_reliable_pipe_stays_what_it_is() -> None:
    near, _ = memory_stream_pair()
    pipe = Pipe(near, "somebody")
    async with reliable(pipe, dialler=True) as same:
        assert same is pipe


async def test_a_slow_noisy_line_carries_everything_both_ways(autojump_clock: trio.testing.MockClock) -> None:
    near, far = cable(rate=11520, noise=flips(0.001, 3))
    there, back = random.Random(1).randbytes(20000), random.Random(2).randbytes(20000)
    async with joined(near, far) as (one, other):
        assert one.reliable
        assert other.reliable
        assert one.rate == 11520

        async def say(pipe: Pipe, data: bytes) -> None:
            await pipe.stream.send_all(data)
            await pipe.stream.send_eof()

        async def hear(pipe: Pipe, data: bytes) -> None:
            got = b""
            while part := await pipe.stream.receive_some():
                got += part
            assert got == data

        async with trio.open_nursery() as nursery:
            nursery.start_soon(say, one, there)
            nursery.start_soon(say, other, back)
            nursery.start_soon(hear, one, back)
            nursery.start_soon(hear, other, there)


async def test_its_stream_keeps_the_contract_of_trio(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:

        async def maker() -> tuple[trio.abc.Stream, trio.abc.Stream]:
            ends: list[Pipe] = []
            both = trio.Event()

            async def hold(end: str, stream: Cable) -> None:
                async with reliable(over(stream), dialler=end == "near") as pipe:
                    ends.append(pipe)
                    if len(ends) == 2:
                        both.set()
                    await trio.sleep_forever()

            near, far = cable()
            nursery.start_soon(hold, "near", near)
            nursery.start_soon(hold, "far", far)
            await both.wait()
            return ends[0].stream, ends[1].stream

        await check_half_closeable_stream(maker, None)
        nursery.cancel_scope.cancel()


class CableTransport:
    """`cable:` is a transport with one cable, whose ends are given out once each."""

    def __init__(self, near: Cable, far: Cable) -> None:
        self.near, self.far = near, far

    @asynccontextmanager
    async def connect(self, url: str) -> AsyncIterator[Pipe]:
        async with self.near:
            yield over(self.near, self.near.rate)

    async def serve(self, url: str, handler: Handler, *, task_status: trio.TaskStatus[list[str]]) -> None:
        task_status.started([url])
        await handle(over(self.far, self.far.rate), handler)
        await trio.sleep_forever()

    def is_private(self, url: str) -> bool:
        return True

    def is_guarded(self, url: str) -> bool:
        return False

    def check(self, url: str) -> str | None:
        return None


async def test_two_nodes_are_joined_over_a_noisy_line_as_over_tcp(monkeypatch: pytest.MonkeyPatch) -> None:
    near, far = cable(rate=100_000, noise=flips(0.001, 9))
    monkeypatch.setitem(transport._found, "cable", CableTransport(near, far))
    async with AsyncExitStack() as stack:
        hq, _ = await enter_chain(stack, {"hq": "memory://hq", "lab": "cable:1"}, None)
        async with hq.session("lab") as session:
            assert await session.root.eval("6 * 7") == 42
            data = random.Random(4).randbytes(30_000)
            assert await (await session.root.eval("lambda data: data[::-1]"))(data) == data[::-1]
