"""Two Rpc machines and the two circuits between them, in the hand of a test."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

from rpyc_gateway.proto import facts
from rpyc_gateway.proto.facts import ExportDraft, HomeDraft, Import
from rpyc_gateway.proto.messages import ClassInfo, Hello, Message, SessionInfo, SessionLimits, Splitter, encode
from rpyc_gateway.proto.rpc import Rpc
from rpyc_gateway.proto.values import Draft, Payload, Reader, Writer

THING = ClassInfo(module="lab", name="Thing")
LONG = b"x" * 9000  # travels on bulk
HELLO = Hello(SessionInfo(vat=b"somebody's vat--"))
EMPTY = b"\xc0"  # nil
_numbers = itertools.count(1)


@dataclass(eq=False)
class Thing:
    """An object of one side."""

    owner: Side


class Held:
    """One of the other side's objects, held on this one; when it dies the references go back."""

    shown = False  # nothing here has a proxy

    def __init__(self, side: Side, number: int) -> None:
        self.side = side
        self.number = number
        self.count = 0


@dataclass(eq=False)
class Side:
    """One end: its machine, what has happened there, and what is on the wire towards it."""

    name: str
    opener: bool = False
    limits: SessionLimits = field(default_factory=SessionLimits)
    rpc: Rpc = field(init=False)
    root: Thing = field(init=False)
    coming: bytes = b""
    bulk: bytes = b""
    consumed: int = 0
    heard: list[facts.Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.root = Thing(self)
        info = SessionInfo(vat=self.name.encode().ljust(16, b"-"), name=self.name, limits=self.limits)
        self.rpc = Rpc(info, opener=self.opener, root=self.root, numbers=_numbers)

    def draft(self, value: object) -> Draft:
        writer = Writer(self._reference)
        return writer.finish(writer.value(value))

    def _reference(self, value: object) -> object:
        if isinstance(value, Held):
            return HomeDraft(value.number)
        return ExportDraft(value, THING)

    def value(self, payload: Payload) -> Any:
        """What a message carries; imports are adopted, and given back when nobody holds them any more."""
        return Reader(payload, [self.hold(ref) for ref in payload.refs]).read()

    def hold(self, ref: object) -> object:
        if type(ref) is not Import:
            return ref
        self.rpc.imports.doubt(ref.number)
        return self.rpc.imports.adopt(ref.number, Held, self, ref.number)

    def call(self, value: object = None, number: int = 0) -> int:
        return self.rpc.call(number, self.draft(value), cause=self.rpc.new_cause())

    def answer(self, question: int, value: object = None) -> None:
        self.rpc.answer(question, self.draft(value))

    def listen(self) -> list[facts.Event]:
        """What has happened since the test last asked."""
        heard, self.heard = self.heard, []
        return heard

    def receive(self, *messages: Message) -> list[facts.Event]:
        """Let a peer that is none of ours say something."""
        self.rpc.receive_data(b"".join(map(encode, messages)))
        return self.rpc.events()

    @property
    def counts(self) -> facts.RpcStatistics:
        return self.rpc.statistics()


class Pair:
    """`near` has opened the session to `far`; nothing is sent or delivered but by the test."""

    def __init__(self, near: SessionLimits | None = None, far: SessionLimits | None = None) -> None:
        self.near = Side("near", True, near or SessionLimits())  # noqa: FBT003
        self.far = Side("far", False, far or SessionLimits())  # noqa: FBT003

    def other(self, side: Side) -> Side:
        return self.far if side is self.near else self.near

    def pull(self, side: Side) -> None:
        """Put what a side has to send on the wire."""
        other = self.other(side)
        other.coming += side.rpc.data_to_send()
        while parts := side.rpc.bulk_to_send():
            other.bulk += b"".join(parts)

    def deliver(self, side: Side, count: int | None = None) -> None:
        """Let a side read some of what is on its `call` circuit."""
        data, side.coming = side.coming[:count], side.coming[count:] if count is not None else b""
        side.rpc.receive_data(data)
        self._take_events(side)

    def deliver_bulk(self, side: Side, count: int | None = None) -> None:
        """Let a side read some of what is on its `bulk` circuit."""
        data, side.bulk = side.bulk[:count], side.bulk[count:] if count is not None else b""
        side.consumed += side.rpc.receive_bulk(data)
        self._take_events(side)

    def _take_events(self, side: Side) -> None:
        for event in side.rpc.events():
            if type(event) is facts.BulkWanted:  # the opener opens it, and the other side accepts
                self.near.rpc.bulk_open = self.far.rpc.bulk_open = True
            elif type(event) is facts.BulkConsumed:
                side.consumed += event.size
            side.heard.append(event)

    def settle(self) -> None:
        """Let everything through, until nothing moves."""
        moved = True
        while moved:
            moved = False
            for side in (self.near, self.far):
                self._take_events(side)
                self.pull(side)
            for side in (self.near, self.far):
                if side.coming or side.bulk:
                    moved = True
                    self.deliver(side)
                    self.deliver_bulk(side)


def greeted() -> Pair:
    """A pair whose HELLOs are through."""
    pair = Pair()
    pair.settle()
    pair.near.listen()
    pair.far.listen()
    return pair


def stranger(*, opener: bool = False, limits: SessionLimits | None = None) -> Side:
    """A side whose peer is played by the test, word by word."""
    side = Side("ours", opener, limits or SessionLimits())
    side.receive(HELLO)
    side.rpc.data_to_send()
    return side


def said(side: Side) -> list[Message]:
    """What a side has to say on its `call` circuit."""
    return Splitter().receive_data(side.rpc.data_to_send())
