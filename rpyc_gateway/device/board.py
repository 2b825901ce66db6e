"""A board that runs the agent: calls, callbacks, events, the key that interrupts it, restarts; driven over an unreliable pipe."""

from __future__ import annotations

import inspect
import logging
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from math import inf
from typing import Any

import trio

from rpyc_gateway.device import conversation as facts
from rpyc_gateway.device.anyboard import AnyBoard, BoardError, again
from rpyc_gateway.device.conversation import LARGEST, Conversation, Failure, Oversized, Step, encode_step
from rpyc_gateway.device.doubt import Doubt
from rpyc_gateway.device.lent import gone, is_function, replaced
from rpyc_gateway.device.repl import Platform
from rpyc_gateway.device.waiting import Waiter
from rpyc_gateway.errors import DialFailed, GatewayError, LinkLost, ProtocolError
from rpyc_gateway.proto import lineevents as events
from rpyc_gateway.proto.line import Line
from rpyc_gateway.proto.lineframes import NONCE, Greeting
from rpyc_gateway.reliable import Console
from rpyc_gateway.transport import Pipe, SendNowait

__all__ = ["BROKEN", "Board", "BoardError", "Event"]

CHUNK = 4096  # bytes of one read
MTU = 1024  # bytes of the longest piece that this side takes
AGAIN = 0.5  # seconds for a call to end that was interrupted; then it is again, each time after twice as long
LONGEST_AGAIN = 8.0  # seconds
NOTICES = 256  # events that may wait for who handles them

KEY = b"\x03"
BROKEN = (trio.BrokenResourceError, trio.ClosedResourceError, OSError)

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
        self._doubt = Doubt(longest=mtu / pipe.rate, lossless=lossless)
        self._callbacks: dict[int, trio.CancelScope] = {}
        self._notices = trio.open_memory_channel[tuple[Any, tuple[Any, ...]]](NOTICES)
        self._wake = trio.Event()  # for the writer
        self._armed = 0.0  # when it comes back by itself; 0 while it is at work
        self._alarm = trio.CancelScope()  # that it sleeps in
        self._unsent = b""  # what the pipe would not take at once
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
        if self._doubt.ask_at == inf:
            self._doubt.expect(trio.current_time(), waited=True)
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
        self._take_events()
        data = self._conversation.data_to_send()
        if data:
            self.line.send(data)
        deadline = self._deadline()
        if deadline < self._armed:
            now = trio.current_time()
            if deadline <= now and self._pipe.send_nowait is not None:
                self._send(self._pipe.send_nowait, now)
                deadline = self._deadline()
            if deadline <= now or self._unsent:
                self._armed = 0.0
                self._wake.set()
            elif deadline < self._armed:  # an acknowledgement that may wait: the writer sleeps on
                self._armed = self._alarm.deadline = deadline

    def _send(self, send_nowait: SendNowait, now: float) -> None:
        """While the writer sleeps: it would do so two turns of the loop later."""
        out = self.line.data_to_send(now)
        self._take_events()
        try:
            self._unsent = out[send_nowait(out) :]
        except OSError as exc:
            self._break(str(exc) or "the pipe broke")

    def _deadline(self) -> float:
        """When the line wants something."""
        deadline = self.line.deadline()
        return inf if deadline is None else deadline

    def _take_events(self) -> None:
        while happened := self.line.events():
            for event in happened:
                self._take_event(event)

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
            self._doubt.ask_at = inf
        self.go_on()

    def _take_printed(self, text: bytes) -> None:
        self._doubt.hear(text, trio.current_time())
        try:
            self._show(text)
        except Exception:
            logger.exception("%s: what was printed there could not be shown", self._pipe.peer)

    def _heed_doubt(self) -> None:
        """It was heard, and that may have raised doubts."""
        doubt = self._doubt
        if self.line.unfinished and self._established.is_set():
            doubt.look_at(self.line.unfinished, trio.current_time())
        if doubt.begun:
            doubt.begun = False
            self._conversation.nudge()
            self._step()
        if doubt.certain:
            self._restarted(doubt.reason)
        elif doubt.verdict_at < self._armed or doubt.ask_at < self._armed:
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
        while self.lost is None:
            try:
                data = await self._receive()
            except BROKEN as exc:
                self._break(str(exc) or "the pipe broke")
                return
            if not data:
                self._break("the pipe has ended: was it unplugged?")
                return
            heard = self.line.frames_in
            self.line.receive_data(bytes(data), trio.current_time())
            if self.line.frames_in != heard:
                self._doubt.hear_frame(trio.current_time(), waited=bool(self._waiting or self._given_up))
            self._step()
            self._heed_doubt()

    async def _receive(self) -> bytes | bytearray:
        receive_nowait = self._pipe.receive_nowait
        if receive_nowait is None or self._pipe.fileno < 0:
            return await self._pipe.stream.receive_some(CHUNK)
        data = None
        while data is None:  # with one turn of the loop, where a stream takes two
            await trio.lowlevel.wait_readable(self._pipe.fileno)
            data = receive_nowait(max(CHUNK, self._pipe.receive_at_least))
        return data

    async def _write(self) -> None:
        line, doubt = self.line, self._doubt
        send_all = self._pipe.stream.send_all
        while self.lost is None:
            self._wake = trio.Event()
            self._armed = 0.0
            now = trio.current_time()
            deadline = self._deadline()
            if now >= doubt.verdict_at:
                self._restarted(doubt.reason)
                return
            if self._unsent or now >= min(deadline, self._key_at, doubt.ask_at):
                if deadline <= now:
                    line.handle_timeout(now)
                out = self._unsent + self._press_key(now) + doubt.question(now) + line.data_to_send(now)
                self._unsent = b""
                self._step()
                if out:
                    try:
                        await send_all(out)
                    except BROKEN as exc:
                        self._break(str(exc) or "the pipe broke")
                else:
                    await trio.lowlevel.checkpoint()
                continue
            self._armed = min(deadline, self._key_at, doubt.ask_at, doubt.verdict_at)
            with trio.move_on_at(self._armed) as self._alarm:
                await self._wake.wait()
