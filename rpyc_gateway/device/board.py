"""A board that runs the agent: calls, callbacks, events, the key that interrupts it, restarts; driven over an unreliable pipe."""

from __future__ import annotations

import inspect
import logging
import re
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from math import inf
from typing import Any

import trio

from rpyc_gateway.device import conversation as facts
from rpyc_gateway.device.anyboard import AnyBoard, BoardError, again
from rpyc_gateway.device.conversation import LARGEST, Conversation, Failure, Oversized, Step, encode_step
from rpyc_gateway.device.lent import gone, is_function, replaced
from rpyc_gateway.device.repl import Platform
from rpyc_gateway.device.waiting import Waiter
from rpyc_gateway.errors import DialFailed, GatewayError, LinkLost, ProtocolError
from rpyc_gateway.proto import lineevents as events
from rpyc_gateway.proto.line import Line
from rpyc_gateway.proto.lineframes import NONCE, TO_DIALLER, TO_LISTENER, Greeting
from rpyc_gateway.reliable import Console
from rpyc_gateway.transport import Pipe

__all__ = ["BROKEN", "Board", "BoardError", "Event"]

CHUNK = 4096  # bytes of one read
MTU = 1024  # bytes of the longest piece that this side takes
AGAIN = 0.5  # seconds for a call to end that was interrupted; then it is again, each time after twice as long
LONGEST_AGAIN = 8.0  # seconds
ASK = 2.0  # seconds without a frame, while a call is open, until it is asked whether an agent is there; then again, each time after twice as long
LONGEST_ASK = 600.0  # seconds: a board that works for a day gets few bytes meanwhile
NOTICES = 256  # events that may wait for who handles them

KEY = b"\x03"
QUESTION = (
    b"\r\x01\n"  # any REPL says that it is one, and echoes nothing from then on; an agent says that it is no frame
)
BROKEN = (trio.BrokenResourceError, trio.ClosedResourceError, OSError)

# What a board says when it starts. If its prompt follows that was no program which printed the like: each REPL tells its prompt when it is asked.
STARTED = rb"MPY: soft reboot|MicroPython v\d[^;]*; |Adafruit CircuitPython \d|ets \w{3} +\d|rst:0x|ESP-ROM:"
BANNER = re.compile(STARTED + rb"|raw REPL; CTRL-B to exit|^>>> ")
# What only says that it starts: its main.py may run then, and no prompt come. So it is believed without one, if no frame comes for a while.
BOOTED = re.compile(rb"^(MPY: soft reboot\r?$|ets \w{3} +\d+ \d{4} \d|rst:0x[\da-f]+ |ESP-ROM:)")
PROMPT = b">>> "
FURTHER = b"... "  # it has taken for the beginning of a program what was on its way to its agent
# A REPL echoes a frame that it takes for a comment. People write a space after their #, also in what a program prints of them.
ECHO = re.compile(re.escape(PROMPT + TO_LISTENER) + rb"[^ ]")
RAW_PROMPT = b"\x04>"
VERDICT = 3.0  # seconds without a frame after what only says that a board starts: it does
UNPROVEN = 1e9  # seconds after any other banner: a program that prints the like may compute for long
PROOF = 0.3  # seconds for a prompt to come by itself, before it is asked for
PROMPT_VERDICT = 0.03  # seconds, if a prompt has come too

logger = logging.getLogger(__name__)


class Event:
    """A function that the board may call without waiting for it, from an interrupt for example: `Event(function)` as an argument."""

    __slots__ = ("function",)

    def __init__(self, function: Callable[..., object]) -> None:
        self.function = function


class Board(AnyBoard):
    """A board that runs the agent."""

    def __init__(
        self,
        pipe: Pipe,
        platform: Platform,
        nonce: bytes,
        show: Callable[[bytes], object] | None,
        *,
        mtu: int = MTU,
        largest: int = LARGEST,
        lossless: bool = False,
    ) -> None:
        """`mtu` is how many bytes of a piece this side takes, `largest` of a message. Nothing is sent twice on a `lossless` pipe."""
        super().__init__(pipe.peer, platform)
        self._pipe = pipe
        self._lossless = lossless
        self._nonce = nonce
        self._show = show or Console(pipe.peer).log
        self._token = trio.lowlevel.current_trio_token()
        hello = Greeting(nonce=secrets.token_bytes(NONCE), mtu=mtu)
        self.line = Line(hello, dialler=True, now=trio.current_time(), rate=pipe.rate, patience=inf, lossless=lossless)
        self._conversation = Conversation(largest=largest, released=self._wake_up)
        self._established = trio.Event()
        self._waiting: dict[int, Waiter] = {}
        self._given_up: set[int] = set()  # calls that nobody waits for any more
        self._key_at = inf  # when the key is to be pressed
        self._pause = AGAIN  # until it is pressed again
        self._ask_at = inf  # when the board is asked whether it runs an agent at all
        self._ask_pause = ASK
        self._callbacks: dict[int, trio.CancelScope] = {}
        self._notices = trio.open_memory_channel[tuple[Any, tuple[Any, ...]]](NOTICES)
        self._wake = trio.Event()  # for the writer
        self._armed = 0.0  # when it comes back by itself
        self._alarm = trio.CancelScope()  # that it sleeps in
        self._verdict_at = inf  # when it is clear that a banner was one, if no frame comes before
        self._nursery: trio.Nursery | None = None

    # -- what one does with it

    @property
    def ready(self) -> bool:
        return not self._given_up and self._conversation.room > 0

    @property
    def idle(self) -> bool:
        return self._conversation.running is None

    @property
    def nested(self) -> bool:
        return bool(self._callbacks)

    def start(self, steps: Sequence[Step], waiter: Waiter, *, copy: bool) -> None:
        lent = [Step(step.target, self._lend(step.args)) for step in steps]
        self._conversation.free = self.platform.free
        try:
            waiter.name = self._conversation.call(lent, copy=copy)
        except Oversized as exc:
            raise BoardError(Failure(kind="MemoryError", text=str(exc)), self.peer) from None
        self._waiting[waiter.name] = waiter
        if self._ask_at == inf:
            self._plan_question()
        self._step()

    def interrupt(self, waiter: Waiter) -> None:
        if self._waiting.get(waiter.name) is waiter:
            del self._waiting[waiter.name]
            self._given_up.add(waiter.name)
            self._plan_key()

    def check(self, step: Step) -> None:
        encode_step(Step(step.target, self._lend(step.args)))

    def withdraw(self, function: Callable[..., object]) -> None:
        self._conversation.withdraw(function)

    def _lend(self, value: Any) -> Any:
        """`value` with what stands for functions in it."""
        return replaced(value, self._stand_for)

    def _stand_for(self, value: Any) -> Any:
        if isinstance(value, Event):
            return self._conversation.lend(value.function, event=True)
        return self._conversation.lend(value) if is_function(value) else value

    # -- its life

    async def serve(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        nursery.start_soon(self._read)
        nursery.start_soon(self._write)
        nursery.start_soon(self._notify)
        await self._established.wait()
        if self.lost is not None:
            raise DialFailed(str(self.lost)) from self.lost

    def _lose(self, error: GatewayError) -> None:
        """Nothing more comes from this life of the board."""
        if self.lost is not None:
            return
        self.lost = error
        self.line.reset("the front has given up")
        self._established.set()
        waiting, self._waiting = self._waiting, {}
        for waiter in waiting.values():
            waiter.finish(None, again(error))
        for scope in self._callbacks.values():
            scope.cancel()
        self._given_up.clear()
        self.end_turns(error)
        self._wake.set()

    def _break(self, why: str) -> None:
        self.broken = True
        self._lose(LinkLost(f"{self._pipe.peer}: {why}"))

    def _restarted(self, why: str) -> None:
        self._lose(self.restarted(why))

    # -- stepping

    def _wake_up(self) -> None:
        """There is something to release; from any thread, also in a finalizer."""
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._step, idempotent=True)

    def _step(self) -> None:
        """After each change of the line or the conversation: do what is to be done about it, and wake the writer."""
        line = self.line
        while happened := line.events():
            for event in happened:
                self._take_event(event)
        data = self._conversation.data_to_send()
        if data:
            line.send(data)
        deadline = line.deadline()
        if deadline is not None and deadline < self._armed:
            if deadline <= trio.current_time():
                self._wake.set()
            else:  # an acknowledgement that may wait: the writer sleeps on
                self._armed = self._alarm.deadline = deadline

    def _take_event(self, event: events.LineEvent) -> None:
        match event:
            case events.Received(data):
                self.line.consume(len(data), trio.current_time())
                self._conversation.receive_data(data)
                for fact in self._conversation.facts():
                    self._take_fact(fact)
            case events.Printed(text):
                self._take_printed(text)
            case events.Established(peer):
                if peer.nonce != self._nonce:
                    self._restarted("another agent answers")
                self._established.set()
            case events.Lost(cause, reason):
                if cause is events.Cause.RESTARTED:
                    self._restarted("it has started anew")
                else:
                    self._lose(LinkLost(f"{self._pipe.peer}: {reason}"))

    def _take_fact(self, fact: facts.Fact) -> None:
        match fact:
            case facts.Answered(name, value):
                self._answered(name, value, None)
            case facts.Failed(name, failure):
                self._answered(name, None, BoardError(failure, self._pipe.peer))
            case facts.Called():
                if self._nursery is not None:
                    self._nursery.start_soon(self._call_back, fact)
            case facts.Notified(target, _) if target is gone:
                pass  # it was on its way when it was withdrawn
            case facts.Notified(target, args):
                try:
                    self._notices[0].send_nowait((target, args))
                except trio.WouldBlock:
                    self.dropped += 1
            case facts.Dropped(count):
                self.dropped += count
            case facts.Broken(reason):
                self._lose(ProtocolError(f"{self._pipe.peer}: {reason}"))

    def _answered(self, name: int, value: Any, error: Exception | None) -> None:
        waiter = self._waiting.pop(name, None)
        self._given_up.discard(name)
        if waiter is not None:
            waiter.finish(value, error)
        self._plan_key()
        if not self._waiting and not self._given_up:
            self._ask_at = inf
        self.go_on()

    def _take_printed(self, text: bytes) -> None:
        self._look_for_echo(text)
        now = trio.current_time()
        if BANNER.search(text) and self._verdict_at == inf:
            self._verdict_at = now + UNPROVEN
            self._conversation.nudge()  # an agent that does nothing says so
            self._ask_at = min(self._ask_at, now + PROOF)  # and so does a REPL; one that works says neither
        if BOOTED.search(text):
            self._verdict_at = min(self._verdict_at, now + VERDICT)
        try:
            self._show(text)
        except Exception:
            logger.exception("%s: what was printed there could not be shown", self._pipe.peer)

    def _look_for_echo(self, text: bytes) -> None:
        if self._verdict_at < inf and ECHO.search(text):
            self._restarted("it has started anew")

    def _look_at_prompt(self) -> None:
        """What was said last, and is no line yet, may be the prompt of a board without an agent."""
        last = self.line.unfinished
        self._look_for_echo(last)
        if self._verdict_at < inf and (last.endswith((PROMPT, FURTHER)) or last == b">"):
            self._verdict_at = min(self._verdict_at, trio.current_time() + PROMPT_VERDICT)
            self._wake.set()
        elif self._established.is_set() and last.endswith(RAW_PROMPT) and not self._lossless:
            if TO_DIALLER not in last:
                self._restarted("its agent was ended")
                return
            # A frame may have such bytes anywhere; or it was one that did not end.
            self._verdict_at = min(self._verdict_at, trio.current_time() + PROMPT_VERDICT + MTU / self._pipe.rate)
            self._wake.set()

    # -- the key

    def _plan_key(self) -> None:
        if self._conversation.running not in self._given_up:
            self._key_at = inf
            self._pause = AGAIN
        elif self._key_at == inf:
            self._key_at = 0.0
            self._wake.set()

    def _press_key(self, now: float) -> bytes:
        """Interrupt the call that runs, if that is time and all of it has been sent. The datagram shows an idle agent that this is no person who wants it to end."""
        if now < self._key_at:
            return b""
        if self.line.queued:
            self._key_at = now + 0.01
            return b""
        self._key_at = now + self._pause
        self._pause = min(self._pause * 2, LONGEST_AGAIN)
        self.line.send_datagram(b"")
        return KEY

    # -- the question

    def _plan_question(self) -> None:
        """An agent was heard, or is to be: from now on silence counts."""
        self._ask_pause = ASK
        self._ask_at = trio.current_time() + ASK if self._waiting or self._given_up else inf

    def _ask(self, now: float) -> bytes:
        """Noise may end an agent and hide what its board says then; its REPL would take our frames for ever, or echo them and be told that they are damaged."""
        if now < self._ask_at:
            return b""
        self._ask_at = now + self._ask_pause
        self._ask_pause = min(self._ask_pause * 2, LONGEST_ASK)
        return QUESTION

    # -- callbacks

    async def _call_back(self, called: facts.Called) -> None:
        with trio.CancelScope() as scope:
            self._callbacks[called.callback] = scope
            self.go_on()
            try:
                result = called.target(*called.args, **called.keywords)
                if inspect.isawaitable(result):
                    result = await result
                if self.lost is None:
                    self._conversation.answer(called.callback, self._lend(result))
            except Exception as exc:  # noqa: BLE001  # it is the board's, whatever it is
                if self.lost is None:
                    kind = "MemoryError" if isinstance(exc, Oversized) else type(exc).__name__
                    self._conversation.fail(called.callback, kind, str(exc))
            finally:
                del self._callbacks[called.callback]
        self._plan_key()
        self._step()

    async def _notify(self) -> None:
        async for target, args in self._notices[1]:
            try:
                result = target(*args)
                if inspect.isawaitable(result):
                    await result
            except Exception:
                logger.exception("%s: the handler of an event failed", self._pipe.peer)

    # -- the tasks

    def feed(self, data: bytes) -> None:
        """What was received before there was a reader."""
        self.line.receive_data(data, trio.current_time())

    async def _read(self) -> None:
        stream = self._pipe.stream
        while self.lost is None:
            try:
                data = await stream.receive_some(CHUNK)
            except BROKEN as exc:
                self._break(str(exc) or "the pipe broke")
                return
            if not data:
                self._break("the pipe has ended: was it unplugged?")
                return
            heard = self.line.frames_in
            self.line.receive_data(bytes(data), trio.current_time())
            if self.line.frames_in != heard:
                self._verdict_at = inf
                self._plan_question()
            self._step()
            if self.line.unfinished:
                self._look_at_prompt()

    async def _write(self) -> None:
        line = self.line
        send_all = self._pipe.stream.send_all
        while self.lost is None:
            self._wake = trio.Event()
            self._armed = 0.0
            now = trio.current_time()
            deadline = line.deadline()
            if deadline is None:
                deadline = inf
            if now >= self._verdict_at:
                self._restarted("it has started anew")
                return
            if now >= min(deadline, self._key_at, self._ask_at):
                if deadline <= now:
                    line.handle_timeout(now)
                out = self._press_key(now) + self._ask(now) + line.data_to_send(now)
                self._step()
                if out:
                    try:
                        await send_all(out)
                    except BROKEN as exc:
                        self._break(str(exc) or "the pipe broke")
                else:
                    await trio.lowlevel.checkpoint()
                continue
            self._armed = min(deadline, self._key_at, self._ask_at, self._verdict_at)
            with trio.move_on_at(self._armed) as self._alarm:
                await self._wake.wait()
