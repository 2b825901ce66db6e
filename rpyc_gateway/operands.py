"""Operands of operators where they run: what is implemented in C for builtin types takes only the real thing, never a proxy of it."""

from __future__ import annotations

import operator
import types
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from rpyc_gateway.classes import BINARY, described, local_class
from rpyc_gateway.errors import EncodeError, NotExposed
from rpyc_gateway.proto.copies import BASE
from rpyc_gateway.proto.known import members, mro_of
from rpyc_gateway.proto.messages import ClassInfo, Verb
from rpyc_gateway.proto.plain import BY_NAME

__all__ = ["SEQUENCES", "fetch", "localised", "localised_class", "method_of_other", "plain_base", "run_binary"]


def plain_base(info: ClassInfo) -> type | None:
    """The plain type that a class of a peer is, or is derived from."""
    for name in ((info.module, info.name), *info.mro):
        kind = BY_NAME.get(name)
        if kind is not None:
            return kind
    return None


def fetch(proxy: object, flags: int) -> Any:
    """A copy of what a blocking proxy stands for: one round trip. Raises what COPY does, as a rule EncodeError."""
    held = object.__getattribute__(proxy, "__gw_held__")
    return held.caller.ask(held.number, ((Verb.COPY, 0, flags),))


def localised(proxy: object) -> Any:
    """What a method implemented in C needs to see of a proxy: the builtin type's own part of it. The proxy itself if there is none.

    Raises EncodeError if there is one that has no copy: the method would quietly say that the two have nothing to do with each other.
    """
    info = described(proxy)
    if info is not None and info.flags & ClassInfo.IS_CLASS:
        return localised_class(proxy)
    kind = plain_base(info) if info is not None else None
    if kind is None:
        return proxy
    try:
        return fetch(proxy, BASE)
    except EncodeError:  # its keys are objects of the peer, whose hashes are calls; or it is very long
        build = _BUILDERS.get(kind)
        if build is None:
            raise
        return build(proxy)
    except NotExposed:
        return proxy


def localised_class(cls: Any) -> Any:
    """The class of this process that a proxy of a class passes for; what is anything else is itself."""
    info = described(cls)
    if info is None or not info.flags & ClassInfo.IS_CLASS:
        return cls
    return local_class(info) or cls


_BUILDERS: dict[type, Callable[[Any], object]] = {kind: kind for kind in (list, deque, set, frozenset, dict)}


def run_binary(name: str, subject: Any, args: Sequence[object]) -> object:
    """Run the special method of a binary operator as Python would, up to NotImplemented."""
    method = _method(type(subject), name)
    if method is None:
        raise TypeError(f"{type(subject).__qualname__!r} object has no {name}")
    if type(method) is types.WrapperDescriptorType and method.__objclass__ is not object:
        args = [localised(arg) for arg in args]
    if len(args) == 1:
        if getattr(method, "__objclass__", None) in SEQUENCES and name in _JOINING:
            return _JOINING[name](subject, args[0])  # builtin sequences are asked last
        result = _by_subclass(name, subject, args[0])
        if result is not NotImplemented:
            return result
        result = method(subject, *args)
        if result is NotImplemented and described(args[0]) is None:
            # A float, say, that its owner cannot show an int like ours.
            reflected = _method(type(args[0]), _OTHERS.get(name, ""))
            return result if reflected is None else reflected(args[0], subject)
        return result
    return method(subject, *args)


def _method(kind: type, name: str) -> Any:
    """A special method of instances; not that of the class itself, as `list | None` has one."""
    if any(name in members(base) for base in mro_of(kind)):
        return getattr(kind, name, None)
    return None


def method_of_other(name: str) -> str:
    """By which method the other operand may answer for an operator whose first operand has `name`."""
    return _OTHERS.get(name) or _OTHERS.get(name.replace("__i", "__", 1), name)


SEQUENCES = frozenset({list, tuple, str, bytes, bytearray, deque, array})
"""What is concatenated by `+`."""

_JOINING: dict[str, Callable[[Any, Any], object]] = {
    "__add__": operator.add,
    "__iadd__": operator.iadd,
    "__mul__": operator.mul,
    "__imul__": operator.imul,
}


def _by_subclass(name: str, subject: object, other: object) -> object:
    """What the operand's class says first, if it is derived from the subject's and has its own idea of the operator."""
    kind, derived = type(subject), type(other)
    reflected = _REFLECTED.get(name)
    if reflected is None or kind is derived or kind not in mro_of(derived):
        return NotImplemented
    method = _method(derived, reflected)
    if method is None or method is _method(kind, reflected):
        return NotImplemented
    return method(other, subject)


_REFLECTED = {f"__{name[3:]}": name for name in BINARY if name.startswith("__r") and f"__{name[3:]}" in BINARY} | {
    "__eq__": "__eq__",
    "__ne__": "__ne__",
    "__lt__": "__gt__",
    "__gt__": "__lt__",
    "__le__": "__ge__",
    "__ge__": "__le__",
}
_OTHERS = {reflected: name for name, reflected in _REFLECTED.items()} | _REFLECTED
