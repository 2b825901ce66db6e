"""The streams of a link: what may be done with them, what arrives for them, and how they end."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from msgspec import structs

from rpyc_gateway.errors import Code, LimitExceeded, LinkLost, ProtocolError
from rpyc_gateway.proto import frames
from rpyc_gateway.proto.credit import Credit
from rpyc_gateway.proto.events import Accepted, Drained, Finished, Opened, Received, Refused, Reset, Stopped
from rpyc_gateway.proto.frames import DATA, LEAST_EARLY, LEAST_FRAME, CircuitClass, Failure, Frame, FrameType, Open
from rpyc_gateway.proto.framing import BEGUN, REST, gather
from rpyc_gateway.proto.labels import Labels
from rpyc_gateway.proto.link import BACKLOG, Link, State
from rpyc_gateway.proto.stream import CROWD, WINDOW, Stream
from rpyc_gateway.proto.turns import Turns

FIRST = 1
"""The label of a dialler's first stream, which it may open before it knows what this side takes."""


class Streams:
    """All streams of one link, by label: the lower half of a Mux.

    Control frames go to the link, facts to its events; the Mux pulls the data.
    """

    def __init__(self, link: Link, *, dialler: bool) -> None:
        self.labels = Labels(dialler=dialler)
        self.credit = Credit()
        self._link = link
        self._table: dict[int, Stream] = {}
        self._turns = Turns()
        self._thirsty: dict[int, Stream] = {}  # streams whose peer must hear of more credit
        self._owing: dict[
            int, Stream
        ] = {}  # streams with a share of the credit that have ended before all that came was consumed
        self._over: list[int] = []  # labels that have ended since somebody asked
        self._opened = 0
        self._late = 0
        self._data_frames = 0  # frames out that were no control frames of the link
        self._theirs = 0  # how many the peer has opened
        self._early_sent = 0  # on streams of ours that wait for OPENED
        self._early_received = 0  # on streams of theirs that wait for OPENED
        self._held_back: dict[int, Stream] = {}  # wait for room in the peer's early_link
        self._arriving: Stream | None = None  # whose frame has begun and is not over

    def queued(self, label: int) -> int:
        """Bytes of a stream that are not yet pulled."""
        stream = self._table.get(label)
        return stream.queued if stream is not None else 0

    # -- frames in

    def _take(self, arrived: list[Frame], now: float) -> None:
        """Handle frames on a link that is up. Raises ProtocolError, LimitExceeded: the link is over then."""
        table = self._table
        link = self._link
        for kind, flags, label, payload in arrived:
            stream = table.get(label)
            if kind == DATA and stream is not None:
                received = stream.received + len(payload)
                if stream.listening and stream.received < received <= stream.granted:
                    stream.received = received
                    link.events.append(Received(label, payload))
                else:
                    self._take_first(stream, len(payload), payload)
            elif kind == REST:
                self._take_piece(self._arriving, payload)
                link.frames_in -= 1
            elif kind == BEGUN and stream is not None:
                self._arriving = stream
                self._take_first(stream, flags, payload)
            elif kind == FrameType.OPEN:
                self._take_open(label, flags, payload)
            elif stream is not None and kind in _TAKERS:
                _TAKERS[kind](self, stream, payload)
            elif kind in _OF_STREAMS:
                self._take_late(label, kind)
            else:
                link.handle(kind, payload, now)
                if link.lost is not None:  # what comes after the last frame is nothing
                    return

    def _take_first(self, stream: Stream, length: int, payload: bytes | memoryview) -> None:
        """A frame of data of so many bytes that needs a second look, or what is here of it."""
        stream.check(length)
        limit = max(self._link.hello.limits.early_link, LEAST_EARLY)
        if not stream.answered and self._early_received + length > limit:
            raise ProtocolError(f"{self._early_received + length} bytes of early data, the limit is {limit}")
        self._take_piece(stream, payload)

    def _take_piece(self, stream: Stream | None, payload: bytes | memoryview) -> None:
        """Data that its frame's header has announced. The stream may have ended since."""
        if stream is None or not payload or self._table.get(stream.label) is not stream:
            return
        stream.received += len(payload)
        if not stream.answered:
            self._early_received += len(payload)
        if not stream.deaf:
            self._link.events.append(Received(stream.label, payload))

    def _take_late(self, label: int, kind: int) -> None:
        self._arriving = None
        if not self.labels.used(label):
            raise ProtocolError(
                f"{FrameType(DATA if kind == BEGUN else kind).name} for stream {label}, which was never opened"
            )
        # It crossed the end of its stream on the wire; it is nobody's fault.
        self._late += 1

    def _take_open(self, label: int, flags: int, payload: bytes) -> None:
        self.labels.check_theirs(label)
        if label in self._table:
            raise ProtocolError(f"OPEN with label {label}, which is in use")
        request = frames.decode_open(payload)
        self.labels.use(label)
        self._opened += 1
        kind = CircuitClass(flags & 3)
        early = self._link.hello.limits.early_stream
        if label == FIRST:
            early = max(early, LEAST_EARLY)
        stream = Stream(label, kind, mine=False, allowed=request.credit, granted=early)
        refusal = self._refusal()
        if refusal is not None:
            self._put_failure(FrameType.REFUSED, label, refusal)
            return
        self._table[label] = stream
        self._theirs += 1
        self._link.events.append(Opened(label, request, kind))

    def _refusal(self) -> Failure | None:
        if self._link.leaving is not None:
            return self._link.leaving
        if self._theirs >= self._link.hello.limits.streams:
            return self._failure(Code.LIMIT, f"{self._theirs} streams are open, which is the limit")
        return None

    def _take_opened(self, stream: Stream, payload: bytes) -> None:
        if not stream.mine or stream.answered:
            raise ProtocolError(f"OPENED out of place on stream {stream.label}")
        answer = frames.decode_opened(payload)
        self._free_early(stream)
        stream.answer()
        stream.allowed = answer.credit
        self._join(stream)
        self._link.events.append(Accepted(stream.label, answer.path))

    def _take_refused(self, stream: Stream, payload: bytes) -> None:
        if not stream.mine or stream.answered:
            raise ProtocolError(f"REFUSED out of place on stream {stream.label}")
        failure = frames.decode_failure(payload)
        self._end(stream)
        self._link.events.append(Refused(stream.label, failure))

    def _take_credit(self, stream: Stream, payload: bytes) -> None:
        offset = frames.decode_offset(payload)
        if stream.mine and not stream.answered:
            raise ProtocolError(f"CREDIT before OPENED on stream {stream.label}")
        if offset > stream.allowed:
            stream.allowed = offset
            self._join(stream)

    def _take_fin(self, stream: Stream, payload: bytes) -> None:
        stream.receive_fin(frames.decode_offset(payload))
        self._thirsty.pop(stream.label, None)
        self._link.events.append(Finished(stream.label))
        if stream.ended:
            self._end(stream)

    def _take_reset(self, stream: Stream, payload: bytes) -> None:
        failure = frames.decode_failure(payload)
        self._end(stream)
        self._link.events.append(Reset(stream.label, failure))

    def _take_stop(self, stream: Stream, payload: bytes) -> None:
        failure = frames.decode_failure(payload)
        if stream.sent_all or stream.stopped:
            return
        stream.stopped = True
        self._discard(stream)
        self._link.events.append(Stopped(stream.label, failure))
        self._finish_when_empty(stream)

    # -- intentions

    def open(self, request: Open, kind: CircuitClass) -> int:
        """Open a stream and say its label; data may be sent at once.

        The dialler may open its first stream before the peer has said HELLO; a little data goes with it. Raises LinkLost if
        the link is otherwise not up or is going away, LimitExceeded if the peer takes no more streams, none so large a request, or does not read.
        """
        link = self._link
        if link.state is State.GREETING and link.dialler:
            return self._open_first(request, kind)
        peer = link.peer
        if link.state is not State.UP or peer is None:
            raise LinkLost(f"the link is {link.state.value}", hop=link.hello.name)
        going = link.leaving or link.left
        if going is not None:
            raise LinkLost(
                f"{peer.name} takes no new streams: {going.text or 'the link is going away'}", hop=link.hello.name
            )
        if len(self._table) - self._theirs >= peer.limits.streams:
            raise LimitExceeded(
                f"{peer.limits.streams} streams are open, more {peer.name} does not take", hop=link.hello.name
            )
        if link.backlog > BACKLOG // 4:
            raise LimitExceeded(f"{peer.name} does not read what is sent", hop=link.hello.name)
        return self._open(request, kind, link.frame_limit, peer.limits.early_stream)

    def _open_first(self, request: Open, kind: CircuitClass) -> int:
        if self._opened:
            raise LimitExceeded("one stream may be opened before the peer has said HELLO", hop=self._link.hello.name)
        return self._open(request, kind, LEAST_FRAME, LEAST_EARLY)

    def _open(self, request: Open, kind: CircuitClass, frame_limit: int, early: int) -> int:
        label = self.labels.allot(self._table)
        request = structs.replace(request, credit=WINDOW)
        self._link.put(frames.encode_map(FrameType.OPEN, label, request, frame_limit, flags=kind))
        self.labels.use(label)
        self._table[label] = Stream(label, kind, mine=True, allowed=early, granted=WINDOW)
        self._opened += 1
        return label

    def _greeted(self) -> None:
        """The link is up: what was opened before that may send as much as the peer has said."""
        peer = self._link.peer
        for stream in self._table.values():
            if peer is not None and stream.mine and not stream.answered and stream.allowed < peer.limits.early_stream:
                stream.allowed = peer.limits.early_stream
                self._join(stream)

    def accept(self, label: int, path: tuple[str, ...]) -> None:
        """Say yes to an Opened. A path too long for the peer's frames is left out."""
        stream = self._table.get(label)
        if stream is None or stream.mine or stream.answered:
            return
        self._free_early(stream)
        stream.answer()
        stream.grant()
        limit = self._link.frame_limit
        try:
            answer = frames.encode_map(FrameType.OPENED, label, frames.Opened(stream.granted, path), limit)
        except LimitExceeded:
            answer = frames.encode_map(FrameType.OPENED, label, frames.Opened(stream.granted), limit)
        self._link.put(answer)
        self._finish_when_empty(stream)
        self._join(stream)

    def reject(self, label: int, failure: Failure) -> None:
        """Say no to an Opened."""
        stream = self._table.get(label)
        if stream is None:
            return
        self._put_failure(FrameType.RESET if stream.answered or stream.mine else FrameType.REFUSED, label, failure)
        self._end(stream)

    def send(self, label: int, data: bytes | memoryview) -> None:
        """Queue data. After the end of the stream it is dropped: the event has told. Raises ValueError after finish()."""
        stream = self._table.get(label)
        if stream is None:
            return
        if type(data) is memoryview and (data.itemsize != 1 or data.ndim != 1):
            data = data.cast("B")
        size = len(data)
        if not size:
            return
        if stream.finishing:
            raise ValueError(f"stream {label} is finished")
        stream.queue.append(data)
        stream.queued += size
        if len(stream.queue) > stream.crowd:
            self._pack(stream)
        if stream.stopped:
            self._discard(stream)
        elif not stream.in_line and stream.sent < stream.allowed and (stream.answered or stream.mine):
            self._turns.join(stream)

    def _pack(self, stream: Stream) -> None:
        """Small pieces take more room than their bytes, which are all that credit counts: join them."""
        stream.queue = deque(gather(list(stream.queue)))
        stream.crowd = CROWD + 2 * len(stream.queue)

    def finish(self, label: int) -> None:
        """Send nothing more after what is queued."""
        stream = self._table.get(label)
        if stream is not None and not stream.finishing:
            stream.finishing = True
            self._finish_when_empty(stream)

    def reset(self, label: int, failure: Failure) -> None:
        """End the stream in both directions; what is queued is dropped. No event follows."""
        stream = self._table.get(label)
        if stream is not None:
            self._put_failure(FrameType.RESET, label, failure)
            self._end(stream)
        elif label in self._owing:
            self.credit.free(self._owing.pop(label))

    def stop(self, label: int, failure: Failure) -> None:
        """Read no more: what still comes is dropped, and the peer is asked to end its direction."""
        stream = self._table.get(label)
        if stream is not None and not stream.deaf and not stream.received_all:
            stream.deaf = True
            stream.listening = False
            self._thirsty.pop(label, None)
            self._put_failure(FrameType.STOP, label, failure)

    def consume(self, label: int, count: int) -> None:
        """Give credit back for data that was taken. Raises ValueError if so much has not arrived."""
        stream = self._table.get(label)
        if stream is None:
            self._settle_debt(label, count)
            return
        consumed = stream.consumed + count
        if not stream.consumed <= consumed <= stream.received:
            raise ValueError(
                f"{count} bytes of stream {label} cannot be consumed: {stream.received - stream.consumed} wait"
            )
        stream.consumed = consumed
        if consumed >= stream.renew_at and stream.listening:
            self._thirsty[label] = stream

    def mute(self, label: int) -> None:
        """Tell no Drained for this stream: its owner does not count what is queued."""
        stream = self._table.get(label)
        if stream is not None:
            stream.muted = True

    # -- frames out

    def _join(self, stream: Stream) -> None:
        if stream.sendable:
            self._turns.join(stream)

    def _fin(self, stream: Stream) -> bytes:
        stream.sent_all = True
        if stream.ended:
            self._end(stream)
        return frames.encode_offset(FrameType.FIN, stream.label, stream.sent)

    def _finish_when_empty(self, stream: Stream) -> None:
        if stream.finishing and not stream.sent_all and not stream.queued and (stream.answered or stream.mine):
            self._link.put(self._fin(stream))

    # -- ends

    def _lose(self, failure: Failure) -> None:
        """The link is over: so is every stream."""
        for stream in list(self._table.values()):
            self._end(stream)
            self._link.events.append(Reset(stream.label, failure))
        self._turns.clear()
        self._held_back.clear()
        self._owing.clear()

    def _end(self, stream: Stream) -> None:
        """Take the stream off the table; what is queued is dropped."""
        label = stream.label
        if stream.window > WINDOW:
            if stream.ended and not stream.deaf and stream.consumed < stream.received:
                self._owing[label] = stream
            else:  # all of it was taken, or is dropped
                self.credit.free(stream)
        del self._table[label]
        self._free_early(stream)
        stream.drop()
        self._thirsty.pop(label, None)
        self._over.append(label)
        self.labels.ended(label)
        if not stream.mine:
            self._theirs -= 1

    def _settle_debt(self, label: int, count: int) -> None:
        """What came before the end was consumed after it: then its credit is free, too."""
        stream = self._owing.get(label)
        if stream is not None:
            stream.consumed += count
            if stream.consumed >= stream.received:
                self.credit.free(self._owing.pop(label))

    def _free_early(self, stream: Stream) -> None:
        if stream.answered:
            return
        if not stream.mine:
            self._early_received -= stream.received
            return
        self._early_sent -= stream.sent
        self._held_back.pop(stream.label, None)
        released, self._held_back = self._held_back, {}
        for waiting in released.values():
            self._join(waiting)

    def _discard(self, stream: Stream) -> None:
        dropped = stream.drop()
        if dropped and not stream.muted:
            self._link.events.append(Drained(stream.label, dropped))

    def _put_failure(self, kind: FrameType, label: int, failure: Failure) -> None:
        self._link.put(frames.encode_failure(kind, label, failure, self._link.frame_limit))

    def _failure(self, code: Code, text: str) -> Failure:
        return Failure(code, text, self._link.hello.name)


_TAKERS: dict[int, Callable[[Streams, Stream, bytes], None]] = {
    FrameType.OPENED: Streams._take_opened,  # noqa: SLF001
    FrameType.REFUSED: Streams._take_refused,  # noqa: SLF001
    FrameType.CREDIT: Streams._take_credit,  # noqa: SLF001
    FrameType.FIN: Streams._take_fin,  # noqa: SLF001
    FrameType.RESET: Streams._take_reset,  # noqa: SLF001
    FrameType.STOP: Streams._take_stop,  # noqa: SLF001
}
_OF_STREAMS = frozenset(_TAKERS) | {DATA, BEGUN}
