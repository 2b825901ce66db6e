"""Objects of a peer that are held here, whatever face their proxies show."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any, Protocol

from rpyc_gateway.classes import RemoteObject
from rpyc_gateway.proto.messages import ClassInfo, Verb
from rpyc_gateway.steps import Step

__all__ = ["Caller", "Held", "Posted", "RemoteObject", "held_by", "is_proxy"]


class Caller(Protocol):
    """What a proxy needs of its session."""

    peer_vat: bytes

    def ask(self, number: int, steps: Sequence[Step]) -> Any:
        """Run a program on the peer's object `number`, and wait for its value in this thread."""
        ...

    def read(self, held: Held, name: str) -> Any:
        """Begin to read a plain method of `held`; the Reading."""
        ...

    def fetch(self, reading: Any) -> Any:
        """The method that was read; wait for it in this thread."""
        ...

    def call_read(self, reading: Any, args: tuple[Any, ...], kwargs: dict[str, Any], *, kept: bool) -> Any:
        """Call the method that is being read. `kept`: it may be used again."""
        ...

    async def ask_async(self, number: int, steps: Sequence[Step]) -> Any:
        """The same in a trio task."""
        ...

    async def post(self, number: int, steps: Sequence[Step]) -> Posted:
        """Send a program from a trio task, and do not wait for its value."""
        ...

    def give_back(self) -> None:
        """Tell the peer now which of its objects are held no more. In the trio thread."""
        ...


class Posted(Protocol):
    """A question that was sent and may not be answered yet."""

    async def value(self) -> Any:
        """Wait for its value, in one task at a time."""
        ...

    def abandon(self) -> None:
        """Cancel it, if it is not answered yet."""
        ...


class Held:
    """One object of a peer that is held here. Its proxies, one for each face, share it; when it dies the references go back."""

    __slots__ = (
        "__weakref__",
        "async_face",
        "blocking_face",
        "caller",
        "hash",
        "hidden",
        "info",
        "number",
        "origin",
        "vat",
    )

    def __init__(self, caller: Caller, number: int, info: ClassInfo, vat: bytes | None, origin: int | None) -> None:
        self.caller = caller
        self.number = number
        self.info = info
        self.vat = vat
        self.origin = origin
        self.hash: int | None = None
        self.hidden: frozenset[str] = frozenset()  # methods that an attribute set here hides
        self.blocking_face: weakref.ref[RemoteObject] | None = None
        self.async_face: weakref.ref[RemoteObject] | None = None

    def op(self, name: str, *args: object) -> Any:
        """Let a special method of the object answer; wait for it in this thread."""
        return self.caller.ask(self.number, ((Verb.OP, 0, name, args),))

    @property
    def identity(self) -> tuple[bytes, int]:
        """(vat, number) of the original: the same over every path. A root is its session's own."""
        if self.number == 0:
            return b"root", id(self.caller)
        if self.vat is not None and self.origin is not None:
            return self.vat, self.origin
        return self.caller.peer_vat, self.number


def is_proxy(value: object) -> bool:
    """Whether a value is a proxy of either face."""
    return issubclass(type(value), RemoteObject)


def held_by(proxy: object) -> Held:
    """What a proxy holds."""
    held: Held = object.__getattribute__(proxy, "__gw_held__")
    return held
