"""What streams of serial ports have in common: pieces that are paced, an end that is named, a rate that can change."""

from __future__ import annotations

import math
import threading
from abc import abstractmethod
from collections.abc import Callable
from typing import TypeVar

import trio

from rpyc_gateway.transport import Pipe
from rpyc_transports.portsettings import Settings

__all__ = ["PIECE", "PortStream", "Writing", "in_thread"]

PIECE = 256  # bytes in one write
AHEAD = 0.02  # seconds of line time that may be queued in the kernel when the next piece is written; much less, and a late wake-up is a gap
POLL = 0.005  # seconds between two looks whether all has left
SENT = 0.25  # seconds of patience with a line that is slower than it says; then it is stopped
LAST_WORDS = 0.05  # seconds that what was sent may still take to leave where somebody is in a hurry: it says why nobody is here any more
CLOSING = 1.0  # seconds; a driver whose device does not answer may take 30, and nothing is gained by waiting for it

_T = TypeVar("_T")


class PortStream(trio.abc.Stream):
    """What streams of serial ports have in common: pieces that are paced, an end that is named, a rate that can change."""

    def __init__(self, name: str, settings: Settings) -> None:
        self.name = name
        self.settings = settings
        self._writing = Writing(settings.rate())
        self._closed = False
        self._sending = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Returns when the last piece is with the kernel. Raises BrokenResourceError if the port is gone. Cancelled, a part may have been sent."""
        if self._sending:
            raise trio.BusyResourceError("another task is sending on this port")
        self._sending = True
        try:
            await trio.lowlevel.checkpoint()
            with memoryview(data).cast("B") as rest:
                for start in range(0, len(rest), PIECE):
                    await self.wait_send_all_might_not_block()
                    piece = rest[start : start + PIECE]
                    await self._write(piece)
                    self._writing.wrote(len(piece), trio.current_time())
            self._check_open()
        finally:
            self._sending = False

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the line has sent nearly all that it was given."""
        self._check_open()
        while True:
            wait = self._writing.wait(trio.current_time(), self._queued())
            if wait <= 0:
                return
            await trio.sleep(wait)
            self._check_open()

    async def set_rate(self, baudrate: int) -> None:
        """Change the rate, both ways, once all that was written is sent; 0 is the one it began with. Raises BrokenResourceError if the port cannot do it."""
        baudrate = baudrate or self.settings.baudrate
        await self._wait_sent()
        self._check_open()
        await self._set_baudrate(baudrate)
        self._writing.rate = self.settings.rate(baudrate)

    @abstractmethod
    async def wait_heard(self) -> None:
        """Wait until there is something to receive, or the port is gone."""

    def offer(self, pipe: Pipe) -> None:
        """Give its pipe what can be done without waiting."""

    async def aclose(self) -> None:
        """What was sent still leaves, for 50 ms if this is cancelled; what a stopped line holds back after that is dropped."""
        if self._closed:
            await trio.lowlevel.checkpoint()
            return
        try:
            await self._wait_sent()
        except trio.Cancelled:
            with trio.move_on_after(LAST_WORDS, shield=True):
                await self._wait_sent()
            raise
        finally:
            self._closed = True
            self._part()
            with trio.move_on_after(CLOSING, shield=True):
                await trio.to_thread.run_sync(self._close, abandon_on_cancel=True)

    async def _wait_sent(self) -> None:
        """Wait until the last bit is on the line, but no longer than a line should take for it."""
        with trio.move_on_at(max(trio.current_time(), self._writing.free) + SENT):
            await trio.sleep_until(self._writing.free)
            while self._queued():  # noqa: ASYNC110  nothing tells when it has left
                await trio.sleep(POLL)
            await trio.sleep(POLL)  # for what the chip has taken already

    @abstractmethod
    async def _write(self, piece: memoryview) -> None: ...

    @abstractmethod
    async def _set_baudrate(self, baudrate: int) -> None: ...

    def _part(self) -> None:
        """Wake who waits for the port, which will be closed in a moment."""

    @abstractmethod
    def _close(self) -> None:
        """In a thread: a driver may take its time."""

    def _queued(self) -> int:
        """How many bytes wait to be sent; 0 where nobody knows."""
        return 0

    def _check_open(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError(f"{self.name} was closed")

    def _gone(self, why: object) -> trio.BrokenResourceError:
        return trio.BrokenResourceError(f"{self.name} is gone: it was unplugged, or its driver gave it up ({why})")


class Writing:
    """When the next piece may be written, so that what is queued stays short. Pure: time comes in."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.free = -math.inf  # when the line will have sent all that it was given

    def wrote(self, count: int, now: float) -> None:
        self.free = max(now, self.free) + count / self.rate

    def wait(self, now: float, queued: int) -> float:
        """Seconds from now until it may. What the kernel says is queued counts if it is more than we think: a line can be stopped."""
        if queued:
            self.free = max(self.free, now + queued / self.rate)
        return self.free - AHEAD - now


async def in_thread(make: Callable[[], _T], undo: Callable[[_T], object]) -> _T:
    """Run `make` in a thread. Cancelled, it is left behind, and undoes at last what it has made."""
    made: list[_T] = []
    lock = threading.Lock()
    cancelled = False

    def run() -> None:
        result = make()
        with lock:
            if not cancelled:
                made.append(result)
                return
        undo(result)

    try:
        await trio.to_thread.run_sync(run, abandon_on_cancel=True)
    except trio.Cancelled:
        with lock:
            cancelled = True
        if made:  # at the same moment
            trio.lowlevel.start_thread_soon(lambda: undo(made[0]), lambda _: None)
        raise
    return made[0]
