"""A board that is too small for the agent, or has no binary input: it is driven by its raw REPL, a program at a time."""

from __future__ import annotations

import inspect
import logging
import re
import secrets
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from math import inf
from typing import Any

import trio

from rpyc_gateway.device.anyboard import AnyBoard, BoardError, again
from rpyc_gateway.device.board import AGAIN, BROKEN, KEY, LONGEST_AGAIN, Event
from rpyc_gateway.device.codec import Host, Ref
from rpyc_gateway.device.conversation import Failure, Step, refs_in
from rpyc_gateway.device.doubt import PROMPT, QUESTION, STARTED
from rpyc_gateway.device.lent import Lent, is_function, replaced
from rpyc_gateway.device.phrasing import (
    MARK,
    call_in,
    caller,
    failure_of,
    helpers,
    hosts_in,
    raising,
    read,
    returning,
    source_of,
)
from rpyc_gateway.device.printed import Asked, Printed, Shown
from rpyc_gateway.device.program import Program
from rpyc_gateway.device.repl import END, HEARD, RAW_BANNER, Platform, Repl, ReplFailed
from rpyc_gateway.device.waiting import Waiter
from rpyc_gateway.errors import (
    DialFailed,
    EncodeError,
    GatewayError,
    LimitExceeded,
    LinkLost,
    PeerRestarted,
    ProtocolError,
)
from rpyc_gateway.reliable import Console
from rpyc_gateway.transport import Pipe

__all__ = ["SmallBoard"]

CHUNK = 4096  # bytes of one read
AHEAD = 1 << 16  # bytes that are read while who sees what is printed is slow; then the board waits, if its line can
QUEUE = 31  # programs that wait: as many as the agent takes
RECENT = 200  # bytes that are looked at for the signs of a restart
SHARE = 2  # of its free heap a program may be long: a REPL without room for what it is sent hangs, or resets the board
COMPILING = 0.05  # seconds to compile what was given: the key would be lost, or end MicroPython's unix port
TRIES = 5  # of what all programs need
RELEASED = 16  # objects that are given up with one program

logger = logging.getLogger(__name__)


class SmallBoard(AnyBoard):
    """A board without the agent. Programs are run one after another; whoever gives up one that runs has the key pressed.

    A function of this side is called by a line that is printed, and answered by a line that is read.
    """

    kind = "without the agent, by its REPL: no events"
    notifies = False
    tells_whose = True

    def __init__(self, pipe: Pipe, platform: Platform, repl: Repl, show: Callable[[bytes], object] | None) -> None:
        super().__init__(pipe.peer, platform)
        self._pipe = pipe
        self._show = show or Console(pipe.peer).log
        self._repl = repl
        self._mark = secrets.token_hex(MARK // 2)
        self._queue: deque[Program] = deque()
        self._running: Program | None = None
        self._more = trio.Event()  # programs
        self._last = 0  # number of an object
        self._released: deque[int] = deque()
        self._lent = Lent()
        self._can_call = False  # the board has what calls them
        self._echoes = not platform.binary  # what it reads it prints: it has `input` alone for that
        self._driven = False  # programs are run
        self._taken = trio.Event()  # what was heard of a program, so that more may be
        self._taken.set()
        self._meanwhile = Printed(self._mark.encode())  # while no program runs
        self._recent = b""
        self._banner = False  # it has said what boards say when they start
        self._nursery: trio.Nursery | None = None

    async def serve(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._repl.be_told()
        nursery.start_soon(self._read)
        await self._teach(helpers(self._mark))
        self._driven = True
        nursery.start_soon(self._drive)

    def release(self, number: int) -> None:
        """Nobody has this object of the board any more. In any thread, at any moment."""
        self._released.append(number)

    # -- what is asked

    @property
    def ready(self) -> bool:
        return len(self._queue) < QUEUE

    @property
    def idle(self) -> bool:
        return self._running is None and not self._queue

    def begin(self, steps: Sequence[Step], waiter: Waiter, *, copy: bool = False) -> None:
        running = self._running
        if running is not None and running.calling and (waiter.cause or self._own) is self._holder:
            raise LimitExceeded(
                f"{self.peer}: this board, which has no agent, waits for the answer to a callback, and can be asked nothing until then"
            )
        super().begin(steps, waiter, copy=copy)

    def start(self, steps: Sequence[Step], waiter: Waiter, *, copy: bool) -> None:
        if any(ref.owner is not self for step in steps for ref in refs_in((step.target, step.args))):
            raise PeerRestarted("this object is one of another board, or of another life of this one")
        steps = [self._lend_to(step) for step in steps]
        source_of(steps, 0, copy=copy)  # what cannot be said is known now
        self._queue.append(Program(steps, copy, waiter))
        self._more.set()

    def interrupt(self, waiter: Waiter) -> None:
        running = self._running
        if running is not None and running.waiter is waiter:
            running.abandoned = True
            running.stop_meanwhile()
            if running.begun < inf:
                self._interrupt(running)
            return
        for program in self._queue:
            if program.waiter is waiter:
                self._queue.remove(program)
                self.go_on()
                return

    def check(self, step: Step) -> None:
        source_of([self._lend_to(step)], 0, copy=False)

    def withdraw(self, function: Callable[..., object]) -> None:
        self._lent.withdraw(function)

    def _lend_to(self, step: Step) -> Step:
        return Step(step.target, replaced(step.args, self._stand_for))

    def _stand_for(self, value: Any) -> Any:
        if isinstance(value, Event):
            raise EncodeError(f"{self.peer}: this board is driven {self.kind}")
        return Host(self._lent.number_of(value)) if is_function(value) else value

    # -- what is done

    async def _drive(self) -> None:
        while self.lost is None:
            while not self._queue:
                self._more = trio.Event()
                await self._more.wait()
            program = self._running = self._queue.popleft()
            self.go_on()
            value: Any = None
            error: GatewayError | None = None
            try:
                if self._repl.rest:  # it has said more than it was asked
                    await self._repl.find()
                value = await self._run(program)
            except DialFailed as exc:
                program.stirred = True
                await trio.sleep(COMPILING)
                error = ProtocolError(f"{exc}; whether the call has been done is unknown")
            except GatewayError as exc:
                error = exc
            program.over = True
            if (program.stirred or program.abandoned) and not await self._find_again():
                return
            if self._running is not program:  # it was lost meanwhile, and that was told
                return
            self._running = None
            if not program.abandoned:
                program.waiter.finish(value, error)
            self.go_on()

    async def _find_again(self) -> bool:
        """Come to the prompt, whatever was sent to it. If there is none the board is lost."""
        try:
            await self._repl.find()
        except DialFailed as exc:
            self._lose(self.restarted("it has started anew") if self._banner else LinkLost(str(exc)))
            return False
        return True

    async def _run(self, program: Program) -> Any:
        """The value of a program. Raises BoardError, ProtocolError for an answer that is none, DialFailed if what the board says makes no sense."""
        released = [self._released.popleft() for _ in range(min(len(self._released), RELEASED))]
        self._last = number = self._last + 1
        source, before = source_of(program.steps, number, copy=program.copy, released=released)
        length = len(source.encode())
        if length > self.platform.free // SHARE:
            self._released.extend(released)
            raise BoardError(too_long(length, self.platform.free), self.peer)
        if not self._can_call and hosts_in(program.steps):
            await self._teach_to_call()
        printed = Printed(self._mark.encode())
        if program.abandoned:
            return None
        try:
            await self._repl.give(source)
            self._begun(program)
            last, raised = await self._repl.outcome(partial(self._hear, program, printed), partial(self._ask, program))
        except DialFailed:
            self._released.extend(released)  # it may not have run
            raise
        finally:
            program.stop_meanwhile()
        program.over = True
        printed.hear(last)
        answer = printed.end()
        await self._take(program, printed)
        if raised:
            failure = failure_of(raised.decode(errors="replace"), before, len(program.steps))
            if not failure.kind.isidentifier():
                raise DialFailed(f"{self.peer}: a program has ended in {raised[-HEARD:]!r}, which is no exception")
            raise BoardError(failure, self.peer)
        if answer is None:
            raise ProtocolError(
                f"{self.peer}: the board has run a program, and what came of it was not heard: were bytes damaged?"
            )
        text = answer.decode(errors="replace")
        return Ref(number, self) if text == "@" else read(text)

    async def _teach(self, source: str) -> None:
        """Run what all programs need, if it has arrived as it is: that is asked, as there are no checksums. Raises DialFailed."""
        why = ""
        for _ in range(TRIES):
            try:
                said = await self._repl.run(f"_gh={source!r}\nprint(_gh)")
                if said.replace(b"\r\n", b"\n") == source.encode() + b"\n" and not await self._repl.run(
                    "exec(_gh)\ndel _gh"
                ):
                    return
                why = f"it said {said[-HEARD:]!r}"
            except DialFailed as exc:
                if "MemoryError" in str(exc):
                    raise
                why = str(exc)
            await self._repl.find()
        raise DialFailed(f"{self.peer}: what is sent arrives damaged, {TRIES} times: {why}")

    async def _teach_to_call(self) -> None:
        """Give the board what calls functions of this side, when it is first needed: it takes room."""
        try:
            await self._teach(caller(self._mark, echoes=self._echoes))
        except ReplFailed as exc:
            raise BoardError(
                Failure(kind="MemoryError", text=f"there is no room for a callback: {exc}"), self.peer
            ) from None
        self._can_call = True

    # -- what is said to a program that runs

    def _runs(self, program: Program) -> bool:
        return self._running is program and not program.over and self.lost is None

    def _begun(self, program: Program) -> None:
        """All of it was sent, and the board runs it. Before that, what comes after the key would be run as a program of its own."""
        program.begun = trio.current_time()
        if program.abandoned:
            self._interrupt(program)

    def _interrupt(self, program: Program) -> None:
        if self._nursery is not None and self.lost is None:
            self._nursery.start_soon(self._press_key, program)

    async def _press_key(self, program: Program) -> None:
        """Interrupt a program until it ends."""
        pause = AGAIN
        await trio.sleep_until(program.begun + COMPILING)
        with suppress(DialFailed):
            while self._runs(program):
                await self._repl.tell(KEY, partial(self._runs, program))
                await trio.sleep(pause)
                pause = min(pause * 2, LONGEST_AGAIN)

    async def _ask(self, program: Program) -> bool:
        """Let a REPL say that it is one; a program has no use for what it is asked."""
        if program.calling:
            return False
        program.stirred = True
        await self._repl.tell(QUESTION, partial(self._runs, program))
        return True

    # -- what it says

    async def _hear(self, program: Program, printed: Printed, data: bytes) -> bool:
        printed.hear(data)
        self._taken = trio.Event()
        await self._take(program, printed)
        self._taken.set()
        return printed.answered

    async def _take(self, program: Program, printed: Printed) -> None:
        for fact in printed.facts():
            match fact:
                case Shown(line):
                    await self._show_line(program, line)
                case Asked(call) if self._runs(program) and not program.abandoned and self._nursery is not None:
                    program.calling = True
                    program.meanwhile = trio.CancelScope()
                    self._nursery.start_soon(self._call_back, program, printed, program.meanwhile, call)

    async def _show_line(self, program: Program, line: bytes) -> None:
        show = program.waiter.cause.show if program.waiter.cause is not None else None
        if show is None:
            self._log(line)
            return
        if program.abandoned or program.unseen:
            return
        try:
            with trio.CancelScope() as program.meanwhile:
                await show(line)
        except Exception as exc:  # noqa: BLE001  # whatever it is, who has asked does not see what is printed
            logger.info("%s: nobody sees what is printed there: %s", self.peer, exc)
            program.unseen = True
            self._interrupt(program)

    def _log(self, line: bytes) -> None:
        try:
            self._show(line)
        except Exception:
            logger.exception("%s: what was printed there could not be shown", self.peer)

    async def _call_back(self, program: Program, printed: Printed, scope: trio.CancelScope, call: bytes) -> None:
        with scope:
            line = await self._answer_to(call.decode(errors="replace"))
            program.calling = False
            if self._echoes:
                printed.echo = line
            with suppress(DialFailed):
                end = b"\r" if self._echoes else b"\n"
                await self._repl.tell(line + end, lambda: self._runs(program) and not program.abandoned)

    async def _answer_to(self, call: str) -> bytes:
        """The line that answers this call, whatever comes of it."""
        try:
            number, args, keywords = call_in(call)
            result = self._lent[number](*args, **keywords)
            if inspect.isawaitable(result):
                result = await result
            line = returning(replaced(result, self._stand_for))
        except Exception as exc:  # noqa: BLE001  # it is the board's, whatever it is
            return raising(type(exc).__name__, str(exc))
        if len(line) > self.platform.free // SHARE:
            return raising("MemoryError", too_long(len(line), self.platform.free).text)
        return line

    # -- what is heard

    async def _read(self) -> None:
        while self.lost is None:
            try:
                data = await self._pipe.stream.receive_some(CHUNK)
            except BROKEN as exc:
                self._break(str(exc) or "the pipe broke")
                return
            if not data:
                self._break("the pipe has ended: was it unplugged?")
                return
            if END in data:  # of a program, whatever that had printed
                self._recent, self._banner = b"", False
            self._recent = (self._recent + data)[-RECENT:]
            self._banner = self._banner or re.search(STARTED, self._recent) is not None
            if self._banner and self._recent.endswith((PROMPT, RAW_BANNER)):
                self._lose(self.restarted("it has started anew"))
                return
            if self._driven and self._running is None:
                self._hear_meanwhile(bytes(data))
                continue
            self._repl.hear(bytes(data))
            while len(self._repl.rest) > AHEAD and not self._taken.is_set() and self.lost is None:
                await self._taken.wait()

    def _hear_meanwhile(self, data: bytes) -> None:
        """What an interrupt prints, for example, and no program."""
        self._meanwhile.hear(data)
        for fact in self._meanwhile.facts():
            if isinstance(fact, Shown):
                self._log(fact.line)

    def _break(self, why: str) -> None:
        self.broken = True
        self._lose(LinkLost(f"{self.peer}: {why}"))

    def _lose(self, error: GatewayError) -> None:
        """Nothing more comes from this life of the board."""
        if self.lost is not None:
            return
        self.lost = error
        self._repl.fail(str(error))
        pending = [*([self._running] if self._running else []), *self._queue]
        self._running = None
        self._queue.clear()
        for program in pending:
            program.stop_meanwhile()
            if not program.abandoned:
                program.waiter.finish(None, again(error))
        self.end_turns(error)


def too_long(length: int, free: int) -> Failure:
    """What the board cannot say itself."""
    return Failure(kind="MemoryError", text=f"a program of {length} bytes, for a board that had {free} free")
