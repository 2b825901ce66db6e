"""What leaves a link: at once, in the thread that has said it, where the pipe takes it; the rest by a task that waits for the pipe, or for the time."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

import trio

from rpyc_gateway.driver import Driver
from rpyc_gateway.proto.frames import Failure, Hello
from rpyc_gateway.proto.mux import PULL
from rpyc_gateway.transport import Buffer, Pipe

__all__ = ["LAST_WORDS", "Sender"]

WRITE = 262_144  # bytes of one write: enough for the cost of a call to the system to vanish
LAST_WORDS = 2.0  # seconds for the peer to take what explains the end


class Sender(Driver):
    """The side of a Connection that sends."""

    def __init__(self, pipe: Pipe, hello: Hello, *, dialler: bool) -> None:
        super().__init__(pipe, hello, dialler=dialler)
        self._send_nowait = pipe.send_nowait
        self._running = False
        self._writing = False  # the writer is in send_all, or about to be
        self._pull = min(PULL, pipe.message)  # bytes that the writer takes at once
        self._left: list[Buffer] = []  # what send_nowait did not take
        self._kept_back = False  # the end of this step sends nothing
        self.delays = 0  # how often something could not be sent at once, and was queued
        self._round: list[Callable[[], object]] = []  # see `put_together`
        self._wake = trio.Event()  # for the writer
        self._give_up_at = inf  # when the writer does, whatever is left
        self._mute: Failure | None = None  # nothing can be sent, but the peer may have said why
        self._patience: trio.CancelScope | None = None  # of a writer that cannot mind the time
        self._alarm: trio.CancelScope | None = None  # of the task that minds the time
        self._armed = inf  # when it comes back by itself

    # -- within a step

    def keep_back(self) -> None:
        """Within a step: nothing need be sent at its end, somebody will flush. With the turn held."""
        self._kept_back = self.unsettled = True

    def put_together(self, speak: Callable[[], object]) -> None:
        """In a trio task: the writer calls `speak`, with the turn held, at the end of this round of tasks, and sends what that says."""
        self._round.append(speak)
        self._wake.set()

    def _let_round_speak(self) -> None:
        """In the writer, within a step."""
        if self._round:
            speakers, self._round = self._round, []
            for speak in speakers:
                speak()

    def say(self, label: int, data: bytes) -> bool:
        """Within a step: send a message, at once if nothing stands in its way; whether it has gone, and no `drained` follows."""
        send = self._send_nowait
        frame = None
        if send is not None and self._running and not (self._left or self._writing or self._kept_back or self._mute):
            frame = self.mux.say(label, data)
        if send is None or frame is None:
            self.delays += 1
            self.mux.send(label, data)
            return False
        try:
            taken = send(frame)
        except OSError as exc:
            self._fail_to_send(exc)
            return True
        if taken < len(frame):
            self._left = [memoryview(frame)[taken:]]
            self._wake_writer()
        return True

    def _send(self) -> bool:
        """Send without waiting where the pipe can; True if that has caused events."""
        if self._writing or self._left or self._mute or not self.mux.ready:
            return False
        if self._send_nowait is None or not self._running:
            self._wake_writer()
            return False
        buffers = self.mux.data_to_send(self._clock.current_time(), WRITE)
        if buffers:
            self._put(buffers)
        return bool(buffers)

    def _put(self, buffers: list[Buffer]) -> None:
        assert self._send_nowait is not None
        try:
            taken = self._send_nowait(*buffers)
        except OSError as exc:
            self._fail_to_send(exc)
            return
        for index, buffer in enumerate(buffers):
            if taken < len(buffer):
                self._left = [memoryview(buffer)[taken:], *buffers[index + 1 :]]
                self._wake_writer()
                return
            taken -= len(buffer)

    def _fail_to_send(self, exc: BaseException) -> None:
        """The pipe takes nothing more. Who is sent away unheard has been told why: the reader has a moment for it."""
        if self.mux.peer is None and not self.mux.down:
            self._mute = self._broken(exc)
            self._wake_writer()
        else:
            self.mux.fail(self._broken(exc))

    def _wake_writer(self) -> None:
        if not self._wake.is_set():
            self.in_trio_once(self._set_wake)

    def _set_wake(self) -> None:
        self._wake.set()

    # -- the writer, a task

    @trio.lowlevel.enable_ki_protection
    async def _write(self) -> None:
        """Send what send_nowait could not. The only task that waits for the pipe to take more."""
        with trio.CancelScope() as self._patience:
            self._patience.deadline = self._give_up_at
            while True:
                with self.turn as mux:
                    self._wake = trio.Event()
                    self._let_round_speak()
                    now = self._clock.current_time()
                    data = b"" if self._mute else b"".join(self._left or mux.data_to_send(now, self._pull))
                    self._left = []
                    self._writing = bool(data)
                if data:
                    try:
                        await self.pipe.stream.send_all(data)
                    except (trio.BrokenResourceError, trio.ClosedResourceError, OSError) as exc:
                        with self.turn:
                            self._fail_to_send(exc)
                elif self.mux.down and not self._left:
                    return
                else:
                    if self._mute:
                        self.give_up_soon()
                    await self._wake.wait()

    @trio.lowlevel.enable_ki_protection
    async def _write_writable(self) -> None:
        """The same where the descriptor can be waited for: what is left is sent as it is, without being put into one piece first.

        No wait of it does harm when it is cut short, so that this task minds the time as well.
        """
        while self._clock.current_time() < self._give_up_at:
            with trio.CancelScope() as self._alarm:
                await self._write_until_the_alarm(self._alarm)
                return

    async def _write_until_the_alarm(self, alarm: trio.CancelScope) -> None:
        while True:
            with self.turn as mux:
                self._wake = trio.Event()
                self._let_round_speak()
                self._mind_the_time(alarm)
                if self._left and not self._mute:
                    left, self._left = self._left, []
                    self._put(left)
            if self._left and not self._mute:
                await self.pipe.stream.wait_send_all_might_not_block()
            elif mux.down and not self._left:
                return
            else:
                if self._mute:
                    self.give_up_soon()
                await self._wake.wait()

    def give_up_soon(self) -> None:
        """The writer has a moment left: for what explains the end, or to hear why it can send nothing. In the trio thread."""
        self._give_up_at = self._clock.current_time() + LAST_WORDS
        if self._patience is not None:
            self._patience.deadline = self._give_up_at
        elif self._alarm is not None:
            self._set_alarm(self._alarm, self._armed)

    # -- the time

    def hurry(self) -> None:
        """The deadline of the machine may be earlier than it was. With the turn held."""
        deadline = self.mux.deadline()
        if deadline is not None and deadline < self._armed:
            self.in_trio_once(self._rearm)

    def _rearm(self) -> None:
        with self.turn as mux:
            deadline = mux.deadline()
            if self._alarm is not None and deadline is not None:
                self._set_alarm(self._alarm, deadline)

    def _set_alarm(self, alarm: trio.CancelScope, deadline: float) -> None:
        self._armed = deadline
        alarm.deadline = min(deadline, self._give_up_at) if self._patience is None else deadline

    def _mind_the_time(self, alarm: trio.CancelScope) -> None:
        """Do what is due, and set the alarm for what comes next. With the turn held."""
        mux, now = self.mux, self._clock.current_time()
        deadline = mux.deadline()
        if deadline is not None and deadline <= now:
            mux.handle_timeout(now)
            deadline = mux.deadline()
        self._set_alarm(alarm, inf if deadline is None else deadline)

    @trio.lowlevel.enable_ki_protection
    async def _watch(self) -> None:
        """Mind the time, beside a writer that cannot."""
        while not self.mux.down:
            with trio.CancelScope() as self._alarm:
                with self.turn:
                    self._mind_the_time(self._alarm)
                await trio.sleep_forever()
