"""Calls that a thread starts and does not wait for, and such that it waits for together."""

from __future__ import annotations

import heapq
import itertools
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import trio

from rpyc_gateway import deadlines
from rpyc_gateway.asking import Asking
from rpyc_gateway.async_result import SENT, AsyncResult
from rpyc_gateway.calls import ServedCall
from rpyc_gateway.deadlines import Deadline
from rpyc_gateway.errors import Cancelled, GatewayError, TimedOut
from rpyc_gateway.program import Face
from rpyc_gateway.references import Desk, References
from rpyc_gateway.steps import Step, draft_steps
from rpyc_gateway.turn import Turn, deferral
from rpyc_gateway.waiters import Listener, Outcome, ThreadWaiter
from rpyc_gateway.worker import workers

__all__ = ["Starting"]

SHARE = 0.75
"""How many of the questions that a peer takes at a time may be started calls: others, which would be refused beyond its limit, have the rest."""


class Starting(Asking):
    """The top floor of what asks in a session: the Starter of its AsyncResults."""

    def __init__(self, desk: Desk, references: References, threads: Listener) -> None:
        super().__init__(desk, references, threads)
        references.ask_by(self)
        self._started = 0  # calls that have not come to their end
        self._line: deque[_Place] = deque()  # threads that wait until there are fewer
        self._expiries = _Expiries(self._token, self.steady)

    # -- one call -------------------------------------------------------------------------------------------------------

    def start(self, number: int, steps: Sequence[Step], expiry: float | None = None) -> AsyncResult:
        """Run a program on the peer's object `number`, in whichever thread there, and do not wait for its value.

        Where so many are under way that the peer takes no more, this waits until there is room, and raises what ends that: TimedOut,
        Cancelled, a KeyboardInterrupt; nothing was sent then. Raises EncodeError, LinkLost, SessionClosed.
        """
        call = self._enter()
        result = AsyncResult(self, (number, draft_steps(steps, self._references.writer)))
        place: _Place | None = None
        try:
            while (place := self._try_to_start(result, call, place)) is not None:
                self._wait_in_line(place, call)
        except BaseException:
            self._leave_line(place)
            raise
        if expiry is not None:
            result.set_expiry(expiry)
        return result

    def _try_to_start(self, result: AsyncResult, call: ServedCall | None, last: _Place | None) -> _Place | None:
        """Start it, or stand in line: where that is. Who was called from there is first."""
        desk = self._desk
        place: _Place | None = None
        try:
            with desk.turn:
                desk.check_open()
                crowd = self._started >= self._share() or (self._line and last is None)
                if crowd or desk.rpc.room <= 0:
                    place = _Place(self._line if crowd else self.queue, ThreadWaiter())
                    place.stand(first=last is not None)
                    return place
                if self.readings:
                    self.send_readings()
                self._send(result, self._cause_of(call), 0)
                desk.speak()
        except BaseException:
            self._leave_line(place)
            raise
        return None

    def _share(self) -> int:
        return max(1, int(self._desk.rpc.most * SHARE))

    def _send(self, result: AsyncResult, cause: int, affinity: int, left: int = 0) -> None:
        """Ask; what is sent is sent at the end of the step."""
        number, draft = result.program
        result.cause = cause
        result.question = self._desk.rpc.call(number, draft, cause=cause, affinity=affinity, deadline=left)
        result.program = SENT
        self._waiters[result.question] = result
        self._started += 1

    def _wait_in_line(self, place: _Place, call: ServedCall | None) -> None:
        deadline = deadlines.current()
        try:
            outcome = self._wait(place.waiter, call, deadline)
        except TimedOut:
            assert deadline is not None
            raise TimedOut(f"{deadline.patience} is over: the call was not made") from None
        if outcome.error is not None:  # the call that this thread serves was cancelled
            raise outcome.error

    def _leave_line(self, place: _Place | None) -> None:
        with self._desk.turn:
            if place is None or not place.leave():
                self._call_next_in_line()  # it was called, and goes without

    def _call_next_in_line(self) -> None:
        if self._line:
            self._line.popleft().set()

    # -- many, waited for together -----------------------------------------------------------------------------------------

    def ask_together(self, programs: Sequence[tuple[int, Sequence[Step]]]) -> list[AsyncResult]:
        """Pack programs, to be sent together by `see_through`; their results. Raises EncodeError, LimitExceeded."""
        return [AsyncResult(self, (number, draft_steps(steps, self._references.writer))) for number, steps in programs]

    def see_through(self, results: Sequence[AsyncResult]) -> None:
        """Send programs in one message, as far as the peer takes them at a time, and wait until all of them have ended.

        They are begun one after the other, in the far thread of this one. Raises what ends the waiting (TimedOut, Cancelled, a KeyboardInterrupt):
        what is under way is cancelled then, and the rest is not sent; all have ended.
        """
        call = self._enter()
        deadline = deadlines.current()
        unsent, sent = deque(results), deque[AsyncResult]()
        waiter = ThreadWaiter()
        place = _Place(self.queue, waiter)
        deferred = deferral.begin()
        try:
            with self._desk.turn:
                self._join_cause(waiter, self._cause_of(call))
            if call is not None:
                call.wait_with(waiter)
            while unsent or sent:
                if unsent:
                    self._send_some(unsent, sent, place, deadline)
                if not sent or not sent[0].is_over:
                    waiter.wait(deadline, self._desk.lead, deferred=deferred)
                while sent and sent[0].is_over:
                    sent.popleft()
                if call is not None:
                    call.check()  # perhaps it was told to wait no more
        except BaseException as error:
            self._end_all(results, error)
            raise
        finally:
            if call is not None and waiter in call.waiters:
                call.waiters.remove(waiter)
            with self._desk.step():
                place.leave()
                self._leave_cause(waiter)
            self._pass_on(waiter)
            if deferred:
                deferral.end()

    def _join_cause(self, waiter: ThreadWaiter, cause: int) -> None:
        """Callbacks of this chain of calls are for this thread from now on."""
        waiter.cause = cause
        waiter.outer = self.by_cause.get(cause)
        self.by_cause[cause] = waiter

    def _send_some(
        self, unsent: deque[AsyncResult], sent: deque[AsyncResult], place: _Place, deadline: Deadline | None
    ) -> None:
        """Send as many as the peer takes now; if that is none, be told when it does."""
        desk = self._desk
        affinity = getattr(self._numbers, "number", 0) or self._number()
        with desk.turn:
            place.leave()
            desk.check_open()
            if self.readings:
                self.send_readings()
            share = (
                self._share() - self._started
            )  # as calls that are started: ordinary calls have the rest, and one of these is one
            for _ in range(min(len(unsent), desk.rpc.room, max(share, 0 if sent else 1))):
                left = deadline.milliseconds() if deadline is not None else 0
                self._send(unsent[0], place.waiter.cause, affinity, left)
                unsent[0].join(place.waiter)
                sent.append(unsent.popleft())
            desk.speak()
            if not sent:
                place.stand(first=False)

    def _end_all(self, results: Sequence[AsyncResult], error: BaseException) -> None:
        reason = error if isinstance(error, GatewayError) else Cancelled("the batch was interrupted")
        for result in results:
            if not self.give_up(result, reason):
                with self._desk.step():
                    if not result.is_over:  # nor sent
                        result.complete(Outcome(error=reason))

    # -- for the results ---------------------------------------------------------------------------------------------------

    def steady(self) -> Turn[Any]:
        """The turn of the link, to be held."""
        self._desk.check_process()
        return self._desk.turn

    def ended(self, result: AsyncResult) -> None:
        """A started call has come to its end. With the turn held."""
        if result.question:
            self._started -= 1
            self._call_next_in_line()

    def take_over(self, outcome: Outcome) -> None:
        """Take over what an outcome refers to. With the turn held."""
        payload = outcome.payload or outcome.raised
        if payload is not None and payload.refs:
            outcome.held = self._references.hold(payload.refs)

    def value_of(self, outcome: Outcome) -> Any:
        """The value of an outcome, for blocking code. Raises what it raises."""
        return self._value(outcome, Face.BLOCKING)

    def wait_for(self, result: AsyncResult, seconds: float | None) -> bool:
        """Wait in this thread until a call has ended; False if `seconds` are over before. The end of a `timeout` around this cancels it."""
        call = self._enter()
        given = deadlines.current()
        own = None if seconds is None else Deadline(time.monotonic() + seconds, "")
        is_own = own is not None and (given is None or own.end < given.end)
        waiter = ThreadWaiter()
        with self.steady():
            result.join(waiter)
        try:
            outcome = self._wait(waiter, call, own if is_own else given)
        except TimedOut as error:
            if is_own:
                return result.is_set()
            assert given is not None
            if call is not None and call.gave(given):  # our caller's patience, and not with this one
                raise TimedOut(f"{given.patience} is over; what was waited for goes on") from None
            if self.give_up(result, error):
                raise
            return True
        finally:
            with self.steady():
                result.leave(waiter)
        if outcome.error is not None and not result.is_set():
            raise outcome.error  # the call that this thread serves was cancelled
        return True

    def give_up(self, result: AsyncResult, error: GatewayError) -> bool:
        """Cancel a call over there, and end it with `error` here; False if it had ended."""
        with self.steady(), self._desk.step():
            if self._waiters.get(result.question) is not result:
                return False
            self._abandon(result.question, result)
            result.complete(Outcome(error=error))
        return True

    def in_pool(self, task: Callable[[], object]) -> None:
        """Run `task` in a thread of the library: in that of trio where there can be no more."""
        try:
            workers.submit(task)
        except RuntimeError:
            self._token.run_sync_soon(task)

    def expire_at(self, end: float, result: AsyncResult) -> None:
        """Let a result look at the clock then."""
        with self.steady():
            self._expiries.add(end, result)

    def fail(self, error: Callable[[], GatewayError]) -> None:
        """The session is over: nobody waits any more."""
        super().fail(error)
        self._call_next_in_line()  # who passes it on
        self._expiries.end()


class _Place:
    """Where a thread waits for room. With the turn held, but for `set` where the queue is that of trio tasks."""

    def __init__(self, line: deque[Any], waiter: ThreadWaiter) -> None:
        self.waiter = waiter
        self._line = line

    def stand(self, *, first: bool) -> None:
        """Wait from now on."""
        if first:
            self._line.appendleft(self)
        else:
            self._line.append(self)

    def leave(self) -> bool:
        """Wait no more; False if it was called already."""
        try:
            self._line.remove(self)
        except ValueError:
            return False
        return True

    def set(self) -> None:
        """There is room, perhaps."""
        self.waiter.complete(Outcome())


class _Expiries:
    """When to look at which results: one task, which lives as long as there is something to wait for. With the turn held, but for the task."""

    def __init__(self, token: trio.lowlevel.TrioToken, turn: Callable[[], Turn[Any]]) -> None:
        self._token = token
        self._turn = turn
        self._ends: list[tuple[float, int, weakref.ref[AsyncResult]]] = []
        self._numbers = itertools.count()
        self._earlier = trio.Event()
        self._is_watched = False
        self._looked_over = 0  # entries when those of results that have ended were thrown out

    def add(self, end: float, result: AsyncResult) -> None:
        """Look at `result` then."""
        self._throw_out()
        entry = (end, next(self._numbers), weakref.ref(result))
        heapq.heappush(self._ends, entry)
        if self._ends[0] is entry:
            with suppress(trio.RunFinishedError):  # so is the session
                self._token.run_sync_soon(self._watch_soon)

    def _throw_out(self) -> None:
        """Calls that are over in time would fill the memory until their time is."""
        if len(self._ends) < max(MANY, 2 * self._looked_over):
            return
        self._ends = [entry for entry in self._ends if (result := entry[2]()) is not None and not result.is_over]
        heapq.heapify(self._ends)
        self._looked_over = len(self._ends)

    def end(self) -> None:
        """The session is over, and all its results are."""
        self._ends.clear()
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._earlier.set)

    # -- in the trio thread

    def _watch_soon(self) -> None:
        self._earlier.set()
        if not self._is_watched:
            self._is_watched = True
            trio.lowlevel.spawn_system_task(self._watch)

    @trio.lowlevel.enable_ki_protection
    async def _watch(self) -> None:
        try:
            while True:
                with self._turn():
                    self._earlier = trio.Event()
                    now = time.monotonic()
                    due: list[weakref.ref[AsyncResult]] = []
                    while self._ends and self._ends[0][0] <= now:
                        due.append(heapq.heappop(self._ends)[2])
                    left = self._ends[0][0] - now if self._ends else None
                for reference in due:
                    result = reference()
                    if result is not None:
                        result.look_at_the_clock()
                    del result
                if left is None:
                    return
                with trio.move_on_after(left):
                    await self._earlier.wait()
        finally:
            self._is_watched = False


MANY = 1000
"""Entries that may wait before anybody looks for those that need not."""
