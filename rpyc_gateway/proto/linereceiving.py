"""What comes by a serial line: pieces are put in order, and acknowledged when it is time."""

from __future__ import annotations

from math import inf

from rpyc_gateway.proto.lineframes import ACK, FULL, LARGEST_WINDOW, NAK, POLL

__all__ = ["Incoming"]

EVERY = 4  # pieces that one ACK answers, if nothing hurries
ROOM = 65536  # bytes that may wait for who reads; more is taken only as far as it is under way


class Incoming:
    """One direction of a session, on the side that receives."""

    def __init__(self, *, mtu: int, window: int, delay: float) -> None:
        self.acknowledge_by = inf  # when the next ACK is due, at the latest
        self.finished = False  # the end of the stream has come
        self.next = 0  # the sequence number that is missing
        self._held: dict[int, tuple[bytes, bool]] = {}
        self._latest = 0  # the number of the transmission that came last
        self._damaged = 0  # lines since then
        self._tell_damage = False
        self._since = 0  # pieces since then
        self.unread = 0  # bytes that were put in order, and not yet taken
        self._told_full = False
        self._window = window
        self._most = ROOM + LARGEST_WINDOW * mtu
        self._delay = delay

    @property
    def ack(self) -> int:
        """The same on the wire."""
        return self.next & 0xFF

    def receive(self, header: bytes, payload: bytes, now: float, *, last: bool, poll: bool) -> bytes:
        """Take a DATA frame; what is now in order of the stream."""
        number, sequence, _ = header
        self._latest = number
        self._damaged = 0
        ahead = (sequence - self.next) & 0xFF
        if self.unread + len(payload) > self._most and ahead < self._window:
            self.hurry(now)  # and it is as if it had not come: the peer was told that nobody reads
            return b""
        if ahead:
            if ahead < self._window:
                self._held.setdefault(self.next + ahead, (payload, last))
            self.hurry(now)
            return b""
        self._since += 1
        data = self._in_order(payload, last)
        if poll or self._held or self._since >= EVERY or self._full != self._told_full:
            self.hurry(now)
        else:
            self.acknowledge_by = min(self.acknowledge_by, now + self._delay)
        return data

    def _in_order(self, payload: bytes, last: bool) -> bytes:  # noqa: FBT001
        self.next += 1
        self.finished = self.finished or last
        if self._held:
            pieces = [payload]
            while self.next in self._held:
                payload, last = self._held.pop(self.next)
                pieces.append(payload)
                self.next += 1
                self.finished = self.finished or last
            payload = b"".join(pieces)
        self.unread += len(payload)
        return payload

    def meet_damage(self, now: float, *, framed: bool) -> None:
        """What was no frame may have been one; `framed`: it seems so."""
        self._damaged = min(self._damaged + framed, 255)
        self._tell_damage = True
        self.hurry(now)

    def consume(self, count: int, now: float) -> None:
        """So many bytes have been read."""
        self.unread -= count
        if self._told_full and self.unread <= ROOM // 2:
            self.hurry(now)

    @property
    def _full(self) -> bool:
        return self.unread > (ROOM // 2 if self._told_full else ROOM)

    def hurry(self, now: float) -> None:
        """An ACK is to be sent now."""
        self.acknowledge_by = min(self.acknowledge_by, now)

    @property
    def plain(self) -> bool:
        """Whether the `ack` of a frame of data says all that there is to say."""
        return not (self._held or self._tell_damage or self._full != self._told_full)

    def acknowledged(self) -> None:
        """A frame of data has said it."""
        if self.plain:
            self.acknowledge_by = inf
            self._since = 0

    def encode(self, *, poll: bool = False) -> bytes:
        """The body of an ACK, which is counted as sent."""
        self._told_full = self._full
        first = ACK | (FULL if self._told_full else 0) | (POLL if poll else 0)
        damaged = b""
        if self._tell_damage:
            first |= NAK
            damaged = bytes((max(self._damaged, 1),))
        bits = 0
        for sequence in self._held:
            bits |= 1 << (sequence - self.next - 1)
        self.acknowledge_by = inf
        self._tell_damage = False
        self._since = 0
        return bytes((first, self._latest, self.ack)) + damaged + bits.to_bytes((bits.bit_length() + 7) // 8, "little")
