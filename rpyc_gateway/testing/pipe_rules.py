"""The rules for what comes out of a transport: data, ends, pressure, loss, and what other threads may do."""

from __future__ import annotations

import linecache
import select
import traceback
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import trio
import trio.testing

from rpyc_gateway.testing.partner import Partner, digest, noise
from rpyc_gateway.testing.trial import NotApplicable, TransportFault, Trial, compare, fault
from rpyc_gateway.transport import Pipe

__all__ = [
    "any_thread_sends_and_receives",
    "both_ways_at_once",
    "closing_twice_is_closing",
    "half_closed_it_still_hears",
    "orderly_end_loses_nothing",
    "pieces_of_all_sizes",
    "slow_reader_stops_the_writer",
    "stream_keeps_the_contract_of_trio",
    "vanished_peer_is_noticed",
]

FAST = 1e6  # bytes per second; below it, what is made for sockets takes too long
QUIET = 0.5  # seconds without progress: the writer waits
TINY = 300  # pieces of one byte
MUCH_ADO = 50  # times that nothing was taken: a wire that takes a part of one record at a time is asked a few times


async def both_ways_at_once(trial: Trial) -> str:
    """What is sent arrives, whole and in order, while as much comes the other way."""
    async with trial.serving(), trial.dialled("echo") as pipe:
        size = trial.amount()
        sent = noise(1, size)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trial.send, pipe, sent)
            await trial.expect(pipe, sent, "an echo")
        await _no_more(trial, pipe)
    return f"{size} bytes each way"


async def pieces_of_all_sizes(trial: Trial) -> str:
    """Any buffer of any size is sent; reads of any size get no more than they ask for; nothing depends on where the cuts are."""
    async with trial.serving():
        async with trial.dialled("echo") as pipe:
            for size in (1, 2, 3, 7, 255, 256, 257):
                for kind in (bytes, bytearray, memoryview):
                    await trial.send(pipe, kind(noise(size, size)))
                    await trial.expect(pipe, noise(size, size), f"{size} bytes", max(1, size // 2))
            await trial.send(pipe, b"")
            await trial.send(pipe, b"after an empty one")
            await trial.expect(pipe, b"after an empty one", "what follows a send_all of nothing", 1)
            tiny = min(TINY, trial.amount())
            for number in range(tiny):
                await trial.send(pipe, bytes([number % 251]))
            expected = bytes(number % 251 for number in range(tiny))
            await trial.expect(pipe, expected, f"{tiny} pieces of one byte", 7)
        async with trial.dialled("describe") as pipe:
            around = [size for size in (pipe.message - 1, pipe.message, pipe.message + 1) if size > 0]
            sizes = [min(size, trial.amount()) for size in (*around, 3 * pipe.message)]
        for size in dict.fromkeys(sizes):
            async with trial.dialled("read", size, 1 if size < 10_000 else size // 1000) as pipe:
                await trial.send(pipe, noise(2, size))
                await trial.expect(pipe, digest(noise(2, size)), f"{size} bytes in one send_all (their digest)")
            async with trial.dialled("write", size, 3) as pipe:
                await trial.expect(pipe, noise(3, size), f"{size} bytes from the other side", 1 + size // 999)
    return f"1 to {max(sizes)} bytes at once"


async def half_closed_it_still_hears(trial: Trial) -> str:
    """Where a stream can be half-closed: what was sent before arrives, then the end, and the other way goes on."""
    async with trial.serving(), trial.dialled("read-to-end") as pipe:
        if not isinstance(pipe.stream, trio.abc.HalfCloseableStream):
            raise NotApplicable("its streams cannot be half-closed")
        sent = noise(4, trial.amount(1_000_000))
        await trial.send(pipe, sent)
        with trial.step("half-closing: send_eof"):
            await pipe.stream.send_eof()
        await trial.expect(pipe, digest(sent), f"{len(sent)} bytes before a send_eof (their digest)")
        end = await trial.hear_end(pipe, "the other side has half-closed too")
        if end != "the end":
            fault("the other side has half-closed in order, and the stream is broken here instead of at its end")
    return f"the end after {len(sent)} bytes"


async def slow_reader_stops_the_writer(trial: Trial) -> str:
    """While nobody reads, a writer waits, within a bounded amount; when somebody reads, all of it arrives."""
    async with trial.serving(), trial.dialled("hold") as pipe:
        taken = await _write_until_it_waits(trial, pipe)
        await trio.aclose_forcefully(pipe.stream)
    size = trial.amount()
    async with trial.serving(), trial.dialled("write", size, 5) as pipe:
        await trio.testing.wait_all_tasks_blocked(0.05)
        await trial.expect(pipe, noise(5, size), "what waited for a reader")
    return f"the writer waited after {taken} bytes"


async def _write_until_it_waits(trial: Trial, pipe: Pipe) -> int:
    limit, piece = trial.most_in_flight(), bytes(max(1, min(65536, trial.amount() // 50)))
    taken = 0
    trial.doing = "writing while nobody reads"

    async def write() -> None:
        nonlocal taken
        while True:
            await pipe.stream.send_all(piece)
            taken += len(piece)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        before = -1
        while taken != before:
            if taken > limit:
                fault(
                    f"the other side reads nothing, and {taken} bytes were taken from the writer: it should have had to wait"
                    f" after {limit} at most"
                )
            before = taken
            await trio.sleep(QUIET)
        nursery.cancel_scope.cancel()
    return taken


async def orderly_end_loses_nothing(trial: Trial) -> str:
    """What was sent before `aclose` arrives, and then the end."""
    async with trial.serving():
        async with trial.dialled("leave") as pipe:
            size = trial.amount(100_000)
            await trial.hear_end(pipe, "the handler of the other side has returned")
        async with trial.dialled("write-and-leave", size, 6) as pipe:
            await trial.expect(pipe, noise(6, size), "what was sent before aclose")
            seen = await trial.hear_end(pipe, "the other side has closed")
    return f"after {size} bytes: {seen}"


async def vanished_peer_is_noticed(trial: Trial) -> str:
    """A peer that vanishes ends the pipe for who reads and for who writes: no hang, no silence, and no other error than BrokenResourceError."""
    async with trial.serving() as partner:
        async with trial.dialled("die") as pipe:
            seen = await trial.hear_end(pipe, "the other side has died")
            with trial.step("sending to a peer that has died, until that fails"):
                await _send_until_it_fails(pipe)
            if pipe.send_nowait is not None:
                _send_nowait_to_nobody(trial, pipe)
        if trial.url is None:
            return f"{seen} (the other way is not seen from here)"
        for part, does in (("echo", "reads"), ("pour", "writes")):
            async with trial.dialled(part) as pipe:
                await trio.aclose_forcefully(pipe.stream)
            with trial.step(f"waiting until the listening side, which {does}, notices that the dialler has vanished"):
                await partner.wait_gone()
    return f"the reader sees: {seen}"


async def closing_twice_is_closing(trial: Trial) -> str:
    """`aclose` may be called again and from a cancelled task; a closed stream says so: ClosedResourceError."""
    async with trial.serving():
        async with trial.dialled("echo") as pipe:
            for time in ("once", "twice"):
                with trial.step(f"closing {time}"):
                    await pipe.stream.aclose()
            await _is_closed(trial, pipe)
        async with trial.dialled("echo") as pipe:
            with trial.step("closing in a cancelled scope"):
                await trio.aclose_forcefully(pipe.stream)
            await _is_closed(trial, pipe)
        async with trial.dialled("echo") as pipe, trio.open_nursery() as nursery:
            nursery.start_soon(
                _expect_closed, trial, "receive_some that waits while the stream is closed", pipe.stream.receive_some
            )
            await trio.testing.wait_all_tasks_blocked(0.01)
            await pipe.stream.aclose()
    return "closed"


async def _is_closed(trial: Trial, pipe: Pipe) -> None:
    await _expect_closed(trial, "send_all after aclose", partial(pipe.stream.send_all, b"too late"))
    await _expect_closed(trial, "receive_some after aclose", pipe.stream.receive_some)
    if pipe.send_nowait is not None:
        await _expect_os_error(trial, "send_nowait after aclose", partial(pipe.send_nowait, b"too late"))
    if pipe.receive_nowait is not None:
        await _expect_os_error(trial, "receive_nowait after aclose", partial(pipe.receive_nowait, 1))


async def _expect_closed(trial: Trial, what: str, call: Callable[[], object]) -> None:
    with trial.step(what):
        try:
            result = await call()  # type: ignore[misc]
        except trio.ClosedResourceError:
            return
        fault(f"{what}: it returned {result!r}; ClosedResourceError was due")


async def _expect_os_error(trial: Trial, what: str, call: Callable[[], object]) -> None:
    with trial.step(what):
        try:
            result = await trio.to_thread.run_sync(call)
        except OSError:
            return
        fault(f"{what}: it returned {result!r}; OSError was due")


async def any_thread_sends_and_receives(trial: Trial) -> str:
    """`send_nowait` and `receive_nowait`, where they are offered, never wait, count what they did, and end in OSError and b""."""
    async with trial.serving():
        async with trial.dialled("echo") as pipe:
            if pipe.send_nowait is None:
                raise NotApplicable("it offers no send_nowait")
            sent = noise(7, trial.amount(300_000))
        async with trial.dialled("read", len(sent), 4096) as pipe:
            with trial.step("sending without waiting, in three buffers at a time"):
                await _send_nowait(pipe, sent)
            await _expect_nowait(trial, pipe, digest(sent), "what was sent without waiting (its digest)")
            await trial.echo(pipe, b"and in trio", "an echo of what send_all sent after that")
        async with trial.dialled("write", len(sent), 7) as pipe:
            await _expect_nowait(trial, pipe, sent, "what was received without waiting")
        async with trial.dialled("leave") as pipe:
            if pipe.receive_nowait is not None:
                with trial.step("waiting for b'' from receive_nowait after the other side has closed"):
                    await _receive_the_end(pipe)
        async with trial.dialled("hold") as pipe:
            taken = await trio.to_thread.run_sync(_fill, pipe, trial.most_in_flight())
            trial.doing = "waiting until the stream takes more, while nobody reads"
            await _wait_in_vain(pipe)
    return f"send_nowait was full after {taken} bytes"


async def _expect_nowait(trial: Trial, pipe: Pipe, expected: bytes, what: str) -> None:
    if pipe.receive_nowait is None:
        return await trial.expect(pipe, expected, what)
    with trial.step(f"{what}: receiving {len(expected)} bytes without waiting"):
        heard = await _receive_nowait(pipe, len(expected))
    return compare(heard, expected, what)


async def _send_nowait(pipe: Pipe, data: bytes) -> None:
    assert pipe.send_nowait is not None
    rest = memoryview(data)
    while rest:
        pieces = (rest[:5], bytes(rest[5:1000]), rest[1000:20_000])
        taken = await trio.to_thread.run_sync(pipe.send_nowait, *pieces)
        offered = sum(map(len, pieces))
        if isinstance(taken, bool) or taken not in range(offered + 1):
            fault(f"send_nowait returned {taken!r} for {offered} bytes: it is for how many of them were taken")
        rest = rest[taken:]
        if not taken:
            await trio.sleep(0.001)


async def _receive_nowait(pipe: Pipe, size: int) -> bytearray:
    assert pipe.receive_nowait is not None
    if pipe.fileno < 0:
        fault(f"receive_nowait is offered, and fileno is {pipe.fileno}: there is nothing to poll for it")
    heard = bytearray()
    while len(heard) < size:
        limit = min(1000, size - len(heard))
        data = await trio.to_thread.run_sync(pipe.receive_nowait, limit)
        if data is None:
            await trio.to_thread.run_sync(_poll, pipe.fileno, abandon_on_cancel=True)
        elif not data:
            fault(f"receive_nowait returned b'' (the end) after {len(heard)} of {size} bytes")
        elif len(data) > limit:
            fault(f"receive_nowait({limit}) returned {len(data)} bytes")
        else:
            heard += data
    return heard


async def _receive_the_end(pipe: Pipe) -> None:
    assert pipe.receive_nowait is not None
    try:
        while await trio.to_thread.run_sync(pipe.receive_nowait, 1000) != b"":
            await trio.to_thread.run_sync(_poll, pipe.fileno, abandon_on_cancel=True)
    except OSError:
        return  # broken: the handler's stream was closed forcefully


def _poll(descriptor: int) -> None:
    select.select([descriptor], [], [], 60)


def _fill(pipe: Pipe, limit: int) -> int:
    assert pipe.send_nowait is not None
    taken, zeros, piece = 0, 0, bytes(65536)
    while zeros < 3:
        now = pipe.send_nowait(piece)
        zeros = 0 if now else zeros + 1
        taken += now
        if taken > limit:
            fault(
                f"the other side reads nothing, and send_nowait took {taken} bytes: it should have returned 0 after {limit} at most"
            )
    return taken


async def _wait_in_vain(pipe: Pipe) -> None:
    """A link whose `send_nowait` took nothing waits like this, and asks again."""
    assert pipe.send_nowait is not None
    vain = 0
    with trio.move_on_after(QUIET):
        while vain < MUCH_ADO:
            await pipe.stream.wait_send_all_might_not_block()
            vain += not pipe.send_nowait(bytes(65536))
        fault(
            f"send_nowait took nothing {vain} times, each time after wait_send_all_might_not_block had returned: a link would ask it again for ever"
        )


async def _send_until_it_fails(pipe: Pipe) -> None:
    try:
        while True:
            await pipe.stream.send_all(bytes(65536))
    except trio.BrokenResourceError as exc:
        if exc.args and not str(exc).strip():
            fault("BrokenResourceError came with an empty message")


def _send_nowait_to_nobody(trial: Trial, pipe: Pipe) -> None:
    assert pipe.send_nowait is not None
    trial.doing = "sending without waiting to a peer that has died"
    try:
        taken = sum(pipe.send_nowait(bytes(65536)) for _ in range(100))
    except OSError:
        return
    if taken:
        fault(
            f"the other side has died, and send_nowait took {taken} bytes: OSError was due, or 0 where send_all says why"
        )


async def stream_keeps_the_contract_of_trio(trial: Trial) -> str:
    """Trio's own check of a stream passes, in both directions."""
    if trial.url is None:
        raise NotApplicable("the other end is in another process")
    async with trial.serving() as partner:
        async with trial.dialled("lend") as pipe:
            await partner.borrow()
            half_closeable = isinstance(pipe.stream, trio.abc.HalfCloseableStream)
        if trial.rate < FAST or trial.many < 2:
            raise NotApplicable("it takes dozens of connections and megabytes")
        check = trio.testing.check_half_closeable_stream if half_closeable else trio.testing.check_two_way_stream
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_give_up_on_trio, trial, trio.lowlevel.current_task())
            async with AsyncExitStack() as stack:
                trial.doing = f"trio.testing.{check.__name__}"
                await _check_like_trio(trial, partner, check, stack)
            nursery.cancel_scope.cancel()
    return f"trio.testing.{check.__name__}"


async def _check_like_trio(trial: Trial, partner: Partner, check: Any, stack: AsyncExitStack) -> None:
    async def make() -> tuple[trio.abc.Stream, trio.abc.Stream]:
        near = await stack.enter_async_context(trial.dialled("lend"))
        return near.stream, await partner.borrow()

    try:
        await check(make, None)
    except Exception as exc:
        where = [frame.lineno for frame in traceback.extract_tb(exc.__traceback__) if frame.filename == TRIO]
        raise TransportFault(f"{_line_of_trio(where)} fails: {type(exc).__name__}: {exc}") from exc


TRIO = trio.testing.check_two_way_stream.__code__.co_filename


async def _give_up_on_trio(trial: Trial, task: trio.lowlevel.Task) -> None:
    """Its check has no bounds, and no words either: where it stands says what it waits for."""
    await trio.sleep(2 * trial.patience)
    where = [line for frame, line in task.iter_await_frames() if frame.f_code.co_filename == TRIO]
    fault(f"{_line_of_trio(where)} hangs")


def _line_of_trio(where: Sequence[int | None]) -> str:
    if not where or where[-1] is None:
        return "trio's own check of a stream"
    return (
        f"trio's own check of a stream, at `{linecache.getline(TRIO, where[-1]).strip()}` (line {where[-1]} of {TRIO}),"
    )


async def _no_more(trial: Trial, pipe: Pipe) -> None:
    """Ask for the end where that can be done: nothing may come before it."""
    if isinstance(pipe.stream, trio.abc.HalfCloseableStream):
        await pipe.stream.send_eof()
        await trial.hear_end(pipe, "everything was echoed")
