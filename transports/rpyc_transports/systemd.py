"""`systemd:` and `systemd:NAME`: listening on sockets that systemd has opened and passed to this process (Accept=no)."""

from __future__ import annotations

import re
from contextlib import AbstractAsyncContextManager, ExitStack

import trio

from rpyc_gateway.errors import ConfigError, DialFailed
from rpyc_gateway.transport import Handler, Pipe
from rpyc_transports.passed import Passed, accepted_pipe, passed_sockets, socket_url
from rpyc_transports.sockets import serve_sockets

__all__ = ["SystemdTransport"]

# What FileDescriptorName= may be, without colons.
NAME = re.compile(r"[!-9;-~]{0,255}")


class SystemdTransport:
    """All sockets that were passed, or those of one name (FileDescriptorName=), TCP and unix sockets alike. Each is taken once."""

    def connect(self, url: str) -> AbstractAsyncContextManager[Pipe]:
        raise DialFailed(f"{url}: this is for listening; dial the address of its socket unit, by tcp: or unix:")

    async def serve(
        self, url: str, handler: Handler, *, task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Listen until cancelled. Raises ConfigError if none was passed, or one is a connection (Accept=yes)."""
        taken = _wanted(url)
        problem = self.check(url) or _problem(taken)
        if problem:
            raise ConfigError([f"{url}: {problem}"])
        with ExitStack() as undo:
            sockets = [undo.enter_context(one.open()) for one in taken]
            for one in taken:
                passed_sockets().remove(one)
            listeners = [trio.SocketListener(trio.socket.from_stdlib_socket(raw)) for raw in sockets]
            await serve_sockets(listeners, list(map(socket_url, sockets)), accepted_pipe, handler, task_status)

    def is_private(self, url: str) -> bool:
        """Whether all of them are unix sockets or bound to the loopback. Where there are none, nobody can reach anything."""
        return all(one.is_local for one in _wanted(url))

    def is_guarded(self, url: str) -> bool:
        return False

    def check(self, url: str) -> str | None:
        return None if NAME.fullmatch(_name(url)) else "is not of the form systemd: or systemd:NAME"


def _name(url: str) -> str:
    return url.partition(":")[2]


def _wanted(url: str) -> list[Passed]:
    return [one for one in passed_sockets() if _name(url) in ("", one.name)]


def _problem(taken: list[Passed]) -> str | None:
    if not all(one.listens for one in taken):
        return "systemd has passed a connection, not a listening socket: say Accept=no, or have `rpyc-gw stdio` started for each connection"
    if taken:
        return None
    others = {one.name or "one without a name" for one in passed_sockets()}
    if others:
        there = ", ".join(sorted(others))
        return f"systemd has passed no socket of that name (there is: {there}; FileDescriptorName= gives names)"
    return (
        "systemd has passed no socket to this process: it must be started by a socket unit;"
        " `systemd-socket-activate -l 127.0.0.1:18860 rpyc-gw run --config FILE` does as it does"
    )
