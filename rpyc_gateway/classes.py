"""What a peer is told of a class: its name, its ancestors, and exactly the special methods its instances have."""

from __future__ import annotations

import sys
import threading
import types
import weakref
from array import array
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any, NamedTuple

from msgspec.structs import replace

from rpyc_gateway.proto.known import find_class, members, mro_of, names_of, number_of
from rpyc_gateway.proto.messages import ClassInfo
from rpyc_gateway.weak import WeakTable

__all__ = [
    "BINARY",
    "PROBES",
    "SLOTS",
    "SPECIAL",
    "RemoteObject",
    "describe",
    "described",
    "is_probe",
    "local_class",
    "reads_plainly",
    "walks_quietly",
]

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
_CLASSES = ("instancecheck", "subclasscheck")
SPECIAL = BINARY | {f"__{name}__" for name in (*_OBJECTS, *_CONVERSIONS, *_NUMBERS, *_CONTAINERS, *_ACTORS, *_CLASSES)}
"""The special methods that cross a session: those of the language reference's data model that act on the object, not on its class."""

PROBES = frozenset(
    {"__rich__", "__rich_repr__", "__rich_console__", "__rich_measure__", "__array_interface__", "__array_struct__"}
)
"""Names that displays and numpy look for on every object they meet. (The last two would hand out addresses of another process.)"""


def is_probe(name: str) -> bool:
    """Whether displays look for a name on every object they meet: it is in a description, or it is not there."""
    return name.startswith(("_repr_", "_ipython_")) or name in PROBES


METHODS = 1000
"""Plain methods named in a description; more are asked for one by one."""


def describe(value: object) -> ClassInfo:
    """The description of a value's class; for a class, of the class itself (flag IS_CLASS)."""
    kind = type(value)
    if issubclass(kind, type):
        return _described_as_objects.description(value).info  # type: ignore[arg-type]
    description = (_described_with_buffer if _has_buffer(value, kind) else _described).description(kind)
    holder = description.holder() if description.holder is not None else None
    if holder is None:
        return description.info
    descriptor: Any = members(holder)["__dict__"]
    hidden = description.methods.intersection(descriptor.__get__(value))
    if not hidden:
        return description.info
    return replace(description.info, methods=tuple(sorted(description.methods - hidden)))


# Their iterators run no code of anybody; those of classes that inherit `__iter__` from them do not either.
_QUIET: frozenset[type | None] = frozenset(
    [
        list,
        tuple,
        dict,
        set,
        frozenset,
        str,
        bytes,
        bytearray,
        range,
        memoryview,
        array,
        deque,
        OrderedDict,
        *map(type, ({}.keys(), {}.values(), {}.items())),
    ]
)


def walks_quietly(kind: type) -> bool:
    """Whether iterating over an instance runs no code of anybody, so that fetching items ahead cannot be seen."""
    return bool(_described.description(kind).info.flags & ClassInfo.QUIET)


def reads_plainly(value: object, name: str) -> bool:
    """Whether `getattr(value, name)` finds a plain function of its class, or what hides it in the object, and runs no code of anybody."""
    kind = type(value)
    if issubclass(kind, type) or issubclass(kind, RemoteObject):
        return False
    description = _described.description(kind)
    return name in description.methods and not description.info.flags & ClassInfo.OWN_GETATTR


class _Description(NamedTuple):
    """`holder` knows what an instance has of its own, if that can hide a method; `members` is how many the class and its ancestors had.

    Nothing in it keeps the class alive: it is kept until the class dies.
    """

    info: ClassInfo
    methods: frozenset[str]
    holder: weakref.ref[type] | None
    members: int


class _Descriptions:
    """Descriptions that were made, by class, as long as the class lives, and made again when it has got a member more or less.

    By identity: a metaclass may have an `__eq__` of its own.
    """

    def __init__(self, make: Callable[[type], _Description]) -> None:
        self._make = make
        self._made: WeakTable[type, _Description] = WeakTable()

    def description(self, cls: type) -> _Description:
        made = self._made.fact(id(cls))
        if made is None:
            made = self._make(cls)
            self._made.keep(id(cls), cls, made)
        elif made.members != _count_members(cls):
            now = self._make(cls)
            made = now._replace(info=replace(now.info, version=made.info.version + 1))
            self._made.change(id(cls), made)
        return made


def _count_members(cls: type) -> int:
    return sum(map(len, map(members, mro_of(cls))))


def _make(named: type, kind: type, flags: int) -> _Description:
    found: dict[str, tuple[object, type]] = {}  # what a name means, and the class that says so: the first one does
    for base in mro_of(kind):
        for name, value in members(base).items():
            found.setdefault(name, (value, base))
    own = {name: value for name, (value, base) in found.items() if base is not object}
    if own.keys().isdisjoint(("__eq__", "__ne__", "__hash__")):
        flags |= ClassInfo.IDENTITY
    if found["__hash__"][0] is None:
        flags |= ClassInfo.UNHASHABLE
    if "__getattr__" in own or _has_own_lookup(*found["__getattribute__"]):
        flags |= ClassInfo.OWN_GETATTR
    if issubclass(named, BaseException):
        flags |= ClassInfo.EXCEPTION
    special = {name for name, (value, base) in found.items() if name in SPECIAL and _is_own(name, value, base)}
    if kind is types.UnionType:
        special |= {"__instancecheck__", "__subclasscheck__"}  # the interpreter judges for it
    if found.get("__iter__", (None, None))[1] in _QUIET:
        flags |= ClassInfo.QUIET
    if flags & ClassInfo.IS_CLASS and any("__class_getitem__" in members(base) for base in mro_of(named)):
        special.add("__getitem__")  # what subscribing a class asks for
    module, name = names_of(named)
    ids = tuple(map(number_of, mro_of(named)))
    methods = tuple(sorted(name for name, value in own.items() if _is_method(name, value)))[:METHODS]
    info = ClassInfo(
        module=module,
        name=name,
        mro=tuple(map(names_of, mro_of(named))),
        special=tuple(sorted(special)),
        methods=methods,
        flags=flags,
        ids=ids if any(ids) else (),
        closed=tuple(
            sorted(name for name, value in own.items() if name in SPECIAL and value is None and name != "__hash__")
        ),
    )
    attributes, base = found.get("__dict__", (None, kind))
    holder = weakref.ref(base) if type(attributes) is types.GetSetDescriptorType and methods else None
    return _Description(info, frozenset(methods), holder, _count_members(named))


# Written in C, and not the lookup of object, which most types of C name as their own.
_LOOKUPS = frozenset({type, super, types.ModuleType, threading.local, weakref.ProxyType, weakref.CallableProxyType})


def _has_own_lookup(value: object, base: type) -> bool:
    return base in _LOOKUPS or type(value) is not types.WrapperDescriptorType


def _is_own(name: str, value: object, base: type) -> bool:
    """Whether a special method says something that object (or, of an instance check, type) does not."""
    if base is object or value is None:
        return False
    return not (base is type and name in ("__instancecheck__", "__subclasscheck__"))


_described = _Descriptions(lambda cls: _make(cls, cls, 0))
_described_with_buffer = _Descriptions(lambda cls: _make(cls, cls, ClassInfo.BUFFER))
_described_as_objects = _Descriptions(lambda cls: _make(cls, type(cls), ClassInfo.IS_CLASS))


_buffers: WeakTable[type, bool] = WeakTable()


def _has_buffer(value: object, kind: type) -> bool:
    """Whether `bytes(value)` reads the memory of the value."""
    known = _buffers.fact(id(kind))
    if known is None:
        known = issubclass(kind, bytes | bytearray | memoryview) or _exports(value, kind)
        _buffers.keep(id(kind), kind, known)
    return known


def _exports(value: object, kind: type) -> bool:
    if sys.version_info >= (3, 12):
        return any("__buffer__" in members(base) for base in mro_of(kind))
    try:
        memoryview(value).release()  # type: ignore[arg-type]
    except Exception:  # noqa: BLE001  # a TypeError as a rule; it may be closed, or of a strange format
        return False
    return True


def _is_method(name: object, value: object) -> bool:
    plain = (types.FunctionType, types.MethodDescriptorType)
    if type(value) not in plain or type(name) is not str or not name.isidentifier():
        return False
    return not name.startswith("_") or (is_probe(name) and not name.startswith("__array"))


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
