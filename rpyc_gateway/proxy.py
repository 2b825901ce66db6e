"""The transparent object of blocking code: it stands for an object of another process, and every use of it is a call there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from sys import getrefcount
from typing import Any

from rpyc_gateway.buffers import INTO, read_into
from rpyc_gateway.class_proxy import CLASS_PROXY
from rpyc_gateway.classes import SLOTS, SPECIAL, is_probe, local_class
from rpyc_gateway.copying import copy_there, deepcopy_there, reduce_copy
from rpyc_gateway.declaring import declared_bases
from rpyc_gateway.errors import GatewayError, NotExposed
from rpyc_gateway.held import BlockingHandle, Held, RemoteObject, held_by, is_proxy
from rpyc_gateway.iteration import walk_quietly
from rpyc_gateway.likeness import likeness, patterns
from rpyc_gateway.operators import binary_methods, extra_methods, operate
from rpyc_gateway.proto.messages import ClassInfo, Verb
from rpyc_gateway.steps import CALL
from rpyc_gateway.weak import WeakTable

__all__ = ["Proxy", "blocking_proxy", "make_class", "unread_method"]

# Answered here although the name could be the original's: Python's own machinery, and what would loop.
_LOCAL = frozenset(
    {
        "__class__",
        "__gw_held__",
        "__deepcopy__",
        "__reduce_ex__",
        "__reduce__",
        "__weakref__",
        "__sizeof__",
    }
)


class Kind:
    """What all proxies of one class know of it."""

    def __init__(self, info: ClassInfo, made_here: frozenset[str]) -> None:
        self.info = info
        self.local = _LOCAL | made_here
        self.methods = (
            frozenset() if info.flags & (ClassInfo.OWN_GETATTR | ClassInfo.IS_CLASS) else frozenset(info.methods)
        )

    @cached_property
    def likeness(self) -> type | None:
        """The answer to `__class__` where no class of that name is known here; None: the class of the proxies."""
        return likeness(self.info)


class Proxy(RemoteObject):
    """Stands for an object of another process. Generated subclasses add exactly the special methods its class has."""

    __slots__ = ()

    __gw_kind__ = Kind(ClassInfo(module="rpyc_gateway", name="Proxy"), frozenset())

    def __getattribute__(self, name: str) -> Any:
        kind = type(self).__gw_kind__
        if name in kind.local:
            return object.__getattribute__(self, name)
        held = held_by(self)
        if name in kind.methods and (held.more is None or name not in held.more.hidden):
            return _bound_method(held.caller.read(held, name))
        if is_probe(name):
            raise AttributeError(f"{kind.info.name!r} object has no attribute {name!r}")
        value = held.caller.ask(held.number, ((Verb.GET, 0, name),))
        if name == "__annotations__" and isinstance(value, dict):
            return dict(value.items())  # functions, which functools.wraps gives it to, take no other
        return value

    def __setattr__(self, name: str, value: object) -> None:
        held = held_by(self)
        if name in type(self).__gw_kind__.methods:
            held.hide(name)
        held.caller.ask(held.number, ((Verb.SET, 0, name, value),))

    def __delattr__(self, name: str) -> None:
        held = held_by(self)
        held.caller.ask(held.number, ((Verb.DEL, 0, name),))

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        kind = type(self).__gw_kind__
        if kind.info.flags & ClassInfo.IS_CLASS:
            return type
        return local_class(kind.info) or kind.likeness or type(self)

    def __repr__(self) -> str:
        return _text(self, "__repr__")

    def __str__(self) -> str:
        return _text(self, "__str__")

    def __dir__(self) -> list[str]:
        try:
            return list(held_by(self).op("__dir__"))
        except NotExposed:  # a service: what was said of its class is what it exposes
            info = type(self).__gw_kind__.info
            return [*info.methods, *info.special]

    def __eq__(self, other: object) -> Any:
        if is_proxy(other) and held_by(self).identity == held_by(other).identity:
            return True
        return operate(self, "__eq__", other) if not held_by(self).info.flags & ClassInfo.IDENTITY else NotImplemented

    def __ne__(self, other: object) -> Any:
        if not held_by(self).info.flags & ClassInfo.IDENTITY:
            return operate(self, "__ne__", other)
        return not (is_proxy(other) and held_by(self).identity == held_by(other).identity)

    def __hash__(self) -> int:
        return held_by(self).hash()

    __copy__ = copy_there
    __deepcopy__ = deepcopy_there

    def __reduce_ex__(self, protocol: Any) -> Any:
        return reduce_copy(self, protocol)


def _text(proxy: object, name: str) -> str:
    try:
        return str(held_by(proxy).op(name))
    except GatewayError as error:  # a dead session must not make logs and debuggers fail
        info = held_by(proxy).info
        return f"<proxy of a {info.module}.{info.name} object; {error}>"


# -- methods ------------------------------------------------------------------------------------------------------------


class _BoundMethod(Proxy):
    """A method that is being read. Called, it needs one round trip; whatever else is done with it waits until it is known."""

    __slots__ = ("__gw_reading__", "__weakref__")

    @property
    def __gw_held__(self) -> Held:
        return held_by(_method(self))

    def __getattribute__(self, name: str) -> Any:
        if name == "__gw_held__":
            return object.__getattribute__(self, name)
        return getattr(_method(self), name)

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        kind: type = _method(self).__class__
        return kind

    def __call__(self, /, *args: object, **kwargs: object) -> Any:
        reading = object.__getattribute__(self, "__gw_reading__")
        if reading.name in INTO:
            result = read_into(reading.held, reading.name, args, kwargs)
            if result is not NotImplemented:
                return result
        return reading.held.caller.call_read(reading, args, kwargs, kept=getrefcount(self) > _TEMPORARY)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(_method(self), name, value)

    def __delattr__(self, name: str) -> None:
        delattr(_method(self), name)

    def __repr__(self) -> str:
        return repr(_method(self))

    def __str__(self) -> str:
        return str(_method(self))

    def __dir__(self) -> list[str]:
        return dir(_method(self))

    def __eq__(self, other: object) -> Any:
        return _method(self) == (_method(other) if type(other) is _BoundMethod else other)

    def __ne__(self, other: object) -> Any:
        return _method(self) != (_method(other) if type(other) is _BoundMethod else other)

    def __hash__(self) -> int:
        return hash(_method(self))

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _method(self).__reduce_ex__(protocol)


def _method(method: object) -> Any:
    reading = object.__getattribute__(method, "__gw_reading__")
    return reading.value if reading.known else reading.held.caller.fetch(reading)


def unread_method(proxy: object) -> tuple[Held, str] | None:
    """The object and the name of a method whose value is not known here yet; None for anything else."""
    if type(proxy) is not _BoundMethod:
        return None
    reading = object.__getattribute__(proxy, "__gw_reading__")
    return None if reading.known else (reading.held, reading.name)


def _bound_method(reading: object) -> _BoundMethod:
    method = object.__new__(_BoundMethod)
    object.__setattr__(method, "__gw_reading__", reading)
    return method


class _Weighed:
    """Tells how often an object is referred to while it is called, right after an attribute gave it or from a variable."""

    def __getattr__(self, name: str) -> _Weighed:
        return _Weighed()

    def __call__(self, /, *args: object, **kwargs: object) -> int:
        return getrefcount(self)


# A method that nobody has kept is not needed once it was called. Too small a number costs a few bytes per call, no more.
_TEMPORARY = _Weighed().method()


# -- special methods ----------------------------------------------------------------------------------------------------


def _special(name: str) -> Callable[..., Any]:
    def method(self: Proxy, *args: object) -> Any:
        return held_by(self).op(name, *args)

    method.__name__ = method.__qualname__ = name
    return method


def _call(self: Proxy, /, *args: object, **kwargs: object) -> Any:
    held = object.__getattribute__(self, "__gw_held__")
    return held.caller.ask(held.number, ((CALL, 0, args, kwargs),))


def _iterate(self: Proxy) -> Iterator[Any]:
    """Iterate over a builtin container in batches: its iterators run no code of anybody."""
    return walk_quietly(self)


def _iterate_back(self: Proxy) -> Iterator[Any]:
    """The same for `reversed`."""
    return walk_quietly(self, (Verb.OP, 0, "__reversed__", ()))


def _exit(self: Proxy, _kind: object, error: BaseException | None, _traceback: object) -> Any:
    return held_by(self).op("__exit__", *(() if error is None else (error,)))


def _unsupported(name: str) -> Callable[..., Any]:
    def method(self: Proxy, *_args: object) -> Any:
        raise TypeError(f"{name} of a remote object is for trio code: reach it through open_session()")

    return method


_ASYNC = ("__await__", "__aiter__", "__anext__", "__aenter__", "__aexit__")
_GENERATED: dict[str, Callable[..., Any]] = {
    "__call__": _call,
    "__exit__": _exit,
    **{name: _unsupported(name) for name in _ASYNC},
}
# These alone: a subclass may have a `__reversed__` that runs code, and still the iterators of a builtin container.
_REVERSED_QUIETLY = frozenset([("builtins", "list"), ("builtins", "dict"), ("collections", "deque")])
# Proxy itself has these for every class.
_INHERITED = frozenset({"__repr__", "__str__", "__dir__", "__eq__", "__ne__", "__hash__", "__copy__", "__deepcopy__"})

_classes: WeakTable[type[Proxy], None] = WeakTable()


class _Object(Proxy):
    """Where proxies of ordinary objects keep what they hold: one layout for all, so that a proxy may change its class."""

    __slots__ = SLOTS


def _class_for(held: Held) -> type[Proxy]:
    info = held.info
    declared = declared_bases(held)
    key = (info, declared)
    made = _classes.object(key)
    return made or _classes.keep(key, make_class(info, (_Object, *patterns(info), *declared)), None)


def make_class(info: ClassInfo, bases: tuple[type, ...]) -> type[Proxy]:
    """A class of proxies: with the special methods that the originals have, and no others."""
    body: dict[str, Any] = {"__slots__": ()}
    if not info.flags & ClassInfo.IS_CLASS:
        body.update(__module__=info.module, __qualname__=info.name)
    for name in info.special:
        if name in SPECIAL and name not in _INHERITED:  # the list is a peer's word
            body[name] = _GENERATED.get(name) or _special(name)
    body |= binary_methods(info)
    body.update(dict.fromkeys(SPECIAL.intersection(info.closed) - _INHERITED))
    if info.flags & ClassInfo.UNHASHABLE:
        body["__hash__"] = None
    if info.flags & ClassInfo.QUIET and "__iter__" in body:
        body["__iter__"] = _iterate
    if (info.module, info.name) in _REVERSED_QUIETLY:
        body["__reversed__"] = _iterate_back
    if info.flags & ClassInfo.IS_CLASS:
        body.update(CLASS_PROXY)
    # What it has beyond its original is for the interpreter: an attribute of that name is none.
    more = {name: method for name, method in extra_methods(info).items() if name not in body}
    body["__gw_kind__"] = Kind(info, frozenset(name for name in body if name in SPECIAL or name in CLASS_PROXY))
    name = "type" if info.flags & ClassInfo.IS_CLASS else info.name.rpartition(".")[2].replace("\0", "") or "proxy"
    return type(name, bases, body | more)


_set_class = object.__dict__["__class__"].__set__
_set_held = _Object.__dict__["__gw_held__"].__set__


def blocking_proxy(held: Held) -> Proxy:
    """The blocking proxy of what is held, made if there is none. The caller holds the link's turn."""
    handle = held.handle
    if handle is None and held.more is None:
        face = None  # as a rule: it is new here
    else:
        face = handle() if type(handle) is BlockingHandle else held.face(BlockingHandle)
    if face is not None:
        if type(face).__gw_kind__.info is not held.info:  # type: ignore[attr-defined]
            _set_class(face, _class_for(held))
        return face  # type: ignore[return-value]
    proxy = object.__new__(_class_for(held))
    _set_held(proxy, held)
    held.show(BlockingHandle, proxy)
    return proxy
