"""A board that is too small for the agent, or has no binary input: it is driven by its raw REPL, a program at a time."""

from __future__ import annotations

import logging
import re
import secrets
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import trio
from msgspec import Struct

from rpyc_gateway.device.anyboard import AnyBoard, BoardError, again
from rpyc_gateway.device.board import AGAIN, BROKEN, KEY, LONGEST_AGAIN, PROMPT, STARTED
from rpyc_gateway.device.codec import Ref
from rpyc_gateway.device.conversation import Failure, Step, refs_in
from rpyc_gateway.device.phrasing import MARK, failure_of, helpers, read, source_of
from rpyc_gateway.device.repl import END, RAW_BANNER, Platform, Repl
from rpyc_gateway.device.waiting import Waiter
from rpyc_gateway.errors import DialFailed, GatewayError, LinkLost, PeerRestarted, ProtocolError
from rpyc_gateway.reliable import Console
from rpyc_gateway.transport import Pipe

__all__ = ["SmallBoard"]

CHUNK = 4096  # bytes of one read
QUEUE = 31  # programs that wait: as many as the agent takes
RECENT = 200  # bytes that are looked at for the signs of a restart
LONGEST = 1000  # bytes of a line that is shown
SHARE = (
    2  # of its free heap a program may be long: a REPL that has no room for what it is sent hangs, or resets the board
)
RELEASED = 16  # objects that are given up with one program

logger = logging.getLogger(__name__)


class Program(Struct, eq=False):
    """A program that waits, or runs."""

    steps: Sequence[Step]
    copy: bool
    waiter: Waiter
    abandoned: bool = False


class SmallBoard(AnyBoard):
    """A board without the agent. Programs are run one after another; whoever gives up one that runs has the key pressed."""

    kind = "without the agent, by its REPL: no callbacks, no events"
    calls_back = False

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
        self._recent = b""
        self._banner = False  # it has said what boards say when they start
        self._nursery: trio.Nursery | None = None

    async def serve(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._repl.be_told()
        nursery.start_soon(self._read)
        await self._repl.run(helpers(self._mark))
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

    def start(self, steps: Sequence[Step], waiter: Waiter, *, copy: bool) -> None:
        if any(ref.owner is not self for step in steps for ref in refs_in((step.target, step.args))):
            raise PeerRestarted("this object is one of another board, or of another life of this one")
        source_of(steps, 0, copy=copy)  # what cannot be said is known now
        self._queue.append(Program(steps, copy, waiter))
        self._more.set()

    def interrupt(self, waiter: Waiter) -> None:
        running = self._running
        if running is not None and running.waiter is waiter:
            running.abandoned = True
            if self._nursery is not None and self.lost is None:
                self._nursery.start_soon(self._press_key, running)
            return
        for program in self._queue:
            if program.waiter is waiter:
                self._queue.remove(program)
                self.go_on()
                return

    def check(self, step: Step) -> None:
        source_of([step], 0, copy=False)

    def withdraw(self, function: Callable[..., object]) -> None:
        """It has never got one."""

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
                value = await self._run(program)
            except DialFailed as exc:
                self._lose(self.restarted("it has started anew") if self._banner else LinkLost(str(exc)))
                return
            except GatewayError as exc:
                error = exc
            self._running = None
            if not program.abandoned:
                program.waiter.finish(value, error)
                self.go_on()
                continue
            try:
                await self._repl.find()  # a key may have come after the end
            except DialFailed as exc:
                self._lose(LinkLost(str(exc)))
                return
            self.go_on()

    async def _run(self, program: Program) -> Any:
        """The value of a program. Raises BoardError, ProtocolError for an answer that is none, DialFailed if the REPL is lost."""
        released = [self._released.popleft() for _ in range(min(len(self._released), RELEASED))]
        self._last = number = self._last + 1
        source, before = source_of(program.steps, number, copy=program.copy, released=released)
        length = len(source.encode())
        if length > self.platform.free // SHARE:
            self._released.extend(released)
            raise BoardError(too_long(length, self.platform.free), self.peer)
        printed = Printed(self._mark.encode(), self._shown)
        raised = await self._repl.answer(source, printed.hear)
        answer = printed.end()
        if raised:
            raise BoardError(failure_of(raised.decode(errors="replace"), before, len(program.steps)), self.peer)
        if answer is None:
            raise ProtocolError(f"{self.peer}: the board has run a program and not said what came of it")
        text = answer.decode(errors="replace")
        return Ref(number, self) if text == "@" else read(text)

    def _shown(self, line: bytes) -> None:
        try:
            self._show(line)
        except Exception:
            logger.exception("%s: what was printed there could not be shown", self.peer)

    async def _press_key(self, program: Program) -> None:
        """Interrupt a program until it ends."""
        pause = AGAIN
        while self._running is program and self.lost is None:
            with suppress(*BROKEN):
                await self._pipe.stream.send_all(KEY)
            await trio.sleep(pause)
            pause = min(pause * 2, LONGEST_AGAIN)

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
            self._repl.hear(bytes(data))

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
            if not program.abandoned:
                program.waiter.finish(None, again(error))
        self.end_turns(error)


def too_long(length: int, free: int) -> Failure:
    """What the board cannot say itself."""
    return Failure(kind="MemoryError", text=f"a program of {length} bytes, for a board that had {free} free")


class Printed:
    """What a program prints, line by line, and the line with its answer, which is the last one that begins with the mark."""

    def __init__(self, mark: bytes, show: Callable[[bytes], object]) -> None:
        self._mark = mark
        self._show = show
        self._part = b""  # of a line
        self._held: list[
            bytes
        ] = []  # an empty line and one with the mark: what comes before an answer, and that, unless something follows

    def hear(self, data: bytes) -> None:
        """The next of it."""
        *lines, self._part = (self._part + data).split(b"\n")
        for line in lines:
            self._take(line.removesuffix(b"\r"))
        if len(self._part) > LONGEST and not self._part.startswith(self._mark):
            self._take(self._part)
            self._part = b""

    def _take(self, line: bytes) -> None:
        if self._held == [b""] and line.startswith(self._mark):
            self._held.append(line)
            return
        self._tell()
        if line and not line.startswith(self._mark):
            self._show(line)
        else:
            self._held = [line]

    def _tell(self) -> None:
        for line in self._held:
            self._show(line)
        self._held = []

    def end(self) -> bytes | None:
        """The answer; None if there is none."""
        if self._part:
            self._take(self._part.removesuffix(b"\r"))
        if self._held and self._held[-1].startswith(self._mark):
            return self._held[-1][len(self._mark) :]
        self._tell()
        return None
