"""For tests, yours too: a serial line that is slow and noisy, can be unplugged, and needs no hardware: a pair of ptys."""

from __future__ import annotations

import math
import os
import pty
import random
import select
import tempfile
import termios
import threading
import time
import tty
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self, TypeAlias

__all__ = ["BadLine", "Damage", "Traffic"]

Toward: TypeAlias = Literal["both", "near", "far"]

BITS = 10  # of each byte on the line: start, eight, stop
FIFO = 0.010  # seconds of bytes that are taken ahead; with less, each hiccup of the scheduler is a gap on the line
FIFO_BYTES = 16  # and at least so many, as a UART would
TICK = 0.001  # between two deliveries of a long transfer: what USB adapters do

# The names of the rates that a port can be set to.
RATES = {getattr(termios, name): int(name[1:]) for name in dir(termios) if name[0] == "B" and name[1:].isdecimal()}


class BadLine:
    """A serial line between two ports, `near` and `far`: paths of real tty devices, for whatever opens serial ports.

        async with BadLine(baudrate=115200, seed=1, corrupt=0.001) as line:
            ...                       # open line.near and line.far: with pyserial, or as f"serial://{line.near}"
            line.silence()            # what is sent is lost
            line.garble()             # all that arrives is garbage
            line.mend()               # back to the noise it has
            line.disturb(lose=0.1)    # this noise from now on
            line.unplug()             # both ports are gone, as when USB is pulled
            line.plug()               # and back, under their paths

    `corrupt`, `lose`, `duplicate` and `burst` are probabilities for each byte: that one of its bits flips, that it is lost, that it comes
    twice, that the 16 bytes from there on are garbage. What is damaged depends on the seed and on how many bytes went that way
    before, on nothing else. `latency` is in seconds, each way. A byte takes ten bits at `baudrate`; `math.inf` is a line that takes no time. With
    None each port sends at the rate it is set to, and what arrives is garbage unless the other is set to the same, of at most `fastest`.

    A line does not wait for who reads it: beyond the few KiB of the tty's own buffer, what is not read is lost, and counted (one that
    takes no time does wait). It works in a thread of its own, which keeps time while the program under test computes; `cpu` is what that thread has used. `with` works as well
    as `async with`; neither waits. All methods are synchronous and take effect at once.
    """

    def __init__(
        self,
        baudrate: float | None = 115200,
        *,
        seed: int = 0,
        corrupt: float = 0.0,
        lose: float = 0.0,
        duplicate: float = 0.0,
        burst: float = 0.0,
        latency: float = 0.0,
        fastest: float = math.inf,
    ) -> None:
        if baudrate is not None and not baudrate > 0:
            raise ValueError(f"a line of {baudrate} baud carries nothing")
        if not 0 <= latency < math.inf:
            raise ValueError(f"a latency of {latency} s is not possible")
        self.near = ""
        self.far = ""
        self.to_far = Traffic()
        self.to_near = Traffic()
        self.cpu = 0.0
        self._seed = str(seed)
        noise = {"corrupt": corrupt, "lose": lose, "duplicate": duplicate, "burst": burst}
        self._ways = {
            "far": Way(self.to_far, Damage(f"{seed} far", **noise), baudrate, fastest, latency),
            "near": Way(self.to_near, Damage(f"{seed} near", **noise), baudrate, fastest, latency),
        }
        self._ports: ExitStack | None = None
        self._stopping = False
        self._turn = threading.Condition()  # whoever has it may use the descriptors
        self._waits = False  # the line's thread waits for descriptors, which closes none of them
        self._undo = ExitStack()

    def silence(self, *, toward: Toward = "both") -> None:
        """Lose everything from now on, as if a wire were broken."""
        self._set(toward, "silent")

    def garble(self, *, toward: Toward = "both") -> None:
        """Deliver random bytes from now on, as many as are sent."""
        self._set(toward, "garbled")

    def mend(self, *, toward: Toward = "both") -> None:
        """End silence and garbage. What was lost stays lost."""
        self._set(toward, "sound")

    def disturb(
        self,
        *,
        corrupt: float = 0.0,
        lose: float = 0.0,
        duplicate: float = 0.0,
        burst: float = 0.0,
        toward: Toward = "both",
    ) -> None:
        """Have this noise from now on, instead of that it had: without arguments none. What is damaged depends on the seed and the bytes from here."""
        noise = {"corrupt": corrupt, "lose": lose, "duplicate": duplicate, "burst": burst}
        with self._turn:
            for name, way in self._ways.items():
                if toward in ("both", name):
                    way.disturb(Damage(f"{self._seed} {name}", **noise))

    def unplug(self) -> None:
        """Take both ports away. Who has one open reads its end, and cannot write any more; the paths lead nowhere."""
        with self._turn:
            if self._ports is not None:
                self._ports.close()
                self._ports = None
            self._wake()
            self._turn.wait_for(lambda: not self._waits)  # until then a closed port is still there

    def plug(self) -> None:
        """Bring the ports back under the same paths. Whoever had one open has to open it again."""
        with self._turn:
            if self._ports is None:
                self._ports = self._open()
        self._wake()

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            directory = undo.enter_context(tempfile.TemporaryDirectory(prefix="badline-"))
            self.near, self.far = (os.path.join(directory, name) for name in ("near", "far"))
            self._awake, self._alarm = os.pipe()
            undo.callback(os.close, self._awake)
            undo.callback(os.close, self._alarm)
            for end in (self._awake, self._alarm):
                os.set_blocking(end, False)
            undo.callback(self.unplug)
            self.plug()
            thread = threading.Thread(target=self._run, name="BadLine", daemon=True)
            thread.start()
            undo.callback(thread.join)
            undo.callback(self._stop)
            self._undo = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._undo.close()

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._undo.close()

    def _set(self, toward: Toward, state: Literal["sound", "silent", "garbled"]) -> None:
        with self._turn:
            for name, way in self._ways.items():
                if toward in ("both", name):
                    way.state = state

    def _stop(self) -> None:
        self._stopping = True
        self._wake()

    def _wake(self) -> None:
        os.write(self._alarm, b"!")

    def _open(self) -> ExitStack:
        """Make two ptys. Their slave sides stay open here, so that the line lives on while nobody has a port open."""
        with ExitStack() as undo:
            masters = []
            for path in (self.near, self.far):
                master, slave = pty.openpty()
                undo.callback(os.close, slave)
                undo.callback(os.close, master)
                tty.setraw(slave)
                os.set_blocking(master, False)
                os.symlink(os.ttyname(slave), path)
                undo.callback(os.unlink, path)
                masters.append(master)
            near, far = masters
            self._ways["far"].plug(near, far)
            self._ways["near"].plug(far, near)
            return undo.pop_all()

    def _run(self) -> None:
        sources: dict[int, Way] = {}
        timeout: float | None = 0.0
        while not self._stopping:
            asleep = time.monotonic()
            try:
                readable, _, _ = select.select([self._awake, *sources], (), (), timeout)
            except OSError:  # unplugged between the plan and here
                readable = [self._awake]
            late = 0.0 if timeout is None else max(0.0, time.monotonic() - asleep - timeout)
            with self._turn:
                self._waits = False
                self._turn.notify_all()
                if self._awake in readable:
                    with suppress(BlockingIOError):
                        os.read(self._awake, 4096)
                elif self._ports is not None:
                    for way in self._ways.values():
                        way.step(time.monotonic(), late, readable=way.source in readable)
                sources, timeout = self._plan() if self._ports is not None else ({}, None)
                self._waits = bool(sources)
            self.cpu = time.thread_time()
        with self._turn:
            self._waits = False

    def _plan(self) -> tuple[dict[int, Way], float | None]:
        """Which descriptors to wait for, and for how long."""
        now = time.monotonic()
        sources = {way.source: way for way in self._ways.values() if way.room(now) >= 1}
        due = min(way.due(now) for way in self._ways.values())
        return sources, None if due == math.inf else max(0.0, due - now)


@dataclass(slots=True)
class Traffic:
    """What went one way, in bytes."""

    sent: int = 0  # taken from the port that sends
    received: int = 0  # given to the other
    corrupted: int = 0
    lost: int = 0
    duplicated: int = 0
    overrun: int = 0  # of those given, what was lost because nobody read


class Damage:
    """Damages a stream of bytes, the same way whatever pieces it comes in. It counts in `traffic`."""

    BURST = 16

    def __init__(
        self, seed: str, *, corrupt: float = 0.0, lose: float = 0.0, duplicate: float = 0.0, burst: float = 0.0
    ) -> None:
        chances = {"corrupt": corrupt, "lose": lose, "duplicate": duplicate, "burst": burst}
        for name, chance in chances.items():
            if not 0 <= chance <= 1:
                raise ValueError(f"{name}={chance} is no probability")
        if sum(chances.values()) > 1:
            raise ValueError(f"{chances} are more than 1 together")
        self.traffic = Traffic()
        self._random = random.Random(seed)
        self._kinds = list(chances)
        self._weights = list(chances.values())
        self._sum = sum(self._weights)
        self._gap = self._draw_gap()
        self._garbage = 0  # bytes that are left of a burst

    def apply(self, data: bytes) -> bytes:
        if self._gap >= len(data) and not self._garbage:
            self._gap -= len(data)
            return data
        return b"".join(self._pieces(data))

    def garbage(self, data: bytes) -> bytes:
        """As many random bytes."""
        self.traffic.corrupted += len(data)
        return self._random.randbytes(len(data))

    def _pieces(self, data: bytes) -> Iterator[bytes]:
        at = 0
        while at < len(data):
            if self._garbage:
                until = min(len(data), at + self._garbage)
                self._garbage -= until - at
                yield b"".join(self.garbage(data[i : i + 1]) for i in range(at, until))
            elif self._gap:
                until = int(min(len(data), at + self._gap))
                self._gap -= until - at
                yield data[at:until]
            else:
                until = at + 1
                yield self._strike(data[at:until])
                self._gap = self._draw_gap()
            at = until

    def _strike(self, byte: bytes) -> bytes:
        (kind,) = self._random.choices(self._kinds, self._weights)
        match kind:
            case "corrupt":
                self.traffic.corrupted += 1
                return bytes([byte[0] ^ 1 << self._random.randrange(8)])
            case "lose":
                self.traffic.lost += 1
                return b""
            case "duplicate":
                self.traffic.duplicated += 1
                return byte * 2
            case _:
                self._garbage = self.BURST - 1
                return self.garbage(byte)

    def _draw_gap(self) -> float:
        """How many bytes pass unharmed until the next one that does not."""
        if not self._sum:
            return math.inf
        if self._sum >= 1:
            return 0
        return math.log(1 - self._random.random()) // math.log(1 - self._sum)


class Way:
    """One direction of a line. What it has taken and not yet delivered is on the line, or in the UART's queue before it."""

    def __init__(
        self, traffic: Traffic, damage: Damage, baudrate: float | None, fastest: float, latency: float
    ) -> None:
        self.state: Literal["sound", "silent", "garbled"] = "sound"
        self.source = self._sink = -1
        self._traffic = damage.traffic = traffic
        self._damage = damage
        self._baudrate = baudrate
        self._fastest = fastest
        self._latency = latency
        self._rate = (baudrate or fastest) / BITS  # bytes per second
        self._matched = True  # both ports are set to the same rate
        self._free = 0.0  # when the last byte that was taken will have left
        self._ticked = 0.0
        self._late = 0.0  # seconds that this thread was late while bytes waited for it
        self._under_way: deque[tuple[float, float, bytes]] = deque()  # since when, at which rate, what
        self._held = b""  # what a line that takes no time keeps for a slow reader

    def disturb(self, damage: Damage) -> None:
        """Damage what is delivered from now on as this does."""
        damage.traffic = self._traffic
        self._damage = damage

    def plug(self, source: int, sink: int) -> None:
        """Carry from one descriptor to the other; what was on the line is gone."""
        self.source, self._sink = source, sink
        self._under_way.clear()
        self._free = 0.0
        self._held = b""

    def room(self, now: float) -> float:
        """How many bytes may be taken now. Next to none, and it is worth waiting for more."""
        if self._rate == math.inf:
            return 0 if self._held else 4096
        ahead = max(0.0, self._free - now)
        room = max(FIFO_BYTES, FIFO * self._rate) - ahead * self._rate
        return room if room >= TICK * self._rate else 0

    def due(self, now: float) -> float:
        """When to come back, unless something is to be read before; inf if there is nothing to do."""
        if self._held:
            return now + TICK
        if not self._under_way:
            return math.inf
        return min(max(now, self._ticked + TICK), self._free + self._latency)

    def step(self, now: float, late: float, *, readable: bool) -> None:
        """Take what there is room for, deliver what is due. It should have been called so much earlier, which a line makes up for."""
        self._late = self._late + late if self._under_way else 0.0
        if readable:
            self._take(now)
        if self._held:
            self._give(self._held)
        elif self._under_way:
            arrived = b"".join(self._arrived(now - self._latency))
            if arrived:
                self._ticked = now
                self._deliver(arrived)

    def _take(self, now: float) -> None:
        if self._baudrate is None:
            self._ask_ports()
        room = int(self.room(now))
        if not room:
            return
        data = os.read(self.source, room)
        self._traffic.sent += len(data)
        since = max(now - self._late, self._free)
        if len(data) < room:
            self._late = 0.0
        self._free = since + len(data) / self._rate
        self._under_way.append((since, self._rate, data))

    def _ask_ports(self) -> None:
        sends, hears = (RATES.get(termios.tcgetattr(port)[5], 0) for port in (self.source, self._sink))
        self._matched = sends == hears and sends <= self._fastest
        self._rate = (sends or 9600) / BITS

    def _arrived(self, now: float) -> Iterator[bytes]:
        while self._under_way:
            since, rate, data = self._under_way.popleft()
            if now < since:
                count = 0
            elif rate == math.inf:
                count = len(data)
            else:
                count = int(min(len(data), (now - since) * rate + 1e-6))
            if count == len(data):
                yield data
                continue
            if count > 0:
                yield data[:count]
                since, data = since + count / rate, data[count:]
            self._under_way.appendleft((since, rate, data))
            return

    def _deliver(self, data: bytes) -> None:
        if self.state == "silent":
            self._traffic.lost += len(data)
            return
        if self.state == "garbled" or not self._matched:
            data = self._damage.garbage(data)
        else:
            data = self._damage.apply(data)
        self._traffic.received += len(data)
        self._give(data)

    def _give(self, data: bytes) -> None:
        try:
            taken = os.write(self._sink, data) if data else 0
        except BlockingIOError:
            taken = 0
        if self._rate == math.inf:
            self._held = data[taken:]
        else:
            self._traffic.overrun += len(data) - taken
