"""The answering side of a session: calls of the peer, the threads and tasks they run in, and what they come to."""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import suppress
from functools import partial
from types import BuiltinMethodType, MethodType
from typing import Any

import trio
from msgspec.structs import replace

from rpyc_gateway.asking import Asking
from rpyc_gateway.burial import Graveyard
from rpyc_gateway.calls import ServedCall
from rpyc_gateway.classes import reads_plainly
from rpyc_gateway.errors import Cancelled, LimitExceeded
from rpyc_gateway.held import is_proxy
from rpyc_gateway.leading import Leadership
from rpyc_gateway.places import Runs, main_thread
from rpyc_gateway.program import Done, Face, Outcome, RaisedAt
from rpyc_gateway.proto.facts import Called
from rpyc_gateway.proto.messages import Verb
from rpyc_gateway.proto.values import Payload, Reader
from rpyc_gateway.references import Desk, References
from rpyc_gateway.replying import Replying
from rpyc_gateway.service import Policy
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


class Answering(Replying):
    """Serves the peer's calls; the Host of each. Work that is not of the trio thread goes to `workers`."""

    def __init__(
        self, desk: Desk, references: References, asking: Asking, policy: Policy, runs: Runs = "threads"
    ) -> None:
        super().__init__(desk, references, asking)
        self.policy = policy
        self._runs = runs
        self._token = trio.lowlevel.current_trio_token()
        self._nursery: trio.Nursery | None = None
        # Tasks that wait for the nursery, and what is done for them if it never comes; None when the session is over.
        self._early: list[tuple[Callable[[], Coroutine[Any, Any, None]], Callable[[], object]]] | None = []
        self._affinities: set[int] = set()
        self.resting_place: Leadership | None = None  # set with the session's link
        self.graveyard = Graveyard()

    # -- with the turn held -------------------------------------------------------------------------------------------

    def start(self, nursery: trio.Nursery) -> None:
        """`async def` functions run in this nursery from now on."""
        self._nursery = nursery
        for function, _ in self._early or ():
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
            elif self._runs != "threads" or (
                called.affinity and called.affinity not in self._affinities and len(self._affinities) >= AFFINITIES
            ):
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
                self._affinities.add(called.affinity)
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
        for _, drop in self._early or ():
            drop()
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
        else:
            self._start_early(function, call.drop)

    def _start_early(self, function: Callable[[], Coroutine[Any, Any, None]], drop: Callable[[], object]) -> None:
        """Run `function` when there is a nursery; `drop` it if the session is over before."""
        if self._early is None:
            drop()
            return
        self._early.append((function, drop))
        self._desk.want_tasks()

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
        if self._nursery is None:
            self._start_early(partial(_close, generator, trio.CancelScope()), partial(_cut_short, generator))
            return
        try:
            self._nursery.start_soon(_close, generator, trio.CancelScope())
        except RuntimeError:  # its last task has just ended
            _cut_short(generator)


def _cut_short(generator: AsyncGenerator[Any, Any]) -> None:
    """Close it without letting it wait for anything."""
    with suppress(RuntimeError):  # the whole run is ending
        trio.lowlevel.spawn_system_task(_close, generator, trio.CancelScope(deadline=-math.inf))


async def _close(generator: AsyncGenerator[Any, Any], scope: trio.CancelScope) -> None:
    with scope:
        try:
            await generator.aclose()
        except Exception:  # nobody is left who could be told
            logger.exception("an async generator that was dropped failed when it was closed")
