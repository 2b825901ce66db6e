"""Sockets that somebody else has opened for this process: systemd, by LISTEN_FDS, and inetd. And who is at the other end of one."""

from __future__ import annotations

import os
import socket
import stat
from dataclasses import dataclass

import trio

from rpyc_gateway.errors import ConfigError
from rpyc_gateway.transport import Pipe
from rpyc_transports import tcp, unix
from rpyc_transports.hosts import host_port, is_loopback
from rpyc_transports.sockets import share

__all__ = [
    "Passed",
    "accepted_pipe",
    "connection_pipe",
    "is_local",
    "look_at",
    "parent",
    "passed_sockets",
    "socket_url",
]

FIRST = 3  # SD_LISTEN_FDS_START
VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


@dataclass(frozen=True, slots=True)
class Passed:
    """One socket that systemd has passed: its FileDescriptorName, and its descriptor until somebody has opened it."""

    name: str
    fileno: int

    def open(self) -> socket.socket:
        """Take it; whoever does removes it from the list."""
        return socket.socket(fileno=self.fileno)

    @property
    def listens(self) -> bool:
        """Whether it takes connections; otherwise it is one (Accept=yes)."""
        with look_at(self.fileno) as raw:
            return bool(raw.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))

    @property
    def is_local(self) -> bool:
        """Whether no other machine can reach it."""
        with look_at(self.fileno) as raw:
            return is_local(raw)


_passed: list[Passed] | None = None


def passed_sockets() -> list[Passed]:
    """Those that are still to be taken: whoever takes one removes it. The same list for the life of the process.

    No child inherits them, and none is told of them. Raises ConfigError for what is no stream socket.
    """
    global _passed  # a process has one set of descriptors, and one environment
    if _passed is None:
        _passed = _receive()
    return _passed


def _receive() -> list[Passed]:
    pid, count, names = (os.environ.get(variable, "") for variable in VARIABLES)
    passed: list[Passed] = []
    if pid == str(os.getpid()) and count.isdecimal():  # otherwise it was meant for another process, such as our parent
        descriptors = range(FIRST, FIRST + int(count))
        for descriptor in descriptors:
            _check(descriptor)
            os.set_inheritable(descriptor, False)  # noqa: FBT003
        named = [*(names.split(":") if names else ()), *[""] * len(descriptors)]
        passed = [Passed(name, descriptor) for descriptor, name in zip(descriptors, named, strict=False)]
    for variable in VARIABLES:
        os.environ.pop(variable, None)
    return passed


def _check(descriptor: int) -> None:
    try:
        mode = os.fstat(descriptor).st_mode
    except OSError as exc:
        what = f"LISTEN_FDS speaks of descriptor {descriptor}, which is not open"
        raise ConfigError([f"systemd: {what}"]) from exc
    if stat.S_ISSOCK(mode):
        with look_at(descriptor) as raw:
            if raw.type == socket.SOCK_STREAM and raw.family in (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6):
                return
    what = "is no stream socket of TCP or of this machine: ListenStream= with a port or a path makes one"
    raise ConfigError([f"systemd: descriptor {descriptor} {what}"])


def parent() -> str:
    """Whoever started this process, for people."""
    return f"the parent process (pid {os.getppid()})"


def connection_pipe(raw: socket.socket) -> Pipe:
    """A connection that this process was started with. Raises ConfigError."""
    if raw.type != socket.SOCK_STREAM or raw.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        what = "standard input is no connection but a socket that takes them: inetd.conf needs `stream tcp nowait`"
        raise ConfigError([f"stdio: {what}"])
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(raw))
    if (
        raw.family == socket.AF_UNIX and not raw.getsockname()
    ):  # one of a pair: whoever made it has started this process
        return share(stream, parent(), identity="parent")
    try:
        return accepted_pipe(stream)
    except OSError as exc:
        raise ConfigError([f"stdio: the connection is broken already ({exc.strerror})"]) from exc


def accepted_pipe(stream: trio.SocketStream) -> Pipe:
    """A connection that a listener took, whatever it is bound to. Raises OSError if it is dead already."""
    if stream.socket.family == socket.AF_UNIX:
        return unix.pipe_of(stream, socket_url(stream.socket))
    return tcp.pipe_of(stream, {})


def socket_url(raw: socket.socket | trio.socket.SocketType) -> str:
    """Where it is bound."""
    address = raw.getsockname()
    if raw.family == socket.AF_UNIX:
        path = os.fsdecode(address)
        return f"unix://{'@' + path[1:] if path.startswith(chr(0)) else path}"
    return f"tcp://{host_port(address)}"


def look_at(descriptor: int) -> socket.socket:
    """The socket behind a descriptor, for a moment: closing it closes a copy."""
    return socket.socket(fileno=os.dup(descriptor))


def is_local(raw: socket.socket) -> bool:
    """Whether no other machine can be at its other end."""
    if raw.family == socket.AF_UNIX:
        return True
    return raw.family in (socket.AF_INET, socket.AF_INET6) and is_loopback(raw.getsockname()[0])
