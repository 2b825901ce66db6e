"""What a peer is told of a class: its name, its ancestors, and exactly the special methods its instances have."""

from __future__ import annotations

import types
from collections.abc import Callable

from rpyc_gateway.proto.known import find_class, members
from rpyc_gateway.proto.messages import ClassInfo
from rpyc_gateway.weak import WeakTable

__all__ = ["BINARY", "SLOTS", "SPECIAL", "RemoteObject", "describe", "described", "local_class"]

_ARITHMETIC = ("add", "sub", "mul", "matmul", "truediv", "floordiv", "mod", "divmod", "pow")
_OPERATORS = (*_ARITHMETIC, "lshift", "rshift", "and", "xor", "or")
BINARY = frozenset(
    [f"__{name}__" for name in _OPERATORS]
    + [f"__r{name}__" for name in _OPERATORS]
    + [f"__i{name}__" for name in _OPERATORS if name != "divmod"]
    + [f"__{name}__" for name in ("eq", "ne", "lt", "le", "gt", "ge")]
)
"""Special methods of two operands, which may answer NotImplemented."""

_OBJECTS = ("hash", "bool", "repr", "str", "format", "dir", "copy", "deepcopy")
_CONVERSIONS = ("bytes", "int", "float", "complex", "index", "fspath")
_NUMBERS = ("neg", "pos", "abs", "invert", "round", "trunc", "floor", "ceil")
_CONTAINERS = ("len", "length_hint", "getitem", "setitem", "delitem", "missing", "contains", "iter", "next", "reversed")
_ACTORS = ("call", "enter", "exit", "await", "aiter", "anext", "aenter", "aexit", "get", "set", "delete", "set_name")
SPECIAL = BINARY | {f"__{name}__" for name in (*_OBJECTS, *_CONVERSIONS, *_NUMBERS, *_CONTAINERS, *_ACTORS)}
"""The special methods that cross a session: those of the language reference's data model that act on the object, not on its class."""

METHODS = 1000
"""Plain methods named in a description; more are asked for one by one."""


def describe(value: object) -> ClassInfo:
    """The description of a value's class; for a class, of the class itself (flag IS_CLASS)."""
    kind = type(value)
    if issubclass(kind, type):
        return _described_as_objects.info(value)  # type: ignore[arg-type]
    return _described.info(kind)


class _Descriptions:
    """Descriptions that were made, by class, as long as the class lives. By identity: a metaclass may have an `__eq__` of its own."""

    def __init__(self, make: Callable[[type], ClassInfo]) -> None:
        self._make = make
        self._made: WeakTable[type, ClassInfo] = WeakTable()

    def info(self, cls: type) -> ClassInfo:
        info = self._made.fact(id(cls))
        if info is None:
            info = self._make(cls)
            self._made.keep(id(cls), cls, info)
        return info


def _make(named: type, kind: type, flags: int) -> ClassInfo:
    found: dict[str, tuple[object, type]] = {}  # what a name means, and the class that says so: the first one does
    for base in _mro(kind):
        for name, value in members(base).items():
            found.setdefault(name, (value, base))
    own = {name: value for name, (value, base) in found.items() if base is not object}
    if "__eq__" not in own and "__hash__" not in own:
        flags |= ClassInfo.IDENTITY
    if found["__hash__"][0] is None:
        flags |= ClassInfo.UNHASHABLE
    if "__getattr__" in own or "__getattribute__" in own:
        flags |= ClassInfo.OWN_GETATTR
    if issubclass(named, BaseException):
        flags |= ClassInfo.EXCEPTION
    module, name = _names(named)
    return ClassInfo(
        module=module,
        name=name,
        mro=tuple(map(_names, _mro(named))),
        special=tuple(sorted(name for name, value in own.items() if name in SPECIAL and value is not None)),
        methods=tuple(sorted(name for name, value in own.items() if _is_method(name, value)))[:METHODS],
        flags=flags,
    )


_described = _Descriptions(lambda cls: _make(cls, cls, 0))
_described_as_objects = _Descriptions(lambda cls: _make(cls, type(cls), ClassInfo.IS_CLASS))


# Not cls.__mro__ and so on: a metaclass could answer anything.


def _mro(cls: type) -> tuple[type, ...]:
    mro: tuple[type, ...] = type.__dict__["__mro__"].__get__(cls)
    return mro


def _names(cls: type) -> tuple[str, str]:
    module = type.__dict__["__module__"].__get__(cls)
    name = type.__dict__["__qualname__"].__get__(cls)
    return _printable(module), _printable(name)


def _printable(name: object) -> str:
    return name.encode("utf-8", "backslashreplace").decode() if type(name) is str else "?"


def _is_method(name: object, value: object) -> bool:
    plain = (types.FunctionType, types.MethodDescriptorType)
    return type(value) in plain and type(name) is str and name.isidentifier() and not name.startswith("_")


def local_class(info: ClassInfo) -> type | None:
    """The class of this process with the same module and qualified name, if that is imported already; never for `__main__`."""
    return find_class(info.module, info.name)


SLOTS = ("__gw_held__", "__weakref__")
"""What each class of proxies has that is made: RemoteObject itself leaves room for the layout of exceptions."""


class RemoteObject:
    """What the proxies of both faces are. Without slots of its own, so that a proxy may be an exception too."""

    __slots__ = ()


def described(value: object) -> ClassInfo | None:
    """What its owner said of the class of a proxy's original; None for anything that is no proxy."""
    if not issubclass(type(value), RemoteObject):
        return None
    info: ClassInfo = object.__getattribute__(value, "__gw_held__").info
    return info
