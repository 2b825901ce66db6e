"""The proxy of an exception in blocking code: an exception itself, of the class that a rebuilt one would have, so that it can be raised."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rpyc_gateway.classes import SLOTS
from rpyc_gateway.errors import GatewayError, NotExposed
from rpyc_gateway.held import Held, held_by
from rpyc_gateway.proto.kinds import KIND, TEXT, has_plain_metaclass, original_kind
from rpyc_gateway.proto.known import members
from rpyc_gateway.proto.messages import ClassInfo, Verb
from rpyc_gateway.proto.raised import Parts, fill, remote_path, remote_traceback
from rpyc_gateway.proto.rebuilt import construct, own
from rpyc_gateway.proxy import Proxy, make_class
from rpyc_gateway.weak import WeakTable

__all__ = ["ExceptionProxy", "exception_proxy"]

# What belongs to this process: where it was raised here, and what for.
_OWN = frozenset({"__traceback__", "__cause__", "__context__", "__suppress_context__", "with_traceback", "__class__"})


class ExceptionProxy(Proxy):
    """Stands for an exception of another process, and may be raised like it.

    Its class is a class of this process too (`except ValueError`). What it says when its session is over is what it said when it came.
    """

    __slots__ = ()

    def __init_subclass__(cls) -> None:
        """Stand in front of what a local class does here: nobody's code runs because of what a peer says."""

    def __getattribute__(self, name: str) -> Any:
        if name in _OWN:
            return object.__getattribute__(self, name)
        if name == "__notes__":
            return _notes(self)
        try:
            return Proxy.__getattribute__(self, name)
        except (GatewayError, RuntimeError) as error:
            # The session is over, or this is the thread that runs trio; or `traceback` asks for what is not shown.
            if name.startswith("__") or (remote_path(error) and not (type(error) is NotExposed and name == "obj")):
                raise
            try:
                return object.__getattribute__(self, name)
            except AttributeError:
                raise error from None

    def __setattr__(self, name: str, value: object) -> None:
        if name in _OWN:
            object.__setattr__(self, name, value)
        else:
            Proxy.__setattr__(self, name, value)

    @property  # type: ignore[misc]
    def __class__(self: Any) -> type:
        return original_kind(self)

    def __str__(self: Any) -> str:
        return _say(self, "__str__", lambda error: str(own(error).get(TEXT, "")))

    def __repr__(self: Any) -> str:
        return _say(self, "__repr__", BaseException.__repr__)


def _say(proxy: Any, name: str, remembered: Callable[[BaseException], str]) -> str:
    held = held_by(proxy)
    try:
        return str(held.op(name))
    except (GatewayError, RuntimeError) as error:  # the session is over, or this is the thread that runs trio
        if remote_path(error):
            raise
        return remembered(proxy)


def _notes(proxy: Any) -> list[Any]:
    """The notes of the original, and where it was raised."""
    held = held_by(proxy)
    known: list[Any] = own(proxy).get("__notes__", [])
    where = known[-1:] if remote_traceback(proxy) else []
    try:
        notes = list(held.caller.ask(held.number, ((Verb.GET, 0, "__notes__"),)))
    except AttributeError as error:
        if isinstance(error, GatewayError):  # its owner shows no such names
            return known
        notes = []
    except (GatewayError, RuntimeError):
        return known
    if not notes and not where:
        raise AttributeError("an exception without notes has none", name="__notes__", obj=proxy)
    return [*notes, *where]


_classes: WeakTable[type[ExceptionProxy], None] = WeakTable()


def _class_for(info: ClassInfo, kind: type[Exception]) -> type[ExceptionProxy]:
    key = (info, id(kind))  # which lives as long as the class that is made of it
    known = _classes.object(key)
    if known is not None:
        return known
    base = next(base for base in kind.__mro__ if has_plain_metaclass(base) and issubclass(base, Exception))
    body: dict[str, Any] = {"__slots__": SLOTS if not base.__weakrefoffset__ else SLOTS[:1]}
    if any("__getattr__" in members(one) for one in base.__mro__):
        body["__getattr__"] = _missing
    maker: Any = type(base)
    made: Any = make_class(info, (maker("Holder", (ExceptionProxy, base), body),))
    made.__module__, made.__name__, made.__qualname__ = kind.__module__, kind.__name__, kind.__qualname__
    setattr(made, KIND, kind)
    return _classes.keep(key, made, None)


def _missing(self: ExceptionProxy, name: str) -> Any:
    # Asked after its original was: the `__getattr__` of a local class has no say.
    raise AttributeError(f"{held_by(self).info.name!r} object has no attribute {name!r}", name=name, obj=self)


def exception_proxy(held: Held, parts: Parts) -> ExceptionProxy:
    """A new proxy of an exception that is held, with all that was said of it. In any thread; nobody is asked."""
    kind: Any = _class_for(held.info, parts.kind)
    proxy: Any = construct(kind, parts.name, parts.args, parts.children, parts.text)
    object.__setattr__(proxy, SLOTS[0], held)
    fill(proxy, parts)
    return proxy  # type: ignore[no-any-return]
