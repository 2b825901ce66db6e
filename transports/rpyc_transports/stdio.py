"""`stdio:COMMAND` dials by starting a command, `stdio:` listens to the program that started this one. ssh needs no more."""

from __future__ import annotations

import re
import shlex
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import trio

from rpyc_gateway.errors import ConfigError, DialFailed
from rpyc_gateway.transport import Handler, Interpreter, Pipe, handle
from rpyc_transports.child import Manner, run_child
from rpyc_transports.interpreter import waiting
from rpyc_transports.own_pipe import own_pipe_is_private, take_own_pipe
from rpyc_transports.urls import flag, number, parse

__all__ = ["StdioTransport"]


class StdioTransport:
    """The far side is a child's standard input and output, or this process's own. Standard error stays for messages.

    Neither end knows whether there is another machine behind a program (ssh is), so such pipes are not called private.
    """

    @asynccontextmanager
    async def connect(self, url: str) -> AsyncIterator[Pipe]:
        """Start the command; its standard error goes to the logger `rpyc_gateway.stdio`, and so does what it prints before the link begins.
        Where it is a bare Python that one is told to wait for a program, and the pipe says so.

        Raises DialFailed if it cannot be started. If it ends too early, asks what nobody answers, or begins no link in time, the
        stream says so: BrokenResourceError with its exit status and last messages. Leaving ends its input, terminates it after 2 s,
        kills it after 4 s, and reaps it.
        """
        query, command = _split(url)
        problem = self.check(url) or (None if command else "a command is needed: stdio:ssh ops@bastion rpyc-gw stdio")
        if problem:
            raise DialFailed(f"{url}: {problem}")
        options, _ = parse(query, OPTIONS)
        argv = shlex.split(command)
        interpreter = _interpreter(options, argv)
        if interpreter is not None:
            argv = waiting(argv) or argv  # what is no such command but said to be one waits by itself
        async with run_child(command, argv, _manner(options, python=interpreter is not None)) as child:
            pipe = child.stream.pipe
            pipe.interpreter = interpreter
            yield pipe

    async def serve(
        self, url: str, handler: Handler, *, task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Take this process's standard input and output for one pipe; returns when its handler does.

        From then on, and for good, whoever reads standard input finds its end, and whoever prints, in this process or in
        its children, prints to standard error. Where systemd has passed a connection (Accept=yes) it is that one.
        Raises ConfigError: a command in the URL, a terminal, a listener, or nothing there.
        """
        if problem := self.check_listener(url):
            raise ConfigError([f"{url}: {problem}"])
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
        query, command = _split(url)
        options, problems = parse(query, OPTIONS)
        if query and not command:
            problems.append("a command is needed behind the options")
        try:
            argv = shlex.split(command)
        except ValueError as exc:
            problems.append(f"the command cannot be understood: {exc}")
        else:
            if argv and "name" in options and not _interpreter(options, argv):
                problems.append("the option 'name' is for a bare Python; any other command says its name itself")
        return "; ".join(problems) or None

    def check_listener(self, url: str) -> str | None:
        return None if _split(url) == ("", "") else "only `stdio:` can be listened on; a command is for dialling"


PATIENCE = 30.0  # seconds for ssh to connect, and for a small machine to start Python
AT_A_KEYBOARD = 120.0  # the same where somebody types a password: what sshd itself gives
PREAMBLE = 65536  # bytes of banners and the message of the day


def _python(given: str) -> str:
    """`1`, `0`, or `agent`: then it is one even where this package is installed."""
    if given == "agent":
        return given
    try:
        return "whole" if flag(given) else ""
    except ValueError:
        raise ValueError(f"is {given!r}: say 1, 0 or agent") from None


def _name(given: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", given):
        raise ValueError(f"is {given!r}, which is no name of a node: 1 to 64 of A-Z a-z 0-9 . _ -")
    return given


OPTIONS = {
    "patience": number,
    "preamble": number,
    "terminal": flag,
    "pipes": flag,
    "python": _python,
    "name": _name,
}


def _split(url: str) -> tuple[str, str]:
    """The options, as `?name=value&...`, and the command behind them: of `stdio:?patience=60 ssh -T host rpyc-gw stdio`."""
    rest = url.partition(":")[2].strip()
    if not rest.startswith("?"):
        return "", rest
    query, _, command = rest.partition(" ")
    return query, command.strip()


def _interpreter(options: Mapping[str, Any], argv: list[str]) -> Interpreter | None:
    """The bare Python that a command ends in: its last words say so, or the option `python`."""
    default = "whole" if waiting(argv) else ""
    how = options.get("python", default)
    return Interpreter(options.get("name", ""), whole=how == "whole") if how else None


def _manner(options: Mapping[str, Any], *, python: bool) -> Manner:
    given = {name: options[name] for name in ("patience", "preamble", "terminal", "pipes") if name in options}
    patience = AT_A_KEYBOARD if options.get("terminal") else PATIENCE
    return Manner(**({"patience": patience, "preamble": PREAMBLE, "python": python} | given))
