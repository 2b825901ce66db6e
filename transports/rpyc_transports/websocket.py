"""`ws://host:port/path` and `wss://...`: a link in a WebSocket, which passes where a browser's would: reverse proxies, firewalls, proxies on the way out.

Below is a TCP connection, for wss with TLS on it. `websocket_upgrade.py` asks there for the WebSocket, or answers who asks; then trio-websocket
drives it, over `websocket_messages.py`.
"""

from __future__ import annotations

import logging
import operator
import re
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import Any, NamedTuple, cast
from urllib.parse import quote, unquote_to_bytes

import trio
from trio_websocket import CloseReason, ConnectionClosed, WebSocketConnection
from wsproto import WSConnection
from wsproto.connection import ConnectionType

from rpyc_gateway.errors import ConfigError, DialFailed
from rpyc_gateway.transport import Handler, Pipe
from rpyc_transports import hosts, trust, urls
from rpyc_transports.hosts import Address, host_port
from rpyc_transports.proxies import DIRECT, environment_proxy
from rpyc_transports.secured import HandshakeFailed, TlsStream, secure_accepted, secure_dialled
from rpyc_transports.sockets import part, serve_handshakes
from rpyc_transports.urls import Reader, number
from rpyc_transports.websocket_messages import Messages
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
        place = _read(url)
        if isinstance(place, str):
            raise DialFailed(f"{urls.shown(url)}: {place}")
        if "origin" in place.options:
            raise DialFailed(f"{place}: the option 'origin' is for a listener")
        options = _with_proxy(place)
        async with AsyncExitStack() as stack:
            socket = await stack.enter_async_context(await hosts.dial(str(place), place.address, options))
            try:
                below, peer, identity = await _secure(stack, socket, place, options)
                rest = await _ask(below, place)
            except (HandshakeFailed, UpgradeFailed, trust.Unusable) as exc:
                raise DialFailed(f"{place}: {exc}") from exc
            except OSError as exc:
                raise DialFailed(f"{place}: the other side broke the connection at once ({exc.strerror})") from exc
            stream = WebSocketStream(below, Messages(ConnectionType.CLIENT, rest))
            await stack.enter_async_context(_running(stream, place.options))
            yield Pipe(stream, peer, identity)

    async def serve(
        self, url: str, handler: Handler, *, task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Listen like tcp or tls. Whoever asks for anything but a link gets an HTTP answer with a sentence. Raises ConfigError."""
        place = _read(url)
        if isinstance(place, str):
            raise ConfigError([f"{urls.shown(url)}: {place}"])
        problem = _not_for_listening(place)
        if problem:
            raise ConfigError([f"{place}: {problem}"])

        async def run(pipe: Pipe) -> None:
            assert isinstance(pipe.stream, WebSocketStream)
            async with _running(pipe.stream, place.options):
                await handler(pipe)

        listeners = await hosts.listen(str(place), place.address)
        bound = [f"{place.scheme}://{host_port(one.socket.getsockname())}{place.path}" for one in listeners]
        if place.secure:
            trust.log_certificate(bound, place.options)
        await serve_handshakes(listeners, bound, partial(_take_in, place=place), run, task_status)

    def is_private(self, url: str) -> bool:
        """Only loopback addresses are. Whom a reverse proxy passes on to one is up to it."""
        place = _read(url)
        return not isinstance(place, str) and place.address.is_private()

    def is_guarded(self, url: str) -> bool:
        """Wss with a `client_ca` is."""
        place = _read(url)
        return not isinstance(place, str) and place.secure and "client_ca" in place.options

    def check(self, url: str) -> str | None:
        place = _read(url)
        if isinstance(place, str):
            return place
        wrong = trust.unusable_files(place.options) if place.secure else None
        if wrong is not None:
            raise ConfigError([f"{place}: {wrong}"])
        return None

    def check_listener(self, url: str) -> str | None:
        place = _read(url)
        return place if isinstance(place, str) else _not_for_listening(place)


# -- URLs


class Place(NamedTuple):
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


def _read(url: str) -> Place | str:
    """What a URL says, or what is wrong with it."""
    found = URL.fullmatch(url)
    secure = found is not None and found["scheme"].lower() == "wss"
    address = Address.parse(f"{found['host']}:{found['port'] or (443 if secure else 80)}") if found else None
    if found is None or address is None:
        return "is not of the form ws://host:port/path, or wss://... (an IPv6 address goes in brackets: ws://[::1]:80/)"
    options, problems = urls.parse(url, OPTIONS_OF_WSS if secure else OPTIONS)
    problem = address.problem() or "; ".join(problems)
    path = quote(found["path"] or "/", safe="/%:@!$&'()*+,;=~-._")
    return problem or Place(secure, address, path, unquote_to_bytes(found["login"] or ""), options)


def _not_for_listening(place: Place) -> str | None:
    if place.login:
        return "a user and password are for dialling; a reverse proxy can ask for them, or wss:// with client_ca for a certificate"
    for name in ("header", "proxy"):
        if name in place.options:
            return f"the option {name!r} is for dialling"
    try:
        if place.secure:
            trust.listening(place.options, ALPN)
    except trust.Unusable as exc:
        return str(exc)
    return None


# -- dialling


def _with_proxy(place: Place) -> Mapping[str, Any]:
    """The options, with the environment's proxy if the URL does not say which. Raises DialFailed."""
    if "proxy" in place.options:
        return place.options
    try:
        found = environment_proxy(place.scheme, place.address.host)
    except ValueError as exc:
        raise DialFailed(f"{place}: {exc}") from None
    return {**place.options, "proxy": found or DIRECT}


async def _secure(
    stack: AsyncExitStack, socket: trio.SocketStream, place: Place, options: Mapping[str, Any]
) -> tuple[trio.SocketStream | TlsStream, str, str]:
    """Put TLS on a connection for wss: what to speak on, who is there, and the identity that is known for certain. Raises what `secure_dialled` does, OSError."""
    peer, _ = hosts.met(socket, place.address, options)
    hosts.tune(socket, options)
    if not place.secure:
        return socket, peer, ""
    secured = await secure_dialled(socket, place.address.host, options, alpn=ALPN)
    await stack.enter_async_context(secured.stream)
    return secured.stream, peer, secured.identity


async def _ask(stream: trio.abc.Stream, place: Place) -> bytes:
    """Ask for the WebSocket; what came behind the answer. Raises UpgradeFailed."""
    default = 443 if place.secure else 80
    host = place.address.host.encode("idna").decode() if not place.address.host.isascii() else place.address.host
    named = host_port((host, place.address.port))
    request = Request(
        named.removesuffix(f":{default}"), place.path, login=place.login, given=place.options.get("header", ())
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


async def _take_in(stream: trio.SocketStream, place: Place) -> Pipe | None:
    """Make a pipe of a caller that asks for one, or tell it what is wrong. Raises OSError if it is gone."""
    peer, identity = host_port(stream.socket.getpeername()), ""
    hosts.tune(stream, place.options)
    below: trio.SocketStream | TlsStream = stream
    if place.secure:
        try:
            below, identity = await secure_accepted(stream, place.options, alpn=ALPN)
        except (HandshakeFailed, trust.Unusable) as exc:
            logger.info("%s is sent away: %s", peer, exc)
            return None
    question = Question()
    with trio.move_on_after(ASK_WITHIN) as patience:
        try:
            while not question.receive(await below.receive_some(READ)):
                pass
            refusal = question.refusal(place.path, place.options.get("origin", ()))
            if refusal is None:
                await below.send_all(question.accept())
                forwarded = f" (for {question.forwarded_for})" if question.forwarded_for else ""
                messages = Messages(ConnectionType.SERVER, question.rest)
                return Pipe(WebSocketStream(below, messages), f"{peer}{forwarded}", identity)
        except (UpgradeFailed, trio.BrokenResourceError):
            return None  # it has ended the connection, as some do to see whether a port is open
    if patience.cancelled_caught:
        refusal = Refusal(408, f"The request was not complete within {ASK_WITHIN:g} s.")
    assert refusal is not None
    logger.info("%s is sent away: HTTP %d: %s", peer, refusal.status, refusal.sentence)
    if isinstance(below, TlsStream):
        with trio.move_on_after(LINGER), suppress(trio.BrokenResourceError):
            await below.send_all(refusal.as_bytes())
        await below.aclose()
    else:
        await part(below, refusal.as_bytes())
    return None


# -- the stream

MESSAGE = 262_144  # bytes of one that is sent, a quarter of what is taken; the link gives half of it at once
CLOSE_WITHIN = 2.0  # seconds for the peer to say that it has heard our goodbye
GOODBYES = (1000, 1001, 1005)  # normal closure; going away; none of those that say why


class WebSocketStream(trio.abc.Stream):
    """A byte stream in binary messages, whose bounds mean nothing. It works while it is `_running`.

    It has no half-close: `aclose` says goodbye in both directions, and gives the peer two seconds for its own. The end of a connection without
    a goodbye is a BrokenResourceError, and so is a goodbye that complains.
    """

    def __init__(self, below: trio.abc.Stream, messages: Messages) -> None:
        # The host and path are for a request that has been made already; `messages` is all of a WSConnection that is used then.
        self.websocket = WebSocketConnection(
            below, cast("WSConnection", messages), host="", path="", receive_buffer_size=None
        )
        self._below = below
        self._messages = messages
        self._left = b""  # of a message that was longer than what the reader wanted
        self._sending = _Alone("another task is sending")
        self._receiving = _Alone("another task is receiving")
        self._closed = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        with self._sending, self._ends_in_words():
            if not data:
                await self._check()
            elif len(data) <= MESSAGE:
                await self.websocket.send_message(bytes(data))
            else:
                view = memoryview(data)
                for start in range(0, len(data), MESSAGE):
                    await self.websocket.send_message(bytes(view[start : start + MESSAGE]))

    async def wait_send_all_might_not_block(self) -> None:
        with self._sending, self._ends_in_words():
            await self._check()

    async def _check(self) -> None:
        await trio.lowlevel.checkpoint()
        if self.websocket.closed is not None:
            raise ConnectionClosed(self.websocket.closed)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        limit = MESSAGE if max_bytes is None else operator.index(max_bytes)
        if limit < 1:
            raise ValueError(f"max_bytes is at least 1, not {limit}")
        with self._receiving, self._ends_in_words():
            data = self._left
            if not data:
                try:
                    data = await self.websocket.get_message()  # type: ignore[assignment]  # `Messages` lets no text through
                except ConnectionClosed as exc:
                    if self._closed or self._messages.fault or exc.reason is None or exc.reason.code not in GOODBYES:
                        raise
                    await trio.lowlevel.checkpoint()
                    return b""
            else:
                await trio.lowlevel.checkpoint()
            self._left = data[limit:]
            return data[:limit]

    async def aclose(self) -> None:
        self._closed = True
        self._left = b""
        try:
            with trio.move_on_after(CLOSE_WITHIN):
                await self.websocket.aclose()
        finally:
            await trio.aclose_forcefully(self._below)

    @contextmanager
    def _ends_in_words(self) -> Iterator[None]:
        if self._closed:
            raise trio.ClosedResourceError("this WebSocket was closed here")
        try:
            yield
        except ConnectionClosed as exc:
            if self._closed:
                raise trio.ClosedResourceError("this WebSocket was closed here") from None
            raise trio.BrokenResourceError(self._why(exc.reason)) from exc

    def _why(self, reason: CloseReason | None) -> str:
        if self._messages.fault:
            return f"the peer broke the protocol of WebSocket: {self._messages.fault}"
        if reason is None or reason.code == 1006:
            return "the connection broke off, without the goodbye of WebSocket"
        said = f": {reason.reason}" if reason.reason else ""
        return f"the peer has closed the WebSocket ({reason.code}, {reason.name.lower().replace('_', ' ')}{said})"


class _Alone:
    """One task at a time."""

    def __init__(self, otherwise: str) -> None:
        self._otherwise = otherwise
        self._taken = False

    def __enter__(self) -> None:
        if self._taken:
            raise trio.BusyResourceError(self._otherwise)
        self._taken = True

    def __exit__(self, *_: object) -> None:
        self._taken = False


@asynccontextmanager
async def _running(stream: WebSocketStream, options: Mapping[str, Any]) -> AsyncIterator[None]:
    """Read for the stream, and close it at the end. Exceptions of the body stay what they are."""
    failure: BaseException | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.websocket._reader_task)  # noqa: SLF001  # as its own wrap_client_stream does
        if options.get("ping"):
            nursery.start_soon(_give_signs_of_life, stream.websocket, options["ping"])
        try:
            async with stream:
                yield
        except BaseException as exc:  # noqa: BLE001  # it is raised below: it passes the nursery by, which would wrap it in a group
            failure = exc
        nursery.cancel_scope.cancel()
    if failure is not None:
        try:
            raise failure
        finally:
            del failure


async def _give_signs_of_life(websocket: WebSocketConnection, seconds: float) -> None:
    while websocket.closed is None:
        await trio.sleep(seconds)
        with suppress(ConnectionClosed):
            await websocket.pong()  # unasked: nobody has to answer, and the reader may be busy
