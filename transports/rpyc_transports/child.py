"""A child process as the far end of a pipe: how it is started, what it says, how it ends."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import subprocess
import textwrap
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from math import inf

import trio

from rpyc_gateway.errors import DialFailed
from rpyc_gateway.transport import Buffer, Pipe
from rpyc_transports.advice import NOBODY_ANSWERS, advise, asks, echoes
from rpyc_transports.interpreter import PROMPT
from rpyc_transports.lines import Lines
from rpyc_transports.preamble import Preamble
from rpyc_transports.sockets import DONT_WAIT

__all__ = ["Child", "ChildStream", "Manner", "run_child"]

logger = logging.getLogger("rpyc_gateway.stdio")

PATIENCE = 2.0  # for each of: ending when its input has, when it was told to, when it was killed
LAST_WORDS = 0.5  # how long its messages may come after its end
LINK_PATIENCE = 10.0  # seconds that the link has longer than this for the whole of the far side's HELLO
UNANSWERED = 3.0  # how long a question may stand there until it is clear that nobody answers
KEPT_LINES = 20
LONGEST_NAME = 60
LONGEST_QUOTE = 200
NO_SUCH_COMMAND = "cannot be started: no such command; is it installed, and on PATH?"


@dataclass(frozen=True, slots=True)
class Manner:
    """How a command is run. `patience` and `preamble` bound what comes before its first word for a link; see docs/stdio.md."""

    patience: float = inf  # seconds
    preamble: int = 0  # bytes; 0: what comes is passed on as it is, a link or not
    terminal: bool = False  # it may use the terminal of this process
    pipes: bool = os.name != "posix"  # two pipes instead of one socket
    python: bool = False  # it is a Python that waits for what it is sent, and says so


@asynccontextmanager
async def run_child(command: str, argv: list[str], manner: Manner = Manner()) -> AsyncIterator[Child]:
    """Start a child and, at the end, see it off: it is reaped and its descriptors are closed when the context is left.

    Raises DialFailed if it cannot be started. Cancelled at any point, the child still gets its time to go: 6 s at most.
    """
    with ExitStack() as undo:
        child = await _start(command, argv, manner, undo)
        failure: BaseException | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child.relay_errors)
            nursery.start_soon(child.watch_end)
            nursery.start_soon(child.watch_greeting)
            try:
                yield child
            except BaseException as exc:  # noqa: BLE001  it is raised below: it passes the nursery by, which would wrap it in a group
                failure = exc
            with trio.CancelScope(shield=True):
                await child.stop()
            # What ends the tasks must not be taken for a cancellation from outside, nor hide what the body has raised.
            nursery.cancel_scope.shield = True
            nursery.cancel_scope.cancel()
    if failure is not None:
        try:
            raise failure
        finally:
            del failure


async def _start(command: str, argv: list[str], manner: Manner, undo: ExitStack) -> Child:
    name = _brief(command)
    if manner.terminal:
        problem = _no_terminal()
        if problem:
            raise DialFailed(f"{name} is to ask on the terminal (terminal=1), but {problem}")
        if shutil.which(argv[0]) is None:
            raise DialFailed(f"{name} {NO_SUCH_COMMAND}")
        # Ctrl-C is for this process: it may interrupt one call, and the link lives on. During a prompt ssh and sudo hear it all the same.
        argv = ["sh", "-c", "trap '' INT QUIT; exec \"$@\"", "sh", *argv]
    sockets = None if manner.pipes else socket.socketpair()
    for end in sockets or ():
        undo.enter_context(end)
    theirs = subprocess.PIPE if sockets is None else sockets[1].fileno()
    try:
        # In a session of its own it has no terminal: it cannot ask there, nor is it stopped for trying, nor does a Ctrl-C meant for us end it.
        process = await trio.lowlevel.open_process(
            argv, stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, start_new_session=not manner.terminal
        )
    except FileNotFoundError as exc:
        raise DialFailed(f"{name} {NO_SUCH_COMMAND}") from exc
    except (OSError, ValueError) as exc:
        raise DialFailed(f"{name} cannot be started: {exc}") from exc
    return Child(command, process, manner, sockets)


class Child:
    """A running child, started and ended by `run_child`. `stream` is its standard input and output."""

    def __init__(
        self, command: str, process: trio.Process, manner: Manner, sockets: tuple[socket.socket, socket.socket] | None
    ) -> None:
        self.command = command
        self.name = _brief(command)
        self.process = process
        self.manner = manner
        self.stream = ChildStream(self, sockets)
        self.lines: deque[str] = deque(maxlen=KEPT_LINES)
        self.silent = trio.Event()  # its standard error has ended
        self.status: int | None = None  # of its exit, once it has ended; for any thread
        self.over = trio.Event()  # it has ended, or we do not wait for it any longer: `why` says more
        self.useless = False  # it runs, but no link will come of it
        self.why: Callable[[], str] = self.epitaph
        self.preamble = Preamble()
        self.preamble.found = not manner.preamble
        self._errors = Lines()
        self._banner = Lines()
        self._asks = trio.Event()

    def __str__(self) -> str:
        return f"{self.name} (pid {self.process.pid})"

    # -- what it says

    async def relay_errors(self) -> None:
        """Log what the child says on its standard error, line by line, until that ends or is closed by `stop`.

        It listens during a cancellation too: what a child says while it goes is often what one wants to know.
        """
        assert self.process.stderr is not None
        with trio.CancelScope(shield=True):
            try:
                async for data in self.process.stderr:
                    self._note(self._errors.split(data))
                    if asks(self._errors.unfinished):
                        self._asks.set()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                # Its own children held it open, and we stopped listening.
                logger.debug("%s: standard error was closed", self)
        self._note(self._errors.rest())
        self.silent.set()

    def _note(self, lines: Iterator[str]) -> None:
        # Who has lent it the terminal reads there what it wants: a touch of a key, for example.
        level = logging.WARNING if self.manner.terminal and not self.preamble.found else logging.INFO
        for line in map(self._without_prompt, lines):
            if line:
                self.lines.append(line)
                logger.log(level, "%s: %s", self, line)

    def _without_prompt(self, line: str) -> str:
        return line.removeprefix(PROMPT).lstrip() if self.manner.python else line

    def hear(self, data: bytes) -> bytes:
        """What of its output is the link's, in any thread. Raises OSError if too much of it is not."""
        if self.preamble.found:
            return data
        text, link = self.preamble.receive(data)
        for line in (*self._banner.split(text), *(self._banner.rest() if link else ())):
            logger.info("%s, before the link: %s", self, line)
        if echoes(self.preamble.beginning):
            raise OSError(self._described(f"{self} sends back what it is sent"))
        if self.preamble.size > self.manner.preamble:
            raise OSError(self._described(f"{self} has said {self.preamble.size} bytes, and no link began among them"))
        return link

    # -- why it is of no use

    async def watch_greeting(self) -> None:
        """Give it so many seconds for its first word to a link, and less if it waits for an answer that nobody gives."""
        with trio.move_on_after(self.manner.patience):
            while not self.preamble.found:
                await self._asks.wait()
                self._asks = trio.Event()
                await trio.sleep(UNANSWERED)
                question = self._errors.unfinished
                if asks(question) and not self.preamble.found:
                    self._give_up(f"{self} asks {question!r}, and {NOBODY_ANSWERS}")
                    return
        if not self.preamble.found:
            patience = f"{self.manner.patience:g} s (`stdio:?patience=SECONDS COMMAND` gives it more)"
            self._give_up(self._described(f"{self} began no link within {patience}"))

    async def watch_end(self) -> None:
        """When it has ended, say how to whoever reads or writes."""
        self.status = await self.process.wait()
        with trio.move_on_after(LAST_WORDS):
            await self.silent.wait()
        self._end(self.epitaph)

    def _give_up(self, why: str) -> None:
        self.useless = True
        self._end(lambda: why)

    def _end(self, why: Callable[[], str]) -> None:
        if not self.over.is_set():
            self.why = why
            self.over.set()
            self.stream.cut()  # last: whoever wakes of it, in another thread, looks at the rest

    def epitaph(self) -> str:
        """How the child ended, and what it said last."""
        status = self.status
        if status is None:
            end = f"{self} closed its standard streams, but runs on"
        elif status < 0:
            end = f"{self.name} was killed by {_signal_name(-status)}"
        else:
            end = f"{self.name} exited with status {status}"
        return self._described(end)

    def _described(self, what: str) -> str:
        """`what`, with all that it has said until now, and what to do."""
        said = [*self.lines, *filter(None, [self._without_prompt(self._errors.unfinished)])]
        if self.manner.python and not self.preamble.found:  # what is no Python may say what it was sent
            said = [textwrap.shorten(line, LONGEST_QUOTE, placeholder=" …") for line in said]
        beginning = "" if self.preamble.found else self.preamble.beginning
        text = f"{what}: {' | '.join(said)}" if said else what
        if beginning:
            text += f"; on its standard output it said {beginning!r}"
        advice = advise("\n".join([*said, beginning]), self.status, self.command)
        return f"{text} ({advice})" if advice else text

    # -- its end

    async def stop(self) -> None:
        """End its input, wait, terminate it, wait, kill it. When this returns it is reaped."""
        assert self.process.stderr is not None
        await self.stream.aclose()
        for number in (signal.SIGTERM, signal.SIGKILL):
            with trio.move_on_after(PATIENCE):
                await self.process.wait()
            self._signal(number)
        with trio.move_on_after(PATIENCE) as patience:
            await self.process.wait()
        if patience.cancelled_caught:
            logger.warning("%s is left to itself: it does not end, and may not be killed by this user", self)
        # Its own children may hold its standard error open for ever.
        with trio.move_on_after(LAST_WORDS):
            await self.silent.wait()
        await self.process.stderr.aclose()
        await self.silent.wait()

    def _signal(self, number: signal.Signals) -> None:
        """To all of its session, unless it has been reaped: its number may be another's by then."""
        if self.process.returncode is not None:
            return
        try:
            if self.manner.terminal or os.name != "posix":
                self.process.send_signal(number)
            else:
                os.killpg(self.process.pid, number)
        except PermissionError:  # it is another user's, by sudo; the end of its input should have told it
            logger.debug("%s may not be sent %s", self, number.name)


class ChildStream(trio.abc.HalfCloseableStream):
    """What a child reads and writes: one socket, or two pipes. Where a plain one ends without a word, this one says how the child ended.

    Of the socket this process keeps the child's end, too. So it ends when we say so, with the reason at hand, and not before: a child that
    has ended is reaped first, and one that its own children outlive holds nobody up.
    """

    def __init__(self, child: Child, sockets: tuple[socket.socket, socket.socket] | None) -> None:
        self._child = child
        self._near = sockets and sockets[0]
        self._far = sockets and sockets[1]
        self._stream: trio.abc.HalfCloseableStream
        if self._near is not None:
            self._stream = trio.SocketStream(trio.socket.from_stdlib_socket(self._near))
        else:
            assert child.process.stdin is not None
            assert child.process.stdout is not None
            self._stream = trio.StapledStream(child.process.stdin, child.process.stdout)
        self._heard = False
        self._closed = False

    @property
    def pipe(self) -> Pipe:
        """It, as a transport gives it."""
        child = self._child
        # A child that says nothing is given up here, where there is more to say; a HELLO that stops in its middle is left to the link.
        patience = child.manner.patience + LINK_PATIENCE
        pipe = Pipe(self, str(child), identity=f"child:{child.name.strip('`')}", patience=patience)
        if self._near is not None:
            pipe.send_nowait, pipe.receive_nowait = self.send_nowait, self.receive_nowait
            pipe.fileno = self._near.fileno()
        return pipe

    # -- in trio

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Raises BrokenResourceError with the child's status and last messages once it reads no more."""
        try:
            await self._stream.send_all(data)
        except trio.BrokenResourceError as exc:
            with trio.move_on_after(PATIENCE):
                await self._child.over.wait()
            raise trio.BrokenResourceError(self._child.why()) from exc

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        if self._closed:
            await trio.lowlevel.checkpoint()
            raise trio.ClosedResourceError("this stream was closed")
        await self._stream.send_eof()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Raises BrokenResourceError if the child ended with an error, or without having said anything."""
        taken: bytes | None = None
        while taken is None:
            data = bytes(await self._stream.receive_some(max_bytes))
            if not data and self._near is None:  # it may be about to end
                with trio.move_on_after(PATIENCE):
                    await self._child.over.wait()
            if self._closed:
                raise trio.ClosedResourceError("this stream was closed")
            try:
                taken = self._take(data)
            except OSError as exc:
                raise trio.BrokenResourceError(str(exc)) from None
        return taken

    async def aclose(self) -> None:
        self._closed = True
        if self._near is not None:
            # Closed with unread data it would be a reset for the child, which may still read.
            with suppress(OSError):
                self._near.shutdown(socket.SHUT_RDWR)
                while self._near.recv(65536, DONT_WAIT):
                    continue
        await self._stream.aclose()

    def cut(self) -> None:
        """The child has ended or is of no use: let whoever reads or writes find out, in whichever thread."""
        if self._far is not None:
            with suppress(OSError):
                self._far.shutdown(socket.SHUT_RDWR)
        elif self._child.useless:
            self._child.process.terminate()

    # -- in any thread, for Pipe

    def send_nowait(self, *buffers: Buffer) -> int:
        assert self._near is not None
        try:
            return self._near.sendmsg(buffers, (), DONT_WAIT)
        except BlockingIOError:
            return 0
        except BrokenPipeError:
            raise OSError(self._child.why()) from None

    def receive_nowait(self, limit: int) -> bytes | None:
        assert self._near is not None
        try:
            data = self._near.recv(limit, DONT_WAIT)
        except BlockingIOError:
            return None
        return self._take(data)

    def _take(self, data: bytes) -> bytes | None:
        """What of it is the link's, None if nothing is. Raises OSError if it ended, and not well."""
        child = self._child
        if data:
            data = child.hear(data)
            self._heard = self._heard or bool(data)
            return data or None
        if child.over.is_set() and (child.useless or child.status or not self._heard):
            raise OSError(child.why())
        return b""


def _no_terminal() -> str:
    """Why a child of this process could not ask on a terminal; "" if it can."""
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return "this process has none"
    try:
        foreground = os.tcgetpgrp(terminal) == os.getpgrp()
    finally:
        os.close(terminal)
    return "" if foreground else "this process is in the background of its own, and would be stopped for asking"


def _brief(command: str) -> str:
    return (
        f"`{textwrap.shorten(command, LONGEST_NAME, placeholder=' …') if ' ' in command else command[:LONGEST_NAME]}`"
    )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
