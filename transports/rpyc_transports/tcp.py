"""`tcp://host:port`: TCP over IPv4 and IPv6. Not encrypted, nobody is authenticated: for loopback and for trusted wires."""

from __future__ import annotations

import errno
import ipaddress
import os
import re
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from typing import Any, NamedTuple

import trio

from rpyc_gateway.errors import ConfigError, DialFailed
from rpyc_gateway.transport import Handler, Pipe
from rpyc_transports.sockets import serve_sockets, share

__all__ = ["TcpTransport"]

DIAL_TIMEOUT = 10.0

# A dead peer is noticed after 20 s, whether bytes wait to be acknowledged (USER_TIMEOUT, in ms) or not (the probes). Not
# every system has all of them. trio itself sets TCP_NODELAY.
TCP_OPTIONS = {"TCP_USER_TIMEOUT": 20_000, "TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 2}

# One of the addresses of a name may not exist on this machine: `localhost` is often ::1 too where IPv6 is switched off.
NOT_HERE = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}


class TcpTransport:
    """Dials with happy eyeballs; listens on every address of a name. Port 0 takes a free one."""

    @asynccontextmanager
    async def connect(self, url: str) -> AsyncIterator[Pipe]:
        """Dial within 10 s. Raises DialFailed with the URL and the reason, one sentence also where several addresses were tried."""
        async with await _dial(url, self.check(url)) as stream:
            try:
                pipe = _pipe(stream)
            except OSError as exc:
                raise DialFailed(f"{url}: the other side broke the connection at once ({exc.strerror})") from exc
            async with pipe.stream:
                yield pipe

    async def serve(
        self, url: str, handler: Handler, *, task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Listen on every address of the host, until cancelled. Raises ConfigError if one of them cannot be bound."""
        listeners = await _listen(url, self.check(url))
        urls = [f"tcp://{_host_port(listener.socket.getsockname())}" for listener in listeners]
        await serve_sockets(listeners, urls, _pipe, handler, task_status)

    def is_private(self, url: str) -> bool:
        """Only loopback addresses are. A name other than localhost is not: who answers for it can change."""
        address = _parse(url)
        if address is None:
            return False
        if address.host.lower().rstrip(".") != "localhost":
            return _is_loopback(address.host)
        try:
            found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        except OSError:
            return False
        return all(_is_loopback(str(sockaddr[0])) for *_, sockaddr in found)

    def is_guarded(self, url: str) -> bool:
        return False

    def check(self, url: str) -> str | None:
        address = _parse(url)
        if address is None:
            return "is not of the form tcp://host:port (an IPv6 address goes in brackets: tcp://[::1]:18860)"
        if address.port > 0xFFFF:
            return f"port {address.port} is not in 0..65535"
        return None


class Address(NamedTuple):
    host: str
    port: int


URL = re.compile(r"tcp://(?:\[(?P<ipv6>[^\[\]]+)\]|(?P<name>[^\[\]:/@?#\s]+)):(?P<port>[0-9]{1,6})/?", re.IGNORECASE)


def _parse(url: str) -> Address | None:
    found = URL.fullmatch(url)
    if found is None:
        return None
    if found["ipv6"] is None:
        return Address(found["name"], int(found["port"]))
    try:
        ipaddress.IPv6Address(found["ipv6"])
    except ValueError:
        return None
    return Address(found["ipv6"], int(found["port"]))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _host_port(sockaddr: tuple[Any, ...]) -> str:
    host, port = sockaddr[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _pipe(stream: trio.SocketStream) -> Pipe:
    """Raises OSError if the connection is dead already; `stream` is still whole then. Otherwise the pipe has its socket."""
    peer = stream.socket.getpeername()
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in TCP_OPTIONS.items():
        option = getattr(socket, name, None)
        if option is not None:
            stream.setsockopt(socket.IPPROTO_TCP, option, value)
    return share(stream, _host_port(peer), private=_is_loopback(peer[0]))


async def _dial(url: str, problem: str | None) -> trio.SocketStream:
    address = _parse(url)
    if address is None or problem:
        raise DialFailed(f"{url}: {problem}")
    if address.port == 0:
        raise DialFailed(f"{url}: port 0 is for listening; a node that listens there says which port it got")
    try:
        with trio.fail_after(DIAL_TIMEOUT):
            stream = await _open(address)
    except trio.TooSlowError:
        raise DialFailed(
            f"{url}: no answer within {DIAL_TIMEOUT:g} s: is the machine up, and does a firewall let this port through?"
        ) from None
    except (OSError, UnicodeError) as exc:
        raise DialFailed(f"{url}: {'; '.join(dict.fromkeys(map(_why_not, _leaves(exc))))}") from exc
    return _refuse_itself(url, stream)


async def _open(address: Address) -> trio.SocketStream:
    """Connect to the first address of a host that answers, or to the one that is given in numbers, where there is nothing to choose."""
    family = _family(address.host)
    if family is None:
        return await trio.open_tcp_stream(address.host, address.port)
    raw = socket.socket(family, socket.SOCK_STREAM)
    with ExitStack() as undo:
        undo.callback(raw.close)
        raw.settimeout(0)
        try:
            raw.connect((address.host, address.port))
            await trio.lowlevel.checkpoint()
        except BlockingIOError:
            await trio.lowlevel.wait_writable(raw)
            error = raw.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                raise OSError(error, os.strerror(error)) from None
        undo.pop_all()
    return trio.SocketStream(trio.socket.from_stdlib_socket(raw))


def _family(host: str) -> socket.AddressFamily | None:
    """Which kind of numeric address a host is; None for a name, and for an address that means something on one interface only."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except (OSError, ValueError):  # ValueError: a NUL or a surrogate in it
            continue
        return family
    return None


def _refuse_itself(url: str, stream: trio.SocketStream) -> trio.SocketStream:
    """Dialling a free port of this machine can meet itself (TCP's simultaneous open): nobody is there, then."""
    try:
        met_itself = stream.socket.getsockname() == stream.socket.getpeername()
    except OSError:
        met_itself = False  # it is dead already, and whoever uses it will hear why
    if met_itself:
        stream.socket.close()
        raise DialFailed(f"{url}: {WHY_NOT[errno.ECONNREFUSED]}")
    return stream


def _leaves(exc: BaseException) -> Iterator[BaseException]:
    """The errors of the single attempts: trio hangs them as a group below one error for all."""
    if isinstance(exc, BaseExceptionGroup):
        for part in exc.exceptions:
            yield from _leaves(part)
    elif isinstance(exc.__cause__, BaseExceptionGroup):
        yield from _leaves(exc.__cause__)
    else:
        yield exc


WHY_NOT = {
    errno.ECONNREFUSED: "connection refused: is the node running, and is this its port?",
    errno.EHOSTUNREACH: "no route to that address: is the machine up, and on this network?",
    errno.ENETUNREACH: "no route to that network: is this machine on it?",
    errno.ETIMEDOUT: "no answer: is the machine up, and does a firewall let this port through?",
    errno.EADDRINUSE: "address already in use: stop the program that has it, or take another port (0 takes a free one)",
    errno.EADDRNOTAVAIL: "this machine has no such address: use one of its own, or 0.0.0.0 or [::] for all of them",
    errno.EACCES: "permission denied: ports below 1024 need a privilege; take a higher one",
}


def _why_not(exc: BaseException) -> str:
    if isinstance(exc, (socket.gaierror, UnicodeError)):
        reason = exc.strerror if isinstance(exc, OSError) else str(exc)
        return f"the name cannot be resolved: {reason}"
    if isinstance(exc, OSError) and exc.errno:
        return WHY_NOT.get(exc.errno, os.strerror(exc.errno))
    return str(exc)


async def _listen(url: str, problem: str | None) -> list[trio.SocketListener]:
    address = _parse(url)
    if address is None or problem:
        raise ConfigError([f"{url}: {problem}"])
    with ExitStack() as undo:
        listeners: list[trio.SocketListener] = []
        absent: OSError | None = None
        try:
            for host in await _resolve(address):
                try:
                    (listener,) = await trio.open_tcp_listeners(address.port, host=host)
                except OSError as exc:
                    if exc.errno not in NOT_HERE:
                        raise
                    absent = exc
                else:
                    undo.callback(listener.socket.close)
                    listeners.append(listener)
            if absent is not None and not listeners:
                raise absent
        except (OSError, UnicodeError) as exc:
            raise ConfigError([f"{url}: {_why_not(exc)}"]) from exc
        undo.pop_all()
        return listeners


async def _resolve(address: Address) -> list[str]:
    """The numeric addresses of a host, each once. Raises OSError (gaierror) or UnicodeError."""
    found = await trio.socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys(_numeric(sockaddr) for *_, sockaddr in found))


def _numeric(sockaddr: tuple[Any, ...]) -> str:
    # A link-local IPv6 address means nothing without its interface, which comes as a number beside it.
    host, scope = sockaddr[0], sockaddr[3] if len(sockaddr) == 4 else 0
    return f"{host}%{scope}" if scope else str(host)
