"""The asking side of a session: programs sent to the peer, and who waits for their answers."""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Sequence
from threading import get_ident
from typing import Any

import trio
from sniffio import thread_local

from rpyc_gateway import deadlines
from rpyc_gateway.bound import Reading
from rpyc_gateway.calls import ServedCall, serving
from rpyc_gateway.deadlines import Deadline
from rpyc_gateway.held import Held
from rpyc_gateway.leading import LEAD
from rpyc_gateway.per_process import process
from rpyc_gateway.posting import Posting
from rpyc_gateway.program import Face
from rpyc_gateway.proto.atoms import ATOMS
from rpyc_gateway.proto.messages import Verb
from rpyc_gateway.proto.values import ONE_REF, UNREADABLE, Result, unpack
from rpyc_gateway.references import Desk, References
from rpyc_gateway.stack import check_room
from rpyc_gateway.steps import Step, draft_steps
from rpyc_gateway.turn import deferral
from rpyc_gateway.waiters import Listener, Outcome, ThreadWaiter, thread_number
from rpyc_gateway.worker import workers

__all__ = ["Asking"]

SHORT = 64
"""Bytes of an answer that is an atom, as a rule."""

UNREAD = object()
"""In place of a value that is to be read yet."""

_IN_CALL = -1
"""In place of a question: the GET is a step of the method's call."""


class Asking(Posting):
    """Asks, for proxies of both faces; it is their Caller. `threads` is told when a calling thread has ended."""

    def __init__(self, desk: Desk, references: References, threads: Listener) -> None:
        super().__init__(desk, references)
        self.drop = desk.rpc.imports.drop
        self._threads = threads
        self._numbers = threading.local()
        self.peer_vat = b""

    def ask(self, number: int, steps: Sequence[Step]) -> Any:
        """Run a program on the peer's object `number` and wait in this thread (never one that runs trio) for its value.

        Callbacks of the same chain of calls run in this thread meanwhile. Raises what the program raises, or a GatewayError: TimedOut
        at the end of the time that `timeout` or the caller of what is served here has given. Then, and on a KeyboardInterrupt, the call is
        cancelled there. RecursionError, and nothing is sent, where the stack has no room for a callback that fails in order.
        """
        call = self._enter()
        draft = draft_steps(steps, self._references.writer)
        waiter = ThreadWaiter()
        affinity = getattr(self._numbers, "number", 0) or self._number()
        deadline = deadlines.CURRENT.get()
        left = deadline.milliseconds() if deadline is not None else 0
        question = 0
        outcome: Outcome | None = None
        value: object = UNREAD
        desk = self._desk
        deferred = deferral.begin(outside_trio=True)
        try:
            with desk.turn:  # `_enter` has seen to the room on the stack
                if desk.error is not None:
                    desk.check_open()
                if self.readings:
                    self.send_readings()
                cause = waiter.cause = self._cause_of(call) if call is not None else desk.rpc.new_cause()
                question, message = desk.rpc.ask(number, draft, cause=cause, affinity=affinity, deadline=left)
                self._waiters[question] = waiter
                waiter.outer = self.by_cause.get(cause)
                self.by_cause[cause] = waiter
                if message is not None:  # as a rule
                    desk.circuit.send(message)
                else:
                    desk.speak()
            # As few frames as can be from here to what a callback calls: mutual recursion has them once for each level.
            if call is None:
                outcome = waiter.wait(deadline, desk.lead, deferred=deferred)
            else:
                call.wait_with(waiter)
                try:
                    outcome = waiter.wait(deadline, desk.lead, deferred=deferred)
                finally:
                    call.waiters.remove(waiter)
            value = self._value_at_once(outcome)
            if value is UNREAD:
                self._hold(outcome)
        finally:
            try:
                if outcome is None or outcome.error is not None or not waiter.inbox.empty():
                    self._forget(question, waiter, outcome)
            finally:
                if deferred:
                    try:
                        deferral.end()
                    except BaseException:  # a signal that came while the answer was read
                        if value is UNREAD:  # else its proxy gives it back
                            self._give_back(outcome)
                        raise
        return value if value is not UNREAD else self._value(outcome, Face.BLOCKING)

    def _value_at_once(self, outcome: Outcome) -> object:
        """The short way of `_value` in blocking code, for an atom or one reference, which run no code of anybody.

        UNREAD, and nothing has changed, for others.
        """
        payload = outcome.payload
        if payload is None:
            return UNREAD
        packed, refs = payload.packed, payload.refs
        if not refs:
            if len(packed) < SHORT:
                try:
                    structure = unpack(packed)
                except UNREADABLE:
                    return UNREAD  # the long way says what is wrong
                if type(structure) in ATOMS:
                    return structure
        elif packed == ONE_REF and len(refs) == 1:
            proxy = self._references.take_one(refs[0])
            if proxy is not None:
                return proxy
        return UNREAD

    def _hold(self, outcome: Outcome) -> None:
        """Take over what an outcome refers to, so that it goes back whatever interrupts this thread before it is shown."""
        payload = outcome.payload or outcome.raised
        if payload is not None and payload.refs:
            outcome.held = self._references.hold(payload.refs)

    def _number(self) -> int:
        """The number of this thread, which is told when it has ended."""
        number = self._numbers.number = thread_number(self._threads)
        return number

    def _enter(self) -> ServedCall | None:
        """Check that this thread may wait for the peer; the call that it is serving, if any."""
        try:
            sys._getframe(sys.getrecursionlimit() // 4)  # noqa: SLF001  # as `check_room` does
        except ValueError:
            pass  # not even a quarter is used
        else:
            check_room()
        desk = self._desk
        me = get_ident()
        # What sniffio knows is asked first: it is quick to say no, but for the thread of a trio run that is the guest of another loop.
        if (thread_local.name is not None or me == self._thread) and trio.lowlevel.in_trio_run():
            raise RuntimeError("a blocking proxy was used in the thread that runs trio; `await` its trio face there")
        if desk.generation != process.generation:
            desk.check_process()
        if desk.turn.owner == me:
            raise RuntimeError(
                "a remote call from a finalizer that ran in the middle of another: let it append to a queue, and make the call elsewhere"
            )
        call = serving.get()
        if call is not None:
            call.check()
        return call

    # -- methods whose reading waits for the next message -------------------------------------------------------------

    def read(self, held: Held, name: str) -> Reading:
        """Begin to read a plain method. It is sent with the session's next message, whoever causes that."""
        self._enter()
        self._desk.check_open()
        reading = Reading(held, name)
        self.readings.append(weakref.ref(reading))
        return reading

    def call_read(self, reading: Reading, args: tuple[Any, ...], kwargs: dict[str, Any], *, kept: bool) -> Any:
        """Call the method that is being read: in one round trip if its reading was not sent yet. `kept`: it may be used again."""
        if reading.known or reading.question:
            return self.fetch(reading)(*args, **kwargs)
        reading.question = _IN_CALL
        steps: list[Step] = [(Verb.GET, 0, reading.name), (Verb.CALL, 1, args, kwargs)]
        if not kept:
            return self.ask(reading.held.number, steps)
        try:
            method, value = self.ask(reading.held.number, [*steps, (Verb.VALUE, 0, (Result(1), Result(2)))])
        except BaseException:
            reading.question = 0
            self.readings.append(weakref.ref(reading))
            raise
        reading.learn(method)
        return value

    def fetch(self, reading: Reading) -> Any:
        """The method that was read; waits for it in this thread. Raises what reading it raises."""
        if reading.known:
            return reading.value
        if reading.waiter is None:
            return reading.learn(self.ask(reading.held.number, ((Verb.GET, 0, reading.name),)))
        waiter = ThreadWaiter()
        reading.waiter.join(waiter)
        return reading.learn(self._value(self._wait(waiter, self._enter(), deadlines.current()), Face.BLOCKING))

    # -- in the thread that asks ----------------------------------------------------------------------------

    def _wait(self, waiter: ThreadWaiter, call: ServedCall | None, deadline: Deadline | None) -> Outcome:
        lead = self._desk.lead
        if call is not None:
            call.wait_with(waiter)
        deferred = deferral.begin()
        try:
            return waiter.wait(deadline, lead, deferred=deferred)
        finally:
            if call is not None:
                call.waiters.remove(waiter)
            if lead is not None and LEAD in waiter.leftovers():  # an outcome is the reading's
                lead.hand_on()
            if deferred:
                deferral.end()

    def _forget(self, question: int, waiter: ThreadWaiter, outcome: Outcome | None) -> None:
        """A thread waits no more. As a rule its question is closed, and it has taken all that was handed to it."""
        if outcome is None or outcome.error is not None:
            with self._desk.step():  # so that no answer is on its way from the one table into the other
                self._abandon(question, waiter)
        if not waiter.inbox.empty():
            self._pass_on(waiter)

    def _pass_on(self, waiter: ThreadWaiter) -> None:
        """Let somebody else have what was handed to a thread that waits no more."""
        for item in waiter.leftovers():
            if type(item) is Outcome:
                self._give_back(item)
                continue
            if item is LEAD:
                if self._desk.lead is not None:
                    self._desk.lead.hand_on()
                continue
            try:
                workers.submit(item)  # type: ignore[arg-type]
            except RuntimeError:  # no thread can be started: it was for this one anyway
                item()  # type: ignore[operator]
