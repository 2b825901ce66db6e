"""A child process as the far end of a pipe: its streams, its last words, its end."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import textwrap
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import trio

from rpyc_gateway.errors import DialFailed
from rpyc_gateway.transport import Buffer

__all__ = ["Child", "ChildStream", "run_child", "write_nowait"]

logger = logging.getLogger("rpyc_gateway.stdio")

PATIENCE = 2.0  # for each of: ending when its output has, when its input has, when it was told to
LAST_WORDS = 0.5  # how long its messages may come after its end
KEPT_LINES = 20
LONGEST_LINE = 1000  # the rest of a line is dropped: it may go on for ever
LONGEST_NAME = 60


@asynccontextmanager
async def run_child(command: str, argv: list[str]) -> AsyncIterator[Child]:
    """Start a child and, at the end, see it off: it is reaped and its descriptors are closed when the context is left.

    Raises DialFailed if it cannot be started. Cancelled at any point, the child still gets its time to go: 4 s at most.
    """
    try:
        process = await trio.lowlevel.open_process(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
    except FileNotFoundError as exc:
        raise DialFailed(
            f"{_brief(command)} cannot be started: no such command; is it installed, and on PATH?"
        ) from exc
    except (OSError, ValueError) as exc:
        raise DialFailed(f"{_brief(command)} cannot be started: {exc}") from exc
    child = Child(command, process)
    failure: BaseException | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(child.relay_errors)
        try:
            yield child
        except BaseException as exc:  # noqa: BLE001  it is raised below: it passes the nursery by, which would wrap it in a group
            failure = exc
        with trio.CancelScope(shield=True):
            await child.stop()
    if failure is not None:
        try:
            raise failure
        finally:
            del failure


class Child:
    """A running child, started and ended by `run_child`. `stream` is its standard input and output."""

    def __init__(self, command: str, process: trio.Process) -> None:
        self.name = _brief(command)
        self.process = process
        self.stream = ChildStream(self)
        self.lines: deque[str] = deque(maxlen=KEPT_LINES)
        self.silent = trio.Event()  # its standard error has ended

    def __str__(self) -> str:
        return f"{self.name} (pid {self.process.pid})"

    async def relay_errors(self) -> None:
        """Log what the child says on its standard error, line by line, until that ends or is closed by `stop`.

        It listens during a cancellation too: what a child says while it goes is often what one wants to know.
        """
        assert self.process.stderr is not None
        lines = Lines()
        with trio.CancelScope(shield=True):
            try:
                async for data in self.process.stderr:
                    self._note(lines.split(data))
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                # Its own children held it open, and we stopped listening.
                logger.debug("%s: standard error was closed", self)
        self._note(lines.rest())
        self.silent.set()

    def _note(self, lines: Iterator[str]) -> None:
        for line in lines:
            self.lines.append(line)
            logger.info("%s: %s", self, line)

    async def wait_last_words(self) -> None:
        """Its output has ended. Give its exit status and its last messages a moment to arrive."""
        with trio.move_on_after(PATIENCE):
            await self.process.wait()
        with trio.move_on_after(LAST_WORDS):
            await self.silent.wait()

    def epitaph(self) -> str:
        """How the child ended, and what it said last."""
        status = self.process.returncode
        if status is None:
            end = f"{self} closed its standard streams, but runs on"
        elif status < 0:
            end = f"{self.name} was killed by {_signal_name(-status)}"
        else:
            end = f"{self.name} exited with status {status}"
        return f"{end}: {' | '.join(self.lines)}" if self.lines else end

    async def stop(self) -> None:
        """End its input, wait, terminate it, wait, kill it. When this returns it is reaped."""
        assert self.process.stderr is not None
        await self.stream.aclose()
        for insist in (self.process.terminate, self.process.kill):
            with trio.move_on_after(PATIENCE):
                await self.process.wait()
            insist()  # does nothing once it has been reaped
        await self.process.wait()
        # Its own children may hold its standard error open for ever.
        with trio.move_on_after(LAST_WORDS):
            await self.silent.wait()
        await self.process.stderr.aclose()
        await self.silent.wait()


class ChildStream(trio.abc.HalfCloseableStream):
    """What a child reads and writes. Where a plain pipe ends without a word, this one says how the child ended."""

    def __init__(self, child: Child) -> None:
        assert child.process.stdin is not None
        assert child.process.stdout is not None
        self._child = child
        self._stdin = child.process.stdin
        self._stdout = child.process.stdout
        self._heard = False
        self._closed = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Raises BrokenResourceError with the child's status and last messages once it reads no more."""
        try:
            await self._stdin.send_all(data)
        except trio.BrokenResourceError as exc:
            await self._child.wait_last_words()
            raise trio.BrokenResourceError(self._child.epitaph()) from exc

    async def wait_send_all_might_not_block(self) -> None:
        await self._stdin.wait_send_all_might_not_block()

    def send_nowait(self, *buffers: Buffer) -> int:
        """As in Pipe, but a child that reads no more would block: so it is `send_all` that fails, and says why."""
        assert isinstance(self._stdin, trio.lowlevel.FdStream)
        try:
            return write_nowait(self._stdin, *buffers)
        except BrokenPipeError:
            return 0

    async def send_eof(self) -> None:
        if self._closed:
            await trio.lowlevel.checkpoint()
            raise trio.ClosedResourceError("this stream was closed")
        await self._stdin.aclose()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Raises BrokenResourceError if the child ended with an error, or without having said anything."""
        data = await self._stdout.receive_some(max_bytes)
        if data:
            self._heard = True
            return bytes(data)
        await self._child.wait_last_words()
        if self._closed:
            raise trio.ClosedResourceError("this stream was closed")
        status = self._child.process.returncode
        if status or (status == 0 and not self._heard):
            raise trio.BrokenResourceError(self._child.epitaph())
        return b""

    async def aclose(self) -> None:
        self._closed = True
        try:
            await self._stdin.aclose()
        finally:
            await self._stdout.aclose()


class Lines:
    """Cuts bytes into lines that are fit for a log: bounded, and with nothing in them that a terminal would obey."""

    def __init__(self) -> None:
        self._line = bytearray()

    def split(self, data: bytes | bytearray) -> Iterator[str]:
        *ended, begun = data.split(b"\n")
        for part in ended:
            self._add(part)
            yield from self.rest()
        self._add(begun)

    def rest(self) -> Iterator[str]:
        line, self._line = self._line, bytearray()
        text = line[:LONGEST_LINE].decode(errors="replace").rstrip()
        if len(line) > LONGEST_LINE:
            text += "…"
        if text:
            yield "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)

    def _add(self, part: bytes | bytearray) -> None:
        self._line += part[: LONGEST_LINE + 1 - len(self._line)]


def write_nowait(stream: trio.lowlevel.FdStream, *buffers: Buffer) -> int:
    """Write what fits now. Raises OSError if the pipe is broken, or closed: the stream's number is -1 then."""
    try:
        return os.writev(stream.fileno(), buffers)
    except BlockingIOError:
        return 0


def _brief(command: str) -> str:
    return (
        f"`{textwrap.shorten(command, LONGEST_NAME, placeholder=' …') if ' ' in command else command[:LONGEST_NAME]}`"
    )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
