"""Drives one link over one pipe: a reader, a writer that minds the time too where it can, and whoever steps the machine in between."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

import trio
from trio import TaskStatus

from rpyc_gateway.errors import Code
from rpyc_gateway.proto import events
from rpyc_gateway.proto.frames import CircuitClass, Failure, Hello, Open, Routes
from rpyc_gateway.proto.mux import Mux, MuxStatistics
from rpyc_gateway.receiving import CHUNK, Receiver, StreamHandler
from rpyc_gateway.sending import LAST_WORDS, Sender
from rpyc_gateway.transport import Pipe, close_at_once
from rpyc_gateway.turn import Turn, deferral

__all__ = ["Connection", "Owner"]

log = logging.getLogger(__name__)


class Owner(Protocol):
    """Who is told of the link, in the trio thread, with its turn held; must not block or run user code. `lost` comes once and last."""

    def greeted(self, connection: Connection, peer: Hello) -> None: ...
    def established(self, connection: Connection) -> None: ...
    def routed(self, connection: Connection, routes: Routes) -> None: ...
    def probed(self, connection: Connection) -> None: ...
    def leaving(self, connection: Connection, failure: Failure, grace: float) -> None: ...
    def lost(self, connection: Connection, failure: Failure) -> None: ...
    def opened(self, connection: Connection, label: int, request: Open, kind: CircuitClass) -> StreamHandler | None: ...


class Connection(Sender, Receiver):
    """One link. Make it in a trio task, `run` it in one; step it from any thread.

    Other threads than trio's may wait for a turn only while they hold none; a second one they may take where it is free (`pass_on`).
    In whichever thread it steps, data is told at once; what else has happened is told in the trio thread, in order.
    """

    def __init__(self, pipe: Pipe, hello: Hello, owner: Owner, *, dialler: bool) -> None:
        super().__init__(pipe, hello, dialler=dialler)
        self.owner = owner
        self.turn = _Step(self)
        self._said_why = False  # the peer was told that the link ends, or why

    def __repr__(self) -> str:
        state = "up" if self.mux.up else "down" if self.mux.down else "in handshake"
        return f"<Connection to {self.peer_name or '?'} at {self.pipe.peer}, {state}>"

    # -- stepping

    def open(self, request: Open, kind: CircuitClass, handler: StreamHandler) -> int:
        """Open a stream; data may be sent on its label at once. Raises LinkLost, LimitExceeded."""
        with self.turn as mux:
            label = mux.open(request, kind)
            self._handlers[label] = handler
            return label

    def pass_on(self, label: int, data: bytes) -> bool | None:
        """Send a message, for a thread that holds the turn of another link: whether it has left. None, and nothing was done, if this link's turn
        would have to be waited for.

        What errands are left must be run by a turn of this link that follows soon.
        """
        turn = self.turn
        if not turn.enter_at_once():
            return None
        try:
            has_left = self.say(label, data)
            if turn.is_outer and (self.unsettled or not self.mux.at_rest):
                self.settle()
        except Exception:  # noqa: BLE001  # logged there
            self.disown(label)
            return False
        finally:
            turn.leave_at_once()
        return has_left

    def welcome(self) -> None:
        """Take the peer in, after `greeted`."""
        with self.turn as mux:
            mux.welcome(self._clock.current_time())

    def refuse(self, failure: Failure) -> None:
        """Send the peer away, after `greeted`."""
        with self.turn as mux:
            mux.refuse(failure)

    def announce(self, routes: Routes) -> None:
        with self.turn as mux:
            mux.announce(routes)

    def leave(self, failure: Failure, grace: float) -> None:
        """Take no new streams; the link ends with its last one, or after `grace` seconds."""
        with self.turn as mux:
            self._said_why = True
            mux.leave(failure, grace)

    def probe(self, within: float) -> None:
        """`probed` follows, or `lost`."""
        with self.turn as mux:
            mux.probe(self._clock.current_time(), within)

    def close(self, failure: Failure) -> None:
        """End the link now, whatever runs on it; the peer is not told why."""
        with self.turn as mux:
            mux.fail(failure)

    def statistics(self) -> MuxStatistics:
        with self.turn as mux:
            return mux.statistics()

    def settle(self) -> None:
        """The end of an outer step: tell what has happened, send what may go, until nothing moves. The turn is held."""
        self.unsettled = bool(self._untold)
        self._tell()
        if self._kept_back:
            self._kept_back = False
        else:
            while self._send():
                self._tell()
        if self.mux.hurried:
            self.hurry()

    # -- telling

    def _tell(self) -> None:
        mux = self.mux
        if self._untold:
            if not self.here:
                return  # in order: the trio thread will come to it
            happened, self._untold = self._untold, []
            for event in happened:
                _TELL[type(event)](self, event)
        while happened := mux.events():
            for index, event in enumerate(happened):
                if type(event) is events.Received or type(event) is events.Drained:
                    self.tell_data(event)
                elif self.here:
                    _TELL[type(event)](self, event)
                else:
                    self._untold = happened[index:] + mux.events()
                    self.unsettled = True
                    self.in_trio(self.flush)
                    return
        for label in mux.over():
            self._handlers.pop(label, None)

    def tell_data(self, event: events.Received | events.Drained) -> None:
        """Tell the handler of a stream of what any thread may tell."""
        handler = self._handlers.get(event.label)
        if handler is None:
            return
        try:
            if type(event) is events.Received:
                handler.received(event.data)
            else:
                handler.drained(event.count)  # type: ignore[union-attr]
        except Exception:  # noqa: BLE001  # logged there
            self.disown(event.label)

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
            try:
                getattr(handler, name)(*facts)
            except Exception:  # noqa: BLE001  # logged there
                self.disown(event.label)

    def tell_lost(self, event: events.Lost) -> None:
        """Tell the owner, and let the writer say its last words."""
        self._said_why = self._said_why or self.mux.ready
        self.give_up_soon()
        self._wake.set()
        self.owner.lost(self, event.failure)

    # -- its life

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the link until it is over, and close the pipe's stream. What the world does to it goes to the owner as `lost`.

        Cancelled, it sends nothing more; the owner is told all the same.
        """
        try:
            async with trio.open_nursery() as nursery:
                with self.turn:
                    self._running = True
                task_status.started()
                if self.lead is not None:
                    nursery.start_soon(self._read_readable)
                    await self._write_writable()
                else:
                    nursery.start_soon(self._read)
                    nursery.start_soon(self._watch)
                    await self._write()
                nursery.cancel_scope.cancel()
            self._keep_threads_out()
            await self._part()
        finally:
            try:
                with self.turn as mux:
                    mux.fail(self._mute or Failure(Code.SHUTDOWN, "the link was closed on this side", mux.hello.name))
                self._keep_threads_out()
            finally:
                with suppress(trio.BrokenResourceError, OSError):
                    await close_at_once(self.pipe.stream)

    def _keep_threads_out(self) -> None:
        """From now on trio's tasks alone use the stream; and once it is closed the descriptor may be another file's."""
        with self.turn:
            self._send_nowait = self._receive_nowait = None
        if self.lead is not None:
            self.lead.end()

    async def _part(self) -> None:
        """Close so that the peer can read our last words: a close with unread data in the pipe would destroy them."""
        stream = self.pipe.stream
        with trio.move_on_after(LAST_WORDS), suppress(trio.BrokenResourceError, trio.ClosedResourceError, OSError):
            if self._said_why and isinstance(stream, trio.abc.HalfCloseableStream):
                await stream.send_eof()
                while await stream.receive_some(CHUNK):
                    continue
            await stream.aclose()


class _Step(Turn[Mux]):
    """The turn of a link, and what must follow at its end."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection.mux)
        self._connection = connection

    @trio.lowlevel.enable_ki_protection
    def __exit__(self, *_: object) -> None:
        if self._inner:
            self._inner -= 1
            return
        connection = self._connection
        try:
            if connection.unsettled or not self.machine.at_rest:
                connection.settle()
        finally:
            deferred, self._deferred = self._deferred, False
            self.owner = 0
            self.lock.release()
            try:
                if deferred:
                    deferral.end()
            finally:  # a signal that has waited may raise there
                if connection.errands.waiting:
                    connection.errands.run()


_TELL: dict[type[events.Event], Callable[[Connection, Any], None]] = {
    events.Received: lambda link, event: link.tell_data(event),
    events.Drained: lambda link, event: link.tell_data(event),
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
