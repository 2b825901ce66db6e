"""The transparent object of blocking code: it stands for an object of another process, and every use of it is a call there."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import Any

from rpyc_gateway.classes import SLOTS, SPECIAL, local_class
from rpyc_gateway.errors import GatewayError
from rpyc_gateway.held import BATCH, CONTAINERS, Held, RemoteObject, held_by, is_proxy
from rpyc_gateway.proto.messages import ClassInfo, Verb
from rpyc_gateway.weak import WeakTable

__all__ = ["Proxy", "blocking_proxy"]

# Answered here although the name could be the original's: Python's own machinery, and what would loop.
_LOCAL = frozenset(
    {"__class__", "__gw_held__", "__reduce_ex__", "__reduce__", "__weakref__", "__slots__", "__sizeof__"}
)


class Proxy(RemoteObject):
    """Stands for an object of another process. Generated subclasses add exactly the special methods its class has."""

    __slots__ = ()

    def __getattribute__(self, name: str) -> Any:
        if name in _LOCAL:
            return object.__getattribute__(self, name)
        if name in SPECIAL and name in type(self).__dict__:
            return object.__getattribute__(self, name)
        held = held_by(self)
        return held.caller.ask(held.number, ((Verb.GET, 0, name),))

    def __setattr__(self, name: str, value: object) -> None:
        held = held_by(self)
        held.caller.ask(held.number, ((Verb.SET, 0, name, value),))

    def __delattr__(self, name: str) -> None:
        held = held_by(self)
        held.caller.ask(held.number, ((Verb.DEL, 0, name),))

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        held = held_by(self)
        return local_class(held.info) or type(self) if not held.info.flags & ClassInfo.IS_CLASS else type

    def __repr__(self) -> str:
        return _text(self, "__repr__")

    def __str__(self) -> str:
        return _text(self, "__str__")

    def __dir__(self) -> list[str]:
        return list(_op(self, "__dir__"))

    def __eq__(self, other: object) -> Any:
        if is_proxy(other) and held_by(self).identity == held_by(other).identity:
            return True
        return _op(self, "__eq__", other) if not held_by(self).info.flags & ClassInfo.IDENTITY else NotImplemented

    def __ne__(self, other: object) -> Any:
        if not held_by(self).info.flags & ClassInfo.IDENTITY:
            return _op(self, "__ne__", other)
        return not (is_proxy(other) and held_by(self).identity == held_by(other).identity)

    def __hash__(self) -> int:
        held = held_by(self)
        if held.hash is None:
            identity = held.info.flags & ClassInfo.IDENTITY
            held.hash = hash(held.identity) if identity else int(_op(self, "__hash__"))
        return held.hash

    def __reduce_ex__(self, protocol: object) -> Any:
        raise TypeError(
            f"cannot pickle a proxy of {held_by(self).info.name!r}: it stands for an object of another process"
        )


def _op(proxy: object, name: str, *args: object) -> Any:
    held = held_by(proxy)
    return held.caller.ask(held.number, ((Verb.OP, 0, name, args),))


def _text(proxy: object, name: str) -> str:
    try:
        return str(_op(proxy, name))
    except GatewayError as error:  # a dead session must not make logs and debuggers fail
        info = held_by(proxy).info
        return f"<proxy of a {info.module}.{info.name} object; {error}>"


def _special(name: str) -> Callable[..., Any]:
    def method(self: Proxy, *args: object) -> Any:
        return _op(self, name, *args)

    method.__name__ = method.__qualname__ = name
    return method


def _call(self: Proxy, /, *args: object, **kwargs: object) -> Any:
    held = held_by(self)
    return held.caller.ask(held.number, ((Verb.CALL, 0, args, kwargs),))


def _iterate(self: Proxy) -> Iterator[Any]:
    """Iterate over a builtin container in batches: its iterators run no code of anybody."""
    iterator = held_by(_op(self, "__iter__"))
    done = False
    while not done:
        items, done = iterator.caller.ask(iterator.number, ((Verb.TAKE, 0, BATCH),))
        yield from items


def _exit(self: Proxy, _kind: object, error: BaseException | None, _traceback: object) -> Any:
    return _op(self, "__exit__", *(() if error is None else (error,)))


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
# Proxy itself has these for every class.
_INHERITED = frozenset({"__repr__", "__str__", "__dir__", "__eq__", "__ne__", "__hash__", "__set_name__"})

_classes: WeakTable[type[Proxy], None] = WeakTable()


def _class_for(info: ClassInfo) -> type[Proxy]:
    made = _classes.object(info)
    if made is not None:
        return made
    body: dict[str, Any] = {"__slots__": SLOTS, "__module__": info.module, "__qualname__": info.name}
    for name in info.special:
        if name in SPECIAL and name not in _INHERITED:  # the list is a peer's word
            body[name] = _GENERATED.get(name) or _special(name)
    if info.flags & ClassInfo.UNHASHABLE:
        body["__hash__"] = None
    if (info.module, info.name) in CONTAINERS:
        body["__iter__"] = _iterate
    made = type(info.name.rpartition(".")[2] or "proxy", (Proxy,), body)
    return _classes.keep(info, made, None)


def blocking_proxy(held: Held) -> Proxy:
    """The blocking proxy of what is held, made if there is none. The caller holds the link's turn."""
    face = held.blocking_face() if held.blocking_face is not None else None
    if face is not None:
        return face  # type: ignore[return-value]
    proxy = object.__new__(_class_for(held.info))
    object.__setattr__(proxy, "__gw_held__", held)
    held.blocking_face = weakref.ref(proxy)
    return proxy
