"""What the class of a remote object is to `isinstance`, `issubclass` and `match` here, answered without a word to its owner."""

from __future__ import annotations

import abc
import collections.abc
from collections.abc import Iterator

from rpyc_gateway.proto.known import find_class, members
from rpyc_gateway.proto.messages import ClassInfo

__all__ = ["ancestors", "likeness", "patterns"]


class _Sequence:
    """Matches `case [..]`: the interpreter looks for a flag of the type, which is inherited and that only registering sets."""

    __slots__ = ()


class _Mapping:
    """Matches `case {..}`."""

    __slots__ = ()


collections.abc.Sequence.register(_Sequence)
collections.abc.Mapping.register(_Mapping)

_SEQUENCES = frozenset(
    [("builtins", name) for name in ("list", "tuple", "range", "memoryview")]
    + [("collections", "deque"), ("array", "array"), ("collections.abc", "Sequence")]
)
_MAPPINGS = frozenset([("builtins", "dict"), ("builtins", "mappingproxy"), ("collections.abc", "Mapping")])


def patterns(info: ClassInfo) -> tuple[type, ...]:
    """The bases that a proxy's class needs so that the patterns its original matches match it too."""
    if info.flags & ClassInfo.IS_CLASS:
        return ()
    if not _SEQUENCES.isdisjoint(info.mro):
        return (_Sequence,)
    return () if _MAPPINGS.isdisjoint(info.mro) else (_Mapping,)


def likeness(info: ClassInfo) -> type | None:
    """What the instances of a remote class that is not known here answer as their `__class__`: a class under its ancestors that are known.

    None if there are none. What is made here is never instantiated, and making it runs no code of anybody.
    """
    bases = _nearest(ancestors(info))
    if not bases:
        return None
    body = {"__slots__": (), "__module__": info.module, "__qualname__": info.name}
    try:
        meta = abc.ABCMeta if any(isinstance(base, abc.ABCMeta) for base in bases) else type
        return meta(info.name.rpartition(".")[2].replace("\0", ""), bases, body)
    except TypeError:  # bool, function and the like cannot be inherited from
        return bases[0]


def ancestors(info: ClassInfo) -> Iterator[type]:
    """The classes of this process that a remote class is or inherits from, by their names, nearest first."""
    for module, name in info.mro:
        found = find_class(module, name)
        if found is not None:
            yield found


def _nearest(known: Iterator[type]) -> tuple[type, ...]:
    """Of these classes those that no other of them inherits from, as far as inheriting runs no code of anybody."""
    nearest: list[type] = []
    for kind in known:
        if kind is not object and _is_quiet(kind) and not any(kind in made.__mro__ for made in nearest):
            nearest.append(kind)
    return tuple(nearest)


def _is_quiet(kind: type) -> bool:
    return type(kind) in (type, abc.ABCMeta) and not any(
        "__init_subclass__" in members(base) for base in kind.__mro__[:-1]
    )
