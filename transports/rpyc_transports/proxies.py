"""The way out through a proxy: HTTP CONNECT or SOCKS5, as a URL's `?proxy=` or the environment names it.

No library for these two handshakes stays within its bytes: what the far side says at once behind a proxy's answer would be lost, and
the proxy's answer in two packets would be taken for one. So each step here takes exactly what is its own from the socket.
"""

from __future__ import annotations

import base64
import ipaddress
import os
import re
import socket
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import NamedTuple
from urllib.parse import quote, unquote_to_bytes, urlsplit

import trio

__all__ = ["DIRECT", "Proxy", "environment_proxy", "open_via", "proxy"]

PROXY_TIMEOUT = 10.0  # seconds for the whole way to the far side; the proxy has to dial it meanwhile
DEFAULT_PORT = 1080  # of any proxy that is given without one, as curl has it
SCHEMES = {"http": "http", "socks5": "socks5", "socks5h": "socks5"}
MAX_ANSWER = 16_384  # bytes of the head of a proxy's HTTP answer: it says two words, and adds a few headers at most


class Proxy(NamedTuple):
    """A proxy, or DIRECT. As text it has no secrets in it."""

    scheme: str
    host: str
    port: int
    user: bytes = b""
    password: bytes = b""

    def __str__(self) -> str:
        return f"{self.scheme}://{_in_brackets(self.host)}:{self.port}"

    def as_option(self) -> str:
        """What `proxy` reads, percent-encoded for the query of a URL. It has the password in it."""
        login = f"{quote(self.user, safe='')}:{quote(self.password, safe='')}@" if self.user else ""
        return quote(str(self).replace("://", f"://{login}", 1), safe="")


DIRECT = Proxy("direct", "", 0)
"""`proxy=direct`: none, whatever the environment says."""


def proxy(given: str) -> Proxy:
    """What is given as a URL's option: `http://[user:password@]host[:port]`, `socks5://...`, or `direct`. Raises ValueError with what is wrong."""
    if given == "direct":
        return DIRECT
    form = "is not of the form http://host:port or socks5://host:port (or `direct`)"
    try:
        parts = urlsplit(given if "://" in given else f"http://{given}")
        host, port = parts.hostname, DEFAULT_PORT if parts.port is None else parts.port
    except ValueError:
        raise ValueError(form) from None
    if parts.scheme not in SCHEMES:
        raise ValueError(f"is of the kind {parts.scheme}://, which is not supported: http:// and socks5:// are")
    if not host or not port or parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError(form)
    user, password = (
        unquote_to_bytes((part or "").encode(errors="surrogateescape")) for part in (parts.username, parts.password)
    )
    if max(len(user), len(password)) > 255 and parts.scheme != "http":
        raise ValueError("has a user or password of more than 255 bytes, which SOCKS5 cannot say")
    return Proxy(SCHEMES[parts.scheme], host, port, user, password)


def environment_proxy(scheme: str, host: str, environ: Mapping[str, str] = os.environ) -> Proxy | None:
    """The proxy that the environment names for a `ws` or `wss` URL; None if it names none, and for this machine itself.

    As curl does it: http_proxy for ws, https_proxy for wss, then all_proxy; lower case wins; no_proxy says where to go without. HTTP_PROXY in
    capitals is not heeded in a CGI program, where a stranger's `Proxy:` header sets it. Raises ValueError, which names the variable.
    """
    if _is_here(host) or _goes_without(host, _variable("no_proxy", environ)[1]):
        return None
    for name in ("http_proxy" if scheme == "ws" else "https_proxy", "all_proxy"):
        variable, given = _variable(name, environ)
        if given:
            try:
                return proxy(given)
            except ValueError as exc:
                raise ValueError(f"the environment's {variable} {exc}; `proxy=direct` goes without it") from None
    return None


async def open_via(way: Proxy, host: str, port: int, source: str | None = None) -> trio.SocketStream:
    """A connection to `host` and `port` through a proxy, which resolves the name; the proxy is dialled from the address `source`.

    Nothing that the far side says is taken from it.

    Raises OSError without an errno, whose text names the proxy and what it said or did not say within 10 s. Cancelled, nothing is left open.
    """
    async with _proxied(way, source) as stream:
        if way.scheme == "socks5":
            await _speak_socks(stream, way, host, port)
        else:
            await _speak_http(stream, way, host, port)
        return stream


@asynccontextmanager
async def _proxied(way: Proxy, source: str | None) -> AsyncIterator[trio.SocketStream]:
    """A connection to the proxy, which is closed if the body fails; whatever goes wrong is told as the proxy's."""
    doing = "cannot be reached"
    stream = None
    try:
        with trio.fail_after(PROXY_TIMEOUT):
            stream = await trio.open_tcp_stream(way.host, way.port, local_address=source)
            doing = "broke the connection"
            yield stream
            stream = None
    except trio.TooSlowError:
        what = "does not connect us" if stream else "cannot be reached"
        raise OSError(f"the proxy {way} {what} within {PROXY_TIMEOUT:g} s") from None
    except trio.BrokenResourceError as exc:
        raise OSError(f"the proxy {way} broke the connection: {_reason(exc)}") from exc
    except OSError as exc:
        if isinstance(exc, _Unhelpful):
            raise OSError(f"the proxy {way} {exc}") from exc
        raise OSError(f"the proxy {way} {doing}: {_reason(exc)}") from exc
    finally:
        if stream is not None:
            stream.socket.close()


class _Unhelpful(OSError):
    """What the proxy has said instead of yes, to be read after its name."""


def _reason(exc: BaseException) -> str:
    """The first cause that the system gave a word for: trio hangs the errors of several addresses as a group below one for all."""
    cause = exc
    while isinstance(cause, BaseExceptionGroup) or cause.__cause__ is not None:
        cause = cause.exceptions[0] if isinstance(cause, BaseExceptionGroup) else cause.__cause__ or cause
    if isinstance(cause, OSError) and cause.errno is not None and not isinstance(cause, socket.gaierror):
        return os.strerror(cause.errno)
    return str(getattr(cause, "strerror", None) or cause)


# -- HTTP CONNECT

ANSWER = re.compile(rb"HTTP/1\.[01] ([0-9]{3})(?: ([^\r\n]*))?\r?\n")
OFFERED = re.compile(rb"^proxy-authenticate:[ \t]*([^\s,]+)", re.IGNORECASE | re.MULTILINE)

WHAT_TO_DO = {
    401: "a web server rather than a proxy?",
    403: "its rules forbid that address or port: ask whoever runs it",
    404: "a web server rather than a proxy?",
    405: "a web server rather than a proxy?",
    407: "it wants a user and password: http://user:password@...",
    502: "it cannot reach that address itself",
    503: "it cannot reach that address itself, or is overloaded",
    504: "it gets no answer from that address",
}


async def _speak_http(stream: trio.SocketStream, way: Proxy, host: str, port: int) -> None:
    target = f"{_in_brackets(_in_ascii(host))}:{port}"
    login = base64.b64encode(way.user + b":" + way.password).decode()
    secret = f"Proxy-Authorization: Basic {login}\r\n" if way.user else ""
    await stream.send_all(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{secret}\r\n".encode())
    head = await _receive_head(stream)
    answer = ANSWER.match(head)
    if answer is None:
        raise _Unhelpful(f"does not speak HTTP: it said {head[:40]!r}")
    status = int(answer[1])
    if 200 <= status < 300:
        return
    said = f"{status} {(answer[2] or b'').decode('latin-1')}".strip()
    raise _Unhelpful(f"does not connect us to {target}: {said}{_advice(status, head, way)}")


def _advice(status: int, head: bytes, way: Proxy) -> str:
    offered = sorted({found.decode("latin-1").capitalize() for found in OFFERED.findall(head)})
    if offered and "Basic" not in offered:
        return f" (it wants {' or '.join(offered)}, we have Basic: put a helper such as px or cntlm between)"
    if status in (401, 407) and way.user:
        return " (it does not take this user and password)"
    hint = WHAT_TO_DO.get(status)
    return f" ({hint})" if hint else ""


async def _receive_head(stream: trio.SocketStream) -> bytes:
    """An HTTP head to its empty line, and not a byte more: what stands behind it is not the proxy's."""
    head = b""
    while len(head) < MAX_ANSWER:
        seen = await stream.socket.recv(4096, socket.MSG_PEEK)
        if not seen:
            said = f", having said {head[:40]!r}" if head else ""
            raise _Unhelpful(f"ended the connection instead of an answer{said}")
        before = head[-3:]  # the end of the head may have begun in the piece before
        end = re.search(rb"\r?\n\r?\n", before + seen)
        head += await stream.socket.recv(end.end() - len(before) if end else len(seen))
        if end or not head.startswith(b"HTTP/1."[: len(head)]):
            return head
    raise _Unhelpful(f"answers with more than {MAX_ANSWER} bytes of headers")


# -- SOCKS5 (RFC 1928, and RFC 1929 for the password)

SOCKS = 5
NO_LOGIN, LOGIN = 0, 2
ADDRESS_SIZES = {1: 4, 4: 16}
SOCKS_REPLIES = {
    1: "it failed, without saying why",
    2: "its rules forbid it: ask whoever runs it",
    3: "it has no route to that network",
    4: "it cannot reach that machine, or does not know the name",
    5: "connection refused there: is the node running, and is this its port?",
    6: "it took too many hops",
    7: "it does not know the command CONNECT",
    8: "it does not take this kind of address",
}


async def _speak_socks(stream: trio.SocketStream, way: Proxy, host: str, port: int) -> None:
    offered = bytes([NO_LOGIN, LOGIN] if way.user else [NO_LOGIN])
    await stream.send_all(bytes([SOCKS, len(offered)]) + offered)
    version, method = await _receive(stream, 2)
    if version != SOCKS:
        raise _Unhelpful("does not speak SOCKS5: is it an HTTP proxy (http://)?")
    if method == LOGIN and way.user:
        await stream.send_all(b"\1" + _counted(way.user) + _counted(way.password))
        _, refused = await _receive(stream, 2)
        if refused:
            raise _Unhelpful("does not take this user and password")
    elif method != NO_LOGIN:
        login = "a way to log in that we do not have" if way.user else "a user and password: socks5://user:password@..."
        raise _Unhelpful(f"wants {login}")
    await stream.send_all(bytes([SOCKS, 1, 0]) + _socks_address(host) + struct.pack("!H", port))
    version, reply, _, kind = await _receive(stream, 4)
    if version != SOCKS:
        raise _Unhelpful("does not speak SOCKS5 to the end")
    if reply:
        said = SOCKS_REPLIES.get(reply, f"error {reply}")
        raise _Unhelpful(f"does not connect us to {_in_brackets(host)}:{port}: {said}")
    # Where it has connected from: nobody needs to know.
    size = ADDRESS_SIZES.get(kind) or (await _receive(stream, 1))[0]
    await _receive(stream, size + 2)


def _socks_address(host: str) -> bytes:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        name = _in_ascii(host).encode()
        if len(name) > 255:
            raise _Unhelpful("cannot be asked for a name of more than 255 bytes") from None
        return b"\3" + _counted(name)
    return (b"\1" if address.version == 4 else b"\4") + address.packed


def _counted(text: bytes) -> bytes:
    return bytes([len(text)]) + text


async def _receive(stream: trio.SocketStream, size: int) -> bytes:
    """Exactly so many bytes."""
    got = b""
    while len(got) < size:
        more = await stream.receive_some(size - len(got))
        if not more:
            raise _Unhelpful("ended the connection in the middle of the SOCKS5 handshake")
        got += more
    return got


# -- names and addresses


def _in_brackets(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _in_ascii(host: str) -> str:
    """A name as it is asked for on the wire. Raises UnicodeError."""
    return host if host.isascii() else host.encode("idna").decode()


def _variable(name: str, environ: Mapping[str, str]) -> tuple[str, str]:
    """A variable of the environment by its name in lower case, or else in capitals: how it is spelled, and what it says."""
    if name in environ:
        return name, environ[name]
    if name == "http_proxy" and "REQUEST_METHOD" in environ:
        return name, ""
    return name.upper(), environ.get(name.upper(), "")


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _is_here(host: str) -> bool:
    address = _address(host)
    return address.is_loopback if address else host.lower().rstrip(".") == "localhost"


def _goes_without(host: str, no_proxy: str) -> bool:
    """Whether no_proxy has the host: by its name, that of a domain above it, its address, a network (10.0.0.0/8), or `*` for all."""
    name, address = host.lower().rstrip("."), _address(host)
    for entry in re.split(r"[\s,]+", no_proxy.lower()):
        plain = entry.strip("[].")
        if entry == "*" or (plain and (name == plain or (address is None and name.endswith(f".{plain}")))):
            return True
        if address is not None and "/" in plain:
            try:
                if address in ipaddress.ip_network(plain, strict=False):
                    return True
            except ValueError:
                continue
    return False
