"""The HTTP request that opens a WebSocket, on either side of it (RFC 6455, section 4): what is asked, and every other answer than yes in words.

Bytes and rules only, on h11: `websocket.py` reads and writes. What goes wrong is told to whoever sees it: an HTTP status with a sentence to
the client that is none of ours, an UpgradeFailed with what to do to ours.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple
from urllib.parse import unquote

import h11
from wsproto.utilities import generate_accept_token, generate_nonce

__all__ = ["SUBPROTOCOL", "Question", "Refusal", "Request", "UpgradeFailed", "headers"]

SUBPROTOCOL = "rpyc-gateway.1"
"""What is spoken in the WebSocket: the link of docs/protocol.md, version 1 of this way to carry it."""

MAX_HEAD = (
    16_384  # bytes of a request or an answer; cookies and the headers of some reverse proxies take a few thousand
)
BEGINNING = 40  # bytes of what is no HTTP, to be shown
SHOWN = 400  # characters of a server's own explanation: ours has almost as many

Headers = Sequence[tuple[bytes, bytes]]
OURS = (b"upgrade", b"connection", b"content-length", b"transfer-encoding")  # a request for a WebSocket has no body
HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([!-~ \t\x80-\xff]*)")


def headers(given: str) -> Headers:
    """Headers as an option has them: `Name: value`, one in each line. Raises ValueError with what is wrong, without the values."""
    found: list[tuple[bytes, bytes]] = []
    for line in given.split("\n"):
        header = HEADER.fullmatch(line.strip())
        if header is None:
            raise ValueError("is not of the form `Name: value`, with a newline (%0A) between two")
        name = header[1].encode()
        if name.lower() in OURS or name.lower().startswith(b"sec-websocket-"):
            raise ValueError(f"has {header[1]}, which is for the transport to say")
        if name.lower() == b"host" and any(known.lower() == b"host" for known, _ in found):
            raise ValueError("has Host twice")
        found.append((name, header[2].strip().encode("latin-1")))
    return found


class UpgradeFailed(Exception):
    """There is no WebSocket; the text says what is there instead and what to do."""


class Refusal(NamedTuple):
    """An HTTP answer that is no WebSocket."""

    status: int
    sentence: str
    headers: tuple[tuple[str, str], ...] = ()

    def as_bytes(self) -> bytes:
        connection = h11.Connection(h11.SERVER)
        body = f"{self.sentence}\n".encode()
        headers = [
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Content-Length", str(len(body))),
            ("Connection", "close"),
            *self.headers,
        ]
        answer = h11.Response(status_code=self.status, headers=headers, reason=REASONS.get(self.status, ""))
        parts = (connection.send(part) for part in (answer, h11.Data(data=body), h11.EndOfMessage()))
        return b"".join(filter(None, parts))


REASONS = {
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    426: "Upgrade Required",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}


# -- the listening side


class Question:
    """A caller's request, as it comes in. `refusal` is why not."""

    def __init__(self) -> None:
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        self._request: h11.Request | None = None
        self._unreadable: Refusal | None = None
        self._heard = b""

    def receive(self, data: bytes) -> bool:
        """Take what has come, b"" for the end; whether that is all of the request, or enough to refuse it.

        Raises UpgradeFailed if the caller has ended the connection without one.
        """
        self._heard += data[: BEGINNING - len(self._heard)]
        try:
            self._http.receive_data(data)
            while self._request is None:
                event = self._http.next_event()
                if isinstance(event, h11.Request):
                    self._request = event
                elif event is h11.NEED_DATA:
                    return False
                else:
                    raise UpgradeFailed("the caller ended the connection without a request")
        except h11.RemoteProtocolError as exc:
            self._unreadable = _unreadable(exc)
        return True

    @property
    def rest(self) -> bytes:
        """What came behind the request."""
        return self._http.trailing_data[0]

    def refusal(self, path: str, origins: Iterable[str]) -> Refusal | None:
        """Why this request is no link to `path`; None if it is one. `origins` are the web pages that may ask, or `*`."""
        if self._unreadable is not None:
            return self._unreadable
        assert self._request is not None
        request, headers = self._request, Received(self._request.headers)
        asked = request.target.partition(b"?")[0].decode("ascii", "replace")
        if _plain(asked) != _plain(path):
            return Refusal(404, "There is nothing here. An rpyc-gateway node listens on this port, at another path.")
        if request.method != b"GET":
            return Refusal(405, f"{THIS} It takes no {request.method.decode('ascii', 'replace')}.", (("Allow", "GET"),))
        if "websocket" not in headers.words(b"upgrade") or "upgrade" not in headers.words(b"connection"):
            return Refusal(426, f"{THIS} {NO_UPGRADE}", (("Upgrade", "websocket"), ("Connection", "Upgrade")))
        if headers[b"sec-websocket-version"] != b"13":
            return Refusal(426, f"{THIS} It speaks version 13 of WebSocket.", (("Sec-WebSocket-Version", "13"),))
        if not KEY.fullmatch(headers[b"sec-websocket-key"]):
            return Refusal(400, f"{THIS} The header Sec-WebSocket-Key is missing or wrong.")
        origin = headers[b"origin"].decode("latin-1")
        if origin and not {"*", origin.lower()} & {known.lower().rstrip("/") for known in origins}:
            return Refusal(403, f"{THIS} It lets in no web page from {origin}; the option `origin` of its URL can.")
        if SUBPROTOCOL not in headers.words(b"sec-websocket-protocol", lower=False):
            return Refusal(400, f"{THIS} It speaks {SUBPROTOCOL}, which Sec-WebSocket-Protocol must offer.")
        return None

    @property
    def asked(self) -> str:
        """For the log: what came, in short."""
        if self._request is None:
            return f"what is no HTTP request: {self._heard!r}" if self._heard else ""
        return f"{self._request.method.decode('ascii')} {self._request.target.partition(b'?')[0][:80].decode('ascii')}"

    @property
    def forwarded_for(self) -> str:
        """The address of the caller, as a reverse proxy gives it, if one does; nobody vouches for that."""
        assert self._request is not None
        claimed = Received(self._request.headers)[b"x-forwarded-for"].decode("latin-1")
        return claimed if FORWARDED.fullmatch(claimed) else ""

    def accept(self) -> bytes:
        """The answer to send to make it a WebSocket."""
        assert self._request is not None
        token = generate_accept_token(Received(self._request.headers)[b"sec-websocket-key"])
        headers = [
            (b"Upgrade", b"websocket"),
            (b"Connection", b"Upgrade"),
            (b"Sec-WebSocket-Accept", token),
            (b"Sec-WebSocket-Protocol", SUBPROTOCOL.encode()),
        ]
        answer = h11.InformationalResponse(status_code=101, headers=headers, reason=b"Switching Protocols")
        sent: bytes = self._http.send(answer) or b""
        return sent


THIS = "This is an rpyc-gateway node, which is linked to with WebSocket, by the ws:// or wss:// URL of this address."
NO_UPGRADE = (
    "This request does not ask for that. If a node has sent it, then a reverse proxy on the way has dropped its Upgrade header"
    " (nginx: proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade)."
)
FORWARDED = re.compile(r"[0-9A-Fa-f.:\[\], ]{1,100}")
KEY = re.compile(rb"[A-Za-z0-9+/]{22}==")


def _unreadable(exc: h11.RemoteProtocolError) -> Refusal:
    if exc.error_status_hint == 431:
        return Refusal(431, f"{THIS} A request has {MAX_HEAD} bytes of headers at most.")
    return Refusal(400, f"{THIS} What came is no HTTP request.")


def _plain(path: str) -> str:
    """Paths that differ by how they are quoted, or by a slash at the end, are one."""
    return unquote(path).rstrip("/")


class Received:
    """The headers of a message. Several of one name count as one, as HTTP has it."""

    def __init__(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        self._headers = list(headers)

    def __getitem__(self, name: bytes) -> bytes:
        return b", ".join(value for known, value in self._headers if known == name)

    def words(self, name: bytes, *, lower: bool = True) -> set[str]:
        """What a header lists, separated by commas."""
        text = self[name].decode("latin-1")
        return {word.strip() for word in (text.lower() if lower else text).split(",")}


# -- the dialling side

TLS_RECORDS = (0x15, 0x16)


class Request:
    """Our request for a WebSocket, `sent`, and what comes back. `host` is for its header; `login` is `user:password`; `given` are more headers."""

    def __init__(self, host: str, path: str, *, login: bytes = b"", given: Headers = ()) -> None:
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
        self._nonce = generate_nonce()
        own = [
            (b"Host", host.encode("ascii")),
            (b"User-Agent", b"rpyc-gateway"),
            (b"Upgrade", b"websocket"),
            (b"Connection", b"Upgrade"),
            (b"Sec-WebSocket-Version", b"13"),
            (b"Sec-WebSocket-Key", self._nonce),
            (b"Sec-WebSocket-Protocol", SUBPROTOCOL.encode()),
        ]
        if login:
            own.append((b"Authorization", b"Basic " + base64.b64encode(login)))
        names = {name.lower() for name, _ in given}
        sent = [*((name, value) for name, value in own if name.lower() not in names), *given]
        self._logged_in = bool(login) or b"authorization" in names
        self.sent = self._http.send(h11.Request(method=b"GET", target=path.encode("ascii"), headers=sent)) or b""
        self._answer: Answer | None = None
        self._heard = b""

    @property
    def rest(self) -> bytes:
        """What came behind the answer: the far side may be the first to speak."""
        return self._http.trailing_data[0]

    def receive(self, data: bytes) -> bool:
        """Take what has come, b"" for the end; whether the WebSocket is open. Raises UpgradeFailed if it never will be."""
        self._heard += data[: BEGINNING - len(self._heard)]
        if not self._heard.startswith(b"HTTP/"[: len(self._heard)]):
            hint = "; it speaks TLS: dial wss://" if self._heard[0] in TLS_RECORDS else ""
            raise UpgradeFailed(f"it does not speak HTTP: it said {self._heard!r}{hint}")
        try:
            self._http.receive_data(data)
            return self._read()
        except h11.RemoteProtocolError as exc:
            if self._answer is not None:  # the body of a refusal came to an early end
                raise UpgradeFailed(str(self._answer)) from None
            if not data:
                end = (
                    f"in the middle of one, {self._heard!r}"
                    if self._heard
                    else "is it a node or a reverse proxy that listens there?"
                )
                raise UpgradeFailed(f"the connection ended without an answer: {end}") from None
            if exc.error_status_hint == 431:
                raise UpgradeFailed(f"the answer has more than {MAX_HEAD} bytes of headers") from None
            raise UpgradeFailed(f"it does not speak HTTP: it said {self._heard!r}") from None

    def _read(self) -> bool:
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                return False
            if isinstance(event, h11.InformationalResponse):
                if event.status_code == 101:
                    self._agree(Received(event.headers))
                    return True
            elif isinstance(event, h11.Response):
                self._answer = Answer(event, logged_in=self._logged_in)
            elif isinstance(event, h11.Data) and self._answer is not None and self._answer.wants_more:
                self._answer.body += event.data
            elif self._answer is not None:
                raise UpgradeFailed(str(self._answer))

    def _agree(self, headers: Received) -> None:
        if headers[b"sec-websocket-accept"] != generate_accept_token(self._nonce):
            raise UpgradeFailed("it answers as no WebSocket server may: its Sec-WebSocket-Accept is wrong or missing")
        if headers[b"sec-websocket-protocol"].decode("latin-1") != SUBPROTOCOL:
            what = f"it did not agree to speak {SUBPROTOCOL}"
            raise UpgradeFailed(f"a WebSocket server is there, but no rpyc-gateway node: {what}; is the path right?")


class Answer:
    """Another answer than yes: as text, the status, what the server says about it, and what to do."""

    def __init__(self, response: h11.Response, *, logged_in: bool) -> None:
        self.body = b""
        self._response = response
        self._logged_in = logged_in

    @property
    def wants_more(self) -> bool:
        return len(self.body) < MAX_HEAD

    def __str__(self) -> str:
        status = self._response.status_code
        reason = self._response.reason.decode("latin-1")
        return f"HTTP {status}{f' {reason}' if reason else ''}{self._explanation()}: {self._advice(status)}"

    def _explanation(self) -> str:
        """The server's own words, where they are meant for people who read text."""
        headers = Received(self._response.headers)
        if not headers[b"content-type"].lower().startswith(b"text/plain"):
            return ""
        text = " ".join(self.body.decode("utf-8", "replace").split())
        text = "".join(character for character in text if character.isprintable())
        return f" ({text[:SHOWN] + '...' if len(text) > SHOWN else text})" if text else ""

    def _advice(self, status: int) -> str:
        if status == 401 and self._logged_in:
            return "this user and password, or this Authorization header, is not taken"
        if 300 <= status < 400:
            where = Received(self._response.headers)[b"location"].decode("latin-1")
            return f"it has moved to {where[:SHOWN] or 'somewhere else'}: dial that, with ws:// for http:// and wss:// for https://"
        return WHAT_TO_DO.get(status, "a web server is there, but no node: are the port and the path right?")


WHAT_TO_DO = {
    101: "it switches to another protocol than WebSocket",
    200: "a web server is there, but no node: are the port and the path right?",
    400: "the request is not understood there: is it the port of a node, or is it https (wss://)?",
    401: "it wants a user and password: ws://user:password@..., or another header by the option `header`",
    403: "it may not be used from here: a rule of the reverse proxy, or of the node",
    404: "nothing is at this path: it must be that of the node's listener, or the one that the reverse proxy has for it",
    407: "a proxy on the way wants a user and password: say proxy=http://user:password@...",
    426: "the request came there without its Upgrade header: the reverse proxy must pass Upgrade and Connection on",
    429: "too many requests: it asks to wait",
    500: "the server there has failed",
    502: "the reverse proxy cannot reach the node: is it running, where the proxy expects it?",
    503: "the reverse proxy has no node to pass this on to, or it is overloaded: is the node running?",
    504: "the reverse proxy gets no answer from the node: is it stuck?",
}
