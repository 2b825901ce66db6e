"""`tcp://host:port`: TCP over IPv4 and IPv6. Not encrypted, nobody is authenticated: for loopback and for trusted wires."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import lru_cache, partial
from typing import Any

import trio

from rpyc_gateway.errors import ConfigError, DialFailed
from rpyc_gateway.transport import Handler, Pipe, close_at_once, without_secrets
from rpyc_transports import hosts
from rpyc_transports.hosts import Target, host_port
from rpyc_transports.sockets import serve_sockets, share

__all__ = ["TcpTransport", "pipe_of"]


class TcpTransport:
    """Dials with happy eyeballs; listens on every address of a name, and with `*` or `[::]` on all of the machine. Port 0 takes a free one."""

    @asynccontextmanager
    async def connect(self, url: str) -> AsyncIterator[Pipe]:
        """Dial within 10 s. Raises DialFailed with the URL and the reason, one sentence also where several addresses were tried."""
        target, url = _read(url), _shown(url)
        if isinstance(target, str):
            raise DialFailed(f"{url}: {target}")
        stream = await hosts.dial(url, target.address, target.options)
        try:
            try:
                peer, private = hosts.met(stream, *target)
                hosts.tune(stream, target.options)
                pipe = share(stream, peer, private=private)
            except OSError as exc:
                raise DialFailed(f"{url}: the other side broke the connection at once ({exc.strerror})") from exc
            yield pipe
        finally:
            await close_at_once(stream)

    async def serve(
        self, url: str, handler: Handler, *, task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Listen on every address of the host, until cancelled. Raises ConfigError if one of them cannot be bound."""
        target = _read(url)
        problem = target if isinstance(target, str) else hosts.not_for_listening(target.options)
        if isinstance(target, str) or problem:
            raise ConfigError([f"{without_secrets(url)}: {problem}"])
        listeners = await hosts.listen(url, target.address)
        bound = [f"tcp://{host_port(listener.socket.getsockname())}" for listener in listeners]
        await serve_sockets(listeners, bound, partial(pipe_of, options=target.options), handler, task_status)

    def is_private(self, url: str) -> bool:
        """Only loopback addresses are."""
        target = _read(url)
        return not isinstance(target, str) and target.address.is_private()

    def is_guarded(self, url: str) -> bool:
        return False

    def check(self, url: str) -> str | None:
        target = _read(url)
        return target if isinstance(target, str) else None

    def check_listener(self, url: str) -> str | None:
        """A listener has no options for dialling."""
        target = _read(url)
        return target if isinstance(target, str) else hosts.not_for_listening(target.options)


# What a URL says does not change, and a program dials the same one again and again.


_shown = lru_cache(maxsize=64)(without_secrets)


@lru_cache(maxsize=64)
def _read(url: str) -> Target | str:
    return hosts.read(url, "tcp", hosts.OPTIONS)


def pipe_of(stream: trio.SocketStream, options: Mapping[str, Any]) -> Pipe:
    """The pipe of a connection that was accepted. Raises OSError if the connection is dead already; `stream` is still whole then. Otherwise the pipe has its socket."""
    peer = stream.socket.getpeername()
    hosts.tune(stream, options)
    return share(stream, host_port(peer), private=hosts.is_loopback(peer[0]))
