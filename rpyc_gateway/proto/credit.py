"""How far the streams of a link may be sent ahead of what was consumed (docs/protocol.md, section 3)."""

from __future__ import annotations

from rpyc_gateway.proto.stream import WINDOW, Stream

LARGEST = 4 << 20
"""No stream is granted more bytes ahead than this."""

NEAR = 1 << 20
"""The same where a round trip takes less than SWIFT: all that more could do is to fill the buffers of sockets, and to miss the caches of processors."""

BUDGET = 32 << 20
"""All streams of a link together are granted so much beyond a WINDOW for each: a peer can make this side keep that much more."""

SWIFT = 0.005
"""Seconds. Half a window that is used up in less is too small on any link: a process may wait so long for its processor."""


class Credit:
    """Grants credit, to a stream that uses it swiftly more and more of it, within what the link has."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = BUDGET

    def renew(self, stream: Stream, now: float, rtt: float | None) -> int:
        """The offset up to which the peer may send from now on: a window beyond what was consumed.

        The window doubles if half of it was used within two round trips, up to LARGEST (or NEAR), and takes no more than
        half of what is left for the link, so that the next stream finds something, too.
        """
        more = stream.window
        trip = rtt or 0.0
        most = LARGEST if trip >= SWIFT else NEAR
        if now - stream.renewed <= max(2 * trip, SWIFT) and 2 * more <= min(most, self.left):
            stream.window += more
            self.left -= more
        stream.renewed = now
        return stream.grant()

    def free(self, stream: Stream) -> None:
        """Nothing more will come on this stream."""
        self.left += stream.window - WINDOW
        stream.window = WINDOW
