"""Exception classes: how one is named to a peer, and the class that stands here for one of a peer's (docs/protocol.md, section 11).

A class that is found here by its name, or is of this very process, is itself. Any other gets a stand-in: a class that is made once,
under the stand-ins of its ancestors, and lives as long as somebody uses it. Nothing is imported, and no code of a local class runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from rpyc_gateway.errors import RemoteError
from rpyc_gateway.proto.known import class_numbered, find_class, members, mro_of, names_of, number_of
from rpyc_gateway.weak import WeakTable

__all__ = [
    "Kinds",
    "Original",
    "StandIn",
    "has_plain_metaclass",
    "is_made",
    "is_stand_in",
    "original_kind",
    "passes_for",
]

NAMES = 100
"""Ancestors of one class."""

STAND_INS = 10_000
"""Classes of peers that live here at once; a peer that invents more gets the ancestor."""


class Original(Protocol):
    """A remote class that is held in a session, as its stand-in sees it."""

    def get(self, name: str) -> Any:
        """Its attribute. Raises AttributeError, also where it cannot be asked."""
        ...

    def make(self, args: Sequence[object], kwargs: dict[str, object]) -> Any:
        """An instance of it, made there; NotImplemented where that cannot be."""
        ...


class StandIn(type):
    """The class of stand-ins: attributes they do not have are their original's, and what they are called to make is made there."""

    def __getattr__(cls, name: str) -> Any:
        if not (name.startswith("__") and name.endswith("__")):
            for base in mro_of(cls):
                originals = members(base).get(_ORIGINALS)
                if originals:
                    return _latest(originals).get(name)
        raise AttributeError(f"type object {cls.__name__!r} has no attribute {name!r}", name=name, obj=cls)

    def __call__(cls, /, *args: object, **kwargs: object) -> Any:
        originals = members(cls).get(_ORIGINALS)  # not of a base: a local subclass makes instances of its own
        made = _latest(originals).make(args, kwargs) if originals else NotImplemented
        return type.__call__(cls, *args, **kwargs) if made is NotImplemented else made

    def bind(cls, session: int, original: Original) -> None:
        """`original` is what `cls` stands for in this session."""
        originals: dict[int, Original] = members(cls)[_ORIGINALS]  # type: ignore[assignment]
        originals.pop(session, None)
        originals[session] = original
        if len(originals) > SESSIONS:
            del originals[next(iter(originals))]  # of a session that is over, as a rule

    def original(cls, session: int) -> Original | None:
        """What `cls` stands for in this session, if it is held there."""
        originals: dict[int, Original] = members(cls).get(_ORIGINALS, {})  # type: ignore[assignment]
        return originals.get(session)


SESSIONS = 16
"""Sessions in which the original of one stand-in is known to be held; in others it is found by its name."""

TEXT = "__gw_text__"
"""Where an exception of a peer keeps what `str()` of its original said."""

KIND = "__gw_passes_for__"
"""Where the class of a proxy that is an exception says which class it passes for."""

_ORIGINALS = "__gw_originals__"
_KEY = "__gw_key__"


def _latest(originals: Any) -> Original:
    latest: Original = next(reversed(originals.values()))
    return latest


class _Name(NamedTuple):
    module: str
    name: str
    parents: tuple[int, ...]
    vat: bytes = b""
    number: int = 0

    @property
    def key(self) -> tuple[object, object]:
        return (self.vat, self.number) if self.number else (self.module, self.name)


_stand_ins: WeakTable[StandIn, None] = WeakTable()
_by_name: WeakTable[StandIn, None] = WeakTable()


class Kinds:
    """Names the exception classes of this vat to peers, and finds those that peers name."""

    def __init__(self, vat: bytes = b"") -> None:
        self._vat = vat

    def write(self, kind: type[BaseException]) -> list[Any]:
        """A class and its ancestors, up to BaseException."""
        mro = [base for base in mro_of(kind) if issubclass(base, BaseException)]
        return [self._entry(base, place, mro) for place, base in enumerate(mro)]

    def _entry(self, base: type[BaseException], place: int, mro: list[type[BaseException]]) -> list[Any]:
        known: Any = members(base).get(_KEY) if type(base) is StandIn else None
        parents = [mro.index(parent) for parent in _bases(base) if parent in mro]
        entry: list[Any] = [*names_of(base)]
        if known is None:
            known = (self._vat, number_of(base))
        numbered = type(known[1]) is int and known[1]
        if numbered or parents != [place + 1][: len(mro) - place - 1]:
            entry.append(parents)
        if numbered:
            entry += known
        return entry

    def find(self, structure: Any) -> tuple[type[Exception], str]:
        """The class of a rebuilt exception, and the name of the original's. Raises ValueError, TypeError."""
        names = _read(structure)
        if not names:
            return RemoteError, "an exception without a class"
        return self._rebuilt(names), names[0].name

    def find_class(self, structure: Any) -> type[BaseException]:
        """The class that stands here for a class of the peer: catches what `find` finds for its instances. Raises as `find`."""
        names = _read(structure)
        if not names:
            return RemoteError
        known = self._known(names[0])
        return known if known is not None else self._rebuilt(names)

    def _rebuilt(self, names: list[_Name]) -> type[Exception]:
        known = self._known(names[0])
        usable = None if known is None else _usable(known)
        if usable is not None:
            return _caught_as_before(usable, names)
        if known is not None and not issubclass(known, BaseExceptionGroup):
            return RemoteError  # SystemExit, KeyboardInterrupt, trio.Cancelled: they would end a process or unwind its tasks
        ordinary = any((name.module, name.name) in _ORDINARY for name in names)
        made: list[type[BaseException]] = [RemoteError] * len(names)
        for place in range(len(names) - 1, -1, -1):
            name = names[place]
            found = self._known(name) if place else None
            if found is None:
                parents = [made[parent] for parent in name.parents if place < parent < len(names)]
                found = _stand_in(name, parents, Exception if ordinary else RemoteError)
            made[place] = found
        return made[0]  # type: ignore[return-value]  # the first is a stand-in

    def _known(self, name: _Name) -> type[BaseException] | None:
        """The class of this process with this name; what a peer says of its ancestors does not count."""
        if not name.number:
            found = find_class(name.module, name.name)
        else:
            found = class_numbered(name.number) if name.vat and name.vat == self._vat else None
        return found if found is not None and issubclass(found, BaseException) else None


_ORDINARY = frozenset({("builtins", "Exception"), ("builtins", "BaseExceptionGroup")})


def _usable(kind: type[BaseException]) -> type[Exception] | None:
    """The class for instances: members of a group are rebuilt as ordinary errors, what is no Exception is not rebuilt."""
    if kind is BaseExceptionGroup:
        return ExceptionGroup
    return kind if issubclass(kind, Exception) else None


def _read(structure: Any) -> list[_Name]:
    names = []
    for place, (module, name, *more) in enumerate(structure):
        parents = more[0] if more else [place + 1]
        vat, number = more[1:3] if len(more) > 2 else (b"", 0)
        if type(number) is not int or type(vat) is not bytes or any(type(parent) is not int for parent in parents):
            raise ValueError("the names of a class cannot be read")
        names.append(_Name(str(module), str(name), tuple(parents), vat, number))
    if len(names) > NAMES or any(max(map(len, name[:4])) > 500 for name in names):
        raise ValueError("the names of its class and ancestors are too long")
    return names


def _stand_in(name: _Name, parents: list[type[BaseException]], root: type[Exception]) -> type[Exception]:
    plain = [_plain(parent) for parent in parents]
    candidates = list(dict.fromkeys(kind for kind in plain if kind is not None)) or [root]
    bases: list[type[Exception]] = _lowest(candidates)
    key = (name.key, *map(id, bases))  # the bases live as long as it does
    made = _stand_ins.object(key)
    if made is not None:
        return made  # type: ignore[return-value]
    if len(_stand_ins) >= STAND_INS and sum(1 for _ in _stand_ins) >= STAND_INS:
        return bases[0]
    body = {"__module__": name.module, "__qualname__": name.name, "__str__": _said, _KEY: name.key, _ORIGINALS: {}}
    title = name.name.rpartition(".")[2]
    try:
        made = StandIn(title, tuple(bases), body)
    except TypeError:  # classes that cannot be ancestors of one: a peer's word
        made = StandIn(title, (bases[0],), body)
    if not name.number:
        _by_name.keep(name.key, made, None)
    return _stand_ins.keep(key, made, None)  # type: ignore[return-value]


def _caught_as_before(kind: type[Exception], names: list[_Name]) -> type[Exception]:
    """`kind`, or where stand-ins from before it was imported are still in use, a class that is caught by both."""
    found = (_by_name.object(name.key) for name in names)
    earlier = [stand_in for stand_in in found if stand_in is not None and not issubclass(kind, stand_in)]
    if not earlier or _plain(kind) is not kind:
        return kind
    bases: tuple[type, ...] = (kind, *_lowest(earlier))
    key = (names[0].key, *map(id, bases))
    body = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, _KEY: names[0].key, _ORIGINALS: {}}
    try:
        made = _stand_ins.object(key) or StandIn(kind.__name__, bases, body)
    except TypeError:  # they cannot be ancestors of one
        return kind
    return _stand_ins.keep(key, made, None)  # type: ignore[return-value]


def _said(self: BaseException) -> str:
    """What the original says: its class may have a `__str__` of its own."""
    text = BaseException.__getattribute__(self, "__dict__").get(TEXT)
    if text is not None:
        return str(text)
    mro = mro_of(type(self))
    last = max(place for place, kind in enumerate(mro) if members(kind).get("__str__") is _said)
    base: Any = next(kind for kind in mro[last + 1 :] if "__str__" in members(kind))
    said: str = base.__str__(self)
    return said


def original_kind(error: BaseException) -> type[BaseException]:
    """The class of an exception; of a proxy that is one, the class it passes for."""
    return passes_for(type(error))


def passes_for(kind: type[BaseException]) -> type[BaseException]:
    """The class that the proxies of a class pass for; any other class is itself."""
    passed: type[BaseException] = members(kind).get(KIND, kind)  # type: ignore[assignment]
    return passed


def is_made(kind: type) -> bool:
    """Whether a class was made here for one of a peer: it has no code of its own."""
    return KIND in members(kind) or is_stand_in(kind)


def is_stand_in(kind: type) -> bool:
    """Whether a class stands for one of a peer, and is not a local subclass of such a class."""
    return type(kind) is StandIn and _KEY in members(kind)


def _lowest(kinds: list[Any]) -> list[Any]:
    """Those that are no ancestors of others among them."""
    return [kind for kind in kinds if not any(other is not kind and issubclass(other, kind) for other in kinds)]


def _plain(kind: type[BaseException]) -> type[Exception] | None:
    """The nearest ancestor that a subclass can be made of without running code of this process."""
    for base in mro_of(_usable(kind) or Exception):
        if has_plain_metaclass(base) and not any("__init_subclass__" in members(one) for one in mro_of(base)[:-1]):
            return base if base is not Exception else None
    return None


def has_plain_metaclass(kind: type) -> bool:
    """Whether making a subclass runs nobody's metaclass."""
    return type(kind) is type or type(kind) is StandIn


# Not kind.__bases__ and so on: a metaclass could answer anything.


def _bases(kind: type) -> tuple[type, ...]:
    bases: tuple[type, ...] = type.__dict__["__bases__"].__get__(kind)
    return bases
