"""Drives one link over one pipe: a reader, a writer and a timer, and whoever steps the machine in between."""

from __future__ import annotations

import logging
import os
import random
import threading
from collections.abc import Callable
from contextlib import suppress
from math import inf
from typing import Any, Protocol

import trio
from trio import TaskStatus

from rpyc_gateway.errors import Code
from rpyc_gateway.proto import events
from rpyc_gateway.proto.frames import CircuitClass, Failure, Hello, Open, Routes
from rpyc_gateway.proto.mux import Mux, MuxStatistics
from rpyc_gateway.transport import Pipe
from rpyc_gateway.turn import Turn

log = logging.getLogger(__name__)

CHUNK = 65536
LAST_WORDS = 2.0  # seconds for the peer to take what explains the end


class StreamHandler(Protocol):
    """Who is told of a stream. Called in the trio thread with the link's turn held; must not block or run user code."""

    def accepted(self, path: tuple[str, ...]) -> None: ...
    def refused(self, failure: Failure) -> None: ...
    def received(self, data: bytes | memoryview) -> None: ...  # a view of what arrived where that is long
    def finished(self) -> None: ...
    def reset(self, failure: Failure) -> None: ...
    def stopped(self, failure: Failure) -> None: ...
    def drained(self, count: int) -> None: ...


class Owner(Protocol):
    """Who is told of the link; the same rules. `lost` comes once and last."""

    def greeted(self, connection: Connection, peer: Hello) -> None: ...
    def established(self, connection: Connection) -> None: ...
    def routed(self, connection: Connection, routes: Routes) -> None: ...
    def probed(self, connection: Connection) -> None: ...
    def leaving(self, connection: Connection, failure: Failure, grace: float) -> None: ...
    def lost(self, connection: Connection, failure: Failure) -> None: ...
    def opened(self, connection: Connection, label: int, request: Open, kind: CircuitClass) -> StreamHandler | None: ...


class Connection:
    """One link. Make it in a trio task, `run` it in one; step it from any thread.

    A caller's thread may hold one turn only and handles no events: what its step causes is told in the trio thread.
    """

    def __init__(self, pipe: Pipe, hello: Hello, owner: Owner, *, dialler: bool) -> None:
        self.pipe = pipe
        self.dialler = dialler
        self.turn = Turn()
        self._clock = trio.lowlevel.current_clock()
        self._token = trio.lowlevel.current_trio_token()
        self._thread = threading.get_ident()
        self.mux = Mux(hello, dialler=dialler, now=self._clock.current_time(), jitter=random.random())
        self.owner = owner
        self._handlers: dict[int, StreamHandler] = {}
        self._step = _Step(self)
        self._send_nowait = pipe.send_nowait
        self._running = False
        self._writing = False  # the writer is in send_all, or about to be
        self._left = b""  # what send_nowait did not take
        self._wake = trio.Event()  # for the writer
        self._moved = trio.Event()  # for the timer: the deadline is earlier than it was
        self._armed = inf
        self._writer_scope = trio.CancelScope()
        self._said_why = False  # the peer was told that the link ends, or why
        self._mute: Failure | None = None  # nothing can be sent, but the peer may have said why

    @property
    def peer_name(self) -> str:
        """What the peer calls itself; "" before it has said so."""
        return self.mux.peer.name if self.mux.peer is not None else ""

    def __repr__(self) -> str:
        state = "up" if self.mux.up else "down" if self.mux.down else "in handshake"
        return f"<Connection to {self.peer_name or '?'} at {self.pipe.peer}, {state}>"

    # -- stepping

    def step(self) -> _Step:
        """`with connection.step() as mux:` takes the turn, and sends and tells at the end what came of it.

        Within a step of the same thread it only counts: the outer one does the rest.
        """
        return self._step

    def flush(self) -> None:
        """Send what may be sent now, as far as it goes without waiting; the writer does the rest."""
        with self._step:
            pass

    def open(self, request: Open, kind: CircuitClass, handler: StreamHandler) -> int:
        """Open a stream; data may be sent on its label at once. Raises LinkLost, LimitExceeded."""
        with self._step as mux:
            label = mux.open(request, kind)
            self._handlers[label] = handler
            return label

    def welcome(self) -> None:
        """Take the peer in, after `greeted`."""
        with self._step as mux:
            mux.welcome(self._clock.current_time())

    def refuse(self, failure: Failure) -> None:
        """Send the peer away, after `greeted`."""
        with self._step as mux:
            mux.refuse(failure)

    def announce(self, routes: Routes) -> None:
        with self._step as mux:
            mux.announce(routes)

    def leave(self, failure: Failure, grace: float) -> None:
        """Take no new streams; the link ends with its last one, or after `grace` seconds."""
        with self._step as mux:
            self._said_why = True
            mux.leave(failure, grace)

    def probe(self, within: float) -> None:
        """`probed` follows, or `lost`."""
        with self._step as mux:
            mux.probe(self._clock.current_time(), within)

    def close(self, failure: Failure) -> None:
        """End the link now, whatever runs on it; the peer is not told why."""
        with self._step as mux:
            mux.fail(failure)

    def statistics(self) -> MuxStatistics:
        with self._step as mux:
            return mux.statistics()

    def settle(self) -> None:
        """The end of an outer step: tell what has happened, send what may go, until nothing moves. The turn is held."""
        here = threading.get_ident() == self._thread
        if here:
            self._tell()
        while self._send():
            if here:
                self._tell()
        if not here and self.mux.eventful:
            self._wake_writer()
        self._rearm()

    # -- telling

    def _tell(self) -> None:
        while happened := self.mux.events():
            for event in happened:
                if type(event) is events.Received:  # the hot one
                    handler = self._handlers.get(event.label)
                    if handler is not None:
                        self._guard(event.label, handler.received, event.data)
                else:
                    _TELL[type(event)](self, event)
        for label in self.mux.over():
            self._handlers.pop(label, None)

    def _guard(self, label: int, tell: Callable[..., None], *facts: object) -> None:
        """A handler that fails loses its stream, nobody else's."""
        try:
            tell(*facts)
        except Exception:
            log.exception("a stream from %s is reset: its handler failed", self.peer_name)
            self.mux.reset(label, Failure(Code.INTERNAL, "the handler of this stream failed", self.mux.hello.name))

    def tell_opened(self, event: events.Opened) -> None:
        """Let the owner answer a request."""
        handler = None
        refusal = Failure(Code.NO_SERVICE, "nobody takes this stream", self.mux.hello.name)
        try:
            handler = self.owner.opened(self, event.label, event.request, event.kind)
        except Exception:
            log.exception("a stream from %s is refused: the owner of the link failed", self.peer_name)
            refusal = Failure(Code.INTERNAL, "the owner of the link failed", self.mux.hello.name)
        if handler is not None:
            self._handlers[event.label] = handler
        else:
            self.mux.reject(event.label, refusal)

    def tell_stream(self, event: events.StreamEvent, name: str, *facts: object) -> None:
        """Tell the handler of a stream, if it has one."""
        handler = self._handlers.get(event.label)
        if handler is not None:
            self._guard(event.label, getattr(handler, name), *facts)

    def tell_lost(self, event: events.Lost) -> None:
        """Tell the owner, and let the writer say its last words."""
        self._said_why = self._said_why or self.mux.ready
        self._writer_scope.deadline = self._clock.current_time() + LAST_WORDS
        self._wake.set()
        self.owner.lost(self, event.failure)

    # -- sending

    def _send(self) -> bool:
        """Send without waiting where the pipe can; True if that has caused events."""
        if self._writing or self._left or self._mute or not self.mux.ready:
            return False
        if self._send_nowait is None or not self._running:
            self._wake_writer()
            return False
        data = b"".join(self.mux.data_to_send(self._clock.current_time()))
        if data:
            try:
                taken = self._send_nowait(data)
            except OSError as exc:
                self._fail_to_send(exc)
            else:
                if taken < len(data):
                    self._left = data[taken:]
                    self._wake_writer()
        return bool(data)

    def _fail_to_send(self, exc: BaseException) -> None:
        """The pipe takes nothing more. Who is sent away unheard has been told why: the reader has a moment for it."""
        if self.mux.peer is None and not self.mux.down:
            self._mute = self._broken(exc)
            self._wake_writer()
        else:
            self.mux.fail(self._broken(exc))

    def _wake_writer(self) -> None:
        if not self._wake.is_set():
            self._in_trio(self._set_wake)

    def _rearm(self) -> None:
        deadline = self.mux.deadline()
        if deadline is not None and deadline < self._armed and not self._moved.is_set():
            self._in_trio(self._set_moved)

    def _set_wake(self) -> None:
        self._wake.set()

    def _set_moved(self) -> None:
        self._moved.set()

    def _in_trio(self, call: Callable[[], None]) -> None:
        if threading.get_ident() == self._thread:
            call()
            return
        with suppress(trio.RunFinishedError):  # the loop that ran this link is over, and the link with it
            self._token.run_sync_soon(call, idempotent=True)

    # -- tasks

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the link until it is over, and close the pipe's stream. What the world does to it goes to the owner as `lost`.

        Cancelled, it sends nothing more; the owner is told all the same.
        """
        try:
            async with trio.open_nursery() as nursery:
                with self._step:
                    self._running = True
                nursery.start_soon(self._read)
                nursery.start_soon(self._watch)
                task_status.started()
                await self._write()
                nursery.cancel_scope.cancel()
            await self._part()
        finally:
            try:
                with self._step as mux:
                    mux.fail(self._mute or Failure(Code.SHUTDOWN, "the link was closed on this side", mux.hello.name))
                    self._send_nowait = None  # the descriptor may be another file's by the next moment
            finally:
                with suppress(trio.BrokenResourceError, OSError):
                    await trio.aclose_forcefully(self.pipe.stream)

    @trio.lowlevel.enable_ki_protection
    async def _read(self) -> None:
        receive = self.pipe.stream.receive_some
        while not self.mux.down:
            try:
                data = await receive(CHUNK)
            except (trio.BrokenResourceError, trio.ClosedResourceError, OSError) as exc:
                self.close(self._broken(exc))
                return
            with self._step as mux:
                now = self._clock.current_time()
                if data:
                    mux.receive_data(bytes(data), now)
                else:
                    mux.receive_eof(now)

    @trio.lowlevel.enable_ki_protection
    async def _write(self) -> None:
        """Send what send_nowait could not. The only task that waits for the pipe to take more."""
        with self._writer_scope:
            while True:
                with self._step as mux:
                    self._wake = trio.Event()
                    data = b"" if self._mute else self._left or b"".join(mux.data_to_send(self._clock.current_time()))
                    self._left = b""
                    self._writing = bool(data)
                if data:
                    try:
                        await self.pipe.stream.send_all(data)
                    except (trio.BrokenResourceError, trio.ClosedResourceError, OSError) as exc:
                        with self._step:
                            self._fail_to_send(exc)
                elif self.mux.down and not self._left:
                    return
                else:
                    if self._mute:
                        self._writer_scope.deadline = self._clock.current_time() + LAST_WORDS
                    await self._wake.wait()

    @trio.lowlevel.enable_ki_protection
    async def _watch(self) -> None:
        while True:
            with self._step as mux:
                self._moved = trio.Event()
                now = self._clock.current_time()
                deadline = mux.deadline()
                if deadline is not None and deadline <= now:
                    mux.handle_timeout(now)
                    deadline = mux.deadline()
                if deadline is None:
                    return
                self._armed = deadline
            with trio.move_on_at(deadline):
                await self._moved.wait()

    async def _part(self) -> None:
        """Close so that the peer can read our last words: a close with unread data in the pipe would destroy them."""
        stream = self.pipe.stream
        with trio.move_on_after(LAST_WORDS), suppress(trio.BrokenResourceError, trio.ClosedResourceError, OSError):
            if self._said_why and isinstance(stream, trio.abc.HalfCloseableStream):
                await stream.send_eof()
                while await stream.receive_some(CHUNK):
                    continue
            await stream.aclose()

    def _broken(self, exc: BaseException) -> Failure:
        cause = exc if isinstance(exc, OSError) else exc.__cause__
        if isinstance(cause, OSError) and cause.errno:
            text = os.strerror(cause.errno).lower()
        else:
            text = str(exc) or "the pipe broke"
        return Failure(Code.LINK_LOST, text, self.mux.hello.name)


class _Step:
    """The context of a step: the turn, and at its end what must follow. Counts inner steps of the thread that holds the turn."""

    __slots__ = ("_connection", "_inner")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._inner = 0

    def __enter__(self) -> Mux:
        turn = self._connection.turn
        if turn.held:
            self._inner += 1
        else:
            turn.__enter__()
        return self._connection.mux

    def __exit__(self, *_: object) -> None:
        if self._inner:
            self._inner -= 1
            return
        try:
            self._connection.settle()
        finally:
            self._connection.turn.__exit__()


_TELL: dict[type[events.Event], Callable[[Connection, Any], None]] = {
    events.Drained: lambda link, event: link.tell_stream(event, "drained", event.count),
    events.Accepted: lambda link, event: link.tell_stream(event, "accepted", event.path),
    events.Refused: lambda link, event: link.tell_stream(event, "refused", event.failure),
    events.Finished: lambda link, event: link.tell_stream(event, "finished"),
    events.Reset: lambda link, event: link.tell_stream(event, "reset", event.failure),
    events.Stopped: lambda link, event: link.tell_stream(event, "stopped", event.failure),
    events.Opened: lambda link, event: link.tell_opened(event),
    events.Greeted: lambda link, event: link.owner.greeted(link, event.peer),
    events.Established: lambda link, _: link.owner.established(link),
    events.Routed: lambda link, event: link.owner.routed(link, event.routes),
    events.Probed: lambda link, _: link.owner.probed(link),
    events.Leaving: lambda link, event: link.owner.leaving(link, event.failure, event.grace),
    events.Lost: lambda link, event: link.tell_lost(event),
}
