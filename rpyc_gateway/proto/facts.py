"""What an Rpc machine says and is told: its events, and the drafts of references."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from rpyc_gateway.errors import GatewayError
from rpyc_gateway.proto.messages import ClassInfo, SessionInfo
from rpyc_gateway.proto.values import Payload

__all__ = [
    "Answered",
    "Broken",
    "BulkConsumed",
    "BulkWanted",
    "Called",
    "CancelRequested",
    "Dismissed",
    "Ended",
    "Event",
    "ExportDraft",
    "Failed",
    "Greeted",
    "HomeDraft",
    "Import",
    "Rejected",
    "Released",
    "RpcStatistics",
]


class ExportDraft(msgspec.Struct, frozen=True):
    """An object that will be lent to the peer, with its class and, if it is held from elsewhere, its origin."""

    value: object
    info: ClassInfo
    vat: bytes | None = None
    origin: int | None = None


class HomeDraft(msgspec.Struct, frozen=True):
    """One of the peer's own objects, going home."""

    number: int


class Import(msgspec.Struct, frozen=True):
    """A reference to one of the peer's objects, counted once by the message it came with."""

    number: int
    info: ClassInfo
    vat: bytes | None
    origin: int | None


class Greeted(msgspec.Struct, frozen=True):
    """The peer's HELLO arrived."""

    info: SessionInfo


class Called(msgspec.Struct, frozen=True):
    """The peer asks. Each item of `payload.refs` is an Import, or the object that came home."""

    question: int
    target: object
    payload: Payload
    cause: int
    affinity: int
    deadline: int


class Rejected(msgspec.Struct, frozen=True):
    """A question of the peer cannot be served; it waits for `raised`."""

    question: int
    error: GatewayError


class Answered(msgspec.Struct, frozen=True):
    """One of our questions was answered with a value."""

    question: int
    payload: Payload


class Failed(msgspec.Struct, frozen=True):
    """One of our questions was answered with an exception, raised by `step`."""

    question: int
    payload: Payload
    step: int


class Broken(msgspec.Struct, frozen=True):
    """One of our questions was answered with something that cannot be read."""

    question: int
    error: GatewayError


class CancelRequested(msgspec.Struct, frozen=True):
    """The peer lost interest in a question that is not answered."""

    question: int


class Released(msgspec.Struct, frozen=True):
    """The peer gave these objects back; they are ours to drop, where finalizers may run."""

    values: list[object]


class Ended(msgspec.Struct, frozen=True):
    """A calling thread of the peer is gone."""

    affinity: int


class BulkWanted(msgspec.Struct, frozen=True):
    """The bulk circuit is needed, and it is for us to open it."""


class BulkConsumed(msgspec.Struct, frozen=True):
    """Bytes of the bulk circuit that had waited for their message were taken: the circuit is owed credit for them."""

    size: int


class Dismissed(msgspec.Struct, frozen=True):
    """The peer said goodbye."""

    code: int
    text: str
    hop: str


Event = (
    Greeted
    | Called
    | Rejected
    | Answered
    | Failed
    | Broken
    | CancelRequested
    | Released
    | Ended
    | BulkWanted
    | BulkConsumed
    | Dismissed
)


class RpcStatistics(NamedTuple):
    """Open questions of ours and of the peer, objects lent, and live proxies."""

    asked: int
    serving: int
    exports: int
    imports: int
