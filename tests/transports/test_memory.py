"""memory:// keeps trio's contract for streams, and the promises of a transport."""

from __future__ import annotations

import threading
from functools import partial

import pytest
import trio
import trio.testing

from rpyc_gateway.errors import ConfigError, DialFailed
from rpyc_gateway.transport import Pipe
from rpyc_transports.memory import CAPACITY, MemoryStream, MemoryTransport, memory_streams

memory = MemoryTransport()


async def echo(pipe: Pipe) -> None:
    async for data in pipe.stream:
        await pipe.stream.send_all(data)


async def open_pair() -> tuple[MemoryStream, MemoryStream]:
    return memory_streams()


async def clogged_pair() -> tuple[MemoryStream, MemoryStream]:
    near, far = memory_streams()
    await near.send_all(bytes(CAPACITY))
    await far.send_all(bytes(CAPACITY))
    return near, far


async def test_a_stream_is_what_trio_says_a_stream_is() -> None:
    await trio.testing.check_half_closeable_stream(open_pair, clogged_pair)


async def test_a_caller_meets_the_listener_of_that_name_and_they_hear_each_other() -> None:
    async with trio.open_nursery() as nursery:
        assert await nursery.start(memory.serve, "memory://relay", echo) == ["memory://relay"]
        async with memory.connect("memory://relay") as pipe:
            await pipe.stream.send_all(b"hello")
            assert await pipe.stream.receive_some() == b"hello"
        assert pipe.private
        nursery.cancel_scope.cancel()


async def test_a_name_is_free_again_when_its_listener_has_gone() -> None:
    for _ in range(2):
        async with trio.open_nursery() as nursery:
            await nursery.start(memory.serve, "memory://relay", echo)
            with pytest.raises(ConfigError, match="memory://relay: somebody listens there already"):
                await memory.serve("memory://relay", echo)
            nursery.cancel_scope.cancel()
    with pytest.raises(DialFailed, match="memory://relay: nobody listens there"):
        async with memory.connect("memory://relay"):
            pass


async def test_a_sender_waits_while_nobody_reads(autojump_clock: trio.testing.MockClock) -> None:
    near, far = memory_streams()
    with trio.move_on_after(1000) as waited:
        await near.send_all(bytes(CAPACITY + 1))
    assert waited.cancelled_caught
    assert len(await far.receive_some()) == CAPACITY
    await near.send_all(b"there is room again")


async def test_closing_ends_the_other_side_and_what_was_sent_still_arrives() -> None:
    near, far = memory_streams()
    await near.send_all(b"last words")
    await near.aclose()
    assert await far.receive_some() == b"last words"
    assert await far.receive_some() == b""
    with pytest.raises(trio.BrokenResourceError):
        await far.send_all(b"anybody?")


async def test_a_handler_that_fails_stops_nobody_else(caplog: pytest.LogCaptureFixture) -> None:
    async def fragile(pipe: Pipe) -> None:
        if await pipe.stream.receive_some() == b"fail":
            raise ZeroDivisionError("as asked")
        await pipe.stream.send_all(b"fine")

    async with trio.open_nursery() as nursery:
        await nursery.start(memory.serve, "memory://relay", fragile)
        async with memory.connect("memory://relay") as one, memory.connect("memory://relay") as other:
            await one.stream.send_all(b"fail")
            assert await one.stream.receive_some() == b""
            await other.stream.send_all(b"work")
            assert await other.stream.receive_some() == b"fine"
        nursery.cancel_scope.cancel()
    assert "as asked" in caplog.text
    assert "memory://relay" in caplog.text


async def test_each_trio_run_has_names_of_its_own() -> None:
    """Two runs in two threads answer to one name, and their callers meet their own."""

    async def tell(number: int, pipe: Pipe) -> None:
        await pipe.stream.send_all(str(number).encode())

    async def run(number: int) -> bytes:
        async with trio.open_nursery() as nursery:
            await nursery.start(memory.serve, "memory://relay", partial(tell, number))
            both.wait(5)
            async with memory.connect("memory://relay") as pipe:
                heard = await pipe.stream.receive_some()
            both.wait(5)
            nursery.cancel_scope.cancel()
        return heard

    both = threading.Barrier(2)
    heard: dict[int, bytes] = {}

    async def in_a_thread(number: int) -> None:
        heard[number] = await trio.to_thread.run_sync(trio.run, run, number)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(in_a_thread, 1)
        nursery.start_soon(in_a_thread, 2)
    assert heard == {1: b"1", 2: b"2"}
    with pytest.raises(DialFailed, match="each trio run has names of its own"):
        async with memory.connect("memory://relay"):
            pass


@pytest.mark.parametrize("url", ["memory:", "memory://", "memory:relay", "memory://a?b=1", "memory://a\nb"])
def test_a_url_without_a_name_is_refused(url: str) -> None:
    assert memory.check(url) == "is not of the form memory://name"
    assert memory.check("memory://relay") is None
    assert memory.is_private("memory://relay")
