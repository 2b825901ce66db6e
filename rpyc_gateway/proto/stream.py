"""One stream's state on one link: what may be sent, what may arrive, which direction has ended."""

from __future__ import annotations

from collections import deque
from math import inf

from rpyc_gateway.errors import ProtocolError
from rpyc_gateway.proto.frames import LARGE, CircuitClass

CROWD = 256  # so many waiting pieces are no burden, whatever their size
WINDOW = 65536  # bytes granted beyond what was consumed, to begin with


class Stream:
    """Counts and the queue. Both directions count absolute offsets from the stream's first byte."""

    __slots__ = (
        "allowed",
        "answered",
        "consumed",
        "crowd",
        "deaf",
        "finishing",
        "granted",
        "in_line",
        "kind",
        "label",
        "listening",
        "mine",
        "muted",
        "queue",
        "queued",
        "received",
        "received_all",
        "renew_at",
        "renewed",
        "sent",
        "sent_all",
        "stopped",
        "window",
    )

    def __init__(self, label: int, kind: CircuitClass, *, mine: bool, allowed: int, granted: int) -> None:
        self.label = label
        self.kind = kind
        self.mine = mine  # opened by this side
        self.answered = False  # OPENED was sent or has come
        self.queue: deque[bytes | memoryview] = deque()
        self.queued = 0
        self.crowd = CROWD  # how many pieces may wait before small ones are joined
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
        self.window = WINDOW  # how far that is beyond `consumed` when it is renewed
        self.renew_at = granted - WINDOW // 2  # what must be consumed before it is
        self.renewed = -inf  # when it was
        self.received_all = False  # FIN has come
        self.deaf = False  # this side does not read
        self.listening = False  # data is welcome: answered, not received_all, not deaf

    # -- receiving

    def answer(self) -> None:
        """OPENED was sent or has come."""
        self.answered = True
        self.listening = not self.received_all and not self.deaf

    def check(self, size: int) -> None:
        """Raises ProtocolError if the peer may not send a frame with so much data."""
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

    def receive_fin(self, offset: int) -> None:
        if self.received_all or (self.mine and not self.answered):
            raise ProtocolError(f"FIN out of place on stream {self.label}")
        if offset != self.received:
            raise ProtocolError(f"FIN after {offset} bytes on stream {self.label}, but {self.received} came")
        self.received_all = True
        self.listening = False

    def grant(self) -> int:
        """Let the peer send a window beyond what was consumed; says up to which offset that is."""
        self.granted = max(self.granted, self.consumed + self.window)
        self.renew_at = self.granted - self.window // 2
        return self.granted

    # -- sending

    def cut(self, room: int, out: list[bytes | memoryview]) -> int:
        """Move at most `room` bytes from the queue to `out` without copying them; says how many.

        Nothing is cut in two only to fill up what has become long enough to go.
        """
        queue = self.queue
        moved = 0
        while queue and moved < room:
            piece = queue[0]
            size = len(piece)
            if size <= room - moved:
                queue.popleft()
            elif moved >= LARGE:
                break
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
        return self.queued > 0 and self.sent < self.allowed and (self.answered or self.mine)

    @property
    def ended(self) -> bool:
        return self.sent_all and self.received_all
