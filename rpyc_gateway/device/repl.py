"""The raw REPL of MicroPython and CircuitPython: found from whatever state the board is in, and used to run source without writing to its flash."""

from __future__ import annotations

import ast
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from math import inf

import trio
from msgspec import Struct

from rpyc_gateway.errors import DialFailed

__all__ = ["Platform", "Repl", "ReplFailed"]

PATIENCE = 10.0  # seconds for a board to come to its prompt: some boot for that long
QUIET = 0.02  # seconds without a byte: whatever was printed is over
LONGEST_NOISE = 0.5  # seconds that a program may go on printing after Ctrl-C, until it is pressed again
BANNER = 0.3  # seconds for the answer to Ctrl-A, at first; and each time so much more, up to
LONGEST_BANNER = 2.0  # seconds
STEP = 5.0  # seconds for the board to take what it was sent
RUN = 30.0  # seconds for a part of a program to run
SILENCE = 2.0  # seconds without a byte from a program, until it may be that its end was lost
PLAIN_CHUNK = 32  # bytes that any UART has room for
SLOW_RATE = 3200.0  # bytes per second of plain raw mode where the rate is not known: it has no flow control
PROBE_STEP, PROBE_RUN = 1.0, 3.0  # the same, to find out what board it is: noise may have hidden what it said
TRIES = 5  # to find out what board it is
HEARD = 80  # bytes that an error quotes
CHUNK = 4096

RAW_BANNER = b"raw REPL; CTRL-B to exit\r\n>"
INTERRUPT = b"\r\x03\x03\x03"  # three, in case that an agent is running (docs/protocol.md, section 13)
RAW, FRIENDLY, END = b"\r\x01", b"\r\x02", b"\x04"
PASTE = b"\x05A\x01"

# As short as it can be: at 115200 baud each byte takes 87 us. First it takes away what a killed `device mount` has left: each import would ask its host.
PROBE = """import sys,gc
try:sys.modules.pop("_gateway_mount").leave()
except:0
gc.collect()
try:import usb_cdc as u
except ImportError:u=0
i=sys.implementation
print((i[0],i[1][:3],sys.platform,gc.mem_free(),hasattr(sys.stdin,"buffer"),hasattr(sys,"print_exception"),u!=0))"""
WITHOUT_STDIN = PROBE.replace(
    'hasattr(sys.stdin,"buffer")', "False"
)  # a micro:bit; asked at once of all it would cost them heap


class ReplFailed(DialFailed):
    """What was run has raised; the message ends with its traceback."""


class Platform(Struct, frozen=True):
    """What a board says of itself. `free` is the heap in bytes."""

    implementation: str
    version: str
    platform: str
    free: int
    binary: bool  # sys.stdin has a buffer
    printer: bool  # sys has print_exception
    usb: bool  # it has usb_cdc


class Repl:
    """The REPL at the other end of a stream. `rate` is what the line carries in bytes per second, inf if unknown; `peer` names it in errors.

    Whoever cancels one of its methods leaves the board in the middle of it; `find` gets it out of there.
    """

    def __init__(self, stream: trio.abc.Stream, peer: str, *, rate: float = inf) -> None:
        self.rest = b""
        """What was received and not used yet."""
        self._stream = stream
        self.peer = peer
        self._rate = SLOW_RATE if rate == inf else rate
        self._paste: bool | None = None  # whether it knows raw paste
        self._heard: trio.Event | None = None  # set when another one reads, and something came
        self._failed = ""
        self._turn = trio.Lock()  # of who sends
        self.patience = STEP
        """Seconds for the board to take what it was sent."""
        self.longest = RUN
        """Seconds for what it was sent to run, in `run`."""

    async def find(self, *, patience: float = PATIENCE) -> None:
        """Come to the prompt of the raw REPL, from a running program, the friendly REPL, half a command, paste mode or an agent.

        Raises DialFailed, with what was heard instead.
        """
        heard = b""
        pause = 0.0
        with trio.move_on_after(patience):
            while True:
                pause = min(pause + BANNER, LONGEST_BANNER)
                await self._send(INTERRUPT)
                heard = await self._wait_quiet() or heard
                self.rest = b""
                await self._send(RAW)
                with trio.move_on_after(pause):
                    await self._until(RAW_BANNER)
                    self._paste = None
                    if pause > BANNER:  # a slow one answers each time, in the end
                        await self._wait_quiet()
                    self.rest = b""
                    return
                heard = self.rest or heard
        if not heard:
            why = "nothing came from it: is it connected, on, and at this baud rate?"
        elif b">>>" in heard or b"raw REPL" in heard:
            why = f"its prompt is there, but it does not answer as it should; it said {heard[-HEARD:]!r}"
        else:
            why = f"it said {heard[-HEARD:]!r}: a program that does not stop for Ctrl-C, or another baud rate? A reset ends such a program"
        raise DialFailed(f"{self.peer}: no raw REPL after {patience:g} s; {why}")

    async def probe(self) -> Platform:
        """What board this is. Raises DialFailed."""
        self.patience, self.longest = PROBE_STEP, PROBE_RUN
        try:
            return await self._probe()
        finally:
            self.patience, self.longest = STEP, RUN

    async def _probe(self) -> Platform:
        why = ""
        emptied = False
        for _ in range(TRIES):
            said = b""
            try:
                said = await self._ask_what()
                name, version, *others = ast.literal_eval(said.decode().strip())
                return Platform(name, ".".join(map(str, version)), *others)
            except DialFailed as exc:
                why = str(exc)
            except (ValueError, SyntaxError, TypeError):
                why = f"{self.peer}: asked what it is, the board said {said[-HEARD:]!r}"
            if "MemoryError" in why and not emptied:
                emptied = True
                await self._send(END)  # a soft reset: what fills its heap is nobody's any more
            await self.find()  # the line may have changed what was asked, or said
        if "MemoryError" in why:
            raise DialFailed(
                f"{why}; so it was {TRIES} times, and after a soft reset: what its boot.py and main.py load leaves no room, not even to ask what it is"
            )
        raise DialFailed(f"{why}; so it was {TRIES} times: does the line change what is sent?")

    async def _ask_what(self) -> bytes:
        try:
            return await self.run(PROBE)
        except ReplFailed as exc:
            if "AttributeError" not in str(exc):
                raise
        return await self.run(WITHOUT_STDIN)

    async def run(self, source: str) -> bytes:
        """Run source; what it has printed. Raises ReplFailed if it raised, DialFailed if the board does not answer."""
        await self._give(source.encode(), paste=True)
        with self._limit(self.longest, "it runs"):
            printed = await self._until(END)
            raised = await self._until(END)
            await self._until(b">")
        if len(raised) > 1:
            raise ReplFailed(f"{self.peer}: {raised[:-1].decode(errors='replace').strip()}")
        return printed[:-1]

    async def give(self, source: str) -> None:
        """Have source run; `outcome` waits for its end. Raises DialFailed if the board did not say that it runs it.

        It is not pasted: on MicroPython's unix port that could not be interrupted.
        """
        await self._give(source.encode(), paste=False)

    async def outcome(
        self, hear: Callable[[bytes], Awaitable[bool]], ask: Callable[[], Awaitable[bool]]
    ) -> tuple[bytes, bytes]:
        """Wait for the end of what was given, for as long as it takes. What it has printed last, and the traceback of what it raised, or b"".

        `hear` is given what it prints, as that comes, and says whether that may have been its last. When nothing has come for two seconds, and then each time after twice
        as long, `ask` may have a REPL say that it is one, and says whether it has. Raises DialFailed if that is said, or the end is no whole one.
        """
        tail = b""
        pause = SILENCE
        asked = False
        while END not in self.rest:
            printed, self.rest = self.rest, b""
            tail = (tail + printed)[-len(RAW_BANNER) :]
            if asked and tail == RAW_BANNER:
                raise DialFailed(f"{self.peer}: the end of a program was not heard, and its REPL waits for the next")
            if await hear(printed):
                pause = SILENCE
            with trio.move_on_after(pause) as scope:
                await self._receive()
            if scope.cancelled_caught:
                pause *= 2  # without a bound: what a program does not read fills the board's buffer
                asked = await ask() or asked
        last = await self._until(END)
        with self._limit(self.patience, "a program had ended"):
            raised = await self._until(END)
            await self._until(b">")
        return last[:-1], raised[:-1]

    async def tell(self, data: bytes, wanted: Callable[[], bool]) -> None:
        """Send this to the program that runs, if it is `wanted` still when nothing else is being sent. Raises DialFailed."""
        async with self._turn:
            if wanted():
                await self._send_slowly(data)

    async def start(self, source: str) -> None:
        """Run source, and leave everything that comes from now on to others: `rest` is the beginning. Raises DialFailed."""
        # By plain raw mode: MicroPython's unix port does not hear Ctrl-C in what was pasted.
        await self._give(source.encode(), paste=False)

    async def wait_ended(self) -> None:
        """Wait until what was started has ended. Raises DialFailed."""
        await self._until(b"\x04>")

    async def leave(self) -> None:
        """Go back to the friendly REPL, from the raw one. Raises DialFailed."""
        await self._send(FRIENDLY)
        with self._limit(self.patience, "it was told to go back to its prompt"):
            await self._until(b">>> ")

    # -- another one reads

    def be_told(self) -> None:
        """From now on another one reads the stream, and tells what comes, by `hear`."""
        self._heard = trio.Event()

    def hear(self, data: bytes) -> None:
        """This has come."""
        self.rest += data
        if self._heard is not None:
            self._heard.set()

    def fail(self, why: str) -> None:
        """Nothing more will come: whoever waits for it gets DialFailed."""
        self._failed = why
        if self._heard is not None:
            self._heard.set()

    def read_again(self) -> None:
        """Nobody else reads any more."""
        self._heard = None
        self._failed = ""
        self.rest = b""

    # -- giving source

    async def _give(self, source: bytes, *, paste: bool) -> None:
        if paste and self._paste is not False:
            await self._send(PASTE)
            with self._limit(self.patience, "raw paste mode was asked for"):
                answer = await self._exactly(2)
                if answer == b"R\x01":
                    self._paste = True
                    window = int.from_bytes(await self._exactly(2), "little")
                    await self._give_pasted(source, window)
                    return
                if answer != b"R\x00":  # it is too old to know, and begins anew
                    await self._until(b">")
            self._paste = False
        await self._give_plain(source)

    async def _give_pasted(self, source: bytes, window: int) -> None:
        """Send as fast as the board takes it: it says 01 for each window that it has taken, and 04 if it wants no more."""
        room = window
        at = 0
        while at < len(source):
            while not room or self.rest:
                with self._limit(self.patience, "more was to be sent"):
                    said = await self._exactly(1)
                if said == b"\x01":
                    room += window
                elif said == END:
                    await self._send(END)
                    return
                else:
                    raise DialFailed(f"{self.peer}: in raw paste mode the board said {(said + self.rest)[:HEARD]!r}")
            part = source[at : at + room]
            await self._send(part)
            at += len(part)
            room -= len(part)
        await self._send(END)
        with self._limit(self.patience, "all was sent"):
            await self._until(END)

    async def _give_plain(self, source: bytes) -> None:
        """Send no faster than the line is: nobody says when the board's buffer is full."""
        async with self._turn:
            await self._send_slowly(source + END)
        with self._limit(self.patience, "source was sent"):
            answer = await self._exactly(2)
        if answer != b"OK":
            raise DialFailed(f"{self.peer}: instead of OK the board said {(answer + self.rest)[:HEARD]!r}")

    # -- bytes

    @contextmanager
    def _limit(self, seconds: float, when: str) -> Iterator[None]:
        """So long the body may take. Raises DialFailed, with what the board said last."""
        with trio.move_on_after(seconds) as scope:
            yield
        if scope.cancelled_caught:
            said = f"; it said {self.rest[-HEARD:]!r}" if self.rest else ""
            raise DialFailed(f"{self.peer}: nothing more came for {seconds:g} s when {when}{said}")

    async def _send(self, data: bytes) -> None:
        async with self._turn:
            await self._send_at_once(data)

    async def _send_slowly(self, data: bytes) -> None:
        for at in range(0, len(data), PLAIN_CHUNK):
            if at:
                await trio.sleep(PLAIN_CHUNK / self._rate)
            await self._send_at_once(data[at : at + PLAIN_CHUNK])

    async def _send_at_once(self, data: bytes) -> None:
        try:
            await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError, OSError) as exc:
            raise DialFailed(f"{self.peer}: {str(exc) or 'the pipe broke'}") from exc

    async def _receive(self) -> None:
        if self._heard is not None:
            if not self._failed:
                await self._heard.wait()
                self._heard = trio.Event()
            if self._failed:
                raise DialFailed(f"{self.peer}: {self._failed}")
            return
        try:
            data = await self._stream.receive_some(CHUNK)
        except (trio.BrokenResourceError, trio.ClosedResourceError, OSError) as exc:
            raise DialFailed(f"{self.peer}: {str(exc) or 'the pipe broke'}") from exc
        if not data:
            raise DialFailed(f"{self.peer}: the pipe has ended: was it unplugged?")
        self.rest += data

    async def _until(self, token: bytes) -> bytes:
        while token not in self.rest:
            await self._receive()
        end = self.rest.index(token) + len(token)
        found, self.rest = self.rest[:end], self.rest[end:]
        return found

    async def _exactly(self, count: int) -> bytes:
        while len(self.rest) < count:
            await self._receive()
        found, self.rest = self.rest[:count], self.rest[count:]
        return found

    async def _wait_quiet(self) -> bytes:
        """Wait until nothing more comes; what came."""
        with trio.move_on_after(LONGEST_NOISE):
            while True:
                with trio.move_on_after(QUIET) as scope:
                    await self._receive()
                self.rest = self.rest[-HEARD:]
                if scope.cancelled_caught:
                    break
        return self.rest
