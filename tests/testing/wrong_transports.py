"""Transports over memory, each with one thing wrong with it, as one might be that somebody writes on a Friday."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import trio

from rpyc_gateway.errors import DialFailed
from rpyc_gateway.transport import Handler, Pipe, handle
from rpyc_transports.memory import MemoryTransport

__all__ = ["FAULTS"]

FAULTS: dict[str, tuple[type, str, str]] = {}
"""By name: the transport, the rule that it breaks, what is said about it."""

memory = MemoryTransport()


def breaks(rule: str, said: str) -> Callable[[type], type]:
    def note(wrong: type) -> type:
        FAULTS[wrong.__name__] = wrong, rule, said
        return wrong

    return note


class Inner(trio.abc.HalfCloseableStream):
    """A stream that hands everything on; who inherits changes one thing."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    async def send_all(self, data: Any) -> None:
        await self.inner.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self.inner.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        return await self.inner.receive_some(max_bytes)

    async def send_eof(self) -> None:
        await self.inner.send_eof()

    async def aclose(self) -> None:
        await self.inner.aclose()


class Good:
    """memory://, with what comes out of it wrapped; nothing wrong yet."""

    stream: type[Any] = Inner

    def wrap(self, pipe: Pipe) -> Pipe:
        return replace(pipe, stream=self.stream(pipe.stream))

    @asynccontextmanager
    async def connect(self, url: str) -> AsyncIterator[Pipe]:
        async with memory.connect(url) as pipe:
            wrapped = self.wrap(pipe)
            async with wrapped.stream:
                yield wrapped

    async def serve(self, url: str, handler: Handler, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        await memory.serve(url, lambda pipe: self.handle(self.wrap(pipe), handler), task_status=task_status)

    async def handle(self, pipe: Pipe, handler: Handler) -> None:
        await handle(pipe, handler)

    def is_private(self, url: str) -> bool:
        return memory.is_private(url)

    def is_guarded(self, url: str) -> bool:
        return memory.is_guarded(url)

    def check(self, url: str) -> str | None:
        return memory.check(url)


def streams(*, rule: str, said: str) -> Callable[[type], type]:
    """A transport whose streams are wrong."""

    def note(stream: type) -> type:
        breaks(rule, said)(type(stream.__name__, (Good,), {"stream": stream}))
        return stream

    return note


@streams(rule="both_ways_at_once", said="they differ from byte")
class FlipsABit(Inner):
    count = 0

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        data = bytearray(await super().receive_some(max_bytes))
        FlipsABit.count += len(data)
        if data and FlipsABit.count > 1_000_000:
            FlipsABit.count = 0
            data[len(data) // 2] ^= 1
        return bytes(data)


@streams(rule="pieces_of_all_sizes", said="AttributeError")
class TakesBytesOnly(Inner):
    async def send_all(self, data: Any) -> None:
        data.startswith(b"")  # a memoryview cannot
        await super().send_all(data)


@streams(rule="pieces_of_all_sizes", said="what follows a send_all of nothing: the stream ended after 0 of 18 bytes")
class TakesAnEmptyPieceForTheEnd(Inner):
    async def send_all(self, data: Any) -> None:
        if not data:
            await super().send_eof()
            self.send_all = self.forget  # type: ignore[method-assign]
        await super().send_all(data) if data else None

    async def forget(self, data: Any) -> None:
        await trio.lowlevel.checkpoint()


@streams(rule="pieces_of_all_sizes", said="more than it was asked for")
class GivesMoreThanItWasAskedFor(Inner):
    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        return await super().receive_some(65536 if max_bytes is not None and max_bytes < 30 else max_bytes)


@streams(rule="pieces_of_all_sizes", said="bytes in one send_all")
class SendsTheFirst65535BytesOnly(Inner):
    async def send_all(self, data: Any) -> None:
        await super().send_all(data[:65535] if len(data) > 300_000 else data)


@streams(rule="half_closed_it_still_hears", said="bytes before a send_eof (their digest): receiving, 0 of 32")
class KeepsTheEndToItself(Inner):
    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        data = await super().receive_some(max_bytes)
        if not data:
            await trio.sleep_forever()
        return data


@streams(rule="half_closed_it_still_hears", said="ended after 0 of 32 bytes")
class ClosesWhenAskedToHalfClose(Inner):
    ended = False

    async def send_eof(self) -> None:
        self.ended = True
        await super().send_eof()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        return b"" if self.ended else await super().receive_some(max_bytes)


@streams(rule="slow_reader_stops_the_writer", said="it should have had to wait after")
class TakesAllThatItIsGiven(Inner):
    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.queue = bytearray()

    async def send_all(self, data: Any) -> None:
        self.queue += data
        with trio.move_on_after(0.001) as scope:
            await super().send_all(bytes(self.queue[:32768]))
        if not scope.cancelled_caught:
            del self.queue[:32768]


@streams(rule="orderly_end_loses_nothing", said="of 100000 bytes that the other side had sent")
class ForgetsItsLastWords(Inner):
    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.held = b""

    async def send_all(self, data: Any) -> None:
        held, self.held = self.held + bytes(data), b""
        if len(held) > 50_000:
            held, self.held = held[:-10_000], held[-10_000:]
        await super().send_all(held)


@streams(rule="vanished_peer_is_noticed", said="waiting for the end of the stream after the other side has died")
class HangsWhenThePeerDies(KeepsTheEndToItself):
    pass


@streams(rule="vanished_peer_is_noticed", said="ConnectionResetError")
class SpeaksOfTheSystem(Inner):
    async def send_all(self, data: Any) -> None:
        try:
            await super().send_all(data)
        except trio.BrokenResourceError:
            raise ConnectionResetError(104, "Connection reset by peer") from None


@streams(rule="vanished_peer_is_noticed", said="until that fails")
class WritesIntoTheVoid(Inner):
    async def send_all(self, data: Any) -> None:
        try:
            await super().send_all(data)
        except trio.BrokenResourceError:
            await trio.lowlevel.checkpoint()


@streams(rule="closing_twice_is_closing", said="closing twice")
class ClosesOnceOnly(Inner):
    closed = False

    async def aclose(self) -> None:
        if self.closed:
            await trio.sleep_forever()
        self.closed = True
        await super().aclose()


@streams(rule="closing_twice_is_closing", said="ClosedResourceError was due")
class SaysTheEndWhenItWasClosedHere(Inner):
    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        try:
            return await super().receive_some(max_bytes)
        except trio.ClosedResourceError:
            return b""


@streams(
    rule="stream_keeps_the_contract_of_trio",
    said="trio's own check of a stream, at `async with _core.open_nursery() as nursery:`",
)
class DoesNotMindTwoReaders(Inner):
    busy = False

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        while self.busy:  # noqa: ASYNC110  that is its fault
            await trio.sleep(0.001)
        self.busy = True
        try:
            return await super().receive_some(max_bytes)
        finally:
            self.busy = False


class ThreadsToo(Good):
    """With what other threads may use, over a buffer of 64 KiB each way."""

    limit = 65536

    def wrap(self, pipe: Pipe) -> Pipe:
        flow = pipe.stream._outgoing  # type: ignore[attr-defined]
        return replace(super().wrap(pipe), send_nowait=partial(self.send, flow))

    def send(self, flow: Any, *buffers: Any) -> int:
        data = b"".join(buffers)
        if flow.unread:
            raise BrokenPipeError
        if flow.ended:
            raise OSError("closed")
        return (
            trio.from_thread.run_sync(flow.write, memoryview(data)) if _is_elsewhere() else flow.write(memoryview(data))
        )


def _is_elsewhere() -> bool:
    try:
        trio.lowlevel.current_task()
    except RuntimeError:
        return True
    return False


@breaks("any_thread_sends_and_receives", "returned True for")
class SaysThatAllIsWell(ThreadsToo):
    def send(self, flow: Any, *buffers: Any) -> Any:
        return super().send(flow, *buffers) > 0


@breaks("any_thread_sends_and_receives", "they differ from byte")
class SendsTheLastBufferFirst(ThreadsToo):
    def send(self, flow: Any, *buffers: Any) -> int:
        return super().send(flow, *buffers[::-1])


@breaks("any_thread_sends_and_receives", "it should have returned 0 after")
class HoldsWhatDoesNotFit(ThreadsToo):
    def send(self, flow: Any, *buffers: Any) -> int:
        taken = super().send(flow, *buffers)
        return len(buffers[0]) if len(buffers) == 1 else taken


@breaks("any_thread_sends_and_receives", "send_nowait took nothing 50 times")
class AlwaysWantsMore(ThreadsToo):
    class stream(Inner):  # noqa: N801
        async def wait_send_all_might_not_block(self) -> None:
            await trio.lowlevel.checkpoint()


@breaks("closing_twice_is_closing", "send_nowait after aclose: it returned 8; OSError was due")
class SendsAfterItsEnd(ThreadsToo):
    def send(self, flow: Any, *buffers: Any) -> int:
        return sum(map(len, buffers)) if flow.ended else super().send(flow, *buffers)


@breaks("vanished_peer_is_noticed", "send_nowait took 6553600 bytes")
class SendsToTheDead(ThreadsToo):
    def send(self, flow: Any, *buffers: Any) -> int:
        return sum(map(len, buffers)) if flow.unread else super().send(flow, *buffers)


@breaks("facts_are_facts", "is no transport: it lacks is_guarded")
class LacksAMethod(Good):
    is_guarded = None  # type: ignore[assignment]


@breaks("facts_are_facts", "has rate=0")
class IsInfinitelySlow(Good):
    def wrap(self, pipe: Pipe) -> Pipe:
        return replace(pipe, rate=0)


@breaks("facts_are_facts", "say what makes it reliable")
class IsNotReliable(Good):
    def wrap(self, pipe: Pipe) -> Pipe:
        return replace(pipe, reliable=False)


@breaks("facts_are_facts", "printable characters")
class HasAPeerWhoseNameClearsTheScreen(Good):
    def wrap(self, pipe: Pipe) -> Pipe:
        return replace(pipe, peer="\x1b[2J")


@breaks("facts_are_facts", "it is for the list of the URLs")
class StartsWithoutSayingWhere(Good):
    async def serve(self, url: str, handler: Handler, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(super().serve, url, handler)
            task_status.started()


@breaks("wrong_urls_are_said_to_be_wrong", "should say in words")
class SaysNo(Good):
    def check(self, url: str) -> str | None:
        return "no" if memory.check(url) else None


@breaks("wrong_urls_are_said_to_be_wrong", "IndexError")
class FailsAtUrlsThatItDoesNotKnow(Good):
    def check(self, url: str) -> str | None:
        return None if url.split("//")[1] else "a name is needed there"


@breaks("wrong_urls_are_said_to_be_wrong", "finds nothing wrong with it")
class BelievesEveryUrl(Good):
    def check(self, url: str) -> str | None:
        return None


@breaks("wrong_urls_are_said_to_be_wrong", "ConfigError was due, and not in a group")
class WrapsItsErrors(Good):
    async def serve(self, url: str, handler: Handler, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            task_status.started(await nursery.start(super().serve, url, handler))


@breaks("nobody_there_is_said", "KeyError")
class TellsWhatPythonSaid(Good):
    @asynccontextmanager
    async def connect(self, url: str) -> AsyncIterator[Pipe]:
        try:
            async with super().connect(url) as pipe:
                yield pipe
        except DialFailed:
            raise KeyError(url) from None


@breaks("nobody_there_is_said", "it had not happened after")
class WaitsForSomebodyToListen(Good):
    @asynccontextmanager
    async def connect(self, url: str) -> AsyncIterator[Pipe]:
        while True:
            try:
                async with super().connect(url) as pipe:
                    yield pipe
                return
            except DialFailed:
                await trio.sleep(0.01)


@breaks("many_at_once_are_kept_apart", "the greeting of the other side: receiving, 0 of 8 bytes")
class ServesOneAfterTheOther(Good):
    busy = trio.Semaphore(1)

    async def handle(self, pipe: Pipe, handler: Handler) -> None:
        async with self.busy:
            await super().handle(pipe, handler)
            await trio.sleep_forever()


@breaks("failing_handler_hurts_nobody", "Failed: as the check of the transport asked for")
class FallsWithItsHandler(Good):
    async def serve(self, url: str, handler: Handler, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        failures, wait = trio.open_memory_channel[Exception](1)

        async def work(pipe: Pipe) -> None:
            try:
                await handler(pipe)
            except Exception as exc:  # noqa: BLE001  it is handed on
                await failures.send(exc)
                await trio.sleep_forever()  # with its pipe open, so that the failure is heard of first

        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(super().serve, url, work, task_status=task_status))
            raise await wait.receive()


@breaks("failing_handler_hurts_nobody", "waiting for the end of the stream after the handler has failed")
class LeavesThePipeOfAFailedHandlerOpen(Good):
    async def handle(self, pipe: Pipe, handler: Handler) -> None:
        try:
            await handler(pipe)
        except Exception:  # noqa: BLE001  that is its fault
            await trio.sleep_forever()


@breaks("cancelled_dials_leave_nothing", "descriptors (")
class ForgetsADescriptor(Good):
    """It undoes on errors, and a cancellation is none."""

    @asynccontextmanager
    async def connect(self, url: str) -> AsyncIterator[Pipe]:
        descriptor = os.open(os.devnull, os.O_RDONLY)
        try:
            await trio.lowlevel.checkpoint()
            async with super().connect(url) as pipe:
                yield pipe
        except Exception:
            os.close(descriptor)
            raise
        except trio.Cancelled:
            FORGOTTEN.callback(os.close, descriptor)  # so that this test leaves none
            raise
        else:
            os.close(descriptor)


@breaks("cancelled_dials_leave_nothing", "1 tasks")
class ForgetsATask(Good):
    @asynccontextmanager
    async def connect(self, url: str) -> AsyncIterator[Pipe]:
        scope = trio.CancelScope()
        trio.lowlevel.spawn_system_task(_sleep_in, scope)
        FORGOTTEN.callback(scope.cancel)
        async with super().connect(url) as pipe:
            yield pipe
        scope.cancel()


@breaks("cancelled_dials_leave_nothing", "it went on for")
class CannotBeCancelled(Good):
    @asynccontextmanager
    async def connect(self, url: str) -> AsyncIterator[Pipe]:
        try:
            async with super().connect(url) as pipe:
                yield pipe
        except trio.Cancelled:
            with trio.CancelScope(shield=True):
                await trio.sleep(0.3)
            raise


@breaks("cancelled_listeners_leave_nothing", "somebody listens there already")
class ListensOnWhenItIsCancelled(Good):
    async def serve(self, url: str, handler: Handler, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        from rpyc_transports import memory as room

        names = room._names()
        name = url.removeprefix("memory://")
        try:
            await super().serve(url, handler, task_status=task_status)
        finally:
            names[name] = lambda _: None
            FORGOTTEN.callback(names.pop, name, None)


FORGOTTEN = ExitStack()


@contextmanager
def remembered() -> Iterator[None]:
    """Undo what they forget."""
    with FORGOTTEN:
        yield


async def _sleep_in(scope: trio.CancelScope) -> None:
    with scope:
        await trio.sleep_forever()
