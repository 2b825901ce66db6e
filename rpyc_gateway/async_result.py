"""What a call that a thread has started and does not wait for comes to: RPyC's AsyncResult, an event, and a future."""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Protocol

from rpyc_gateway.errors import Cancelled, GatewayError, TimedOut
from rpyc_gateway.proto.values import Draft
from rpyc_gateway.turn import Turn
from rpyc_gateway.waiters import Outcome, ThreadWaiter

__all__ = ["SENT", "AsyncResult", "Starter"]

SENT = 0, Draft(b"")
"""In place of a program that was sent."""

logger = logging.getLogger("rpyc_gateway.session")

Callback = Callable[["AsyncResult"], object]


class Starter(Protocol):
    """The session that a call was started in."""

    def steady(self) -> Turn[Any]:
        """The turn of the session's link, to be held: nothing is completed meanwhile. Raises SessionClosed in a forked child."""
        ...

    def ended(self, result: AsyncResult) -> None:
        """A started call has come to its end. With the turn held."""
        ...

    def take_over(self, outcome: Outcome) -> None:
        """Take over what an outcome refers to: nobody may ever come for it, and then it goes back. With the turn held."""
        ...

    def value_of(self, outcome: Outcome) -> Any:
        """The value of an outcome. Raises what it raises."""
        ...

    def wait_for(self, result: AsyncResult, seconds: float | None) -> bool:
        """Wait in this thread until a call has ended; False if `seconds` are over before."""
        ...

    def give_up(self, result: AsyncResult, error: GatewayError) -> bool:
        """Cancel a call over there, and end it with `error` here; False if it had ended."""
        ...

    def in_pool(self, task: Callable[[], object]) -> None:
        """Run `task` in a thread of the library."""
        ...

    def expire_at(self, end: float, result: AsyncResult) -> None:
        """Let `result.look_at_the_clock` be called then."""
        ...


class AsyncResult:
    """What a call of `async_` or `timed` comes to. Any thread may use it; the thread that runs trio may not wait for it.

    It ends exactly once: with a value, an exception of the far side, the loss of the session, its expiry, or `cancel`. Dropped, the call goes on,
    and what it comes to is given back. Ctrl-C while waiting leaves the call as it is; the end of a `gw.timeout` around the waiting cancels it.
    """

    __slots__ = (
        "__weakref__",
        "_callbacks",
        "_end",
        "_error",
        "_future",
        "_is_calling",
        "_is_cancelled",
        "_known",
        "_outcome",
        "_patience",
        "_starter",
        "_value",
        "_waiting",
        "cause",
        "program",
        "question",
    )

    def __init__(self, starter: Starter, program: tuple[int, Draft]) -> None:
        self.program = program  # until it is sent
        self.cause = 0
        self.question = 0
        self._starter = starter
        self._outcome: Outcome | None = None
        self._callbacks: deque[Callback] = deque()
        self._waiting: tuple[ThreadWaiter, ...] = ()
        self._end: float | None = None  # when it expires
        self._patience = 0.0
        self._is_calling = False
        self._is_cancelled = False
        self._known = False  # and these are what the outcome says
        self._value: Any = None
        self._error: Exception | None = None
        self._future: _ResultFuture | None = None

    def __repr__(self) -> str:
        return f"<AsyncResult object ({self._state()}) at 0x{id(self):08x}>"

    def _state(self) -> str:
        outcome = self._outcome
        if outcome is None:
            return "pending"
        if self._is_cancelled:
            return "cancelled"
        if self._has_expired:
            return "expired"
        is_error = self._error is not None if self._known else outcome.payload is None
        return "error" if is_error else "ready"

    # -- what it came to ------------------------------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether the result has arrived, a value or an error. Never true of one that has expired."""
        self.look_at_the_clock()
        return self._outcome is not None and not self._has_expired

    is_ready = ready

    def is_set(self) -> bool:
        """Whether it has ended, in whichever way: the name that events have for it."""
        self.look_at_the_clock()
        return self._outcome is not None

    @property
    def error(self) -> bool:
        """Whether the result has arrived and is an exception."""
        return self.ready and self._learn() is not None

    @property
    def expired(self) -> bool:
        """Whether its time was over before the result had arrived."""
        self.look_at_the_clock()
        return self._has_expired

    @property
    def _has_expired(self) -> bool:
        return self._outcome is not None and type(self._outcome.error) is TimedOut

    @property
    def value(self) -> Any:
        """The value; waits for it. Raises what the call raised, each time; TimedOut, which is a TimeoutError, if it has expired."""
        self.wait()
        error = self._learn()
        if error is None:
            return self._value
        try:
            raise error.with_traceback(None)  # it would grow with each look
        finally:
            del error, self  # what is raised holds this frame

    def result(self, timeout: float | None = None) -> Any:
        """`value`; raises TimedOut after `timeout` seconds, and then the call goes on: `cancel` ends it."""
        if not self.wait(timeout):
            raise TimedOut(f"no answer came in {timeout:g} s; the call goes on")
        return self.value

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the result, and see to it that its callbacks have begun; False if that takes longer than `timeout` seconds.

        Raises TimedOut if it expires meanwhile, or has before.
        """
        if not self.is_set():
            try:
                self._starter.wait_for(self, timeout)
            except BaseException:
                self._let_others_call_back()
                raise
        outcome = self._outcome
        if outcome is None:
            return False
        self._call_back()
        if self._has_expired:
            assert outcome.error is not None
            raise outcome.error.with_traceback(None)
        return True

    def ending(self) -> tuple[Any, Exception | None, bool]:
        """The value, the error or None, and whether it was cancelled here; once it has ended."""
        error = self._learn()
        return self._value, error, self._is_cancelled

    def _learn(self) -> Exception | None:
        """Read the outcome, once; the exception that it is."""
        if not self._known:
            outcome = self._outcome
            assert outcome is not None
            value, error = None, None
            try:
                value = self._starter.value_of(outcome)
            except Exception as problem:  # noqa: BLE001  # it is the outcome
                error = problem.with_traceback(None)
            with self._starter.steady():
                if not self._known:  # another thread may have read it meanwhile
                    self._value, self._error, self._known = value, error, True
                    self._outcome = Outcome(error=outcome.error)  # what it refers to is the value's
        return self._error

    # -- callbacks --------------------------------------------------------------------------------------------------------

    def add_callback(self, function: Callback) -> None:
        """Call `function(result)` when it has ended, in whichever way: exactly once.

        If it has, here and at once. Else in a thread that waits for it then, before `wait` returns there, or in a thread of this
        library if none does. What a callback raises is logged. Raises TypeError for what cannot be called.
        """
        if not callable(function):
            raise TypeError(f"a callback is called with the result, which a {type(function).__qualname__} cannot be")
        with self._starter.steady():
            if self._outcome is None:
                self._callbacks.append(function)
                return
        self._call(function)

    on_ready = add_callback

    def _call_back(self) -> None:
        """Run the callbacks that are left, unless somebody is about it: another thread, or this one, where a callback asks for the value."""
        if not self._callbacks:
            return
        with self._starter.steady():
            if self._is_calling:
                return
            self._is_calling = True
        try:
            while self._callbacks:
                self._call(self._callbacks.popleft())
        finally:
            self._is_calling = False
            self._let_others_call_back()

    def _call(self, function: Callback) -> None:
        try:
            function(self)
        except Exception:  # whoever waits has no part in it
            logger.exception("a callback of an AsyncResult failed")

    def _let_others_call_back(self) -> None:
        if self._outcome is not None and self._callbacks:
            self._starter.in_pool(self._call_back)

    # -- its end ----------------------------------------------------------------------------------------------------------

    def cancel(self) -> bool:
        """Cancel the call, over there too: it ends with Cancelled here, at once. False if it had ended before."""
        return self._starter.give_up(self, Cancelled("the call was cancelled here"))

    def set_expiry(self, seconds: float | None) -> None:
        """Let it expire in so many seconds from now, or never: then the call is cancelled over there, and waiting for it raises TimedOut.

        No effect once it has ended. Raises ValueError for nan.
        """
        if seconds is None:
            self._end = None
            return
        if math.isnan(seconds):
            raise ValueError("an expiry of nan seconds is not possible")
        self._patience = seconds
        self._end = end = time.monotonic() + seconds
        if not self.is_set() and end < math.inf:
            self._starter.expire_at(end, self)

    @property
    def is_over(self) -> bool:
        """Whether it has ended; it looks at no clock."""
        return self._outcome is not None

    def look_at_the_clock(self) -> None:
        """Expire, if it is time; from any thread."""
        if self._outcome is None and self._end is not None and self._end <= time.monotonic():
            error = TimedOut(
                f"no answer came, and the expiry of {self._patience:g} s is over: the call was cancelled there, and whether it was done is unknown"
            )
            self._starter.give_up(self, error)

    # -- as a waiter of its session; with the turn held

    def complete(self, outcome: Outcome) -> None:
        """This is what it came to."""
        self._starter.take_over(outcome)
        self._is_cancelled = type(outcome.error) is Cancelled and outcome.raised is None
        self._outcome = outcome
        self._starter.ended(self)
        for waiter in self._waiting:
            waiter.complete(outcome)
        if not self._waiting:
            self._let_others_call_back()

    def join(self, waiter: ThreadWaiter) -> None:
        """Let a thread have the outcome, now or when it comes. With the turn held, like the rest."""
        self._waiting = (*self._waiting, waiter)
        if self._outcome is not None:
            waiter.complete(self._outcome)

    def leave(self, waiter: ThreadWaiter) -> None:
        """The thread waits no more."""
        self._waiting = tuple(one for one in self._waiting if one is not waiter)

    # -- as a future ------------------------------------------------------------------------------------------------------

    @property
    def future(self) -> Future[Any]:
        """A future of it, always the same: for `concurrent.futures.wait`, `as_completed` and `asyncio.wrap_future`.

        Cancelled while it is pending, which it is until it is done, it cancels the call.
        """
        future = self._future
        if future is None:
            with self._starter.steady():
                future = self._future
                if future is None:
                    future = self._future = _ResultFuture(self)
                    if self._outcome is None:
                        self._callbacks.append(future.tell)
            if self._outcome is not None:
                future.tell(self)
        return future


class _ResultFuture(Future[Any]):
    """Learns of its result by a callback."""

    def __init__(self, result: AsyncResult) -> None:
        super().__init__()
        self._pending = [result]  # whoever takes it out ends this: a lock would be held while callbacks run

    def cancel(self) -> bool:
        """Cancel the call, unless it has ended."""
        try:
            result = self._pending.pop()
        except IndexError:
            return self.cancelled()
        super().cancel()
        self.set_running_or_notify_cancel()
        result.cancel()
        return True

    def tell(self, result: AsyncResult) -> None:
        """It has ended."""
        value, error, is_cancelled = result.ending()
        if is_cancelled:
            self.cancel()
            return
        try:
            self._pending.pop()
        except IndexError:
            return
        if error is not None:
            self.set_exception(error)
        else:
            self.set_result(value)
