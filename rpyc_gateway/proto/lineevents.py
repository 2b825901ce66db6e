"""What a serial line tells."""

from __future__ import annotations

from enum import Enum
from typing import TypeAlias

from msgspec import Struct

from rpyc_gateway.proto.lineframes import Greeting

__all__ = ["Cause", "Datagram", "Established", "Finished", "LineEvent", "Lost", "Printed", "RateChanged", "Received"]


class Established(Struct, frozen=True):
    """The session has begun; `peer` says what it takes."""

    peer: Greeting


class Received(Struct, frozen=True):
    """The next bytes of the stream. `consume` them when they are taken."""

    data: bytes


class Finished(Struct, frozen=True):
    """The stream of the peer has ended; nothing more will be Received."""


class Printed(Struct, frozen=True):
    """A line of console text, or its beginning, without the end of the line."""

    text: bytes


class Datagram(Struct, frozen=True):
    """What the peer sent on the chance that it arrives."""

    data: bytes


class RateChanged(Struct, frozen=True):
    """The port must be set to this baud rate now; 0 is the one that it had at first."""

    baud: int


class Cause(Enum):
    """Why a line is lost."""

    CLOSED = "closed"  # in order: all that was sent has arrived
    RESET = "reset"  # by the peer
    RESTARTED = "restarted"  # the peer is another life of it
    SILENT = "silent"
    BROKEN = "broken"  # the pipe below
    REFUSED = "refused"  # the peers do not fit together


class Lost(Struct, frozen=True):
    """The line is over. Nothing follows."""

    cause: Cause
    reason: str


LineEvent: TypeAlias = Established | Received | Finished | Printed | Datagram | RateChanged | Lost
