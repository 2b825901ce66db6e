"""What a serial line sends and has to send again: pieces of the stream, their transmissions, what is lost of them and when that is known."""

from __future__ import annotations

from collections import deque
from math import ceil, sqrt

from rpyc_gateway.proto.lineframes import LEAST_MTU, OVERHEAD, Greeting

__all__ = ["Outgoing", "Piece"]

FIRST_TIMEOUT = 0.25  # seconds, as long as no round trip was measured
FIRST_WINDOW = 8  # pieces, and
FIRST_LENGTH = (
    64  # bytes of each, before anything is known of the line: on a very noisy one long pieces take many attempts
)
LEAST_TIMEOUT = 0.01  # seconds: what the schedulers of two systems may take
LARGEST_TIMEOUT = 2.0  # seconds
BACKOFF = 5  # times that the timeout is doubled
BACKOFF_PATIENT = 20  # the same for a board: a day
LONGEST_PAUSE = 1.0  # seconds between two attempts, all the same, unless one takes longer
FEW = 4  # pieces: so many or fewer are made equally long
MEMORY = 32768  # bytes: what was lost longer ago counts less; about 0.4 s at 921600 baud
PRIOR = 4096  # bytes that seem to have been sent before the first one, with PRIOR_LOSS frames lost
PRIOR_LOSS = 0.2


class Piece:
    """A part of the stream, from when it is first sent until it is acknowledged."""

    __slots__ = ("data", "held", "last", "left", "lost", "number", "sequence", "size", "times")

    def __init__(self, sequence: int, data: bytes, *, last: bool) -> None:
        self.sequence = sequence
        self.data = data
        self.last = last  # the stream ends with it
        self.size = len(data) + OVERHEAD  # of its frame
        self.number = 0  # of its latest transmission
        self.left = 0.0  # when the last byte of that will have left
        self.times = 0  # that it was sent
        self.held = False  # the peer has it, and waits for one before it
        self.lost = False  # and not yet sent again


class Outgoing:
    """One direction of a session, on the side that sends. Numbers do not go round here; on the wire they are one byte."""

    def __init__(self, peer: Greeting, longest: int, *, patient: bool = False, lossless: bool = False) -> None:
        """`longest` is how many bytes a piece may have. On a `lossless` line nothing is sent twice, and all pieces are long."""
        self.full = False  # nobody reads at the other end
        self.number = 0  # the latest transmission
        self.timeout = FIRST_TIMEOUT
        self.retransmissions = 0
        self.round_trip: float | None = None
        self.left = 0.0  # when the latest transmission will have left
        self._queue = bytearray()
        self.finishing = False
        self.asked = False  # the peer, for an ACK
        self._finished = False  # the piece with the end was made
        self._pieces: dict[int, Piece] = {}  # made and not acknowledged, in order
        self._again: deque[Piece] = deque()  # those of them that are lost
        self._under_way = 0  # bytes of their frames
        self._first = 0  # the sequence number of the first of them
        self._next = 0  # and of the next to be made
        self._variation = 0.0
        self._backoff = 0
        self._patient = patient
        self._lossless = lossless
        self._longest_delay = peer.delay / 1000
        self._delay = 0.0  # that the peer may take to answer the latest transmission
        self._window = peer.window if lossless else min(FIRST_WINDOW, peer.window)
        self._largest_window = peer.window
        self._buffer = peer.buffer
        self._longest = longest
        self._sent = float(PRIOR)
        self._lost = PRIOR_LOSS
        self._length = longest if lossless else min(FIRST_LENGTH, longest)

    # -- what is to be sent

    def send(self, data: bytes | bytearray | memoryview) -> None:
        self._queue += data

    def finish(self) -> None:
        self.finishing = True

    def limit(self, longest: int) -> None:
        """From now on a piece has so many bytes at most."""
        self._longest = longest
        self._length = min(self._length, longest)

    def move(self, other: Outgoing) -> None:
        """Give another one what was not sent yet."""
        other.send(self._queue)
        other.finishing = self.finishing

    @property
    def queued(self) -> int:
        """Bytes that are in no piece yet."""
        return len(self._queue)

    @property
    def settled(self) -> bool:
        """Whether all that was sent has arrived, as far as is known."""
        return not self._queue and not self._pieces and self._finished == self.finishing

    @property
    def closed(self) -> bool:
        """Whether the end of the stream has arrived."""
        return self._finished and not self._pieces

    @property
    def ready(self) -> bool:
        """Whether there is a piece to send now."""
        if self._again:
            return True
        return self.open and bool(self._queue or self.finishing > self._finished)

    @property
    def open(self) -> bool:
        """Whether the peer takes another piece."""
        if not self._pieces or self.full:
            return not self.full
        size = min(len(self._queue), self._longest) + OVERHEAD
        return len(self._pieces) < self._window and self._under_way + size <= self._buffer

    def next(self) -> tuple[Piece, bool]:
        """The piece to send now, if `ready`, and whether the peer is to acknowledge it at once."""
        if self._again:
            piece = self._again.popleft()
            piece.lost = False
            self.retransmissions += 1
            return piece, True
        data = bytes(self._queue[: self._next_length()])
        del self._queue[: len(data)]
        self._finished = self.finishing and not self._queue
        piece = Piece(self._next, data, last=self._finished)
        others = bool(self._pieces)
        self._next += 1
        self._pieces[piece.sequence] = piece
        self._under_way += piece.size
        return piece, self._finished or not self.open or (others and not self.ready)

    def _next_length(self) -> int:
        """Bytes in the next piece: the best number, or near it, so that no small rest is left over."""
        queued = len(self._queue)
        if queued >= FEW * self._length:
            return self._length
        pieces = max(round(queued / self._length), ceil(queued / self._longest), 1)
        return ceil(queued / pieces)

    def transmitted(self, piece: Piece, size: int, left: float, *, poll: bool) -> None:
        """The frame of `piece`, of so many bytes, has been given to the line, and its last byte leaves then."""
        self._delay = 0.0 if poll else self._longest_delay
        piece.number = self.number
        piece.left = self.left = left
        piece.times += 1
        self._under_way += size - piece.size
        piece.size = size
        self._sent += size

    # -- what is known to have arrived

    def hear(self) -> None:
        """A frame has come: a board that speaks is not at work, and what it does not acknowledge is lost."""
        if self._patient:
            self._backoff = 0

    def acknowledge(self, ack: int, now: float) -> bool:
        """All before this sequence number has arrived, and it has not; False if that was said by mistake, or long ago."""
        count = (ack - self._first) & 0xFF
        if count > len(self._pieces):
            return False
        if count:
            self._release(count, now)
        first = self._pieces.get(self._first)
        if first is not None:
            first.held = False
        return True

    def _release(self, count: int, now: float) -> None:
        piece = None
        for sequence in range(self._first, self._first + count):
            piece = self._pieces.pop(sequence)
            self._under_way -= piece.size
            if piece.lost:
                self._again.remove(piece)
        self._first += count
        self._backoff = 0
        if piece is not None and piece.times == 1 and not piece.held:
            self._measure(now - piece.left)
        self._adapt()

    def report(self, latest: int, bitmap: bytes, damaged: int, now: float) -> None:
        """What an ACK says beside its `ack`, if that was right: the number of the transmission that came last, what came out of order, and how many lines of damage came since."""
        reached = self.number - ((self.number - latest) & 0xFF)
        bits = int.from_bytes(bitmap, "little")
        position = self._first + 1
        while bits:
            if bits & 1:
                piece = self._pieces.get(position)
                if piece is not None and not piece.held:
                    self._hold(piece, reached, now)
            bits >>= 1
            position += 1
        missing = [
            piece
            for piece in self._pieces.values()
            if not piece.held
            and not piece.lost
            and (piece.number <= reached or (piece.number <= reached + damaged and piece.left <= now))
        ]
        for piece in missing:
            self._lose(piece)
        if missing:
            self._lost += len(missing)
            self._backoff = 0
            self._adapt()

    def _hold(self, piece: Piece, reached: int, now: float) -> None:
        piece.held = True
        if piece.lost:  # it was thought so by the timer only
            piece.lost = False
            self._again.remove(piece)
        elif piece.number == reached:
            self._measure(now - piece.left)

    def lose_all(self) -> None:
        """Nothing that was sent so far was heard."""
        self._backoff = 0
        for piece in self._pieces.values():
            if not piece.lost:
                self._lose(piece)

    def _lose(self, piece: Piece) -> None:
        piece.lost = True
        self._again.append(piece)

    def _measure(self, sample: float) -> None:
        sample = max(sample, 0.0)
        if self.round_trip is None:
            self.round_trip = sample
            self._variation = sample / 2
        else:
            self._variation += (abs(self.round_trip - sample) - self._variation) / 4
            self.round_trip += (sample - self.round_trip) / 8
        wanted = self.round_trip + 4 * self._variation
        self.timeout = min(max(wanted, LEAST_TIMEOUT), LARGEST_TIMEOUT)

    def _adapt(self) -> None:
        self._window = self._largest_window
        if self._sent > MEMORY:
            self._sent /= 2
            self._lost = max(self._lost / 2, PRIOR_LOSS)
        self._length = self._best_length()

    def _best_length(self) -> int:
        """Bytes in a piece: with longer ones more is lost by damage, with shorter ones more to the headers."""
        if self._lossless:
            return self._longest
        return max(LEAST_MTU, min(self._longest, int(sqrt(OVERHEAD * self._sent / self._lost))))

    # -- time

    @property
    def busy(self) -> bool:
        """Whether something is to be heard from the peer before all is well."""
        return bool(self._pieces) or self.asked or (self.full and not self.settled)

    def deadline(self) -> float | None:
        """When to do something about an acknowledgement that does not come."""
        if self._lossless or not self.busy or (self._again and len(self._again) == len(self._pieces)):
            return None
        patience = self.timeout + self._delay
        if self._patient:  # without a bound: what is repeated to a board that works fills its buffer
            return self.left + patience * (1 << self._backoff)
        return self.left + min(patience * (1 << self._backoff), max(patience, LONGEST_PAUSE))

    def handle_timeout(self) -> bool:
        """The acknowledgement has not come: the first piece is to be sent again; False if there is none, and the peer is to be asked."""
        self._backoff = min(self._backoff + 1, BACKOFF_PATIENT if self._patient else BACKOFF)
        for piece in self._pieces.values():
            if not piece.held and not piece.lost:
                self._lose(piece)
                return True
        return False
