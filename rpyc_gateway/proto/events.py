"""What a link and its streams report: facts, in the order in which they happened."""

from __future__ import annotations

from msgspec import Struct

from rpyc_gateway.proto.frames import CircuitClass, Failure, Hello, Open, Routes


class Event(Struct, frozen=True):
    """The root of all of them."""


class Greeted(Event, frozen=True):
    """The peer's HELLO is here; welcome() or refuse() must follow."""

    peer: Hello


class Established(Event, frozen=True):
    """Both sides have taken each other in; streams can be opened."""


class Probed(Event, frozen=True):
    """The peer answered a probe (or said anything else) in time."""


class Routed(Event, frozen=True):
    """What the peer says of its ways to others."""

    routes: Routes


class Leaving(Event, frozen=True):
    """The peer wants no new streams and ends the link when these have ended, at the latest after `grace` seconds."""

    failure: Failure
    grace: float


class Lost(Event, frozen=True):
    """The link is over. The last event, once."""

    failure: Failure


class StreamEvent(Event, frozen=True):
    """The root of what happens on one stream."""

    label: int


class Opened(StreamEvent, frozen=True):
    """The peer wants a stream; accept() or reject() must follow."""

    request: Open
    kind: CircuitClass


class Accepted(StreamEvent, frozen=True):
    """The answer to an open() is yes."""

    path: tuple[str, ...]


class Refused(StreamEvent, frozen=True):
    """The answer to an open() is no. The last event of its label."""

    failure: Failure


class Received(StreamEvent, frozen=True, gc=False):
    """Data, perhaps a view of what arrived; consume() it to give credit back."""

    data: bytes | memoryview


class Finished(StreamEvent, frozen=True):
    """The peer sends nothing more on this stream. The last event of its label if this side has finished, too."""


class Reset(StreamEvent, frozen=True):
    """The stream is over in both directions. The last event of its label."""

    failure: Failure


class Stopped(StreamEvent, frozen=True):
    """The peer reads no more on this stream; finish() or reset() must follow. What was queued is dropped."""

    failure: Failure


class Drained(StreamEvent, frozen=True, gc=False):
    """So many bytes given to send() have left the queue."""

    count: int
