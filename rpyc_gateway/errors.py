"""One tree of exceptions. Each class says whose fault it is; each message says what happened, where, and what to do.

GatewayError
├── ConfigError            yours: a configuration that cannot be used, with every mistake in it
├── ProtocolError          theirs: the peer broke the protocol
├── LimitExceeded          theirs or yours: a bound was reached
├── EncodeError            yours: a value that cannot be sent (also a TypeError)
├── NoCodec                yours: a value came by a codec that is not registered here
├── Refused                theirs: the answer is no
│   ├── Denied                 policy says so (also a PermissionError)
│   ├── NotExposed             this part of an object is not for peers (also an AttributeError)
│   ├── NoService              the node does not serve this
│   └── DuplicateNode          another live node has this name
├── Unreachable            the world's: no way to get there (also a ConnectionError)
│   └── DialFailed             a connection could not be made
├── LinkLost               the world's: a hop died; what was pending is unknown (also a ConnectionError)
│   └── PeerRestarted          it is there again, as another life: what it lent is gone
├── SessionClosed          yours or the peer's, on purpose (also an EOFError)
├── Cancelled              the call was cancelled, here or there
│   └── TimedOut               its time was over (also a TimeoutError); whether it was done is unknown
└── RemoteError            an exception of the far side that has no type here
"""

from __future__ import annotations

from enum import IntEnum

__all__ = [
    "Cancelled",
    "Code",
    "ConfigError",
    "Denied",
    "DialFailed",
    "DuplicateNode",
    "EncodeError",
    "GatewayError",
    "LimitExceeded",
    "LinkLost",
    "NoCodec",
    "NoService",
    "NotExposed",
    "PeerRestarted",
    "ProtocolError",
    "Refused",
    "RemoteError",
    "SessionClosed",
    "TimedOut",
    "Unreachable",
    "error_for",
]


class Code(IntEnum):
    """Why a stream, link or session ended (docs/protocol.md, section 1)."""

    DONE = 0
    PROTOCOL = 1
    VERSION = 2
    DUPLICATE = 3
    DENIED = 4
    UNREACHABLE = 5
    NO_SERVICE = 6
    LINK_LOST = 7
    TIMEOUT = 8
    LIMIT = 9
    CANCELLED = 10
    SHUTDOWN = 11
    LOOP = 12
    INTERNAL = 13
    DIAL_FAILED = 14
    UNSUPPORTED = 15
    RESTARTED = 16


class GatewayError(Exception):
    """The root of everything rpyc-gateway raises itself.

    `hop` names the node that noticed, or is "" where only this process is concerned. `code` is what travels on the wire for it.
    """

    code: Code = Code.INTERNAL

    def __init__(self, message: str = "", *, hop: str = "") -> None:
        super().__init__(message)
        self.hop = hop


class ConfigError(GatewayError):
    """A configuration that cannot be used. `problems` has one line `file:line:column: key: what is wrong` for each mistake."""

    code = Code.INTERNAL

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class ProtocolError(GatewayError):
    """The peer broke the protocol; its link or session is over, nobody else's is."""

    code = Code.PROTOCOL


class LimitExceeded(GatewayError):
    """A bound was reached: too many streams, questions, bytes or levels."""

    code = Code.LIMIT


class EncodeError(GatewayError, TypeError):
    """A value cannot be sent. Only its call fails."""

    code = Code.INTERNAL


class NoCodec(GatewayError):
    """A value arrived that was written by a codec of this name, and the node named has none. Only its call fails."""

    code = Code.UNSUPPORTED


class Refused(GatewayError):
    """The node that was asked said no."""

    code = Code.DENIED


class Denied(Refused, PermissionError):
    """A policy does not allow this."""

    code = Code.DENIED


class NotExposed(Refused, AttributeError):
    """An attribute or special method that a policy does not show to peers; for `hasattr` it does not exist."""

    code = Code.DENIED


class NoService(Refused):
    """The node does not serve what was asked for."""

    code = Code.NO_SERVICE


class DuplicateNode(Refused):
    """Another live node already has this name."""

    code = Code.DUPLICATE


class Unreachable(GatewayError, ConnectionError):
    """There is no way to this node: no route, a missing `via`, or a loop."""

    code = Code.UNREACHABLE


class DialFailed(Unreachable):
    """A transport connection could not be made, or the far side did not speak the protocol in time."""

    code = Code.DIAL_FAILED


class LinkLost(GatewayError, ConnectionError):
    """A link on the way died. Whether a call that was pending has been done is unknown."""

    code = Code.LINK_LOST


class PeerRestarted(LinkLost):
    """The peer, a board perhaps, has started anew: its objects are gone. Whether a call that was pending has been done is unknown."""

    code = Code.RESTARTED


class SessionClosed(GatewayError, EOFError):
    """The session was closed, by either side, on purpose."""

    code = Code.SHUTDOWN


class Cancelled(GatewayError):
    """The call was cancelled before it was done."""

    code = Code.CANCELLED


class TimedOut(Cancelled, TimeoutError):
    """The time that was given is over (`gw.timeout`, or a caller's deadline). Whether a call that was under way has been done is unknown."""

    code = Code.TIMEOUT


class RemoteError(GatewayError):
    """An exception of the far side for which there is no type in this process, or none it may use here (SystemExit)."""

    code = Code.INTERNAL


_BY_CODE: dict[int, type[GatewayError]] = {
    Code.DONE: SessionClosed,
    Code.PROTOCOL: ProtocolError,
    Code.VERSION: ProtocolError,
    Code.DUPLICATE: DuplicateNode,
    Code.DENIED: Denied,
    Code.UNREACHABLE: Unreachable,
    Code.NO_SERVICE: NoService,
    Code.LINK_LOST: LinkLost,
    Code.TIMEOUT: Unreachable,
    Code.LIMIT: LimitExceeded,
    Code.CANCELLED: Cancelled,
    Code.SHUTDOWN: SessionClosed,
    Code.LOOP: Unreachable,
    Code.DIAL_FAILED: DialFailed,
    Code.UNSUPPORTED: Refused,
    Code.RESTARTED: PeerRestarted,
}


def error_for(code: int, text: str, hop: str = "", *, here: str = "") -> GatewayError:
    """The exception for a failure; `hop` is named in its message unless the text names it, or it is `here`, the reader's own node."""
    kind = _BY_CODE.get(code, GatewayError)
    message = text or kind.__doc__ or kind.__name__
    if hop and hop != here and hop not in message:
        message = f"{message} (said by {hop})"
    return kind(message, hop=hop)
