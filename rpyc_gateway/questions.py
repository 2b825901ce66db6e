"""The open questions of a session: who waits for each, in which chain of calls, and who waits for room to ask one."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable
from threading import get_ident
from typing import Any

import trio

from rpyc_gateway.bound import Reading, ReadingWaiter
from rpyc_gateway.calls import ServedCall
from rpyc_gateway.errors import GatewayError
from rpyc_gateway.program import Face
from rpyc_gateway.proto.atoms import ATOMS
from rpyc_gateway.proto.messages import Verb
from rpyc_gateway.proto.values import Payload, Reader, read_structure
from rpyc_gateway.references import Desk, References
from rpyc_gateway.steps import draft_steps
from rpyc_gateway.waiters import Outcome, TaskWaiter, ThreadWaiter, Waiter

__all__ = ["Questions"]


class Questions:
    """The ground floor of Asking: what its questions come to reaches those who asked. Made in the trio thread."""

    def __init__(self, desk: Desk, references: References) -> None:
        self._desk = desk
        self._references = references
        self._thread = get_ident()
        self._waiters: dict[int, Waiter] = {}
        self.by_cause: dict[int, ThreadWaiter] = {}  # the innermost of each chain
        self.queue: deque[trio.Event] = deque()  # tasks that wait for room among the open questions
        self.unsent: list[TaskWaiter] = []  # of tasks, whose questions are sent at the end of this round of them
        self.readings: deque[weakref.ref[Reading]] = deque()  # that go in front of the next message

    # -- what becomes of them; with the turn held

    def complete(self, question: int, outcome: Outcome) -> None:
        """A question is closed: wake who waits for it, if anybody still does."""
        waiter = self._waiters.pop(question, None)
        if type(waiter) is ThreadWaiter:
            if (
                waiter.outer is None and self.by_cause.get(waiter.cause) is waiter
            ):  # as a rule: the only one of its chain
                del self.by_cause[waiter.cause]
            else:
                self._leave_cause(waiter)
            waiter.complete(outcome)
        elif waiter is not None:
            if isinstance(waiter, TaskWaiter) and get_ident() != self._thread:
                self._desk.in_trio(self._complete_task, waiter, outcome)
            else:
                waiter.complete(outcome)

    def _complete_task(self, waiter: TaskWaiter, outcome: Outcome) -> None:
        if waiter.abandoned:
            self._give_back(outcome)
        else:
            waiter.complete(outcome)

    def fail(self, error: Callable[[], GatewayError]) -> None:
        """Every question ends with an error of its own, exactly once."""
        waiters, self._waiters = self._waiters, {}
        self.by_cause.clear()
        for waiter in (*waiters.values(), *self.unsent):
            waiter.complete(Outcome(error=error()))
        while self.queue:
            self._call_next()

    # -- chains of calls; with the turn held

    def _cause_of(self, call: ServedCall | None) -> int:
        """The chain of calls that a call belongs to: that of the call of this session being served here, or a new one."""
        return self._inherited_cause(call) or self._desk.rpc.new_cause()

    def _inherited_cause(self, call: ServedCall | None) -> int:
        """That of the call of this session being served here, in whichever task or thread; 0 for none."""
        while call is not None:
            if call.cause and call.host.asking is self:
                return call.cause
            call = call.outer
        return 0

    def has_asked(self, cause: int) -> bool:
        """Whether a question of ours is open in this chain of calls: what is raised in a callback of it may come home."""
        if cause % 2 == self._desk.rpc.opener:
            return True  # it began here
        return any(waiter.cause == cause for waiter in list(self._waiters.values()))

    def waiting_for(self, cause: int) -> ThreadWaiter | None:
        """The thread that waits for the innermost question of this chain of calls: a callback of the chain may run on its stack."""
        return self.by_cause.get(cause)

    def _leave_cause(self, waiter: Waiter) -> None:
        """No callback is handed to this thread from now on."""
        if type(waiter) is not ThreadWaiter:
            return
        inner = self.by_cause.get(waiter.cause)
        if inner is waiter:
            if waiter.outer is None:
                del self.by_cause[waiter.cause]
            else:
                self.by_cause[waiter.cause] = waiter.outer
            return
        while inner is not None:
            if inner.outer is waiter:
                inner.outer = waiter.outer
            inner = inner.outer

    # -- methods whose reading waits for the next message

    def send_readings(self) -> None:
        """A message is about to be sent: what was read before must be read before it comes. With the turn held."""
        while self.readings and self._desk.rpc.room > 1:
            reading = self.readings.popleft()()
            if reading is None or reading.known or reading.question:
                continue
            draft = draft_steps(((Verb.GET, 0, reading.name),), self._references.writer)
            reading.waiter = ReadingWaiter(self._references.hold)
            question = self._desk.rpc.call(reading.held.number, draft, cause=self._desk.rpc.new_cause())
            self._waiters[question] = reading.waiter
            # By a name of its own till here: the method may be called meanwhile, in another thread, which writes there too.
            reading.question = question

    # -- what they came to

    def _value(self, outcome: Outcome, face: Face) -> Any:
        """The value of an outcome, decoded by whoever waited for it."""
        if outcome.error is not None:
            raise outcome.error
        if outcome.raised is not None:
            reader = self._reader(outcome, outcome.raised, face)
            error = self._references.raisables.read_raised(reader)
            try:
                raise error
            finally:
                del error  # the traceback holds this frame
        payload = outcome.payload
        assert payload is not None
        if payload.refs:
            return self._reader(outcome, payload, face).read()
        structure = read_structure(payload.packed)
        return structure if type(structure) in ATOMS else self._reader(outcome, payload, face).value(structure)

    def _reader(self, outcome: Outcome, payload: Payload, face: Face) -> Reader:
        reader = self._references.open_reader(payload)
        if outcome.held is None and outcome.raised is None:  # what was raised may be read a second time
            reader.refs = self._references.take(payload.refs, face)
            return reader
        if outcome.held is None:
            outcome.held = self._references.hold(payload.refs)
        reader.refs = self._references.show(outcome.held, face)
        return reader

    # -- questions that nobody waits for any more

    @trio.lowlevel.enable_ki_protection
    def abandon(self, question: int, waiter: TaskWaiter) -> None:
        """Nobody waits for this any more: what came for it goes back, or the far side is told to cancel it."""
        if self._waiters.get(question) is waiter:
            with self._desk.step():
                self._abandon(question, waiter)
        waiter.abandoned = True
        self._give_back(waiter.leftover())

    def _abandon(self, question: int, waiter: Waiter) -> None:
        if self._waiters.get(question) is waiter:
            del self._waiters[question]
            self._leave_cause(waiter)
            self._desk.rpc.cancel(question)

    def _give_back(self, outcome: Outcome | None) -> None:
        """An answer that crossed an interrupt is nobody's: what it refers to goes back."""
        if outcome is None or outcome.held is not None:
            return
        payload = outcome.payload or outcome.raised
        if payload is not None:
            self._references.hold(payload.refs)

    # -- room for more of them

    async def _wait_room(self) -> None:
        """Wait until the peer takes one more question: tasks queue here in order. Cancelled, the place goes to the next."""
        while self._desk.rpc.room <= 0:
            self._desk.check_open()
            place = trio.Event()
            self.queue.append(place)
            try:
                await place.wait()
            except trio.Cancelled:
                if place.is_set():
                    self._call_next()
                else:
                    self.queue.remove(place)
                raise

    def make_room(self) -> None:
        """Questions may have been closed, cancelled ones too: as many tasks as there is room for may ask."""
        if self.queue:
            self._desk.in_trio(self._call_next_ones)

    def _call_next_ones(self) -> None:
        for _ in range(min(self._desk.rpc.room, len(self.queue))):
            self._call_next()

    def _call_next(self) -> None:
        if self.queue:
            self.queue.popleft().set()
