"""Objects of a peer that are held here, whatever face their proxies show."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from rpyc_gateway.classes import RemoteObject
from rpyc_gateway.proto.messages import ClassInfo, Verb
from rpyc_gateway.proto.tables import Handle
from rpyc_gateway.steps import Step, Steps

__all__ = ["Caller", "Held", "Posted", "RemoteObject", "held_by", "is_proxy"]


class Caller(Protocol):
    """What a proxy needs of its session."""

    peer_vat: bytes
    drop: Callable[[Handle[Any]], object]  # called with the handle of a proxy that has died, in the middle of anything

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

    def start(self, number: int, steps: Sequence[Step], expiry: float | None = None) -> Any:
        """Run a program and do not wait for its value; the AsyncResult."""
        ...

    def ask_together(self, programs: Sequence[tuple[int, Sequence[Step]]]) -> list[Any]:
        """Pack programs that `see_through` sends together; their AsyncResults."""
        ...

    def see_through(self, results: Sequence[Any]) -> None:
        """Send programs, and wait until all of them have ended."""
        ...

    async def ask_async(self, number: int, steps: Sequence[Step]) -> Any:
        """The same in a trio task."""
        ...

    async def post(self, number: int, steps: Steps) -> Posted:
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


NONE: frozenset[str] = frozenset()


class BlockingHandle(Handle[RemoteObject]):
    """Of a blocking proxy."""

    __slots__ = ()


class AsyncHandle(Handle[RemoteObject]):
    """Of a proxy for trio code."""

    __slots__ = ()


class _More:
    """What few of the objects that are held need."""

    __slots__ = ("hash", "hidden", "origin", "twin", "vat")

    def __init__(self) -> None:
        self.hash: int | None = None
        self.hidden: frozenset[str] = NONE  # methods that an attribute set here hides
        self.origin: int | None = None
        self.vat: bytes | None = None
        self.twin: Handle[RemoteObject] | None = None  # of the other face


class Held:
    """One object of a peer that is held here. Its proxies, one for each face, share it; when nobody has it the references go back.

    There may be many of them, so that each byte of one is counted.
    """

    __slots__ = ("caller", "count", "handle", "info", "more", "number")

    def __init__(self, caller: Caller, number: int, info: ClassInfo, vat: bytes | None, origin: int | None) -> None:
        self.caller = caller
        self.number = number
        self.info = info
        self.count = 0
        self.handle: Handle[RemoteObject] | None = None  # of the face that was shown first
        self.more: _More | None = None
        if origin is not None:
            more = self._with_more()
            more.vat = vat
            more.origin = origin

    def _with_more(self) -> _More:
        if self.more is None:
            self.more = _More()
        return self.more

    def face(self, kind: type[Handle[RemoteObject]]) -> RemoteObject | None:
        """The live proxy of this face."""
        for handle in (self.handle, None if self.more is None else self.more.twin):
            if type(handle) is kind:
                return handle()
        return None

    def show(self, kind: type[Handle[RemoteObject]], proxy: RemoteObject) -> None:
        """From now on this is the proxy of its face. The caller holds the link's turn."""
        handle = kind(proxy, self.caller.drop)
        handle.number = self.number
        if self.handle is None or type(self.handle) is kind or self.handle() is None:
            self.handle = handle
        else:
            self._with_more().twin = handle

    @property
    def shown(self) -> bool:
        """Whether a proxy of it lives."""
        if self.handle is not None and self.handle() is not None:
            return True
        return self.more is not None and self.more.twin is not None and self.more.twin() is not None

    @property
    def hidden(self) -> frozenset[str]:
        """Plain methods that an attribute set here hides."""
        return NONE if self.more is None else self.more.hidden

    def hide(self, name: str) -> None:
        """An attribute of this name was set."""
        more = self._with_more()
        more.hidden |= {name}

    @property
    def vat(self) -> bytes | None:
        """The process that has the original, if that is not the peer."""
        return None if self.more is None else self.more.vat

    def hash(self) -> int:
        """The hash of the original; asked for once."""
        more = self._with_more()
        if more.hash is None:
            more.hash = hash(self.identity) if self.info.flags & ClassInfo.IDENTITY else int(self.op("__hash__"))
        return more.hash

    def op(self, name: str, *args: object) -> Any:
        """Let a special method of the object answer; wait for it in this thread."""
        return self.caller.ask(self.number, ((Verb.OP, 0, name, args),))

    @property
    def identity(self) -> tuple[bytes, int]:
        """(vat, number) of the original: the same over every path. A root is its session's own."""
        if self.number == 0:
            return b"root", id(self.caller)
        more = self.more
        if more is not None and more.vat is not None and more.origin is not None:
            return more.vat, more.origin
        return self.caller.peer_vat, self.number


def is_proxy(value: object) -> bool:
    """Whether a value is a proxy of either face."""
    return issubclass(type(value), RemoteObject)


def held_by(proxy: object) -> Held:
    """What a proxy holds."""
    held: Held = object.__getattribute__(proxy, "__gw_held__")
    return held
