"""One stream's state on one link: what may be sent, what may arrive, which direction has ended."""

from __future__ import annotations

from collections import deque

from rpyc_gateway.errors import ProtocolError
from rpyc_gateway.proto.frames import CircuitClass

WINDOW = 65536  # bytes granted beyond what was consumed


class Stream:
    """Counts and the queue. Both directions count absolute offsets from the stream's first byte."""

    __slots__ = (
        "allowed",
        "answered",
        "consumed",
        "deaf",
        "finishing",
        "granted",
        "in_line",
        "kind",
        "label",
        "mine",
        "muted",
        "queue",
        "queued",
        "received",
        "received_all",
        "sent",
        "sent_all",
        "stopped",
    )

    def __init__(self, label: int, kind: CircuitClass, *, mine: bool, allowed: int, granted: int) -> None:
        self.label = label
        self.kind = kind
        self.mine = mine  # opened by this side
        self.answered = False  # OPENED was sent or has come
        self.queue: deque[bytes | memoryview] = deque()
        self.queued = 0
        self.sent = 0
        self.allowed = allowed  # the offset up to which may be sent
        self.finishing = False  # FIN follows when the queue is empty
        self.sent_all = False  # FIN was sent
        self.stopped = False  # the peer does not read
        self.muted = False  # nobody wants Drained
        self.in_line = False  # waits for its turn
        self.received = 0
        self.consumed = 0
        self.granted = granted  # the offset up to which may arrive
        self.received_all = False  # FIN has come
        self.deaf = False  # this side does not read

    # -- receiving

    def receive(self, size: int) -> None:
        """Count data that came. Raises ProtocolError if the peer may not send it."""
        if not size:
            raise ProtocolError(f"DATA without a byte on stream {self.label}")
        if self.received_all:
            raise ProtocolError(f"DATA after FIN on stream {self.label}")
        if self.mine and not self.answered:
            raise ProtocolError(f"DATA before OPENED on stream {self.label}")
        if self.received + size > self.granted:
            raise ProtocolError(
                f"{self.received + size} bytes came on stream {self.label}, {self.granted} were granted"
            )
        self.received += size

    def receive_fin(self, offset: int) -> None:
        if self.received_all or (self.mine and not self.answered):
            raise ProtocolError(f"FIN out of place on stream {self.label}")
        if offset != self.received:
            raise ProtocolError(f"FIN after {offset} bytes on stream {self.label}, but {self.received} came")
        self.received_all = True

    def consume(self, count: int) -> bool:
        """Count what the receiver has taken; True if the peer should hear of more credit. Raises ValueError for too much."""
        if not 0 <= count <= self.received - self.consumed:
            raise ValueError(
                f"{count} bytes of stream {self.label} cannot be consumed: {self.received - self.consumed} wait"
            )
        self.consumed += count
        # Before OPENED there is nothing to renew (it brings the first grant), and nobody sends to one who does not listen.
        listening = self.answered and not self.received_all and not self.deaf
        if not listening or self.granted - self.consumed > WINDOW // 2:
            return False
        self.granted = self.consumed + WINDOW
        return True

    # -- sending

    def cut(self, room: int, out: list[bytes | memoryview]) -> int:
        """Move at most `room` bytes from the queue to `out` without copying them; says how many."""
        queue = self.queue
        moved = 0
        while queue and moved < room:
            piece = queue[0]
            size = len(piece)
            if size <= room - moved:
                queue.popleft()
            else:
                size = room - moved
                rest = memoryview(piece)
                queue[0] = rest[size:]
                piece = rest[:size]
            out.append(piece)
            moved += size
        self.queued -= moved
        self.sent += moved
        return moved

    def drop(self) -> int:
        """Forget what is queued; says how many bytes that were."""
        dropped = self.queued
        self.queue.clear()
        self.queued = 0
        return dropped

    @property
    def sendable(self) -> bool:
        """Whether the next turn could be this stream's."""
        return bool(self.queued) and self.sent < self.allowed and (self.answered or self.mine)

    @property
    def ended(self) -> bool:
        return self.sent_all and self.received_all
