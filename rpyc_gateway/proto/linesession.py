"""A session of a serial line: pieces and acknowledgements, both ways, between one life of each end."""

from __future__ import annotations

from math import inf

from rpyc_gateway.proto.lineframes import ACK, DATA, FIN, FULL, NAK, POLL, Encoder, Frame, Greeting
from rpyc_gateway.proto.linepace import Pace
from rpyc_gateway.proto.linereceiving import Incoming
from rpyc_gateway.proto.linesending import Outgoing

__all__ = ["SILENCE", "LineSession"]

SILENCE = 10.0  # seconds without any frame, while something is under way, and the line is lost
NUDGE = 0.1  # seconds after the last frame that was sent to a board, and then each time twice as long
LONGEST_NUDGE = 60.0  # seconds: then it is left alone
LONGEST_IF_HEARD = 1.0  # seconds, where a frame came: it may have been on its way before what was sent last


class LineSession:
    """What is sent before there is a session waits in it; `begin` says what the peer takes.

    `patience` is how many seconds the peer may be silent with something to acknowledge; inf for a board, which does not read while it works.
    """

    def __init__(self, hello: Greeting, now: float, patience: float = SILENCE, *, lossless: bool = False) -> None:
        self.sending = Outgoing(hello, hello.mtu)
        self.receiving = Incoming(mtu=hello.mtu, window=hello.window, delay=hello.delay / 1000)
        self.polling = False  # the peer is to be asked for an ACK
        self.heard = now  # the last frame
        self._patience = patience
        self._lossless = lossless
        self._nudge_at = (
            inf  # when a board is to be given the end of a line, in case that it waits for one that was damaged
        )
        self._nudge_pause = NUDGE
        self._longest_nudge = LONGEST_NUDGE
        self._busy_since = now  # as long as an answer is waited for

    def begin(self, peer: Greeting, longest: int, now: float) -> None:
        sending = Outgoing(peer, longest, patient=self._patience == inf, lossless=self._lossless)
        early, self.sending = self.sending, sending
        early.move(self.sending)
        self._busy_since = now

    @property
    def closed(self) -> bool:
        """Whether both directions have ended, and the peer was told what this side knows of it."""
        return self.receiving.finished and self.sending.closed and self.receiving.acknowledge_by == inf

    # -- frames in

    def hear(self, now: float) -> None:
        """A frame has come, of any type."""
        self.heard = now
        self._longest_nudge = LONGEST_IF_HEARD
        self.sending.hear()

    def take(self, frame: Frame, now: float) -> bytes:
        """A DATA or ACK has come; what is now in order of the stream."""
        first = frame.first
        if first & 0xC0 == ACK:
            self._take_ack(frame, now)
            return b""
        self.sending.acknowledge(frame.header[2], now)
        last, poll = bool(first & FIN), bool(first & POLL)
        return self.receiving.receive(frame.header, frame.payload, now, last=last, poll=poll)

    def _take_ack(self, frame: Frame, now: float) -> None:
        latest, ack = frame.header
        sending = self.sending
        sending.asked = False
        sending.full = bool(frame.first & FULL)
        bitmap, damaged = frame.payload, 0
        if frame.first & NAK and bitmap:
            damaged, bitmap = bitmap[0], bitmap[1:]
        if sending.acknowledge(ack, now):
            sending.report(latest, bitmap, damaged, now)
        if frame.first & POLL:
            self.receiving.hurry(now)

    # -- frames out

    def say_at(self) -> float:
        """When the next frame is due; inf if none is."""
        if self.polling or self.sending.ready:
            return 0.0
        return min(self.receiving.acknowledge_by, self._nudge_at)

    def encode(self, encoder: Encoder, pace: Pace, now: float) -> bytes:
        """The next frame, which is counted as given to the line: an ACK if it is time for one and no data says the same, else data; b"" if there is none."""
        receiving, sending = self.receiving, self.sending
        ready = sending.ready
        if self.polling or (receiving.acknowledge_by <= now and not (ready and receiving.plain)):
            return self._encode_ack(encoder, pace, now)
        if not ready:
            return self._nudge(pace, now)
        self._wait_from(now)
        piece, poll = sending.next()
        sending.number += 1
        first = DATA | (POLL if poll else 0) | (FIN if piece.last else 0)
        header = bytes((first, sending.number & 0xFF, piece.sequence & 0xFF, receiving.ack))
        receiving.acknowledged()
        frame = encoder.encode(header + piece.data)
        pace.carry(len(frame), now)
        sending.transmitted(piece, len(frame), pace.free, poll=poll)
        self._plan_nudge(pace)
        return frame

    def _encode_ack(self, encoder: Encoder, pace: Pace, now: float) -> bytes:
        frame = encoder.encode(self.receiving.encode(poll=self.polling))
        pace.carry(len(frame), now)
        if self.polling:
            self.polling = False
            self._wait_from(now)
            self.sending.asked = True
            self.sending.left = pace.free
        self._plan_nudge(pace)
        return frame

    def _plan_nudge(self, pace: Pace) -> None:
        if self._patience == inf:
            self._nudge_pause = NUDGE
            self._longest_nudge = LONGEST_NUDGE
            self._nudge_at = pace.free + NUDGE

    def _nudge(self, pace: Pace, now: float) -> bytes:
        """The end of a line, for a board that waits for it and for nothing else."""
        if now < self._nudge_at:
            return b""
        self._nudge_pause *= 2
        self._nudge_at = now + self._nudge_pause if self._nudge_pause <= self._longest_nudge else inf
        pace.carry(1, now)
        return b"\n"

    def _wait_from(self, now: float) -> None:
        if not self.sending.busy:
            self._busy_since = now

    # -- time

    def deadline(self) -> float:
        """When to ask again, or to give up; inf if nothing is waited for."""
        waiting = self.sending.deadline()
        return inf if waiting is None else min(waiting, max(self.heard, self._busy_since) + self._patience)

    def handle_timeout(self, now: float) -> str:
        """It is so late: what is missing is sent again, or the peer is asked. Says why if there is no sense in that any more."""
        waiting = self.sending.deadline()
        if waiting is None:
            return ""
        since = max(self.heard, self._busy_since)
        if now >= since + self._patience:
            return f"no frame for {now - since:.0f} s, and something is under way"
        if now >= waiting and not self.sending.handle_timeout():
            self.polling = True
        return ""
