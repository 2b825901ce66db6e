"""Memory of this process that the far side fills, and memory of the far side that is read here: bytes, in one round trip."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from rpyc_gateway.held import Held, held_by, is_proxy
from rpyc_gateway.proto.copies import Copied
from rpyc_gateway.proto.messages import ClassInfo, Verb
from rpyc_gateway.proto.values import Result

__all__ = ["INTO", "buffer_methods", "read_into"]

INTO = frozenset({"readinto", "readinto1", "recv_into", "recvfrom_into"})
"""Methods of files and sockets that fill the buffer they are given first."""


def read_into(held: Held, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call a method of INTO with a buffer of this process: one over there is filled, and its bytes come back with the answer.

    NotImplemented where the first argument is no such buffer.
    """
    view = _writable(args[0]) if args else None
    if view is None:
        return NotImplemented
    filled = None if name == "recvfrom_into" else Result(4)  # that one says (count, address): all of it comes back
    steps = (
        (Verb.VALUE, 0, Copied(bytearray(1))),
        (Verb.OP, 1, "__mul__", (view.nbytes,)),
        (Verb.GET, 0, name),
        (Verb.CALL, 3, (Result(2), *args[1:]), kwargs),
        (Verb.OP, 2, "__getitem__", (slice(None, filled),)),
        (Verb.OP, 5, "__bytes__", ()),
        (Verb.VALUE, 0, (Result(4), Result(6))),
    )
    result, data = held.caller.ask(held.number, steps)
    count = result[0] if type(result) is tuple else result
    if type(count) is int and 0 < count <= len(data):
        view[:count] = data[:count]
    return result


def _writable(value: object) -> memoryview | None:
    if is_proxy(value):
        return None
    try:
        view = memoryview(value)  # type: ignore[arg-type]
    except TypeError:
        return None
    return view.cast("B") if not view.readonly and view.c_contiguous else None


def buffer_methods(info: ClassInfo) -> dict[str, Callable[..., Any]]:
    """What a proxy class has besides its original's special methods if that gives access to its memory."""
    if not info.flags & ClassInfo.BUFFER:
        return {}
    methods: dict[str, Callable[..., Any]] = {"__bytes__": _bytes}
    if sys.version_info >= (3, 12):
        methods["__buffer__"] = _snapshot
    return methods


def _bytes(proxy: object) -> Any:
    return held_by(proxy).op("__bytes__")


def _snapshot(proxy: object, _flags: int) -> memoryview:
    """`memoryview(proxy)`, from Python 3.12 on: what the memory held a moment ago, for reading."""
    return memoryview(_bytes(proxy))
