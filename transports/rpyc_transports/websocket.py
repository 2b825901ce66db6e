"""`ws://host:port/path` and `wss://...`: a link in a WebSocket, which passes where a browser's would: reverse proxies, firewalls, proxies on the way out.

Below is a TCP connection, for wss with TLS on it. `websocket_upgrade.py` asks there for the WebSocket, or answers who asks; then it is a
stream of `websocket_stream.py`.
"""

from __future__ import annotations

import logging
import re
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import quote, unquote_to_bytes

import trio
from wsproto.connection import ConnectionType

from rpyc_gateway.errors import ConfigError, DialFailed
from rpyc_gateway.transport import Handler, Pipe, without_secrets
from rpyc_transports import hosts, trust, urls
from rpyc_transports.hosts import Address, host_port
from rpyc_transports.proxies import DIRECT, environment_proxy
from rpyc_transports.secured import HandshakeFailed, Secured, secure_accepted, secure_dialled
from rpyc_transports.sockets import part, serve_handshakes, share
from rpyc_transports.urls import Reader, number
from rpyc_transports.websocket_messages import Messages
from rpyc_transports.websocket_stream import PromptStream, WebSocketStream, running
from rpyc_transports.websocket_upgrade import Question, Refusal, Request, UpgradeFailed, headers

__all__ = ["WebSocketTransport"]

logger = logging.getLogger(__name__)

ALPN = ("http/1.1",)
ANSWER_WITHIN = 10.0  # seconds; a reverse proxy has to reach its node first
ASK_WITHIN = 10.0  # seconds that a caller has for all of its request
LINGER = 2.0  # seconds that it has to take a refusal
READ = 65_536


class WebSocketTransport:
    """Both schemes. The options of their URLs are in OPTIONS, and for people in docs/configuration.md."""

    @asynccontextmanager
    async def connect(self, url: str) -> AsyncIterator[Pipe]:
        """Dial, through the proxy that the URL or the environment names. Raises DialFailed: what did not work, at which step, and what to do."""
        target = _read(url)
        if isinstance(target, str):
            raise DialFailed(f"{without_secrets(url)}: {target}")
        if "origin" in target.options:
            raise DialFailed(f"{target}: the option 'origin' is for a listener")
        options = _with_proxy(target)
        async with AsyncExitStack() as stack:
            connection = await stack.enter_async_context(await hosts.dial(str(target), target.address, options))
            try:
                wire = await _secure(stack, connection, target, options)
                rest = await _ask(wire.stream, target)
            except (HandshakeFailed, UpgradeFailed, trust.Unusable) as exc:
                raise DialFailed(f"{target}: {exc}") from exc
            except OSError as exc:
                raise DialFailed(f"{target}: the other side broke the connection at once ({exc.strerror})") from exc
            pipe = wire.pipe(Messages(ConnectionType.CLIENT, rest), target.options)
            assert isinstance(pipe.stream, WebSocketStream)
            await stack.enter_async_context(running(pipe.stream, ping=target.options.get("ping", 0)))
            yield pipe

    async def serve(
        self, url: str, handler: Handler, *, task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Listen like tcp or tls. Whoever asks for anything but a link gets an HTTP answer with a sentence. Raises ConfigError."""
        target = _read(url)
        if isinstance(target, str):
            raise ConfigError([f"{without_secrets(url)}: {target}"])
        problem = _not_for_listening(target)
        if problem:
            raise ConfigError([f"{target}: {problem}"])

        async def run(pipe: Pipe) -> None:
            assert isinstance(pipe.stream, WebSocketStream)
            async with running(pipe.stream, ping=target.options.get("ping", 0)):
                await handler(pipe)

        listeners = await hosts.listen(str(target), target.address)
        bound = [f"{target.scheme}://{host_port(one.socket.getsockname())}{target.path}" for one in listeners]
        if target.secure:
            trust.log_certificate(bound, target.options)
        await serve_handshakes(listeners, bound, partial(_take_in, target=target), run, task_status)

    def is_private(self, url: str) -> bool:
        """Only loopback addresses are. Whom a reverse proxy passes on to one is up to it."""
        target = _read(url)
        return not isinstance(target, str) and target.address.is_private()

    def is_guarded(self, url: str) -> bool:
        """Wss with a `client_ca` is."""
        target = _read(url)
        return not isinstance(target, str) and target.secure and "client_ca" in target.options

    def check(self, url: str) -> str | None:
        target = _read(url)
        if isinstance(target, str):
            return target
        wrong = trust.unusable_files(target.options) if target.secure else None
        if wrong is not None:
            raise ConfigError([f"{target}: {wrong}"])
        return None

    def check_listener(self, url: str) -> str | None:
        target = _read(url)
        return target if isinstance(target, str) else _not_for_listening(target)


# -- URLs


class Target(NamedTuple):
    """What a URL says. As text it is without its secrets, and without options."""

    secure: bool
    address: Address
    path: str
    login: bytes
    options: Mapping[str, Any]

    @property
    def scheme(self) -> str:
        return "wss" if self.secure else "ws"

    def __str__(self) -> str:
        return f"{self.scheme}://{host_port(self.address)}{self.path}"


def _origins(given: str) -> tuple[str, ...]:
    return tuple(given.replace(",", " ").split())


OPTIONS: Mapping[str, Reader] = {**hosts.OPTIONS, "header": headers, "origin": _origins, "ping": number}
"""Beside those of hosts: headers for the request, `Name: value` and a newline (%0A) between two; the web pages that may link to a listener, or
`*`; seconds between signs of life that keep a reverse proxy from cutting an idle link (0: none; the link has its own every 15 s)."""
OPTIONS_OF_WSS = {**OPTIONS, **trust.DIALLING, **trust.LISTENING}

URL = re.compile(
    r"(?P<scheme>wss?)://(?:(?P<login>[^?#]*)@)?(?P<host>\[[^\[\]]+\]|[^\[\]:/@?#\s]+)(?::(?P<port>[0-9]{1,6}))?"
    r"(?P<path>/[^?#\s]*)?(?:\?.*)?",
    re.IGNORECASE | re.DOTALL,
)


def _read(url: str) -> Target | str:
    """What a URL says, or what is wrong with it."""
    found = URL.fullmatch(url)
    secure = found is not None and found["scheme"].lower() == "wss"
    address = Address.parse(f"{found['host']}:{found['port'] or (443 if secure else 80)}") if found else None
    if found is None or address is None:
        return "is not of the form ws://host:port/path, or wss://... (an IPv6 address goes in brackets: ws://[::1]:80/)"
    options, problems = urls.parse(url, OPTIONS_OF_WSS if secure else OPTIONS)
    problem = address.problem() or "; ".join(problems)
    path = quote(found["path"] or "/", safe="/%:@!$&'()*+,;=~-._", errors="surrogateescape")
    return problem or Target(
        secure, address, path, unquote_to_bytes((found["login"] or "").encode(errors="surrogateescape")), options
    )


def _not_for_listening(target: Target) -> str | None:
    if target.login:
        return "a user and password are for dialling; a reverse proxy can ask for them, or wss:// with client_ca for a certificate"
    if "header" in target.options:
        return "the option 'header' is for dialling"
    try:
        if target.secure:
            trust.listening(target.options, ALPN)
    except trust.Unusable as exc:
        return str(exc)
    return hosts.not_for_listening(target.options)


# -- dialling


def _with_proxy(target: Target) -> Mapping[str, Any]:
    """The options, with the environment's proxy if the URL does not say which. Raises DialFailed."""
    if "proxy" in target.options:
        return target.options
    try:
        found = environment_proxy(target.scheme, target.address.host)
    except ValueError as exc:
        raise DialFailed(f"{target}: {exc}") from None
    return {**target.options, "proxy": found or DIRECT}


async def _secure(
    stack: AsyncExitStack, connection: trio.SocketStream, target: Target, options: Mapping[str, Any]
) -> _Wire:
    """Put TLS on a connection for wss. Raises what `secure_dialled` does, OSError."""
    peer, _ = hosts.met(connection, target.address, options)
    hosts.tune(connection, options)
    below = share(connection, peer)
    await stack.enter_async_context(below.stream)
    prompt = _prompt(below)
    if not target.secure:
        return _Wire(prompt, below, None)
    secured = await secure_dialled(prompt, target.address.host, options, alpn=ALPN)
    await stack.enter_async_context(secured.stream)
    return _Wire(secured.stream, below, secured)


async def _ask(stream: trio.abc.Stream, target: Target) -> bytes:
    """Ask for the WebSocket; what came behind the answer. Raises UpgradeFailed."""
    default = 443 if target.secure else 80
    host = target.address.host.encode("idna").decode() if not target.address.host.isascii() else target.address.host
    named = host_port((host, target.address.port))
    request = Request(
        named.removesuffix(f":{default}"), target.path, login=target.login, given=target.options.get("header", ())
    )
    with trio.move_on_after(ANSWER_WITHIN):
        try:
            await stream.send_all(request.sent)
            while not request.receive(bytes(await stream.receive_some(READ))):
                pass
        except trio.BrokenResourceError as exc:
            cause = exc.__cause__
            reason = cause.strerror if isinstance(cause, OSError) and not isinstance(cause, ssl.SSLError) else exc
            raise UpgradeFailed(f"the connection broke before there was an answer: {reason}") from exc
        return request.rest
    raise UpgradeFailed(f"no answer within {ANSWER_WITHIN:g} s: is it a web server or a node that listens there?")


# -- listening


async def _beginning(stream: trio.SocketStream) -> bytes:
    """How a caller begins, and nothing is taken from it; b"" if it says nothing within 10 s, or ends."""
    with trio.move_on_after(ASK_WITHIN):
        return await stream.socket.recv(8, socket.MSG_PEEK)
    return b""


async def _take_in(stream: trio.SocketStream, target: Target) -> Pipe | None:
    """Make a pipe of a caller that asks for one, or tell it what is wrong. Raises OSError if it is gone."""
    peer = host_port(stream.socket.getpeername())
    hosts.tune(stream, target.options)
    if target.secure:
        beginning = await _beginning(stream)
        if not beginning:
            return None
        if re.match(rb"[A-Z]{3,7} ", beginning):
            logger.info("%s is sent away: it speaks HTTP without TLS", peer)
            await part(stream, Refusal(400, "TLS is spoken at this port: https:// and wss:// reach it.").as_bytes())
            return None
    below = share(stream, peer)
    async with AsyncExitStack() as undo:
        undo.push_async_callback(trio.aclose_forcefully, below.stream)
        wire = _Wire(_prompt(below), below, None)
        if target.secure:
            try:
                secured = await secure_accepted(wire.stream, target.options, alpn=ALPN)
            except (HandshakeFailed, trust.Unusable) as exc:
                logger.info("%s is sent away: %s", peer, exc)
                return None
            wire = _Wire(secured.stream, below, secured)
        question = Question()
        messages = await _answer(question, wire, target)
        if messages is None:
            return None
        undo.pop_all()
        if question.forwarded_for:
            below.peer = f"{peer} (for {question.forwarded_for})"
        return wire.pipe(messages, target.options)


async def _answer(question: Question, wire: _Wire, target: Target) -> Messages | None:
    """Hear a caller out and say yes or no; None for no."""
    with trio.move_on_after(ASK_WITHIN) as patience:
        try:
            while not question.receive(bytes(await wire.stream.receive_some(READ))):
                pass
            refusal = question.refusal(target.path, target.options.get("origin", ()))
            if refusal is None:
                await wire.stream.send_all(question.accept())
                return Messages(ConnectionType.SERVER, question.rest)
        except (UpgradeFailed, trio.BrokenResourceError):
            return None  # it has ended the connection, as some do to see whether a port is open
    if patience.cancelled_caught:
        refusal = Refusal(408, f"The request was not complete within {ASK_WITHIN:g} s.")
    assert refusal is not None
    asked = question.asked or "nothing"
    logger.info("%s is sent away with HTTP %d: it asked %s", wire.below.peer, refusal.status, asked)
    if wire.secured is not None:
        with trio.move_on_after(LINGER), suppress(trio.BrokenResourceError):
            await wire.stream.send_all(refusal.as_bytes())
        await wire.stream.aclose()
    else:
        assert isinstance(wire.below.stream, trio.SocketStream)
        await part(wire.below.stream, refusal.as_bytes())
    return None


# -- both


def _prompt(below: Pipe) -> PromptStream:
    """What a connection is read by, so that it acknowledges at once, in either way."""
    assert isinstance(below.stream, trio.SocketStream)
    assert below.receive_nowait is not None
    prompt = PromptStream(below.stream)
    below.receive_nowait = prompt.promptly(below.receive_nowait)
    return prompt


class _Wire(NamedTuple):
    """What HTTP is spoken on, and then the WebSocket."""

    stream: trio.abc.Stream
    below: Pipe
    secured: Secured | None

    def pipe(self, messages: Messages, options: Mapping[str, Any]) -> Pipe:
        """As a pipe, with a non-blocking side where nothing else sends or has been read ahead."""
        below = self.secured.pipe(self.below) if self.secured is not None else self.below
        stream = WebSocketStream(self.stream, messages)
        pipe = Pipe(stream, below.peer, below.identity)
        if (
            below.send_nowait is not None
            and below.receive_nowait is not None
            and messages.idle
            and not options.get("ping")
        ):
            side = stream.without_waiting(below)
            pipe.send_nowait, pipe.receive_nowait, pipe.fileno = side.send_nowait, side.receive_nowait, below.fileno
            pipe.receive_at_least = below.receive_at_least
        return pipe
