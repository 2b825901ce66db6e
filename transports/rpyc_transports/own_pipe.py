"""The pipe that this process was started with: its standard streams, or a connection that inetd or systemd has taken for it."""

from __future__ import annotations

import io
import os
import socket
import stat
import sys
from contextlib import ExitStack
from functools import partial

import trio

from rpyc_gateway.errors import ConfigError
from rpyc_gateway.transport import Buffer, Pipe
from rpyc_transports.passed import connection_pipe, is_local, look_at, parent, passed_sockets

__all__ = ["own_pipe_is_private", "take_own_pipe", "write_nowait"]


def take_own_pipe(undo: ExitStack) -> Pipe:
    """Take it, for good: no child inherits it, nobody prints into it by mistake. `undo` closes it. Raises ConfigError."""
    passed = passed_sockets()
    if passed:
        if len(passed) > 1 or passed[0].listens:
            what = 'systemd has passed listening sockets: `rpyc-gw run` with `url = "systemd:"` takes those; this takes one connection (Accept=yes)'
            raise ConfigError([f"stdio: {what}"])
        return connection_pipe(undo.enter_context(passed.pop().open()))
    problem = _unfit()
    if problem:
        raise ConfigError([f"stdio: {problem}"])
    if _is_one_socket():
        raw = undo.enter_context(socket.socket(fileno=os.dup(0)))
        _leave_nothing()
        return connection_pipe(raw)
    receive = trio.lowlevel.FdStream(os.dup(0))
    undo.callback(receive.close)
    send = trio.lowlevel.FdStream(os.dup(1))
    undo.callback(send.close)
    # Two pipes, or a program such as socat that has made something of its own: whoever it is, it has started this process.
    _leave_nothing()
    return Pipe(
        trio.StapledStream(send, receive),
        parent(),
        identity="parent",
        send_nowait=partial(write_nowait, send),
        receive_nowait=partial(read_nowait, receive),
        fileno=receive.fileno(),
    )


def own_pipe_is_private() -> bool:
    """Whether no other machine can have made it. What this cannot know is what the program at the other end is for, such as ssh."""
    passed = passed_sockets()
    if passed:
        return all(one.is_local for one in passed)
    return all(map(_is_local, filter(_is_socket, (0, 1))))


def _is_local(descriptor: int) -> bool:
    with look_at(descriptor) as raw:
        return is_local(raw)


def _leave_nothing() -> None:
    """Put the null device where the wire was, and standard error for what is printed."""
    null = os.open(os.devnull, os.O_RDWR)
    printed = 2 if _is_inherited(2) else null
    if printed == 2 != null and os.path.samestat(os.fstat(1), os.fstat(2)):  # inetd makes all three the wire
        os.dup2(null, 2)
    os.dup2(null, 0)
    os.dup2(printed, 1)
    if null != 2:
        os.close(null)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # What is printed by mistake should be seen when it happens.
        sys.stdout.reconfigure(line_buffering=True)


def _unfit() -> str | None:
    """Why the standard streams cannot be a wire."""
    if not (_is_inherited(0) and _is_inherited(1)):
        return "standard input or output is closed"
    if os.isatty(0) or os.isatty(1):
        return "this is a terminal, and it is for a program at the other end, such as ssh (if it was one: drop its -t or -tt)"
    if os.path.samestat(os.fstat(0), os.stat(os.devnull)):
        return "standard input is the null device: nobody is there (or `stdio:` was listened on before)"
    if not _is_one_socket() and _is_inherited(2) and os.path.samestat(os.fstat(1), os.fstat(2)):
        return "standard error goes where standard output goes, into the wire: keep them apart (no 2>&1)"
    return None


def _is_inherited(descriptor: int) -> bool:
    """Whether it is a standard stream at all: where one was closed, its number may belong to trio's own machinery by now."""
    try:
        return os.get_inheritable(descriptor)
    except OSError:
        return False


def _is_one_socket() -> bool:
    """Whether standard input and output are the same connection, as inetd has it, and as `stdio:COMMAND` starts its child."""
    status = os.fstat(0)
    return stat.S_ISSOCK(status.st_mode) and os.path.samestat(status, os.fstat(1))


def _is_socket(descriptor: int) -> bool:
    try:
        return stat.S_ISSOCK(os.fstat(descriptor).st_mode)
    except OSError:
        return False


def write_nowait(stream: trio.lowlevel.FdStream, *buffers: Buffer) -> int:
    """Write what fits now. Raises OSError if the pipe is broken, or closed: the stream's number is -1 then."""
    try:
        return os.writev(stream.fileno(), buffers)
    except BlockingIOError:
        return 0


def read_nowait(stream: trio.lowlevel.FdStream, limit: int) -> bytes | None:
    """Read what is there, None if nothing is. Raises OSError if it was closed."""
    try:
        return os.read(stream.fileno(), limit)
    except BlockingIOError:
        return None
