"""`stdio:COMMAND` dials by starting a command, `stdio:` listens to the program that started this one. ssh needs no more."""

from __future__ import annotations

import io
import os
import shlex
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from functools import partial

import trio

from rpyc_gateway.errors import ConfigError, DialFailed
from rpyc_gateway.transport import Handler, Pipe, SendNowait, handle
from rpyc_transports.child import run_child, write_nowait

__all__ = ["StdioTransport"]


class StdioTransport:
    """The far side is a child's standard input and output, or this process's own. Standard error stays for messages.

    Neither end knows whether there is another machine behind it (ssh is), so its pipes are never called private.
    """

    @asynccontextmanager
    async def connect(self, url: str) -> AsyncIterator[Pipe]:
        """Start the command; its standard error goes to the logger `rpyc_gateway.stdio`.

        Raises DialFailed if it cannot be started. If it ends too early, the stream says so: BrokenResourceError with its
        exit status and last messages. Leaving ends its input, terminates it after 2 s, kills it after 4 s, and reaps it.
        """
        command = _command(url)
        problem = self.check(url) or (None if command else "a command is needed: stdio:ssh ops@bastion rpyc-gw stdio")
        if problem:
            raise DialFailed(f"{url}: {problem}")
        async with run_child(command, shlex.split(command)) as child:
            send_nowait = child.stream.send_nowait if os.name == "posix" else None
            yield Pipe(child.stream, str(child), identity=f"child:{child.name.strip('`')}", send_nowait=send_nowait)

    async def serve(
        self, url: str, handler: Handler, *, task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Take this process's standard input and output for one pipe; returns when its handler does.

        From then on, and for good, whoever reads standard input finds its end, and whoever prints, in this process or in
        its children, prints to standard error. Raises ConfigError: a command in the URL, a terminal, or nothing there.
        """
        if _command(url):
            raise ConfigError([f"{url}: only `stdio:` can be listened on; a command is for dialling"])
        with ExitStack() as undo:
            stream, send_nowait = _take_standard_streams(undo)
            task_status.started(["stdio:"])
            peer = f"the parent process (pid {os.getppid()})"
            await handle(Pipe(stream, peer, identity="parent", send_nowait=send_nowait), handler)

    def is_private(self, url: str) -> bool:
        return True

    def is_guarded(self, url: str) -> bool:
        return False

    def check(self, url: str) -> str | None:
        try:
            shlex.split(_command(url))
        except ValueError as exc:
            return f"the command cannot be understood: {exc}"
        return None


def _command(url: str) -> str:
    return url.partition(":")[2].strip()


def _take_standard_streams(
    undo: ExitStack,
) -> tuple[trio.StapledStream[trio.abc.SendStream, trio.abc.ReceiveStream], SendNowait]:
    """Move the wire from 0 and 1 to descriptors that no child inherits; leave the null device and standard error there."""
    problem = _unfit()
    if problem:
        raise ConfigError([f"stdio: {problem}"])
    null = os.open(os.devnull, os.O_RDWR)
    receive = trio.lowlevel.FdStream(os.dup(0))
    undo.callback(receive.close)
    send = trio.lowlevel.FdStream(os.dup(1))
    undo.callback(send.close)
    os.dup2(null, 0)
    os.dup2(2 if _is_inherited(2) else null, 1)
    if null != 2:
        os.close(null)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # What is printed by mistake should be seen when it happens.
        sys.stdout.reconfigure(line_buffering=True)
    return trio.StapledStream(send, receive), partial(write_nowait, send)


def _unfit() -> str | None:
    """Why the standard streams cannot be a wire."""
    if not (_is_inherited(0) and _is_inherited(1)):
        return "standard input or output is closed"
    if os.isatty(0) or os.isatty(1):
        return "this is a terminal, and it is for a program at the other end, such as ssh"
    if os.path.samestat(os.fstat(0), os.stat(os.devnull)):
        return "standard input is the null device: nobody is there (or `stdio:` was listened on before)"
    if _is_inherited(2) and os.path.samestat(os.fstat(1), os.fstat(2)):
        return "standard error goes where standard output goes, into the wire: keep them apart (no 2>&1)"
    return None


def _is_inherited(descriptor: int) -> bool:
    """Whether it is a standard stream at all: where one was closed, its number may belong to trio's own machinery by now."""
    try:
        return os.get_inheritable(descriptor)
    except OSError:
        return False
