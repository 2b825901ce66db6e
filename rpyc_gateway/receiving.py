"""What comes in by a link: taken by whichever thread leads, or by trio's reader, and given to its stream."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from threading import get_ident
from typing import Protocol

import trio

from rpyc_gateway.driver import Driver
from rpyc_gateway.errors import Code
from rpyc_gateway.leading import Leadership, can_lead
from rpyc_gateway.proto import events
from rpyc_gateway.proto.frames import Failure, Hello
from rpyc_gateway.proto.mux import READ
from rpyc_gateway.transport import Buffer, Pipe

__all__ = ["CHUNK", "Receiver", "StreamHandler"]

log = logging.getLogger(__name__)

CHUNK = 65536
BURST = 4  # chunks that trio's reader takes before others have their turn


class StreamHandler(Protocol):
    """Who is told of a stream, with the link's turn held; must not block or run user code.

    `received`, `received_alone` and `drained` are called in whichever thread steps the link, the others in the trio thread only.
    """

    def accepted(self, path: tuple[str, ...]) -> None: ...
    def refused(self, failure: Failure) -> None: ...
    def received(self, data: Buffer) -> None: ...  # a view of what arrived where that is long
    def received_alone(self, data: bytes) -> None:
        """The same, where that is all there is; for a muted stream it is consumed already."""
        ...

    def finished(self) -> None: ...
    def reset(self, failure: Failure) -> None: ...
    def stopped(self, failure: Failure) -> None: ...
    def drained(self, count: int) -> None: ...


class Receiver(Driver):
    """The side of a Connection that receives. `lead` says who reads, where threads can; None where only trio does."""

    def __init__(self, pipe: Pipe, hello: Hello, *, dialler: bool) -> None:
        super().__init__(pipe, hello, dialler=dialler)
        self._come: deque[bytes] = deque()  # by the stream of a pipe that cannot be read without waiting
        self._receive_nowait: Callable[[int], bytes | None] | None = pipe.receive_nowait or self._take_what_came
        self._handlers: dict[int, StreamHandler] = {}
        self._untold: list[events.Event] = []  # what only the trio thread may tell, and what has happened since
        self.tasks: deque[Callable[[], object]] = (
            deque()
        )  # see `after_turn`; what they say is sent after the last of them
        self._reader = 0  # the thread that reads now
        self._reading = trio.Event()  # for trio's reader: it is to read
        self._least = pipe.receive_at_least
        self._wanted = max(READ, self._least)  # bytes to read next
        self.lead: Leadership | None = None
        if pipe.receive_nowait is not None and can_lead(pipe.fileno):
            self.lead = Leadership(pipe.fileno, self.read, self._resume_reader)

    # -- who reads

    def read_for_threads(self) -> None:
        """What comes is for threads or for other links: where threads can, they read it, and trio's tasks no longer do."""
        if self.lead is not None:
            self.lead.for_trio = False

    def read_for_trio(self) -> None:
        """What comes is for trio's tasks: they read it. In the trio thread."""
        if self.lead is not None and not self.lead.for_trio:
            self.lead.read_for_trio()

    def _resume_reader(self) -> None:
        self.in_trio_once(self._set_reading)

    def _set_reading(self) -> None:
        self._reading.set()

    # -- in whichever thread reads

    def read(self) -> bool:
        """Take what has come, without waiting, in whichever thread leads; whether there may be more at once."""
        wanted = size = label = 0
        turn, mux = self.turn, self.mux
        # `with turn`, in this frame. Its holder further out does not read, and whoever reads has seen to the signals of its thread.
        turn.lock.acquire()
        turn.owner = self._reader = get_ident()
        try:
            try:
                if self._receive_nowait is not None:
                    wanted = self._wanted
                    data = self._receive_nowait(wanted)
                    if data is not None:
                        size = len(data)
                        now = self._clock.current_time()
                        heard = None if self._untold else mux.hear(data, now)
                        if heard is None:
                            self._take(data, now)
                        else:
                            label, data = heard
                            self._handlers[label].received_alone(data)
            except Exception as exc:  # noqa: BLE001  # sorted there
                self._fail_to_read(exc, label)
            if self.unsettled or not mux.at_rest:
                self.settle()
        finally:
            turn.owner = self._reader = 0
            turn.lock.release()
        if self.errands.waiting:
            self.errands.run()
        if self.tasks:
            self._run_tasks()
        return 0 < size == wanted

    def _take(self, data: bytes, now: float) -> None:
        """What is not one small frame alone."""
        mux = self.mux
        if data:
            mux.receive_data(data, now)
        else:
            mux.receive_eof(now)
        wanted = mux.wanted
        self._wanted = max(self._least, wanted)
        if mux.down and self.lead is not None:
            self.lead.over = True

    def _fail_to_read(self, exc: Exception, label: int) -> None:
        """The pipe broke, or the handler of a stream failed."""
        if label:
            if label in self._handlers:  # else nobody was there to hear it
                self.disown(label)
        elif isinstance(exc, OSError):
            self.mux.fail(self._broken(exc))
        else:
            raise exc

    def disown(self, label: int) -> None:
        """A handler that fails loses its stream, nobody else's."""
        log.exception("a stream from %s is reset: its handler failed", self.peer_name)  # noqa: LOG004  # in the `except` of its callers
        self.mux.reset(label, Failure(Code.INTERNAL, "the handler of this stream failed", self.mux.hello.name))

    def after_turn(self, task: Callable[[], object]) -> None:
        """Run `task` in the trio thread when the turn of this link has been given back. With the turn held."""
        if self._reader == get_ident() == self._thread:
            self.tasks.append(task)
        else:
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(task)

    def _run_tasks(self) -> None:
        tasks = self.tasks
        while tasks:
            task = tasks.popleft()
            try:
                task()
            except Exception:
                log.exception("the reader of the link to %s goes on after a task that raised", self.peer_name)
        if self.speakers or not self.mux.at_rest:  # something was kept back
            self.flush()

    def _take_what_came(self, _limit: int) -> bytes | None:
        return self._come.popleft() if self._come else None

    # -- the reader, a task

    @trio.lowlevel.enable_ki_protection
    async def _read(self) -> None:
        receive = self.pipe.stream.receive_some
        while not self.mux.down:
            try:
                data = await receive(CHUNK)
            except (trio.BrokenResourceError, trio.ClosedResourceError, OSError) as exc:
                with self.turn as mux:
                    mux.fail(self._broken(exc))
                return
            self._come.append(bytes(data))
            self.read()

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
