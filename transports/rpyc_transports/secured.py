"""TLS over any byte stream: the handshake of either side, in time and with its failures in words, and the stream after it."""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, NamedTuple, cast

import trio

from rpyc_gateway.transport import Buffer, Pipe
from rpyc_transports import trust
from rpyc_transports.certificates import Certificate, identity
from rpyc_transports.records import AT_LEAST, Bounds, Records

__all__ = ["ALPN", "HandshakeFailed", "Secured", "TlsStream", "secure_accepted", "secure_dialled"]

ALPN = ("rpyc-gw/1",)

HANDSHAKE_WITHIN = 10.0  # seconds
CLOSE_WITHIN = 1.0  # seconds that the peer has to take our goodbye, and to stop sending
BEGINNING = 24  # bytes of what the peer said first, kept to be shown if that is no TLS

# What a client reads where a HELLO should begin; so much of it is shown there.
NOT_PINNED = b"certificate not pinned\r\n"


class HandshakeFailed(Exception):
    """The handshake failed; the text says why, and what to do. The stream below is of no use any more, and still the caller's to close."""


class Secured(NamedTuple):
    """A stream with TLS on it, and what is known of the peer by that: an identity for `Pipe`, or ""."""

    stream: TlsStream
    identity: str

    def pipe(self, below: Pipe) -> Pipe:
        """As a pipe, with a non-blocking side where `below`, which is what TLS runs on, has one."""
        records = self.stream.records
        pipe = Pipe(self.stream, below.peer, self.identity, private=below.private)
        if below.send_nowait is None or below.receive_nowait is None or records.ahead:
            return pipe

        def send_nowait(*buffers: Buffer) -> int:
            try:
                return records.send_nowait(*buffers)
            except ssl.SSLError as exc:
                raise _in_words(exc) from None

        def receive_nowait(limit: int) -> bytes | None:
            try:
                return records.receive_nowait(limit)
            except ssl.SSLError as exc:
                raise _in_words(exc) from None

        records.speak_on(below)
        pipe.send_nowait, pipe.receive_nowait, pipe.fileno = send_nowait, receive_nowait, below.fileno
        pipe.receive_at_least = AT_LEAST
        return pipe


async def secure_dialled(
    stream: trio.abc.Stream, host: str, options: Mapping[str, Any], *, alpn: Sequence[str] = ALPN
) -> Secured:
    """Shake hands with a listener that was dialled as `host`. `options` are those of `trust.DIALLING`.

    Raises HandshakeFailed, trust.Unusable. Cancelled, the stream is of no use any more.
    """
    context = trust.dialling(options, alpn)
    expected = _server_name(options.get("name", host))
    try:
        tls = TlsStream(stream, context, server_hostname=expected)
    except ValueError as exc:  # a name that cannot be one in a certificate
        raise HandshakeFailed(f"{expected!r} cannot be the name of a server: {exc}") from exc
    await tls.shake_hands()
    met = tls.peer_certificate()
    if "pin" in options and not met.has(options["pin"]):
        await tls.aclose()
        pinned = " or ".join(options["pin"])
        raise HandshakeFailed(
            f"its key has the fingerprint {met.key}, not {pinned}: somebody else answers, or it has a new key"
        )
    checked = context.verify_mode is ssl.CERT_REQUIRED
    return Secured(tls, f"cert:{expected}" if checked else f"cert:{met.key}")


async def secure_accepted(
    stream: trio.abc.Stream, options: Mapping[str, Any], *, alpn: Sequence[str] = ALPN
) -> Secured:
    """Shake hands with a caller. `options` are those of `trust.LISTENING`.

    Raises HandshakeFailed, trust.Unusable. Cancelled, the stream is of no use any more.
    """
    context = trust.listening(options, alpn)
    tls = TlsStream(stream, context)
    await tls.shake_hands()
    if context.verify_mode is not ssl.CERT_REQUIRED:
        return Secured(tls, "")
    met, subject = tls.peer_certificate(), tls.peer_subject()
    if "client_pin" in options and not met.has(options["client_pin"]):
        with suppress(trio.BrokenResourceError, OSError):
            await tls.send_all(NOT_PINNED)
        await tls.aclose()
        raise HandshakeFailed(f"the client's key has the fingerprint {met.key}, which is not in client_pin")
    return Secured(tls, identity(subject, met))


class TlsStream(trio.abc.Stream):
    """A byte stream in TLS. What `ssl` has against the peer is raised as BrokenResourceError, in words.

    `aclose` says the end and gives the peer a second to take it; then, or if it is cancelled, everything is dropped.
    """

    def __init__(self, stream: trio.abc.Stream, context: ssl.SSLContext, *, server_hostname: str | None = None) -> None:
        self.records = Records(context)
        self._wire = _Wire(stream, self.records)
        self._dialled = server_hostname is not None
        self._tls: trio.SSLStream[_Wire] = trio.SSLStream(
            self._wire,
            cast("ssl.SSLContext", self.records),
            server_hostname=server_hostname,
            server_side=not self._dialled,
        )

    async def shake_hands(self) -> None:
        """Raises HandshakeFailed, after the peer was told why."""
        with trio.move_on_after(HANDSHAKE_WITHIN) as patience:
            try:
                self._wire.careful = not self._dialled
                await self._tls.do_handshake()
                self._wire.careful = False
            except (trio.BrokenResourceError, OSError) as exc:
                with trio.move_on_after(CLOSE_WITHIN):
                    await self._wire.aclose()
                raise HandshakeFailed(
                    _why_no_handshake(exc, self._wire.heard, dialled=self._dialled)
                ) from exc.__cause__
        if patience.cancelled_caught:
            raise HandshakeFailed(f"no TLS handshake within {HANDSHAKE_WITHIN:g} s: {_instead(self._wire.heard)}")

    def peer_certificate(self) -> Certificate:
        """What the peer has shown; it has the key of it, and nothing more is said by this. Raises HandshakeFailed if that cannot be read."""
        der = self._tls.getpeercert(binary_form=True)
        try:
            return Certificate.read(der or b"")
        except ValueError as exc:
            raise HandshakeFailed(f"the certificate that was shown {exc}") from exc

    def peer_subject(self) -> Mapping[str, Any]:
        """The names of the peer, empty if they were not checked."""
        found: Mapping[str, Any] = self._tls.getpeercert() or {}
        return found

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        owed = self.records.owed
        try:
            if owed:  # `send_nowait` has encrypted the beginning of this, and not sent all of that
                data = memoryview(data)[owed:]
                await self._wire.send_all(b"")
            await self._tls.send_all(data)
        except trio.BrokenResourceError as exc:
            raise _broken(exc) from _of_the_system(exc)

    async def wait_send_all_might_not_block(self) -> None:
        await self._tls.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        try:
            return bytes(await self._tls.receive_some(max_bytes))
        except trio.BrokenResourceError as exc:
            raise _broken(exc) from _of_the_system(exc)

    async def aclose(self) -> None:
        with trio.move_on_after(CLOSE_WITHIN):
            await self._tls.aclose()


class _Wire(trio.abc.Stream):
    """What TLS runs on. It remembers how the peer began, and closes so that the peer can read the last words."""

    def __init__(self, stream: trio.abc.Stream, records: Records) -> None:
        self.heard = b""
        self.careful = False  # read no more than what is asked for: what a client says at once after its handshake stays where it is polled
        self._stream = stream
        self._records = records
        self._bounds = Bounds()
        self._ended = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(self._records.rest_of_chunk() + data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        data = await self._stream.receive_some(self._bounds.due if self.careful and self.heard else max_bytes)
        if self.careful:
            self._bounds.follow(data)
        self._ended = not data
        if len(self.heard) < BEGINNING:
            self.heard += bytes(data[: BEGINNING - len(self.heard)])
        return data

    async def aclose(self) -> None:
        """Say what is left to be said, and read what still comes: else the system would drop what the peer has not taken yet."""
        try:
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError, OSError):
                unsent = self._records.rest_of_chunk() + self._records.take_unsent()
                if unsent:
                    await self._stream.send_all(unsent)
                if isinstance(self._stream, trio.abc.HalfCloseableStream):
                    await self._stream.send_eof()
                    while not self._ended:
                        await self.receive_some(65536)
        finally:
            await self._stream.aclose()


def _server_name(host: str) -> str:
    """As it is in a certificate: without the interface of an address, and without the dot at the end of a name."""
    return host.partition("%")[0].rstrip(".")


# ---- failures in words

NO_TLS = {
    "BAD_LENGTH",
    "BAD_RECORD_TYPE",
    "HTTPS_PROXY_REQUEST",
    "HTTP_REQUEST",
    "PACKET_LENGTH_TOO_LONG",
    "RECORD_LAYER_FAILURE",
    "RECORD_TOO_SMALL",
    "UNEXPECTED_MESSAGE",
    "WRONG_VERSION_NUMBER",
}
END = "UNEXPECTED_EOF_WHILE_READING"

REFUSED = "the far end refuses our certificate"
REASONS = {
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "the far end lets in only whom it can name: say cert=FILE and key=FILE",
    "TLSV1_ALERT_UNKNOWN_CA": f"{REFUSED}: it does not trust who has signed it",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": f"{REFUSED}: it has expired, or the clock there is wrong",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": REFUSED,
    "SSLV3_ALERT_BAD_CERTIFICATE": REFUSED,
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": f"{REFUSED}: it is not for this purpose",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": f"{REFUSED}: it is revoked",
    "TLSV1_ALERT_ACCESS_DENIED": f"{REFUSED}: access denied",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "the far end refuses the handshake: nothing in common, or it wants a certificate (cert=)",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the client shows no certificate, and client_ca demands one",
    "TLSV1_ALERT_PROTOCOL_VERSION": "there is no version of TLS that both sides take: 1.2 or 1.3 is needed",
    "UNSUPPORTED_PROTOCOL": "there is no version of TLS that both sides take: 1.2 or 1.3 is needed",
    "NO_SHARED_CIPHER": "there is no cipher that both sides take",
    "TLSV1_ALERT_NO_APPLICATION_PROTOCOL": "it speaks TLS, but no link in it: is it a web server (wss://)?",
    "TLSV1_UNRECOGNIZED_NAME": "the far end has no certificate for this name: say name=NAME if it has another one",
}

# https://docs.openssl.org/3.0/man3/X509_STORE_CTX_get_error/
SELF_SIGNED, UNKNOWN_SIGNERS, NOT_YET, EXPIRED, PURPOSE = 18, (19, 20, 21), 9, 10, 26
NAMES = (62, 64)


def _of_the_system(exc: trio.BrokenResourceError) -> BaseException | None:
    """The cause, unless it is an SSLError: that is an OSError for whoever asks, whose number says nothing."""
    return None if isinstance(exc.__cause__, ssl.SSLError) else exc.__cause__


def _broken(exc: trio.BrokenResourceError) -> trio.BrokenResourceError:
    """What has broken a stream that was up, in words where it was TLS."""
    if not isinstance(exc.__cause__, ssl.SSLError):
        return exc
    return trio.BrokenResourceError(_cut_or_said(exc.__cause__))


def _in_words(error: ssl.SSLError) -> OSError:
    """The same without a number, which would be the reason for whoever asks."""
    return OSError(_cut_or_said(error))


def _cut_or_said(error: ssl.SSLError) -> str:
    return "the connection was cut: it ended without the goodbye of TLS" if error.reason == END else _said(error)


def _why_no_handshake(exc: BaseException, heard: bytes, *, dialled: bool) -> str:
    cause = exc.__cause__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return _distrust(cause) if dialled else f"the client's certificate is refused: {cause.verify_message}"
    reason = _reason(exc)
    if reason in NO_TLS:
        return _instead(heard)
    if reason == END or not isinstance(cause, ssl.SSLError):
        return f"the far end closed the connection in the middle of the TLS handshake: {_instead(heard)}"
    return _said(cause)


def _reason(exc: BaseException) -> str:
    return getattr(exc.__cause__, "reason", None) or ""


def _said(error: ssl.SSLError) -> str:
    reason = error.reason or str(error)
    return REASONS.get(reason) or f"TLS failed: {reason.lower().replace('_', ' ')}"


def _instead(heard: bytes) -> str:
    """What to make of a peer that does not shake hands, by how it began."""
    if not heard:
        return "does it speak TLS?"
    if heard[0] in (0x15, 0x16):
        return "it speaks TLS, and did not say why"
    return f"it does not speak TLS (is it a tcp:// or ws:// listener?): it began with {heard!r}"


def _distrust(error: ssl.SSLCertVerificationError) -> str:
    code, now = error.verify_code, datetime.now(UTC)
    if code == SELF_SIGNED:
        return "the certificate is self-signed: say pin=FINGERPRINT, which a listener logs when it starts, or ca=FILE with this certificate"
    if code in UNKNOWN_SIGNERS:
        return "the certificate is signed by somebody who is not trusted here: say ca=FILE with the authority, or pin=FINGERPRINT"
    if code == EXPIRED:
        return f"the certificate has expired: renew it, unless the clock here is wrong ({now:%Y-%m-%d %H:%M} UTC)"
    if code == NOT_YET:
        return f"the certificate is not valid yet: is the clock right, here ({now:%Y-%m-%d %H:%M} UTC) and where it was made?"
    if code == PURPOSE:
        return "the certificate is not for this purpose: a listener needs serverAuth in it, a client clientAuth"
    if code in NAMES:
        return f"{error.verify_message.rstrip('.')}: say name=NAME if it has another one"
    return f"the certificate is not valid: {error.verify_message}"
