"""Internet sockets for the transports that run on them: addresses, dialling, listening, and what goes wrong with each in words."""

from __future__ import annotations

import errno
import ipaddress
import os
import re
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from functools import lru_cache
from typing import Any, NamedTuple

import trio

from rpyc_gateway.errors import ConfigError, DialFailed
from rpyc_transports import urls
from rpyc_transports.proxies import DIRECT, open_via, proxy
from rpyc_transports.urls import Reader, number

__all__ = [
    "OPTIONS",
    "Address",
    "Target",
    "dial",
    "host_port",
    "is_loopback",
    "listen",
    "met",
    "not_for_listening",
    "read",
    "tune",
]

DIAL_TIMEOUT = 10.0

# What `connect` says on a socket that does not wait; the last is Windows', asked again.
UNDER_WAY = {errno.EINPROGRESS, errno.EALREADY, errno.EWOULDBLOCK, getattr(errno, "WSAEINVAL", errno.EALREADY)}

ANY = "*"
"""Instead of a host: every address of this machine, of both kinds."""

# One of the addresses of a name may not exist on this machine: `localhost` is often ::1 too where IPv6 is switched off.
NOT_HERE = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}

# Seconds until the system gives up a peer that acknowledges nothing: what docs/protocol.md says of a link that is silent.
# Not less for everybody: a peer whose process stands still is dead by this as well, since it takes nothing (Linux 5.11).
DEAD_AFTER = 20
MOST_SECONDS = 32_767  # what the system takes for TCP_KEEPIDLE and its like

BACKLOG = 4096  # the kernel cuts it to its own limit


class Address(NamedTuple):
    """A host, by name or in numbers, and a port."""

    host: str
    port: int

    @classmethod
    def parse(cls, place: str) -> Address | None:
        """Of `host:port`, `[ipv6]:port` or `*:port`; None if it is none of these."""
        found = HOST_PORT.fullmatch(place)
        if found is None:
            return None
        if found["ipv6"] is None:
            return cls(found["name"], int(found["port"]))
        try:
            ipaddress.IPv6Address(found["ipv6"])
        except ValueError:
            return None
        return cls(found["ipv6"], int(found["port"]))

    def problem(self) -> str | None:
        """What is wrong with it."""
        return f"port {self.port} is not in 0..65535" if self.port > 0xFFFF else None

    def is_private(self) -> bool:
        """Whether only this machine reaches it. A name other than localhost is not: who answers for it can change."""
        if self.host.lower().rstrip(".") != "localhost":
            return is_loopback(self.host)
        try:
            found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):  # UnicodeError: "localhost.."
            return False
        return all(is_loopback(str(sockaddr[0])) for *_, sockaddr in found)


HOST_PORT = re.compile(r"(?:\[(?P<ipv6>[^\[\]]+)\]|(?P<name>[^\[\]:/@?#\s]+)):(?P<port>[0-9]{1,6})")


class Target(NamedTuple):
    """What a URL says: where, and how."""

    address: Address
    options: Mapping[str, Any]


def read(url: str, scheme: str, known: Mapping[str, Reader]) -> Target | str:
    """What a URL of the form `scheme://host:port` says, or what is wrong with it; `known` are the options that it may have."""
    place, _ = urls.split(url)
    found = re.fullmatch(rf"{scheme}://(.*?)/?", place, re.IGNORECASE | re.DOTALL)
    address = Address.parse(found[1]) if found else None
    if address is None:
        return f"is not of the form {scheme}://host:port (an IPv6 address goes in brackets: {scheme}://[::1]:18860)"
    options, problems = urls.parse(url, known)
    problem = address.problem() or "; ".join(problems)
    return problem or Target(address, options)


def _seconds(given: str) -> int:
    if number(given) > MOST_SECONDS:
        raise ValueError(f"is {given!r}: at most {MOST_SECONDS} seconds")
    return number(given)


def _some_seconds(given: str) -> int:
    if not _seconds(given):
        raise ValueError("is 0: at least 1 second")
    return _seconds(given)


def _own_address(given: str) -> str:
    try:
        return str(ipaddress.ip_address(given))
    except ValueError:
        raise ValueError(f"is {given!r}, which is no address in numbers") from None


DIALLING: Mapping[str, Reader] = {"bind": _own_address, "proxy": proxy}
OPTIONS: Mapping[str, Reader] = {"timeout": _some_seconds, "keepalive": _seconds, **DIALLING}
"""Of URLs, for `urls.parse`: seconds until a peer that acknowledges nothing is dead; seconds of silence before the system asks
whether it lives (0: never). And for dialling alone: the address to dial from; the proxy to dial through."""


def not_for_listening(options: Mapping[str, Any]) -> str | None:
    """Which of these options says nothing to a listener, in words; None if all do."""
    return next((f"the option {name!r} is for dialling" for name in DIALLING if name in options), None)


def is_loopback(host: str) -> bool:
    """Whether this is the numeric address of this machine itself."""
    try:
        return _plain(host).is_loopback
    except ValueError:
        return False


def host_port(sockaddr: tuple[Any, ...]) -> str:
    """For people: an IPv4 caller of a listener for both kinds has its own address."""
    host, port = sockaddr[:2]
    with suppress(ValueError):
        host = str(_plain(host)) if "." in host else host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@lru_cache(maxsize=256)  # each connection asks twice, and most have the same few peers
def _plain(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    address = ipaddress.ip_address(host)
    return getattr(address, "ipv4_mapped", None) or address


def tune(stream: trio.SocketStream, options: Mapping[str, Any]) -> None:
    """Have the system notice a dead peer, whether bytes wait to be acknowledged or not. Raises OSError if it is dead already.

    trio itself sets TCP_NODELAY.
    """
    timeout = options.get("timeout", DEAD_AFTER)
    idle = options.get("keepalive", max(timeout // 2, 1))
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1 if idle else 0)
    # Two probes, a quarter of the time apart. Not every system has all of these.
    every = {"TCP_KEEPIDLE": idle, "TCP_KEEPINTVL": max(timeout // 4, 1), "TCP_KEEPCNT": 2} if idle else {}
    for name, value in {"TCP_USER_TIMEOUT": timeout * 1000, **every}.items():
        option = getattr(socket, name, None)
        if option is not None:
            stream.setsockopt(socket.IPPROTO_TCP, option, value)


# ---- dialling


async def dial(url: str, address: Address, options: Mapping[str, Any]) -> trio.SocketStream:
    """Connect within 10 s, with happy eyeballs, or through a proxy. Raises DialFailed, one sentence also where several addresses were tried."""
    if address.port == 0:
        raise DialFailed(f"{url}: port 0 is for listening; a node that listens there says which port it got")
    if address.host == ANY:
        raise DialFailed(f"{url}: {ANY} is for listening, on every address of the machine; dial one of them")
    way = options.get("proxy", DIRECT)
    try:
        if way != DIRECT:
            return await open_via(way, *address, options.get("bind"))
        stream = await _open(address, options.get("bind"))
    except trio.TooSlowError:
        raise DialFailed(
            f"{url}: no answer within {DIAL_TIMEOUT:g} s: is the machine up, and does a firewall let this port through?"
        ) from None
    except (OSError, UnicodeError) as exc:
        raise DialFailed(f"{url}: {'; '.join(dict.fromkeys(map(_why_not, _leaves(exc))))}") from exc
    return _refuse_itself(url, stream)


def met(stream: trio.SocketStream, address: Address, options: Mapping[str, Any]) -> tuple[str, bool]:
    """Who is at the other end of what was dialled, for people, and whether that is this machine for certain. Raises OSError if it is gone."""
    peer = stream.socket.getpeername()
    way = options.get("proxy", DIRECT)
    if way != DIRECT:
        return f"{host_port(address)} through {way}", False
    return host_port(peer), is_loopback(peer[0])


async def _open(address: Address, source: str | None) -> trio.SocketStream:
    """Connect to the first address of a host that answers, or to the one that is given in numbers, where there is nothing to choose."""
    family = _family(address.host)
    if family is None:
        with trio.fail_after(DIAL_TIMEOUT):
            return await trio.open_tcp_stream(address.host, address.port, local_address=source)
    raw = socket.socket(family, socket.SOCK_STREAM)
    with ExitStack() as undo:
        undo.callback(raw.close)
        raw.settimeout(0)
        if source is not None:
            raw.bind((source, 0))
        problem = raw.connect_ex(tuple(address))
        if (
            problem in UNDER_WAY
        ):  # asked again, it says whether a peer has answered meanwhile, as on this machine it has
            problem = raw.connect_ex(tuple(address))
        if problem in UNDER_WAY:
            with trio.fail_after(DIAL_TIMEOUT):
                await trio.lowlevel.wait_writable(raw)
            problem = raw.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if problem and problem != errno.EISCONN:
            raise OSError(problem, os.strerror(problem))
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


# ---- listening


async def listen(url: str, address: Address) -> list[trio.SocketListener]:
    """Listen on every address of the host. `[::]` takes IPv4 as well, and `*` both or what there is of them.

    Raises ConfigError if one of them cannot be bound.
    """
    with ExitStack() as undo:
        listeners: list[trio.SocketListener] = []
        absent: OSError | None = None
        try:
            for host in await _resolve(address):
                try:
                    listener = await _bind(host, address.port)
                except OSError as exc:
                    if exc.errno not in NOT_HERE:
                        raise
                    absent = exc
                else:
                    undo.callback(listener.socket.close)
                    listeners.append(listener)
                    if address.host == ANY:
                        break
            if absent is not None and not listeners:
                raise absent
        except (OSError, UnicodeError) as exc:
            taken = isinstance(exc, OSError) and exc.errno == errno.EADDRINUSE
            both = "; this takes IPv4 too, and 0.0.0.0 beside it is one too many" if taken and _is_both(address) else ""
            raise ConfigError([f"{url}: {_why_not(exc)}{both}"]) from exc
        undo.pop_all()
        return listeners


def _is_both(address: Address) -> bool:
    return address.host in (ANY, "::")


async def _resolve(address: Address) -> list[str]:
    """The numeric addresses of a host, each once. Raises OSError (gaierror) or UnicodeError."""
    if address.host == ANY:
        return ["::", "0.0.0.0"]  # the user says so, and needs `insecure` or certificates for it
    found = await trio.socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys(_numeric(sockaddr) for *_, sockaddr in found))


def _numeric(sockaddr: tuple[Any, ...]) -> str:
    # A link-local IPv6 address means nothing without its interface, which comes as a number beside it.
    host, scope = sockaddr[0], sockaddr[3] if len(sockaddr) == 4 else 0
    return f"{host}%{scope}" if scope else str(host)


async def _bind(host: str, port: int) -> trio.SocketListener:
    if host != "::" or not socket.has_dualstack_ipv6():
        (listener,) = await trio.open_tcp_listeners(port, host=host)
        return listener
    with ExitStack() as undo:
        raw = undo.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_STREAM))
        if sys.platform != "win32":
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        raw.bind((host, port))
        raw.listen(BACKLOG)
        undo.pop_all()
        return trio.SocketListener(trio.socket.from_stdlib_socket(raw))
