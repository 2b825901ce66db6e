"""Drives one link over one pipe: a reader, a writer and a timer, and whoever steps the machine in between."""

from __future__ import annotations

import logging
import os
import random
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from math import inf
from typing import Any, Protocol

import trio
from trio import TaskStatus

from rpyc_gateway.errands import Errands
from rpyc_gateway.errors import Code
from rpyc_gateway.leading import Leadership, can_lead
from rpyc_gateway.proto import events
from rpyc_gateway.proto.frames import CircuitClass, Failure, Hello, Open, Routes
from rpyc_gateway.proto.mux import Mux, MuxStatistics
from rpyc_gateway.transport import Buffer, Pipe
from rpyc_gateway.turn import Turn

log = logging.getLogger(__name__)

CHUNK = 65536
WRITE = 262_144  # bytes of one write: enough for the cost of a call to the system to vanish
BURST = 4  # chunks that trio's reader takes before others have their turn
LAST_WORDS = 2.0  # seconds for the peer to take what explains the end


class StreamHandler(Protocol):
    """Who is told of a stream, with the link's turn held; must not block or run user code.

    `received`, `received_alone` and `drained` are called in whichever thread steps the link, the others in the trio thread only.
    """

    def accepted(self, path: tuple[str, ...]) -> None: ...
    def refused(self, failure: Failure) -> None: ...
    def received(self, data: Buffer) -> None: ...  # a view of what arrived where that is long
    def received_alone(
        self, data: bytes
    ) -> None: ...  # the same, where that is all there is; for a muted stream it is consumed already
    def finished(self) -> None: ...
    def reset(self, failure: Failure) -> None: ...
    def stopped(self, failure: Failure) -> None: ...
    def drained(self, count: int) -> None: ...


class Owner(Protocol):
    """Who is told of the link, in the trio thread; the same rules. `lost` comes once and last."""

    def greeted(self, connection: Connection, peer: Hello) -> None: ...
    def established(self, connection: Connection) -> None: ...
    def routed(self, connection: Connection, routes: Routes) -> None: ...
    def probed(self, connection: Connection) -> None: ...
    def leaving(self, connection: Connection, failure: Failure, grace: float) -> None: ...
    def lost(self, connection: Connection, failure: Failure) -> None: ...
    def opened(self, connection: Connection, label: int, request: Open, kind: CircuitClass) -> StreamHandler | None: ...


class Connection:
    """One link. Make it in a trio task, `run` it in one; step it from any thread.

    Other threads than trio's may hold one turn only. In whichever thread it steps, data is told at once; what else has happened is told in
    the trio thread, in order. `lead` says who reads, where threads can; None where only trio does.
    """

    def __init__(self, pipe: Pipe, hello: Hello, owner: Owner, *, dialler: bool) -> None:
        self.pipe = pipe
        self.dialler = dialler
        self._clock = trio.lowlevel.current_clock()
        self._token = trio.lowlevel.current_trio_token()
        self._thread = threading.get_ident()
        self.mux = Mux(hello, dialler=dialler, now=self._clock.current_time(), jitter=random.random())
        self.owner = owner
        self._handlers: dict[int, StreamHandler] = {}
        self._untold: list[events.Event] = []  # what only the trio thread may tell, and what has happened since
        self.errands: Errands[Connection] = Errands()  # what its streams have to say on other links
        self._tasks: deque[Callable[[], object]] = deque()  # see `after_turn`
        self._reader = 0  # the thread that reads now
        self.turn = self._step = _Step(self)
        self._send_nowait = pipe.send_nowait
        self._receive_nowait = pipe.receive_nowait
        self.lead: Leadership | None = None
        if pipe.receive_nowait is not None and can_lead(pipe.fileno):
            self.lead = Leadership(pipe.fileno, self.read, self._resume_reader)
        self._running = False
        self._writing = False  # the writer is in send_all, or about to be
        self._left: list[Buffer] = []  # what send_nowait did not take
        self.unsettled = False  # there is more to do at the end of this step than the machine knows
        self._kept_back = False  # the end of this step sends nothing
        self._reading = trio.Event()  # for trio's reader: it is to read
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

    @property
    def here(self) -> bool:
        """Whether this is the thread that runs trio."""
        return threading.get_ident() == self._thread

    def in_trio(self, call: Callable[..., object], *args: object) -> None:
        """Call it in the trio thread: now if this is it, else soon. Not at all if its run is over, and the link with it."""
        if threading.get_ident() == self._thread:
            call(*args)
            return
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(call, *args)

    def keep_back(self) -> None:
        """Within a step: nothing need be sent at its end, somebody will flush. With the turn held."""
        self._kept_back = self.unsettled = True

    def put_together(self) -> None:
        """Within a step of a trio task: the writer sends at the end of this round of tasks what all of them have said."""
        self._kept_back = self.unsettled = True
        self._wake.set()

    def say(self, label: int, data: bytes) -> bool:
        """Within a step: send a message, at once if nothing stands in its way; whether it has gone, and no `drained` follows."""
        send = self._send_nowait
        frame = None
        if send is not None and self._running and not (self._left or self._writing or self._kept_back or self._mute):
            frame = self.mux.say(label, data)
        if send is None or frame is None:
            self.mux.send(label, data)
            return False
        try:
            taken = send(frame)
        except OSError as exc:
            self._fail_to_send(exc)
            return True
        if taken < len(frame):
            self._left = [memoryview(frame)[taken:]]
            self._wake_writer()
        return True

    def after_turn(self, task: Callable[[], object]) -> None:
        """Run `task` in the trio thread when the turn of this link has been given back. With the turn held."""
        if self._reader == threading.get_ident() == self._thread:
            self._tasks.append(task)
        else:
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(task)

    @property
    def has_tasks(self) -> bool:
        """Whether more of what `after_turn` was told will be run in a moment, here: what they say is sent after the last of them."""
        return bool(self._tasks) and self.here

    def _run_tasks(self) -> None:
        tasks = self._tasks
        while tasks:
            task = tasks.popleft()
            try:
                task()
            except Exception:
                log.exception("the reader of the link to %s goes on after a task that raised", self.peer_name)
        self.flush()

    def settle(self) -> None:
        """The end of an outer step: tell what has happened, send what may go, until nothing moves. The turn is held."""
        self.unsettled = bool(self._untold)
        self._tell()
        if self._kept_back:
            self._kept_back = False
        else:
            while self._send():
                self._tell()
        self._rearm()

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

    def _guard(self, label: int, tell: Callable[..., None], *facts: object) -> None:
        try:
            tell(*facts)
        except Exception:  # noqa: BLE001  # logged there
            self.disown(label)

    def disown(self, label: int) -> None:
        """A handler that fails loses its stream, nobody else's."""
        log.exception("a stream from %s is reset: its handler failed", self.peer_name)  # noqa: LOG004  # in the `except` of both
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
        buffers = self.mux.data_to_send(self._clock.current_time(), WRITE)
        if buffers:
            self._put(buffers)
        return bool(buffers)

    def _put(self, buffers: list[Buffer]) -> None:
        assert self._send_nowait is not None
        try:
            taken = self._send_nowait(*buffers)
        except OSError as exc:
            self._fail_to_send(exc)
            return
        for index, buffer in enumerate(buffers):
            if taken < len(buffer):
                self._left = [memoryview(buffer)[taken:], *buffers[index + 1 :]]
                self._wake_writer()
                return
            taken -= len(buffer)

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
        if not self.mux.hurried:
            return
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

    # -- receiving

    def read(self) -> bool:
        """Take what has come, without waiting, in whichever thread leads; whether there may be more at once."""
        wanted = size = 0
        with self.turn as mux:
            data: bytes | None = None
            try:
                if self._receive_nowait is not None:
                    wanted = mux.wanted
                    data = self._receive_nowait(wanted)
            except OSError as exc:
                mux.fail(self._broken(exc))
            self._reader = threading.get_ident()
            if data is not None:
                size = len(data)
                self._take(mux, data)
        self._reader = 0
        if self._tasks:
            self._run_tasks()
        return 0 < size == wanted

    def _take(self, mux: Mux, data: bytes) -> None:
        now = self._clock.current_time()
        heard = mux.hear(data, now) if data and not self._untold else None
        if heard is not None:
            handler = self._handlers.get(heard[0])
            if handler is not None:
                try:
                    handler.received_alone(heard[1])
                except Exception:  # noqa: BLE001  # logged there
                    self.disown(heard[0])
            return
        if data:
            mux.receive_data(data, now)
        else:
            mux.receive_eof(now)
        if mux.down and self.lead is not None:
            self.lead.over = True

    def read_for_threads(self) -> None:
        """What comes is for threads or for other links: where threads can, they read it, and trio's tasks no longer do."""
        if self.lead is not None:
            self.lead.for_trio = False

    def read_for_trio(self) -> None:
        """What comes is for trio's tasks: they read it. In the trio thread."""
        if self.lead is not None and not self.lead.for_trio:
            self.lead.read_for_trio()

    def _resume_reader(self) -> None:
        self._in_trio(self._set_reading)

    def _set_reading(self) -> None:
        self._reading.set()

    # -- tasks

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the link until it is over, and close the pipe's stream. What the world does to it goes to the owner as `lost`.

        Cancelled, it sends nothing more; the owner is told all the same.
        """
        try:
            async with trio.open_nursery() as nursery:
                with self._step:
                    self._running = True
                nursery.start_soon(self._read if self.lead is None else self._read_readable)
                nursery.start_soon(self._watch)
                task_status.started()
                await (self._write() if self.lead is None else self._write_writable())
                nursery.cancel_scope.cancel()
            await self._part()
        finally:
            try:
                with self._step as mux:
                    mux.fail(self._mute or Failure(Code.SHUTDOWN, "the link was closed on this side", mux.hello.name))
                    self._send_nowait = self._receive_nowait = (
                        None  # the descriptor may be another file's by the next moment
                    )
                if self.lead is not None:
                    self.lead.end()
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
                self._reader = threading.get_ident()
                self._take(mux, bytes(data))
            self._reader = 0
            if self._tasks:
                self._run_tasks()

    @trio.lowlevel.enable_ki_protection
    async def _read_readable(self) -> None:
        """The same where threads can read too: this task does while the link is for trio."""
        lead = self.lead
        assert lead is not None
        while not self.mux.down:
            if lead.for_trio:
                await trio.lowlevel.wait_readable(self.pipe.fileno)
                if lead.claim():
                    try:
                        for _ in range(BURST):
                            if not self.read():
                                break
                    finally:
                        lead.leave_to_trio()
                    continue
            self._reading = trio.Event()
            if not lead.for_trio:
                lead.retire()
                await self._reading.wait()
            elif lead.claim():
                lead.leave_to_trio()
            else:
                await self._reading.wait()

    @trio.lowlevel.enable_ki_protection
    async def _write(self) -> None:
        """Send what send_nowait could not. The only task that waits for the pipe to take more."""
        with self._writer_scope:
            while True:
                with self._step as mux:
                    self._wake = trio.Event()
                    data = b"" if self._mute else b"".join(self._left or mux.data_to_send(self._clock.current_time()))
                    self._left = []
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
    async def _write_writable(self) -> None:
        """The same where the descriptor can be waited for: what is left is sent as it is, without being put into one piece first."""
        with self._writer_scope:
            while True:
                with self.turn as mux:
                    self._wake = trio.Event()
                    if self._left and not self._mute:
                        left, self._left = self._left, []
                        self._put(left)
                if self._left and not self._mute:
                    await trio.lowlevel.wait_writable(self.pipe.fileno)
                elif mux.down and not self._left:
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
            if not self.machine.at_rest or connection.unsettled:
                connection.settle()
        finally:
            self.give_back()
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
