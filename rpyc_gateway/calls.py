"""A call of the peer while it is being served: in a thread, or from an `async def` on as a trio task."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from typing import Any, Protocol

import trio

from rpyc_gateway import deadlines
from rpyc_gateway.awaiting import Ended, Later, Unsent, later
from rpyc_gateway.burial import Burial
from rpyc_gateway.deadlines import Deadline
from rpyc_gateway.errors import Cancelled, LimitExceeded, TimedOut
from rpyc_gateway.leading import Leadership
from rpyc_gateway.places import Runs
from rpyc_gateway.program import Done, Face, Outcome, Program, RaisedAt
from rpyc_gateway.proto.facts import Called
from rpyc_gateway.proto.messages import Verb
from rpyc_gateway.proto.values import BY_VALUE, Payload, Reader
from rpyc_gateway.service import Policy, read
from rpyc_gateway.waiters import ThreadWaiter

__all__ = ["Host", "Keep", "ServedCall", "before_answer", "checkpoint", "keep_errors", "served_session", "serving"]

serving: ContextVar[ServedCall | None] = ContextVar("rpyc_gateway.serving", default=None)
"""The call that the current thread or task is serving, the innermost one."""


Keep = Callable[[BaseException], object]

_CALL = Verb.CALL  # to read an attribute of an enum takes long

LOST_INTEREST = "the caller has lost interest in the call that is being served"


def checkpoint() -> None:
    """Raise Cancelled if whoever made the call that is being served here has lost interest, TimedOut if its time or that of a `timeout` is over.

    Otherwise nothing. For long loops in served functions that run in threads. Every remote operation is such a checkpoint by itself.
    """
    call = serving.get()
    if call is not None:
        call.check()
    deadline = deadlines.current()
    if deadline is not None:
        deadline.check()


def served_session() -> object | None:
    """What stands for the session whose call is being served here; None where none is. For outlets.py, which other versions of this package may have sent."""
    call = serving.get()
    return None if call is None else call.host


def before_answer(work: Callable[[], object]) -> None:
    """Do this, which must not raise, when the call that is being served here is done, before its answer: the last thing that is given for a call counts."""
    call = serving.get()
    if call is not None:
        call.parting = work


def keep_errors(keep: Keep | None) -> Keep | None:
    """Let `keep`, which must not raise, be called with each error that calls of this session raise, before it is sent; who was called until now, or None.

    Raises RuntimeError where no call is being served.
    """
    call = serving.get()
    if call is None:
        raise RuntimeError("errors are kept of the session whose call is being served, and none is here")
    call.host.keep_error, before = keep, call.host.keep_error
    return before


class Host(Protocol):
    """The answering side of a session."""

    policy: Policy

    keep_error: Keep | None
    """Whoever is shown the errors that calls raise."""

    resting_place: Leadership | None
    """Where a thread that has served a call may wait for the next one."""

    @property
    def asking(self) -> object:
        """The part of the session that asks: which session this is, to whoever asks next."""
        ...

    def hold(self, refs: Sequence[object]) -> tuple[object, ...]:
        """Take over the references of a message: a Held for each import, the others as they are."""
        ...

    def show(self, held: Sequence[object], face: Face) -> tuple[object, ...]:
        """Proxies for what `hold` returned."""
        ...

    def open_reader(self, payload: Payload) -> Reader:
        """A Reader for a message of the session, as yet without the objects behind its references."""
        ...

    def spawn(self, call: ServedCall, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run `function`, a part of `call`, as a task of the session; drop the call if that is over. From any thread."""
        ...

    def in_trio(self, call: Callable[..., object], *args: object) -> None:
        """Call it in the session's trio thread: now if this is it, else soon."""
        ...

    def left(self, call: ServedCall) -> None:
        """The code of a call has ended, and nobody waits for what it came to."""
        ...

    def close_generator(self, generator: AsyncGenerator[Any, Any]) -> None:
        """An async generator that peers have iterated is about to die unfinished: close it in a task; from any thread."""
        ...

    def submit(self, call: ServedCall, task: Callable[[], object]) -> None:
        """Run `task` where `call` belongs; from any thread."""
        ...

    def answer(self, call: ServedCall, outcome: Outcome) -> None:
        """Send what the call came to, if anybody still waits for it; from any thread."""
        ...


class ServedCall:
    """One call, from its arrival to its answer. `where` its code runs is for the host to say."""

    # As they are as a rule: an object of which there is one for each call sets no more than it must.
    outer: ServedCall | None = None
    cancelled = False
    begun = False  # whether it has got its thread; cancelled before, it leaves that at once
    bound = False  # whether it keeps its caller's own thread busy
    operand: list[Any] | str | None = None  # of its program, if that is plain
    parting: Callable[[], object] | None = None  # see before_answer
    _scope: trio.CancelScope | Unsent | None = None  # what a cancellation ends
    _deadline: Deadline | None = None
    _program: Program | None = None
    _coroutine: Coroutine[Any, Any, object] | None = None
    _garbage: Sequence[Burial] = ()
    shared: Sequence[
        object
    ] = ()  # what the peer gave back and others had then, to be dropped where this call is served

    def __init__(self, host: Host, called: Called, where: Runs = "threads") -> None:
        self.host = host
        self.question = called.question
        self.cause = called.cause
        self.affinity = called.affinity
        self.where = where
        self.inner: list[ServedCall] = []  # callbacks that run on its stack
        self.waiters: list[
            ThreadWaiter
        ] = []  # what its thread waits for, and those of threads that it started in its context
        if called.deadline:
            end = time.monotonic() + called.deadline / 1000
            self._deadline = Deadline(end, f"the time that the caller gave ({called.deadline / 1000:g} s)")
        self._called: Called | None = called

    @property
    def pointless(self) -> bool:
        """Whether this call, or one it is nested in, was cancelled."""
        call: ServedCall | None = self
        while call is not None:
            if call.cancelled:
                return True
            call = call.outer
        return False

    def gave(self, deadline: Deadline | None) -> bool:
        """Whether that is the time that the caller of this call, or of one it is nested in, is ready to wait."""
        call: ServedCall | None = self
        while call is not None:
            if deadline is not None and call._deadline is deadline:  # noqa: SLF001  # of this class
                return True
            call = call.outer
        return False

    def check(self) -> None:
        """Raise Cancelled if this call, or one it is nested in, was cancelled."""
        if self.pointless:
            raise Cancelled(LOST_INTEREST)

    def keep(self, garbage: list[Burial]) -> None:
        """Let these objects die in the thread that serves this call, before it begins."""
        self._garbage = garbage

    def wait_with(self, waiter: ThreadWaiter) -> None:
        """The thread that serves this call is about to wait: a cancellation finds it from now on."""
        self.waiters.append(waiter)
        if self.pointless:
            waiter.interrupt(LOST_INTEREST)

    # -- in a thread ------------------------------------------------------------------------------------------------

    def serve(self, result: object = None, error: BaseException | None = None) -> object | None:
        """Run the program in this thread, up to its end or its next coroutine; `result` and `error` are what the last one came to.

        In a trio thread no Ctrl-C may come meanwhile: it is for the program's main task, and here it would become an answer.
        Returns where this thread may wait for its next task, if it has no better place.
        """
        try:
            program = self._program or self._begin()
            if program is None:
                return None
            if self.bound:  # the thread is its caller's: what one of its calls sets in the context, the next one finds
                outcome = self._go_on(program, result, error)
            else:  # a context of its own: whatever interrupts this thread, it is not left serving
                outcome = copy_context().run(self._go_on, program, result, error)
        except BaseException:
            self.host.left(self)
            raise
        if type(outcome) is Later:
            self._leave_thread(program, outcome)
        elif type(outcome) is RaisedAt and self.where != "trio":
            _pass_on_interrupt(outcome)
        del outcome  # as in `_go_on`
        return self.host.resting_place

    def serve_apart(self) -> object | None:
        """The short way of `serve` in any other thread than the caller's own: in a context of its own."""
        try:
            return copy_context().run(self.serve_alone)
        except BaseException:  # Ctrl-C may meet a callback where its code does not run yet, or not any more
            self.host.left(self)
            raise

    def serve_alone(self) -> object | None:
        """The short way of `serve`, for a program that is `operand` (see `plain_step`), in the context that this thread is in.

        The same comes of it, with fewer frames: mutual recursion has them once for each level.
        """
        self.begun = True  # before the look: whoever cancels it sees one or is seen by the other
        if self.cancelled:
            return self.serve()
        self.shared = ()
        called, operand = self._called, self.operand
        assert called is not None
        assert operand is not None
        host, target = self.host, called.target
        self._called = awaited = None
        outer = self.outer = serving.get()
        if outer is not None:
            outer.inner.append(self)
        serving.set(self)
        if self._deadline is not None:
            deadlines.inherited(self._deadline)
        bound = self.bound
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(None, host.close_generator)
        try:
            try:
                if type(operand) is str:
                    result = read(host.policy, target, operand)
                    awaited = result if type(result) is Later else None
                else:
                    host.policy.check(target, _CALL, "")
                    result = target(*operand)  # type: ignore[operator]  # or a TypeError
                    if type(result) not in BY_VALUE:
                        awaited = later(result)
                outcome: Outcome = Done(result)
                del result
            except BaseException as problem:  # noqa: BLE001  # SystemExit too: a peer's call must not end this process
                outcome = RaisedAt(problem, 1)
            if awaited is None:
                del called, target, operand  # what was called may be given back with the next message
                host.answer(self, outcome)
        finally:
            if outer is not None:
                outer.inner.remove(self)
                self.outer = None
            if not bound:
                sys.set_asyncgen_hooks(*hooks)
            else:  # the context is that of the next call too, and so are the hooks: nobody else runs code in this thread
                serving.set(None)
                deadlines.forget()
        if awaited is not None:  # from here on another thread may go on with it
            program = self._make_program(called, ())
            program.wait_for_call()
            self._leave_thread(program, awaited)
        elif type(outcome) is RaisedAt and not bound and self.where != "trio":
            _pass_on_interrupt(outcome)
        del outcome  # as in `_go_on`
        return host.resting_place

    def _leave_thread(self, program: Program, awaited: Later) -> None:
        """Go on in a task, and then in any thread; this one is free again."""
        self.bound = False
        unsent = awaited.coroutine
        if not isinstance(unsent, Unsent):
            coroutine: Coroutine[Any, Any, object] = unsent
        elif (
            self.where == "trio"
            and self._deadline is None
            and unsent.begin(lambda value, error: self._go_on_soon(program, value, error))
        ):
            self._scope = unsent  # this needs no task
            if self.cancelled:
                unsent.cancel()
            return
        else:
            coroutine = unsent.wait()
        self._coroutine = coroutine
        self.host.spawn(self, lambda: self._finish_async(program, coroutine))

    def _go_on_soon(self, program: Program, value: object, error: BaseException | None) -> None:
        """In the trio thread. What is left of most programs is their answer, which is given at once: no code of anybody runs for it."""
        if program.at_last:
            copy_context().run(self._go_on, program, value, error)
        else:
            self.host.submit(self, lambda: self.serve(value, error))

    def _go_on(self, program: Program, result: object, error: BaseException | None) -> Outcome | Later:
        outer = self.outer = serving.get()
        if outer is not None:
            outer.inner.append(self)
        serving.set(self)
        if self._deadline is not None:
            deadlines.inherited(self._deadline)
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(None, self.host.close_generator)
        outcome: Outcome | Later | None = None
        try:
            outcome = program.go_on(result, error)
            if type(outcome) is not Later:
                # What it came to may be shown by its owner (an error that names objects of the peer): still as a part of this call.
                self.host.answer(self, outcome)
            return outcome
        finally:
            outcome = None  # the traceback of an error keeps this frame: the two would keep each other, and all that the served code had
            sys.set_asyncgen_hooks(*hooks)
            if outer is not None:
                outer.inner.remove(self)
                self.outer = None
            if self.bound:  # the context is that of the next call too
                serving.set(None)
                deadlines.forget()

    def _begin(self) -> Program | None:
        """The program, unless the call was cancelled while it waited for its thread."""
        self.begun = True
        self.shared = ()
        if self._garbage:
            burials, self._garbage = self._garbage, ()
            for burial in burials if not self.cancelled else ():
                burial.finish(*((0,) if self.where == "trio" else ()))  # which waits for nobody
        called, self._called = self._called, None
        assert called is not None
        payload = called.payload
        held = self.host.hold(payload.refs) if payload.refs else ()
        if self.cancelled:
            self.host.answer(self, RaisedAt(Cancelled("the call was cancelled before it began"), 0))
            return None
        return self._make_program(called, held)

    def _make_program(self, called: Called, held: Sequence[object]) -> Program:
        host, inline = self.host, self.where == "trio"
        self._program = Program(
            called.payload,
            called.target,
            host.policy,
            lambda face: host.show(held, Face.ASYNC if inline else face),
            host.open_reader,
        )
        return self._program

    # -- in a task --------------------------------------------------------------------------------------------------

    @trio.lowlevel.enable_ki_protection
    async def _finish_async(self, program: Program, coroutine: Coroutine[Any, Any, object]) -> None:
        """Await what an `async def` returned, in a task, then go on with the program where it was."""
        serving.set(self)
        deadlines.inherited(self._deadline)
        value: object = None
        error: BaseException | None = None
        with self._patience() as scope, self._dropped_with_session():
            value, error = await _outcome_of(coroutine)
        if scope.cancelled_caught:
            program.close()
            self.host.answer(self, self._given_up())
            return
        try:
            self.host.submit(self, lambda: self.serve(value, error))
        except RuntimeError as problem:
            program.close()
            self.host.answer(self, RaisedAt(LimitExceeded(f"no thread can be started to go on with it: {problem}"), 0))

    @contextmanager
    def _dropped_with_session(self) -> Iterator[None]:
        try:
            yield
        except BaseException:  # the scope around this may still have an answer to give
            self.host.left(self)
            raise

    def _patience(self) -> trio.CancelScope:
        """The scope of the task that serves this call: cancelled with it, and over at its deadline."""
        left = self._deadline.left if self._deadline is not None else float("inf")
        self._scope = scope = trio.CancelScope(deadline=trio.current_time() + left)
        if self.cancelled:
            scope.cancel()
        return scope

    def _given_up(self) -> Outcome:
        if self.cancelled or self._deadline is None:
            return RaisedAt(Cancelled("the call was cancelled before it was done"), 0)
        return RaisedAt(TimedOut(f"the call was cancelled before it was done: {self._deadline.patience} is over"), 0)

    def drop(self) -> None:
        """The session is over before this call has a task: nothing of it runs any more."""
        if self._coroutine is not None:
            self._coroutine.close()
        self.host.left(self)

    # -- from outside -----------------------------------------------------------------------------------------------

    def cancel(self) -> None:
        """The caller has lost interest. From any thread, with the turn held."""
        self.cancelled = True
        if self._scope is not None:
            self.host.in_trio(self._scope.cancel)
        calls = [self]
        for call in calls:
            for waiter in list(call.waiters):
                waiter.interrupt(LOST_INTEREST)
            calls += call.inner  # callbacks that run on the stack of a call that is of no use are of no use either


async def _outcome_of(coroutine: Coroutine[Any, Any, object]) -> tuple[object, BaseException | None]:
    """What it returns or raises; only a cancellation by trio is raised here too, also in the group that a nursery makes of it."""
    try:
        return await coroutine, None
    except trio.Cancelled:
        raise
    except BaseExceptionGroup as group:
        cancelled, others = group.split(trio.Cancelled)
        if others is None:
            raise
        return None, others if cancelled else group
    except Ended as ended:
        return None, ended.stop
    except BaseException as problem:  # noqa: BLE001  # it is the answer, whatever it is
        return None, problem


def _pass_on_interrupt(outcome: Outcome) -> None:
    """Ctrl-C met a callback on the main thread's stack: the peer was told, and whoever waits below it must hear of it too."""
    # Not isinstance: it asks for a `__class__`, and what that raises would end this thread.
    interrupted = type(outcome) is RaisedAt and issubclass(type(outcome.error), KeyboardInterrupt)
    if interrupted and threading.current_thread() is threading.main_thread():
        raise outcome.error  # type: ignore[union-attr]
