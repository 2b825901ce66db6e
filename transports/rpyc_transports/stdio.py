"""`stdio:COMMAND` dials by starting a command, `stdio:` listens to the program that started this one. ssh needs no more."""

from __future__ import annotations

import os
import shlex
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager

import trio

from rpyc_gateway.errors import ConfigError, DialFailed
from rpyc_gateway.transport import Handler, Pipe, handle
from rpyc_transports.child import run_child
from rpyc_transports.own_pipe import own_pipe_is_private, take_own_pipe

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
        its children, prints to standard error. Where systemd has passed a connection (Accept=yes) it is that one.
        Raises ConfigError: a command in the URL, a terminal, a listener, or nothing there.
        """
        if _command(url):
            raise ConfigError([f"{url}: only `stdio:` can be listened on; a command is for dialling"])
        with ExitStack() as undo:
            pipe = take_own_pipe(undo)
            task_status.started(["stdio:"])
            await handle(pipe, handler)

    def is_private(self, url: str) -> bool:
        """Unless it is a connection that inetd or systemd has taken, and not on the loopback."""
        return own_pipe_is_private()

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
