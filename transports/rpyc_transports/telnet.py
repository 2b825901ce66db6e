"""Telnet as bytes in: what comes, cut into data, negotiations, options and commands (RFC 854, 855)."""

from __future__ import annotations

import re
from collections.abc import Iterator

__all__ = ["LONGEST_OPTION", "Negotiation", "Option", "Telnet"]

LONGEST_OPTION = 1024  # bytes; those of a port server have five, but for the name that it may tell of itself

IAC = b"\xff"
_PART = re.compile(
    rb"(?P<data>[^\xff]++)|\xff(?:"
    rb"(?P<literal>\xff)|(?P<negotiation>[\xfb-\xfe].)|\xfa(?P<option>(?:[^\xff]|\xff\xff)*+)(?:\xff\xf0|(?P<broken>\xff[^\xf0\xff]))"
    rb"|(?P<command>[^\xfa-\xff]))",
    re.DOTALL,
)


class Negotiation(bytes):
    """DO, DONT, WILL or WONT, and the option that it is about: two bytes."""


class Option(bytes):
    """What stood between IAC SB and IAC SE."""


class Telnet:
    """What comes from one connection, in any cuts."""

    def __init__(self) -> None:
        self._begun = b""

    def receive(self, data: bytes) -> Iterator[bytes]:
        """Data as plain bytes, and between it what is a Negotiation or an Option; commands mean nothing here.

        Raises ValueError for what is no telnet; the connection is of no use any more then.
        """
        data, self._begun = self._begun + data, b""
        at = 0
        while found := _PART.match(data, at):
            kind = found.lastgroup
            if kind == "broken" or found["command"] == b"\xf0":
                raise ValueError("an option ends without having begun, or has a command in its middle")
            if kind == "data" or kind == "literal":
                yield found[0][:1] if kind == "literal" else found[0]
            elif kind == "negotiation":
                yield Negotiation(found["negotiation"])
            elif kind == "option":
                yield Option(found["option"].replace(IAC * 2, IAC))
            at = found.end()
        self._begun = data[at:]
        if len(self._begun) > LONGEST_OPTION:
            raise ValueError(f"an option has more than {LONGEST_OPTION} bytes")
