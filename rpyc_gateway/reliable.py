"""Makes a reliable pipe of one that is not, such as a serial line: drives proto/line.py over it."""

from __future__ import annotations

import logging
import secrets
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from math import inf
from operator import index

import trio

from rpyc_gateway.errors import DialFailed, LinkLost
from rpyc_gateway.nursery import open_background
from rpyc_gateway.proto import lineevents as events
from rpyc_gateway.proto.line import Line
from rpyc_gateway.proto.lineframes import NONCE, Greeting
from rpyc_gateway.transport import Alone, Pipe

__all__ = ["Console", "LineStream", "reliable"]

CHUNK = 4096  # bytes of one read of the pipe, and of what is queued at once: more than 40 ms of the fastest UART
MTU = 1024  # bytes of the longest piece that this side takes
STUCK = 10.0  # seconds that one write may take before there is a session, and LOOK between two looks at it: the writer minds the time, and cannot then
LOOK = 1.0
LINGER = 2.0  # seconds for what was sent to arrive, when the stream is closed
LAST_WORD = 0.05  # seconds to tell the peer that nobody is here any more
RESTORE = 0.5  # seconds to set the port back to its first rate, for who comes next
CONSOLE_LINES = 100  # lines of console text that may be logged at once
CONSOLE_RATE = 20.0  # and so many more each second

BROKEN = (trio.BrokenResourceError, trio.ClosedResourceError, OSError)

console = logging.getLogger("rpyc_gateway.console")
logger = logging.getLogger(__name__)


def reliable(pipe: Pipe, *, dialler: bool) -> AbstractAsyncContextManager[Pipe]:
    """`pipe` as it is if it is reliable; else one that is, over it, by the protocol of the serial line.

    The body begins when the peer has answered: a dialler gives it ten seconds, a listener (`dialler` false) waits for as long as it takes.
    Exactly one of both ends is the dialler. The stream is a HalfCloseableStream; it breaks, with the reason, when the peer falls silent, starts anew or closes.
    What comes and is no frame is logged by `rpyc_gateway.console`. The stream of `pipe` itself stays its owner's to close.

    Raises DialFailed, or LinkLost for a listener. Cancelled, the peer is told if that takes no time.
    """
    return nullcontext(pipe) if pipe.reliable else _made_reliable(pipe, dialler=dialler)


@asynccontextmanager
async def _made_reliable(pipe: Pipe, *, dialler: bool) -> AsyncIterator[Pipe]:
    driver = LineDriver(pipe, dialler=dialler)
    async with open_background() as nursery:
        try:
            nursery.start_soon(driver.read)
            nursery.start_soon(driver.write)
            await driver.wait_established()
            yield driver.pipe
        finally:
            await driver.leave()


class LineDriver:
    """A line and its two tasks: one waits for the pipe, one for the time and for what is to be sent."""

    def __init__(self, pipe: Pipe, *, dialler: bool) -> None:
        self._below = pipe
        fastest = pipe.fastest if pipe.set_rate is not None else 0
        hello = Greeting(nonce=secrets.token_bytes(NONCE), mtu=MTU, baud=fastest, escapes=pipe.reserved)
        self.line = Line(hello, dialler=dialler, now=trio.current_time(), rate=pipe.rate)
        self.received = bytearray()
        self.finished = False  # the stream of the peer has ended
        self.lost: events.Lost | None = None
        self.sender = trio.lowlevel.ParkingLot()  # who waits until there is room
        self.changed = trio.lowlevel.ParkingLot()  # whoever waits there looks again
        self.pipe = Pipe(LineStream(self), pipe.peer, identity=pipe.identity, private=pipe.private)
        self._established = False
        self._writing_since = inf
        self._wake = trio.Event()  # for the writer
        self._armed = 0.0  # when it comes back by itself
        self._console = Console(pipe.peer)
        self._baud: int | None = None  # the port is to be set to it; 0 is what it was at first
        self._setting = False
        self._changed_rate = False

    async def wait_established(self) -> None:
        """Wait for the session. Raises DialFailed or LinkLost."""
        while not self._established or self._setting:
            if self.lost is not None:
                kind = DialFailed if self.line.dialler else LinkLost
                raise kind(f"{self._below.peer}: {self.lost.reason}")
            with trio.move_on_after(LOOK):
                await self.changed.park()
            if self.line.dialler and trio.current_time() >= self._writing_since + STUCK:
                self.line.fail(f"it has taken nothing for {STUCK:g} s: flow control holds it back, or its driver hangs")
                self._tell()
        if self._changed_rate:
            logger.info("%s: both ends have changed to %.0f bytes per second", self._below.peer, self.line.rate)
        self.pipe.rate = self.line.rate
        self.pipe.message = self.line.message

    async def leave(self) -> None:
        """Tell the peer, if it does not know, that nobody is here any more."""
        self.line.reset("the other end has left")
        with trio.CancelScope(deadline=trio.current_time() + LAST_WORD, shield=True), suppress(*BROKEN):
            while self._writing_since < inf:
                await self.changed.park()
            word = self.line.last_words()
            if word:
                await self._below.stream.send_all(word)
        if self._changed_rate and self._below.set_rate is not None:
            with trio.CancelScope(deadline=trio.current_time() + RESTORE, shield=True), suppress(*BROKEN):
                await self._below.set_rate(0)

    def take(self, limit: int) -> bytes:
        """The next bytes that were received; somebody has read them."""
        data = bytes(self.received[:limit])
        del self.received[:limit]
        self.line.consume(len(data), trio.current_time())
        self.step()
        return data

    async def wait_room(self) -> None:
        """Wait until there may be room for more."""
        if self.line.room_at < self._armed:
            self._wake.set()
        await self.sender.park()

    # -- stepping

    def step(self) -> None:
        """After each change of the line: tell what has happened, and wake the writer if it has something to do."""
        self._tell()
        if self._due() < self._armed:
            self._wake.set()

    def _due(self) -> float:
        """When the writer must have a look, at the latest."""
        deadline = self.line.deadline()
        due = inf if deadline is None else deadline
        return min(due, self.line.room_at) if self.sender else due

    def _tell(self) -> None:
        happened = self.line.events()
        for event in happened:
            match event:
                case events.Received(data):
                    self.received += data
                case events.Finished():
                    self.finished = True
                case events.Printed(text):
                    self._console.log(text)
                case events.Established():
                    self._established = True
                case events.RateChanged(baud):
                    self._baud = baud
                    self._setting = True
                    self._wake.set()
                case events.Lost():
                    self.lost = event
                    self._wake.set()
                case events.Datagram():
                    pass  # nodes have no use for them
        if happened:
            self.changed.unpark_all()
        if self.line.down:
            self.sender.unpark_all()

    # -- the tasks

    async def read(self) -> None:
        """Take what comes, until the line is down or the pipe ends."""
        stream = self._below.stream
        while not self.line.down:
            try:
                data = await stream.receive_some(CHUNK)
            except BROKEN as exc:
                self.line.fail(str(exc) or "the pipe broke")
            else:
                if data:
                    self.line.receive_data(bytes(data), trio.current_time())
                else:
                    self.line.receive_eof()
            self.step()

    async def _set_rate(self) -> None:
        """Set the port to what the line wants. If it cannot be set, nothing will be heard, and the line asks for the old rate again."""
        baud, self._baud = self._baud, None
        set_rate = self._below.set_rate
        assert baud is not None
        assert set_rate is not None  # else this side had not offered it
        try:
            await set_rate(baud)
        except (*BROKEN, ValueError) as exc:
            logger.warning("%s: it cannot be set to %s baud: %s", self._below.peer, baud or "its first", exc)
        else:
            self._changed_rate = bool(baud)
        self._setting = self._baud is not None
        self.changed.unpark_all()

    async def write(self) -> None:
        """Send what is to be sent when the line is free for it, and keep its time."""
        line = self.line
        send_all = self._below.stream.send_all
        while True:
            self._wake = trio.Event()
            self._armed = 0.0
            if self._baud is not None:
                await self._set_rate()
            now = trio.current_time()
            deadline = line.deadline()
            if deadline is not None and deadline <= now:
                line.handle_timeout(now)
                self._tell()
                if self._baud is not None:
                    continue
            out = line.data_to_send(now)
            self._tell()
            if self.sender and line.room_at <= now:
                self.sender.unpark_all()
            if out:
                self._writing_since = now
                try:
                    await send_all(out)
                except BROKEN as exc:
                    line.fail(str(exc) or "the pipe broke")
                finally:
                    self._writing_since = inf
                    if line.down:
                        self.changed.unpark_all()
                continue
            self._armed = self._due()
            if self._armed == inf and line.down:
                return
            with trio.move_on_at(self._armed):
                await self._wake.wait()


class LineStream(trio.abc.HalfCloseableStream):
    """The stream of a line. It keeps trio's contract; BrokenResourceError says why."""

    def __init__(self, driver: LineDriver) -> None:
        self._driver = driver
        self._sending = Alone("send")
        self._receiving = Alone("receive")
        self._closed = False
        self._ended = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Returns when the line could take more. Cancelled midway: what was queued is sent all the same, and nobody knows how much that is."""
        driver = self._driver
        with self._sending, memoryview(data).cast("B") as view:
            self._check_writable()
            await trio.lowlevel.checkpoint()
            for at in range(0, len(view), CHUNK):
                self._check_writable()
                driver.line.send(view[at : at + CHUNK])
                driver.step()
                await self._wait_room()

    async def wait_send_all_might_not_block(self) -> None:
        with self._sending:
            self._check_writable()
            await trio.lowlevel.checkpoint()
            await self._wait_room()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        limit = CHUNK if max_bytes is None else index(max_bytes)
        if limit < 1:
            raise ValueError(f"max_bytes must be at least 1, not {limit}")
        driver = self._driver
        with self._receiving:
            await trio.lowlevel.checkpoint()
            while True:
                if self._closed:
                    raise trio.ClosedResourceError("this stream was closed")
                if driver.received:
                    return driver.take(limit)
                if driver.finished:
                    return b""
                if driver.lost is not None:
                    raise trio.BrokenResourceError(driver.lost.reason)
                await driver.changed.park()

    async def send_eof(self) -> None:
        with self._sending:
            if self._closed:
                raise trio.ClosedResourceError("this stream was closed")
            await trio.lowlevel.checkpoint()
            self._end()

    async def aclose(self) -> None:
        """Close: waits up to two seconds for what was sent to arrive. Cancelled: it need not."""
        if self._closed:
            await trio.lowlevel.checkpoint()
            return
        driver = self._driver
        self._closed = True
        self._end()
        driver.changed.unpark_all()
        driver.sender.unpark_all()
        try:
            await trio.lowlevel.checkpoint()
            with trio.move_on_after(LINGER):
                while not driver.line.settled:
                    await driver.changed.park()
        finally:
            driver.line.reset("the other end has closed it")
            driver.step()

    def _end(self) -> None:
        self._ended = True
        self._driver.line.finish()
        self._driver.step()

    async def _wait_room(self) -> None:
        """Wait until what was queued is on its way, and the line has next to nothing to do."""
        driver = self._driver
        while driver.line.room_at > trio.current_time() and not self._closed:
            await driver.wait_room()
        self._check_writable()

    def _check_writable(self) -> None:
        if self._closed or self._ended:
            raise trio.ClosedResourceError("this stream was closed for sending")
        if self._driver.lost is not None:
            raise trio.BrokenResourceError(self._driver.lost.reason)


class Console:
    """Logs what is printed at the other end, as far as that is bearable."""

    def __init__(self, peer: str) -> None:
        self._peer = peer
        self._room = float(CONSOLE_LINES)
        self._since = trio.current_time()
        self._dropped = 0

    def log(self, text: bytes) -> None:
        now = trio.current_time()
        self._room = min(float(CONSOLE_LINES), self._room + (now - self._since) * CONSOLE_RATE)
        self._since = now
        if self._room < 1:
            self._dropped += 1
            return
        self._room -= 1
        if self._dropped:
            console.info("%s: (%d lines were left out)", self._peer, self._dropped)
            self._dropped = 0
        console.info("%s: %s", self._peer, "".join(map(_shown, text.decode(errors="replace"))))


def _shown(character: str) -> str:
    """A control character may do things to the terminal that shows the log."""
    return character if character.isprintable() else ascii(character)[1:-1]
