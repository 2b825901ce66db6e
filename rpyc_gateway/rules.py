"""Which attributes of a Service peers may read, set, delete and call, where a mark on a function cannot say it: `class Lab(gw.Service, reads={"level"})`."""

from __future__ import annotations

import functools
import keyword
import types
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from rpyc_gateway.proto.known import members, mro_of
from rpyc_gateway.proto.messages import Verb

__all__ = ["PREFIX", "Called", "Rules", "combined", "declared", "member"]

PREFIX = "exposed_"
"""RPyC's mark, which is honoured too: peers ask for `read` and get `exposed_read`."""


class Rules(NamedTuple):
    """The names that peers may do each of these with."""

    reads: frozenset[str] = frozenset()
    writes: frozenset[str] = frozenset()
    deletes: frozenset[str] = frozenset()
    calls: frozenset[str] = frozenset()

    def grant(self, verb: Verb, name: str) -> bool:
        """Whether a peer may do this with the attribute of that name; what it may call is another question."""
        match verb:
            case Verb.GET:
                return name in self.reads
            case Verb.SET:
                return name in self.writes
            case Verb.DEL:
                return name in self.deletes
            case _:
                return False


class Called(str):
    """The name of an attribute that a peer may have to call it, and for nothing else."""

    __slots__ = ()


def declared(kind: type, given: Mapping[str, Iterable[str]]) -> Rules:
    """What the keywords of a class statement say. Raises TypeError for what is no set of public names."""
    rules = Rules(**{right: _names(kind, right, names) for right, names in given.items()})
    for right, names in rules._asdict().items():
        for name in sorted(names):
            problem = _misnamed(name)
            if problem is not None:
                raise _wrong(kind, right, name, problem)
    return rules


def combined(kind: type, inherited: Iterable[Rules]) -> Rules:
    """What a class and its ancestors say together. Raises TypeError for what its members can never do."""
    rules = Rules(*map(frozenset[str]().union, *inherited))
    for right, unfit in _UNFIT.items():
        for name in sorted(getattr(rules, right)):
            problem = unfit(member(kind, name))
            if problem is not None:
                raise _wrong(kind, right, name, problem)
    return rules


def member(kind: type, name: str) -> object:
    """What a class, or the first of its ancestors that has it, has under a name; None if none has."""
    for base in mro_of(kind):
        if name in members(base):
            return members(base)[name]
    return None


def _names(kind: type, right: str, names: Iterable[str]) -> frozenset[str]:
    if not isinstance(names, str) and isinstance(names, Iterable):
        names = tuple(names)
        if all(isinstance(name, str) for name in names):
            return frozenset(names)
    raise TypeError(f"{kind.__qualname__}: {right} is a set of names, such as {right}={{'level'}}, not {names!r}")


def _misnamed(name: str) -> str | None:
    if not name.isidentifier() or keyword.iskeyword(name):
        return "is no name of an attribute"
    if name.startswith("__") and name.endswith("__"):
        return "is a special method: define it in the class, marked with @gw.expose"
    if name.startswith("_"):
        return "is private, and no peer asks for it: write a property with a public name"
    if name in _HOOKS:
        return "is for the node that serves it"
    if name.startswith(PREFIX):
        return f"is said without the prefix, as peers say it: {name.removeprefix(PREFIX)!r}"
    return None


def _wrong(kind: type, right: str, name: str, problem: str) -> TypeError:
    return TypeError(f"{kind.__qualname__}: {right}={{{name!r}}}: {name!r} {problem}")


def _unreadable(held: object) -> str | None:
    if isinstance(held, property):
        return "is a property without a getter" if held.fget is None else None
    return None if isinstance(held, type) else _method(held)


def _unwritable(held: object) -> str | None:
    return "is a property without a setter" if isinstance(held, property) and held.fset is None else _method(held)


def _undeletable(held: object) -> str | None:
    return "is a property without a deleter" if isinstance(held, property) and held.fdel is None else _method(held)


def _uncallable(held: object) -> str | None:
    if held is None or isinstance(held, _METHODS) or callable(held) or hasattr(type(held), "__get__"):
        return None  # None: what an instance has in its place is seen when it is asked for
    return f"holds an object of type {type(held).__name__!r}, which cannot be called: `reads` is for data"


def _method(held: object) -> str | None:
    return "is a method: mark it with @gw.expose, or name it in `calls`" if isinstance(held, _METHODS) else None


_METHODS = (
    types.FunctionType,
    staticmethod,
    classmethod,
    functools.partialmethod,
    types.BuiltinFunctionType,
    types.MethodDescriptorType,
    types.ClassMethodDescriptorType,
    types.WrapperDescriptorType,
    type,
)
"""Kinds of members of a class of which peers can do nothing but call what an instance has for them."""
_UNFIT = {"reads": _unreadable, "writes": _unwritable, "deletes": _undeletable, "calls": _uncallable}
_HOOKS = frozenset({"on_connect", "on_disconnect", "service_name"})
