"""A reliable pipe over one that is not: streams as trio wants them, and nodes joined over a noisy line, on a clock that jumps."""

from __future__ import annotations

import logging
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from math import inf

import pytest
import trio
from trio.testing import check_half_closeable_stream, memory_stream_pair

from rpyc_gateway import transport
from rpyc_gateway.config import Config, Listen, NodeSection
from rpyc_gateway.errors import DialFailed, LinkLost
from rpyc_gateway.gateway import open_node
from rpyc_gateway.nursery import open_background
from rpyc_gateway.proto.lineframes import Greeting
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
        self.baud = 0

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

    async with open_background() as nursery:
        nursery.start_soon(nursery.start, listen)
        async with reliable(over(near, near.rate), dialler=True) as pipe:
            await both.wait()
            await trio.sleep(0.1)
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


# -- what goes wrong


async def test_who_dials_into_silence_is_told_what_came_instead(autojump_clock: trio.testing.MockClock) -> None:
    near, far = cable(rate=11520)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(far.stream.send_all, b"login: ")
        with pytest.raises(DialFailed, match=r"the cable: nobody speaks .* \(10 s\); it said b'login: '"):
            async with reliable(over(near), dialler=True):
                raise AssertionError("nobody is there")


async def test_a_pipe_that_breaks_before_anybody_came_is_named_to_either_side() -> None:
    for dialler, kind in ((True, DialFailed), (False, LinkLost)):
        near, far = cable()
        await far.aclose()
        with pytest.raises(kind, match="the cable: "):
            async with reliable(over(near), dialler=dialler):
                raise AssertionError("nobody is there")


async def test_a_stream_breaks_with_the_reason_when_the_peer_falls_silent(
    autojump_clock: trio.testing.MockClock,
) -> None:
    near, far = cable(rate=11520)
    async with joined(near, far) as (one, _):
        near.silent = far.silent = True
        await one.stream.send_all(b"hello?")
        with pytest.raises(trio.BrokenResourceError, match="no frame for 10 s"):
            await one.stream.receive_some()
        with pytest.raises(trio.BrokenResourceError, match="no frame for 10 s"):
            await one.stream.send_all(b"hello?")


async def test_what_came_before_the_end_can_still_be_read(autojump_clock: trio.testing.MockClock) -> None:
    near, far = cable(rate=11520)
    async with joined(near, far) as (one, other):
        await one.stream.send_all(b"last words")
        await trio.sleep(1)
        await near.aclose()
        assert await other.stream.receive_some() == b"last words"
        with pytest.raises(trio.BrokenResourceError, match="the pipe has ended"):
            await other.stream.receive_some()


async def test_a_peer_that_was_started_anew_ends_the_line_and_says_so(autojump_clock: trio.testing.MockClock) -> None:
    near, far = cable(rate=11520)
    async with trio.open_nursery() as nursery:

        async def listen(task_status: trio.TaskStatus[Pipe]) -> None:
            async with reliable(over(far, 11520), dialler=False) as pipe:
                task_status.started(pipe)
                await trio.sleep_forever()

        first = trio.CancelScope()
        pipes: list[Pipe] = []

        async def dial() -> None:
            async with reliable(over(near, 11520), dialler=True) as pipe:
                pipes.append(pipe)
                await trio.sleep_forever()

        async def dial_and_die() -> None:
            with first:
                await dial()

        nursery.start_soon(dial_and_die)
        pipe = await nursery.start(listen)
        near.silent = True  # it is killed: nothing more is heard of it
        first.cancel()
        await trio.sleep(0.1)
        near.silent = False
        nursery.start_soon(dial)
        with pytest.raises(trio.BrokenResourceError, match="has started anew"):
            await pipe.stream.receive_some()
        nursery.cancel_scope.cancel()


async def test_who_is_cancelled_says_so_if_that_takes_no_time(autojump_clock: trio.testing.MockClock) -> None:
    near, far = cable(rate=11520)
    async with trio.open_nursery() as nursery:

        async def listen(task_status: trio.TaskStatus[Pipe]) -> None:
            async with reliable(over(far, 11520), dialler=False) as pipe:
                task_status.started(pipe)
                await trio.sleep_forever()

        nursery.start_soon(partial(nursery.start, listen))
        with trio.move_on_after(2):
            async with reliable(over(near, 11520), dialler=True) as pipe:
                await pipe.stream.send_all(b"x" * 100_000)
        began = trio.current_time()
        nursery.cancel_scope.cancel()
    assert trio.current_time() - began < 0.2


async def test_the_end_of_the_body_is_told_at_once(autojump_clock: trio.testing.MockClock) -> None:
    near, far = cable(rate=11520)
    async with trio.open_nursery() as nursery:

        async def listen(task_status: trio.TaskStatus[None]) -> None:
            async with reliable(over(far, 11520), dialler=False) as pipe:
                task_status.started()
                with pytest.raises(trio.BrokenResourceError, match="the other end has left"):
                    await pipe.stream.receive_some()
                ended.append(trio.current_time())

        ended: list[float] = []
        nursery.start_soon(partial(nursery.start, listen))
        async with reliable(over(near, 11520), dialler=True):
            await trio.sleep(0.5)
        left = trio.current_time()
    assert ended[0] - left < 0.1


async def test_closing_waits_for_what_was_sent_to_arrive_even_over_noise(
    autojump_clock: trio.testing.MockClock,
) -> None:
    near, far = cable(rate=11520, noise=flips(0.003, 1))
    async with joined(near, far) as (one, other):
        await one.stream.send_all(b"x" * 3000)
        await one.stream.aclose()
        got = b""
        while part := await other.stream.receive_some():
            got += part
        assert got == b"x" * 3000


async def test_closing_does_not_wait_for_a_peer_that_is_gone(autojump_clock: trio.testing.MockClock) -> None:
    near, far = cable(rate=11520)
    async with joined(near, far) as (one, _):
        near.silent = True
        await one.stream.send_all(b"x")
        began = trio.current_time()
        await one.stream.aclose()
        assert trio.current_time() - began == pytest.approx(2.0)


async def test_a_pipe_that_takes_nothing_is_given_up_too(autojump_clock: trio.testing.MockClock) -> None:
    near, _ = memory_stream_pair()
    near.send_stream.send_all_hook = trio.sleep_forever
    with pytest.raises(DialFailed, match="the cable: it has taken nothing for 10 s: flow control holds it back"):
        async with reliable(over(near, 11520), dialler=True):
            pass
    assert trio.current_time() == pytest.approx(10.0, abs=0.1)


async def test_an_error_of_the_body_comes_out_as_itself() -> None:
    near, far = cable()
    with pytest.raises(KeyError, match="mine"):
        async with joined(near, far):
            raise KeyError("mine")


async def test_the_console_of_a_board_is_logged_without_what_it_could_do_to_a_terminal(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "rpyc_gateway.console")
    near, far = cable()
    async with joined(near, far):
        await far.stream.send_all(b"\x1b[2J\x1b[31mred alert\r\n" + "21 °C\tok\n".encode())
        await trio.sleep(0.1)
    assert caplog.messages == [r"the cable: \x1b[2J\x1b[31mred alert", "the cable: 21 °C\\tok"]


async def test_a_console_that_floods_is_logged_in_part(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "rpyc_gateway.console")
    near, far = cable()
    async with joined(near, far):
        await far.stream.send_all(b"spam\n" * 5000)
        await trio.sleep(1)
        await far.stream.send_all(b"ham\n")
        await trio.sleep(0.1)
    assert len(caplog.messages) < 130
    assert "(4900 lines were left out)" in caplog.messages[-2]
    assert caplog.messages[-1] == "the cable: ham"


async def test_a_line_at_rest_wakes_nobody(autojump_clock: trio.testing.MockClock) -> None:
    near, far = cable(rate=11520)
    async with joined(near, far) as (one, other):
        await one.stream.send_all(b"x")
        await other.stream.receive_some()
        await trio.sleep(1)
        carried = near.carried + far.carried
        instrument = Scheduled()
        trio.lowlevel.add_instrument(instrument)
        await trio.sleep(3600)
        trio.lowlevel.remove_instrument(instrument)
        assert instrument.steps <= 2  # this task
        assert near.carried + far.carried == carried


class Scheduled(trio.abc.Instrument):
    steps = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.steps += 1


async def test_a_sender_may_choose_what_is_next_when_the_line_is_nearly_free(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """`send_all` returns 8 ms before the line has nothing to do, not when the bytes are queued."""
    near, far = cable(rate=11520)
    async with joined(near, far) as (one, _):
        await one.stream.send_all(b"x" * 2000)
        began = trio.current_time()
        await one.stream.send_all(b"x" * one.message)
        assert trio.current_time() - began > one.message / 11520 - 0.008


async def test_a_sender_goes_on_when_the_peer_takes_the_next_piece(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rpyc_gateway.reliable.Greeting", partial(Greeting, window=1))
    near, far = cable(rate=92160)
    async with joined(near, far) as (one, other):
        began = trio.current_time()
        for _ in range(20):
            await one.stream.send_all(b"x" * 50)
        await one.stream.send_eof()
        got = b""
        while part := await other.stream.receive_some():
            got += part
        assert got == b"x" * 1000
        assert trio.current_time() - began < 20 * 0.01  # each waits for its acknowledgement, which waits for nothing


# -- another baud rate


def settable(end: Cable, ends: list[Cable], fastest: int) -> Pipe:
    """An end of a cable whose two ends hear garbage unless they are set to the same rate."""
    end.baud = 115200

    def noise(data: bytes) -> bytes:
        bauds = {one.baud for one in ends}
        return data if len(bauds) == 1 and max(bauds) <= 500_000 else bytes(byte ^ 0x55 for byte in data)

    async def set_rate(baud: int) -> None:
        await trio.lowlevel.checkpoint()
        end.baud = baud or 115200
        end.rate = end.baud / 10

    end.noise = noise
    pipe = over(end, 11520)
    pipe.fastest, pipe.set_rate = fastest, set_rate
    return pipe


@pytest.mark.parametrize(("fastest", "agreed"), [(460800, 460800), (921600, 115200)])
async def test_two_ports_change_to_a_rate_that_works_and_back_when_they_are_left(
    autojump_clock: trio.testing.MockClock, fastest: int, agreed: int
) -> None:
    ends = list(cable(rate=11520))
    near, far = ends
    async with trio.open_nursery() as nursery:

        async def listen() -> None:
            async with reliable(settable(far, ends, 4_000_000), dialler=False) as pipe:
                assert await pipe.stream.receive_some() == b"at last"
                assert far.baud == agreed
                await pipe.stream.aclose()

        nursery.start_soon(listen)
        async with reliable(settable(near, ends, fastest), dialler=True) as pipe:
            assert near.baud == agreed
            assert pipe.rate == agreed / 10
            await pipe.stream.send_all(b"at last")
            assert await pipe.stream.receive_some() == b""
    assert (near.baud, far.baud) == (115200, 115200)


# -- nodes


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


async def test_a_node_whose_line_ends_before_anybody_came_says_so_in_one_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "rpyc_gateway")
    near, far = cable()
    monkeypatch.setitem(transport._found, "cable", CableTransport(near, far))
    config = Config(node=NodeSection(name="lab"), listen=(Listen(url="cable:1"),))
    async with open_node(config):
        await near.aclose()
        await trio.testing.wait_all_tasks_blocked()
    told = [record for record in caplog.records if "nobody came" in record.getMessage()]
    assert len(told) == 1
    assert told[0].getMessage().startswith("lab: nobody came: the cable: ")
    assert not any(record.exc_info for record in caplog.records)
