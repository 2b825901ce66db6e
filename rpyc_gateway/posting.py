"""Questions of trio tasks: those of one round of tasks leave together, and each task sleeps until its own is answered."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from threading import get_ident
from typing import Any

import trio
from trio import current_effective_deadline

from rpyc_gateway import deadlines
from rpyc_gateway.affinity import task_affinity
from rpyc_gateway.calls import serving
from rpyc_gateway.errors import Cancelled, GatewayError
from rpyc_gateway.per_process import process
from rpyc_gateway.program import Face
from rpyc_gateway.proto.atoms import ATOMS
from rpyc_gateway.proto.speaking import Question
from rpyc_gateway.proto.values import LARGE, UNREADABLE, Draft, unpack
from rpyc_gateway.questions import Questions
from rpyc_gateway.references import Desk, References
from rpyc_gateway.stack import STEP_ROOM, check_room
from rpyc_gateway.steps import Step, Steps, draft_steps
from rpyc_gateway.waiters import Outcome, TaskWaiter

__all__ = ["Posted", "Posting"]


class Posting(Questions):
    """Asks for trio tasks. All in the trio thread."""

    def __init__(self, desk: Desk, references: References) -> None:
        super().__init__(desk, references)
        self._token = trio.lowlevel.current_trio_token()
        self._is_crowd = False  # more than one asked in the last round in which what was asked was put together

    @trio.lowlevel.enable_ki_protection
    async def ask_async(self, number: int, steps: Sequence[Step]) -> Any:
        """Run a program on the peer's object `number` and wait in this task for its value. Raises what the program raises, or a GatewayError.

        Cancelled, the far side is told to cancel too; cancelled before, nothing is sent. A StopIteration of the far side comes as
        StopAsyncIteration: no coroutine can raise the other.
        """
        posted = await self.post(number, steps)
        try:
            return await posted.value()
        finally:
            posted.abandon()

    @trio.lowlevel.enable_ki_protection  # a KeyboardInterrupt in the middle of a step would leave the turn taken
    async def post(self, number: int, steps: Steps) -> Posted:
        """Send a program from a trio task, now or at the end of this round of tasks; whoever gets what is returned waits for its value, or abandons
        it. Cancelled, nothing was sent.
        """
        desk = self._desk
        if get_ident() != self._thread or desk.error is not None or desk.generation != process.generation:
            self._check_place()
        end = current_effective_deadline()
        while end == -inf:  # it is cancelled already
            await trio.lowlevel.checkpoint()
            end = current_effective_deadline()
        if desk.lead is not None and not desk.lead.for_trio:
            desk.read_for_trio()
        draft = steps if type(steps) is Draft else draft_steps(steps, self._references.writer)
        given = deadlines.CURRENT.get()
        deadline = 0 if end == inf and given is None else _milliseconds(end - trio.current_time(), given)
        if desk.rpc.room <= 0:
            await self._wait_room()
        call = serving.get()
        cause = 0 if call is None else self._inherited_cause(call)
        posted = Posted(self, (number, draft.packed, cause, task_affinity(self), deadline), end)
        if not (self._waiters or self._is_crowd) or draft.refs or draft.bodies or len(draft.packed) > LARGE:
            self._send_at_once(posted, draft)
        else:  # other tasks wait, or asked together a moment ago: more may ask in this round
            if not self.unsent:
                desk.put_together()
            self.unsent.append(posted)
            desk.rpc.reserved += 1
        return posted

    def _check_place(self) -> None:
        """Raise what is wrong with asking here."""
        if trio.lowlevel.current_trio_token() is not self._token:
            raise RuntimeError("a proxy of trio code was used outside of the trio run that its session lives in")
        self._desk.check_process()
        self._desk.check_open()

    def _send_at_once(self, posted: Posted, draft: Draft) -> None:
        desk = self._desk
        check_room(STEP_ROOM)
        number, _, cause, affinity, deadline = posted.program
        try:
            with desk.turn:
                if desk.error is not None:
                    desk.check_open()
                if self.readings:
                    self.send_readings()
                question, message = desk.rpc.ask(number, draft, cause=cause, affinity=affinity, deadline=deadline)
                posted.question = question
                self._waiters[question] = posted
                if message is not None:  # as a rule
                    desk.circuit.send(message)
                else:
                    desk.speak()
        except BaseException:
            posted.abandon()
            raise

    def send_unsent(self) -> None:
        """Send what the tasks of this round have asked. With the turn held, outside of a task."""
        desk = self._desk
        unsent = [posted for posted in self.unsent if not posted.abandoned]
        self.unsent.clear()
        desk.rpc.reserved = 0
        self._is_crowd = len(unsent) > 1
        if self.queue:
            self.make_room()
        if desk.error is not None or not unsent:
            return  # whoever ended the session has told them
        if self.readings:
            self.send_readings()
        waiters = self._waiters
        asked = desk.rpc.ask_together([posted.program for posted in unsent])
        if asked is not None:
            questions, message = asked
            for question, posted in zip(questions, unsent, strict=True):
                posted.question = question
                waiters[question] = posted
            desk.circuit.send(message)
            return
        for posted in unsent:
            number, packed, cause, affinity, deadline = posted.program
            try:
                posted.question = desk.rpc.call(
                    number, Draft(packed), cause=cause, affinity=affinity, deadline=deadline
                )
            except GatewayError as error:
                posted.complete(Outcome(error=error))
            else:
                waiters[posted.question] = posted
        desk.speak()

    def value_async(self, outcome: Outcome) -> Any:
        """The value of an outcome, for trio code. Raises what it raises."""
        try:
            return self._value(outcome, Face.ASYNC)
        except StopIteration as stop:
            raise StopAsyncIteration(*stop.args) from stop

    @trio.lowlevel.enable_ki_protection
    def give_back(self) -> None:
        """Tell the far side now which of its objects are held no more. In the trio thread."""
        with self._desk.step():
            self._desk.rpc.flush_releases()


def _milliseconds(left: float, given: deadlines.Deadline | None) -> int:
    """What is left of the time of a task, for the wire. `given` is that of a thread which had this run in the trio thread."""
    if given is not None:
        given.check()
        left = min(left, given.left)
    return 0 if left == inf else max(1, min(int(left * 1000), deadlines.LONGEST))


class Posted(TaskWaiter):
    """A question of a trio task. One task at a time waits for its value; what is left of it must be abandoned."""

    __slots__ = ("_asking", "_end")

    def __init__(self, asking: Posting, program: Question, end: float) -> None:
        self.cause = program[2]  # as a TaskWaiter is made, in this frame
        self.program = program
        self.question = 0
        self.abandoned = False
        self.outcome = self.task = None
        self._asking = asking
        self._end = end  # the deadline that travels with it

    async def value(self) -> Any:
        """The value, decoded once. Raises what the program raises. Cancelled, another task may wait in place of this one."""
        if self.outcome is None:  # as `wait` does, in this frame
            self.task = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._abort)
        else:
            await trio.lowlevel.checkpoint_if_cancelled()
        outcome, self.outcome = self.outcome, None
        assert outcome is not None
        payload = outcome.payload
        if payload is not None and not payload.refs:
            try:
                value = unpack(payload.packed)
            except UNREADABLE:
                value = payload  # the long way says what is wrong
            if type(value) in ATOMS:
                return value
        try:
            return self._asking.value_async(outcome)
        except Cancelled:
            if (
                trio.current_effective_deadline() <= self._end
                and self._end - trio.current_time() < deadlines.CLOSE_CALL
            ):
                # The deadline that travelled was met there a moment before it is met here, where it belongs to a scope.
                self.outcome = outcome  # if it is cancelled now, before it could raise it
                await trio.sleep_until(self._end)
                self.outcome = None
            raise

    def abandon(self) -> None:
        """Cancel it there, if it is not answered yet."""
        self._asking.abandon(self.question, self)
