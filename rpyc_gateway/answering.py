"""The answering side of a session: calls of the peer, the threads and tasks they run in, and what they come to."""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import suppress
from types import BuiltinMethodType, MethodType
from typing import Any

import trio
from msgspec.structs import replace

from rpyc_gateway.asking import Asking
from rpyc_gateway.burial import Graveyard
from rpyc_gateway.calls import Keep, ServedCall
from rpyc_gateway.classes import reads_plainly
from rpyc_gateway.errors import Cancelled, EncodeError, GatewayError, LimitExceeded
from rpyc_gateway.held import is_proxy
from rpyc_gateway.leading import Leadership
from rpyc_gateway.places import Runs, main_thread
from rpyc_gateway.program import Done, Face, Outcome, RaisedAt
from rpyc_gateway.proto.atoms import pack_atom
from rpyc_gateway.proto.facts import Called, ExportDraft
from rpyc_gateway.proto.messages import Verb
from rpyc_gateway.proto.values import ONE_REF, Draft, Payload, Reader
from rpyc_gateway.references import Desk, References
from rpyc_gateway.service import Policy
from rpyc_gateway.stack import STEP_ROOM, check_room
from rpyc_gateway.stays import abandon
from rpyc_gateway.steps import MORE_STEPS, method_read, plain_step
from rpyc_gateway.worker import workers

__all__ = ["Answering"]

AFFINITIES = 1024
"""Threads kept for calling threads of one peer: as many as can wait for an answer at once."""

RUNNING = 2048
"""Calls of one peer that run at once: its open questions, and as many whose callers have lost interest."""


_EMPTY = Payload(b"\x90")  # an empty program, which answers with its target
_ONE_CALL = b"\x91\x94\x03"  # how programs that are a CALL begin, as we write them

logger = logging.getLogger("rpyc_gateway.session")


class Answering:
    """Serves the peer's calls; the Host of each. Work that is not of the trio thread goes to `workers`."""

    def __init__(
        self, desk: Desk, references: References, asking: Asking, policy: Policy, runs: Runs = "threads"
    ) -> None:
        self.policy = policy
        self._runs = runs
        self.asking = asking
        self._desk = desk
        self._references = references
        self._token = trio.lowlevel.current_trio_token()
        self._nursery: trio.Nursery | None = None
        # Tasks from before there was a nursery; None when the session is over.
        self._early: list[tuple[ServedCall, Callable[[], Coroutine[Any, Any, None]]]] | None = []
        self._served: dict[int, ServedCall] = {}
        self._affinities: set[int] = set()
        self._running: set[ServedCall] = set()  # until they have really ended, cancelled or not
        self.resting_place: Leadership | None = None  # set with the session's link
        self.graveyard = Graveyard()
        self.keep_error: Keep | None = None

    # -- with the turn held -------------------------------------------------------------------------------------------

    def start(self, nursery: trio.Nursery) -> None:
        """`async def` functions run in this nursery from now on."""
        self._nursery = nursery
        for _, function in self._early or ():
            nursery.start_soon(function)
        self._early = []

    def serve(self, called: Called) -> None:
        """Take a call: it runs on the stack of a thread that waits for its cause, in its caller's own thread, or in the pool."""
        if self.graveyard.garbage or self.graveyard.burials or len(self._running) >= RUNNING:
            self._serve_slowly(called)
            return
        # The short way, as a rule: nothing has to come first, and a place for the call is there already.
        waiter = self.asking.by_cause.get(called.cause)
        where: Runs = "threads"
        if waiter is None:
            if self._runs == "trio" and not is_proxy(called.target):
                where = "trio"
            elif self._runs != "threads" or (called.affinity and called.affinity not in self._affinities):
                self._serve_slowly(called)
                return
        packed = called.payload.packed
        if not packed.startswith(_ONE_CALL) and packed[:1] not in MORE_STEPS:  # perhaps in another writing than ours
            read = self._read_at_once(called)
            if read is None:
                return
            called = read
        call = ServedCall(self, called, where)
        if self.graveyard.shared:
            call.shared = self.graveyard.take_shared()
        operand = call.operand = plain_step(called.payload)
        task = call.serve if operand is None else call.serve_apart
        self._served[called.question] = call
        self._running.add(call)
        try:
            if waiter is not None:
                waiter.run(task)
            elif where == "trio":
                self._desk.after_turn(task)
            elif called.affinity:
                call.bound = True
                workers.submit_to((id(self), called.affinity), task if operand is None else call.serve_alone)
            else:
                workers.submit(task)
        except RuntimeError as error:
            self._no_thread(call, called, error)

    def _serve_slowly(self, called: Called) -> None:
        """The same, where that is not so."""
        read = self._read_at_once(called)
        if read is None:
            return
        called = read
        if not self._has_thread_for(called):
            self._refuse(called, f"{AFFINITIES} threads of the caller have a thread here already")
            return
        if len(self._running) >= RUNNING:
            self._refuse(called, f"{RUNNING} calls run here already, those counted whose callers have left")
            return
        call = ServedCall(self, called, self._where(called))
        call.keep(self.graveyard.bury())
        self._served[called.question] = call
        self._running.add(call)
        try:
            if call.where == "trio":
                self._desk.after_turn(call.serve)
            else:
                self.submit(call, call.serve)
        except RuntimeError as error:
            self._no_thread(call, called, error)

    def _no_thread(self, call: ServedCall, called: Called, error: RuntimeError) -> None:
        self._running.discard(call)
        self.graveyard.shared += call.shared
        self._refuse(called, f"no thread can be started for it: {error}")

    def _read_at_once(self, called: Called) -> Called | None:
        """Run a program that only reads a plain method, which runs no code of anybody: before whatever comes behind it.

        None if it is answered; else what is left to do: something that hides the method may need code of its own to be sent.
        """
        name = method_read(called.payload)
        if name is None or not reads_plainly(called.target, name):
            return called
        outcome: Outcome
        try:
            if self.policy.check(called.target, Verb.GET, name) is not None:
                return called  # another is meant
            outcome = Done(object.__getattribute__(called.target, name))
        except Exception as error:  # noqa: BLE001  # it is the answer
            outcome = RaisedAt(error, 1)
        else:
            kind = type(outcome.value)
            if kind is not MethodType and kind is not BuiltinMethodType:  # not `in`, which asks a metaclass
                return replace(called, target=outcome.value, payload=_EMPTY)
        self._send(called.question, *self._outcome_draft(outcome, called.cause))
        return None

    def _where(self, called: Called) -> Runs:
        """Where a call runs. Callbacks have the stack that waits for them; what is passed on to a third node is not the service's code."""
        if self._runs == "threads" or is_proxy(called.target) or self.asking.waiting_for(called.cause) is not None:
            return "threads"
        return self._runs

    def _has_thread_for(self, called: Called) -> bool:
        if not called.affinity or called.affinity in self._affinities or self._where(called) != "threads":
            return True
        return len(self._affinities) < AFFINITIES or self.asking.waiting_for(called.cause) is not None

    def _refuse(self, called: Called, why: str) -> None:
        self._served.pop(called.question, None)
        self._references.hold(called.payload.refs)  # and let go: what came with it goes back
        self.reject(called.question, LimitExceeded(f"{self._desk.local} does not serve this call: {why}"))

    def reject(self, question: int, error: GatewayError) -> None:
        """Answer a call that cannot be served."""
        self._desk.rpc.raised(question, self._exception_draft(error, 0))

    def cancel(self, question: int) -> None:
        """The caller has lost interest: what runs is cancelled, and answered at once."""
        call = self._served.pop(question, None)
        if call is not None:
            call.cancel()
            if call.bound and call.begun:
                # Its thread may be stuck for long: the next call of that caller gets a fresh one.
                workers.detach((id(self), call.affinity))
        self.reject(question, Cancelled("the call was cancelled"))

    def end_thread(self, affinity: int) -> None:
        """A calling thread of the peer is gone, and the thread that served it may go."""
        self._affinities.discard(affinity)
        workers.release((id(self), affinity))
        for call in list(self._running):  # an `async def` that is still awaited goes on in any thread
            if call.affinity == affinity:
                call.affinity = 0

    def discard(self, values: list[object]) -> None:
        """The peer gave these back: they die in a worker, before the next call begins (finalizers are user code)."""
        abandon(values)
        self.graveyard.take(values)

    def sweep(self) -> None:
        """Let what was discarded die now if no call has taken it along."""
        if not (self.graveyard.garbage or self.graveyard.shared):
            return
        burial = self.graveyard.bury()[-1]
        if self._runs == "trio":
            self._token.run_sync_soon(burial.finish, 0)
        elif self._runs == "main":
            main_thread.submit(burial.finish)
        else:
            try:
                workers.submit(burial.finish)
            except RuntimeError:  # no thread can be started: the next call takes them along
                logger.warning("%s: no thread can be started for what a peer gave back", self._desk.local)

    def stop(self, lent: list[object]) -> None:
        """The session is over: cancel what runs, and let what was lent die."""
        for call, _ in self._early or ():
            call.drop()
        self._nursery = self._early = None
        for call in list(self._served.values()):
            call.cancel()
        self._served.clear()
        for affinity in list(self._affinities):
            self.end_thread(affinity)
        self.discard(lent)
        self.sweep()

    def statistics(self) -> tuple[int, int, int]:
        """(calls that run, those of them whose callers have lost interest, threads kept for threads of the peer)."""
        running = list(self._running)
        return len(running), sum(call.cancelled for call in running), len(self._affinities)

    # -- the Host of a call -----------------------------------------------------------------------------------------

    def hold(self, refs: Sequence[object]) -> tuple[object, ...]:
        """Take over the references of a call."""
        return self._references.hold(refs)

    def show(self, held: Sequence[object], face: Face) -> tuple[object, ...]:
        """Proxies for what `hold` returned."""
        return self._references.show(held, face)

    def open_reader(self, payload: Payload) -> Reader:
        """A Reader for a message of the session."""
        return self._references.open_reader(payload)

    def submit(self, call: ServedCall, task: Callable[[], object]) -> None:
        """Run `task` where `call` belongs; from any thread."""
        with self._desk.step():  # so that no waiter leaves between being found and being given the task
            waiter = self.asking.waiting_for(call.cause)
            if waiter is not None:
                waiter.run(task)
            elif call.where == "main":
                main_thread.submit(task)
            elif call.where == "trio":
                self._desk.after_turn(task)
            elif call.affinity and not call.cancelled:
                self._affinities.add(call.affinity)
                call.bound = True
                workers.submit_to((id(self), call.affinity), task)
            else:
                workers.submit(task)

    def spawn(self, call: ServedCall, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run `function`, a part of `call`, as a task of the session; drop the call if that is over. From any thread."""
        try:
            self._token.run_sync_soon(self._spawn, call, function)
        except trio.RunFinishedError:
            call.drop()

    def _spawn(self, call: ServedCall, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """The same in the trio thread."""
        if self._nursery is not None:
            self._nursery.start_soon(function)
        elif self._early is not None:
            self._early.append((call, function))
        else:
            call.drop()

    def in_trio(self, call: Callable[..., object], *args: object) -> None:
        """Call it in the session's trio thread: now if this is it, else soon."""
        self._desk.in_trio(call, *args)

    def left(self, call: ServedCall) -> None:
        """The code of a call has ended, and nobody waits for what it came to."""
        self._running.discard(call)

    def close_generator(self, generator: AsyncGenerator[Any, Any]) -> None:
        """Close an async generator that nobody holds any more: in a task of the session, or of nobody if that is over. From any thread."""
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._close_generator, generator)

    def _close_generator(self, generator: AsyncGenerator[Any, Any]) -> None:
        try:
            if self._nursery is not None:
                self._nursery.start_soon(_close, generator, trio.CancelScope())
                return
        except RuntimeError:
            pass  # its last task has just ended
        with suppress(RuntimeError):  # the whole run is ending
            trio.lowlevel.spawn_system_task(_close, generator, trio.CancelScope(deadline=-math.inf))

    def answer(self, call: ServedCall, outcome: Outcome) -> None:
        """Encode what a call came to, and send it if anybody still waits; in whichever thread served it."""
        if call.parting is not None:
            call.parting()
        self._running.discard(call)
        if type(outcome) is Done and self._answer_alone(call, outcome.value):
            return
        draft, step = self._outcome_draft(outcome, call.cause)
        with self._desk.step():
            if not call.affinity:
                self._desk.say_later()
            self.asking.send_readings()
            self._served.pop(call.question, None)
            is_sent = self._send(call.question, draft, step) and step is None
        if not is_sent and type(outcome) is Done and type(outcome.value) is tuple:
            abandon(outcome.value[:1])  # what was entered for a caller that has gone
        # An exception that may come home is in there, and its traceback keeps this frame: without this the two would keep each other.
        del draft

    def _answer_alone(self, call: ServedCall, value: object) -> bool:
        """The short way of `answer`, for an atom or a reference; whether that was all there is to send. If not, nothing has changed."""
        packed = pack_atom(value)
        refs: tuple[ExportDraft, ...] = ()
        if packed is None:
            try:
                lent = self._references.lend_one(value)
            except Exception:  # noqa: BLE001  # what the object has of its own may raise: the long way tells of it
                return False
            if lent is None:
                return False
            packed, refs = ONE_REF, (lent,)
        if not call.bound:  # else there is room: the thread has nothing else on its stack
            check_room(STEP_ROOM)
        desk = self._desk
        with desk.turn:
            if self.asking.readings:
                return False
            if not call.affinity:
                desk.say_later()
            try:
                message = desk.rpc.answer_alone(call.question, packed, refs)
            except GatewayError:  # the long way tells of it
                return False
            if message is None:
                return False
            self._served.pop(call.question, None)
            desk.circuit.send(message)
        return True

    def _send(self, question: int, draft: Draft, step: int | None) -> bool:
        """Whether anybody still waited for it."""
        if not self._desk.rpc.is_serving(question):
            return False
        try:
            if step is None:
                self._desk.rpc.answer(question, draft)
            else:
                self._desk.rpc.raised(question, draft, step)
        except GatewayError as error:  # a bound of the tables: the caller learns of it
            self.reject(question, error)
            return False
        return True

    def _outcome_draft(self, outcome: Outcome, cause: int) -> tuple[Draft, int | None]:
        """What to send, and the step that raised or None."""
        if type(outcome) is RaisedAt:
            if self.keep_error is not None:
                self.keep_error(outcome.error)
            return self._exception_draft(outcome.error, cause), outcome.step
        assert type(outcome) is Done
        atom = pack_atom(outcome.value)
        if atom is not None:
            return Draft(atom), None
        writer = self._references.writer()
        writer.snapshot = True  # served code goes on while the answer is sent
        try:
            return writer.finish(writer.value(outcome.value)), None
        except Exception as error:  # noqa: BLE001  # a value that cannot be sent fails its call, whatever it raised
            return self._exception_draft(error, cause), 0

    def _exception_draft(self, error: BaseException, cause: int) -> Draft:
        raisables = self._references.raisables
        write = raisables.raised_in_callback if cause and self.asking.has_asked(cause) else raisables.raised
        writer = self._references.writer()
        try:
            return writer.finish(write(error, writer))
        except Exception as problem:  # noqa: BLE001  # the caller gets at least the name of what happened
            name = type(error).__qualname__
            logger.warning("%s: an exception of type %s cannot be sent: %s", self._desk.local, name, problem)
            plain = EncodeError(f"the call raised {name}, which cannot be sent ({type(problem).__qualname__})")
            writer = self._references.writer()
            return writer.finish(raisables.raised(plain, writer))


async def _close(generator: AsyncGenerator[Any, Any], scope: trio.CancelScope) -> None:
    with scope:
        try:
            await generator.aclose()
        except Exception:  # nobody is left who could be told
            logger.exception("an async generator that was dropped failed when it was closed")
