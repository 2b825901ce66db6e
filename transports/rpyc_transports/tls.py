"""`tls://host:port`: TCP with TLS. Who listens shows a certificate; with `client_ca` it lets in only whom it can name by theirs."""

from __future__ import annotations

import logging
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

import trio

from rpyc_gateway.errors import ConfigError, DialFailed
from rpyc_gateway.transport import Handler, Pipe, without_secrets
from rpyc_transports import hosts, trust
from rpyc_transports.hosts import Target, host_port
from rpyc_transports.secured import ALPN, HANDSHAKE_WITHIN, HandshakeFailed, secure_accepted, secure_dialled
from rpyc_transports.sockets import part, serve_handshakes, share
from rpyc_transports.trust import Unusable

__all__ = ["TlsTransport"]

logger = logging.getLogger(__name__)

OPTIONS = {**hosts.OPTIONS, **trust.DIALLING, **trust.LISTENING}

HANDSHAKE_RECORD = b"\x16"  # how everybody begins who speaks TLS

# A caller that dialled tcp:// shows its user so much of what it reads instead of a HELLO.
TLS_ONLY = b"TLS only: dial tls://\r\n"
HTTP = (b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELETE ", b"OPTIONS ", b"CONNECT ", b"PATCH ", b"TRACE ", b"PRI ")
HTTP_TEXT = (
    b"This port takes links of rpyc-gateway over TLS, not HTTP. Use rpyc-gw or rpyc_gateway with tls:// to dial it.\n"
)
HTTP_ANSWER = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s"
    % (
        len(HTTP_TEXT),
        HTTP_TEXT,
    )
)


class TlsTransport:
    """The options of its URLs are in `trust` and `hosts`, and for people in docs/configuration.md."""

    @asynccontextmanager
    async def connect(self, url: str) -> AsyncIterator[Pipe]:
        """Dial within 10 s, and agree on TLS within another 10. Raises DialFailed with the URL and the reason."""
        target, url = _read(url), without_secrets(url)
        if isinstance(target, str):
            raise DialFailed(f"{without_secrets(url)}: {target}")
        async with AsyncExitStack() as stack:
            stream = await stack.enter_async_context(await hosts.dial(url, target.address, target.options))
            try:
                peer, private = hosts.met(stream, *target)
                hosts.tune(stream, target.options)
                below = share(stream, peer, private=private)
                await stack.enter_async_context(below.stream)
                secured = await secure_dialled(below.stream, target.address.host, target.options)
            except OSError as exc:
                raise DialFailed(f"{url}: the other side broke the connection at once ({exc.strerror})") from exc
            except (HandshakeFailed, Unusable) as exc:
                raise DialFailed(f"{url}: {exc}") from exc
            async with secured.stream:
                yield secured.pipe(below)

    async def serve(
        self, url: str, handler: Handler, *, task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Listen like tcp. The fingerprint of the certificate is logged, for the `pin` of those who dial. Raises ConfigError."""
        target = _read(url)
        problem = target if isinstance(target, str) else _unfit(target)
        if isinstance(target, str) or problem:
            raise ConfigError([f"{without_secrets(url)}: {problem}"])
        listeners = await hosts.listen(url, target.address)
        bound = [f"tls://{host_port(listener.socket.getsockname())}" for listener in listeners]
        trust.log_certificate(bound, target.options)
        shake_hands = partial(_shake_hands, options=target.options)
        await serve_handshakes(listeners, bound, shake_hands, handler, task_status)

    def is_private(self, url: str) -> bool:
        """Only loopback addresses are."""
        target = _read(url)
        return not isinstance(target, str) and target.address.is_private()

    def is_guarded(self, url: str) -> bool:
        """With a `client_ca` it is."""
        target = _read(url)
        return not isinstance(target, str) and "client_ca" in target.options

    def check(self, url: str) -> str | None:
        target = _read(url)
        if isinstance(target, str):
            return target
        wrong = trust.unusable_files(target.options)
        if wrong is not None:
            raise ConfigError([f"{without_secrets(url)}: {wrong}"])
        return None

    def check_listener(self, url: str) -> str | None:
        """A listener has a certificate, and no options for dialling."""
        target = _read(url)
        return target if isinstance(target, str) else _unfit(target)


def _unfit(target: Target) -> str | None:
    """Why nobody can listen like this."""
    try:
        trust.listening(target.options, ALPN)
    except Unusable as exc:
        return str(exc)
    return hosts.not_for_listening(target.options)


def _read(url: str) -> Target | str:
    return hosts.read(url, "tls", OPTIONS)


async def _shake_hands(stream: trio.SocketStream, options: Mapping[str, Any]) -> Pipe | None:
    """Take a caller in, or tell it and the log what is wrong. Raises OSError if it is gone."""
    peer = stream.socket.getpeername()
    hosts.tune(stream, options)
    who = host_port(peer)
    with trio.move_on_after(HANDSHAKE_WITHIN) as patience:
        start = await stream.socket.recv(8, socket.MSG_PEEK)
    if patience.cancelled_caught or not start:
        return None
    if not start.startswith(HANDSHAKE_RECORD):
        logger.info("%s does not speak TLS, and is sent away: it began with %r", who, start)
        await part(stream, HTTP_ANSWER if start.startswith(HTTP) else TLS_ONLY)
        return None
    below = share(stream, who, private=hosts.is_loopback(peer[0]))
    async with AsyncExitStack() as undo:
        undo.push_async_callback(trio.aclose_forcefully, below.stream)
        try:
            secured = await secure_accepted(below.stream, options)
        except (HandshakeFailed, Unusable) as exc:
            logger.info("%s is sent away: %s", who, exc)
            return None
        undo.pop_all()
    return secured.pipe(below)
