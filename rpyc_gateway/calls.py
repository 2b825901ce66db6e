"""A call of the peer while it is being served: in a thread, or from an `async def` on as a trio task."""

from __future__ import annotations

import threading
from collections.abc import Callable, Coroutine, Sequence
from contextvars import ContextVar, copy_context
from typing import Any, Protocol

import trio

from rpyc_gateway.errors import Cancelled
from rpyc_gateway.program import Face, Outcome, RaisedAt, Running, run
from rpyc_gateway.proto.facts import Called
from rpyc_gateway.proto.values import Payload, Reader
from rpyc_gateway.service import Policy
from rpyc_gateway.waiters import ThreadWaiter

__all__ = ["Host", "ServedCall", "checkpoint", "serving"]

serving: ContextVar[ServedCall | None] = ContextVar("rpyc_gateway.serving", default=None)
"""The call that the current thread or task is serving, the innermost one."""


def checkpoint() -> None:
    """Raise Cancelled if whoever made the call that is being served here has lost interest; otherwise nothing.

    For long loops in served functions that run in threads. Every remote operation is such a checkpoint by itself.
    """
    call = serving.get()
    if call is not None:
        call.check()


class Host(Protocol):
    """The answering side of a session."""

    policy: Policy

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

    def spawn(self, function: Callable[[], Coroutine[Any, Any, None]], dropped: Callable[[], object]) -> None:
        """Run `function` as a task of the session, or call `dropped` if the session is over; from any thread."""
        ...

    def submit(self, call: ServedCall, task: Callable[[], None]) -> None:
        """Run `task` in a thread that may serve `call`; from the trio thread."""
        ...

    def answer(self, call: ServedCall, outcome: Outcome) -> None:
        """Send what the call came to, if anybody still waits for it; from any thread."""
        ...


class ServedCall:
    """One call, from its arrival to its answer."""

    def __init__(self, host: Host, called: Called) -> None:
        self.host = host
        self.question = called.question
        self.cause = called.cause
        self.affinity = called.affinity
        self.outer: ServedCall | None = None
        self.waiter: ThreadWaiter | None = None  # what its thread waits for now
        self.cancelled = False
        self._scope: trio.CancelScope | None = None
        self._deadline = called.deadline
        self._called: Called | None = called
        self._garbage: list[object] = []

    def check(self) -> None:
        """Raise Cancelled if this call, or one it is nested in, was cancelled."""
        call: ServedCall | None = self
        while call is not None:
            if call.cancelled:
                raise Cancelled("the caller has lost interest in the call that is being served")
            call = call.outer

    def keep(self, garbage: list[object]) -> None:
        """Let these objects die in the thread that serves this call, before it begins."""
        self._garbage = garbage

    def serve(self) -> None:
        """Run the program in this thread, up to its end or its first coroutine."""
        self._garbage = []
        called, self._called = self._called, None
        assert called is not None
        payload = called.payload
        held = self.host.hold(payload.refs)
        if self.cancelled:  # while it waited for its thread
            self.host.answer(self, RaisedAt(Cancelled("the call was cancelled before it began"), 0))
            return
        program = run(
            payload, called.target, self.host.policy, lambda face: self.host.show(held, face), self.host.open_reader
        )
        del called
        self._advance(program, None)

    def _advance(self, program: Running, result: object, error: BaseException | None = None) -> None:
        # A context of its own: whatever interrupts this thread, it is not left serving.
        outcome = copy_context().run(self._step, program, result, error)
        if outcome is not None:
            self.host.answer(self, outcome)
            _pass_on_interrupt(outcome)

    def _step(self, program: Running, result: object, error: BaseException | None) -> Outcome | None:
        self.outer = serving.get()
        serving.set(self)
        try:
            coroutine = program.throw(error) if error is not None else program.send(result)
        except StopIteration as stop:
            outcome: Outcome = stop.value
            return outcome
        finally:
            self.outer = None
        self.host.spawn(lambda: self._finish_async(program, coroutine), coroutine.close)
        return None

    async def _finish_async(self, program: Running, coroutine: Coroutine[Any, Any, object]) -> None:
        """Await what an `async def` returned, in a task, then go on with the program in a thread."""
        serving.set(self)
        value: object = None
        error: BaseException | None = None
        deadline = trio.current_time() + self._deadline / 1000 if self._deadline else float("inf")
        with trio.CancelScope(deadline=deadline) as self._scope:
            if self.cancelled:
                self._scope.cancel()
            try:
                value = await coroutine
            except trio.Cancelled:
                raise
            except BaseException as problem:  # noqa: BLE001  # it is the answer, whatever it is
                error = problem
        if self._scope.cancelled_caught:
            outcome: Outcome = RaisedAt(Cancelled("the call was cancelled before it was done"), 0)
            program.close()
            self.host.answer(self, outcome)
            return
        self.host.submit(self, lambda: self._advance(program, value, error))

    def cancel(self) -> None:
        """The caller has lost interest. In the trio thread."""
        self.cancelled = True
        if self._scope is not None:
            self._scope.cancel()
        waiter = self.waiter
        if waiter is not None:
            waiter.interrupt("the caller has lost interest in the call that was waiting here")


def _pass_on_interrupt(outcome: Outcome) -> None:
    """Ctrl-C met a callback on the main thread's stack: the peer was told, and whoever waits below it must hear of it too."""
    interrupted = type(outcome) is RaisedAt and isinstance(outcome.error, KeyboardInterrupt)
    if interrupted and threading.current_thread() is threading.main_thread():
        raise outcome.error  # type: ignore[union-attr]
