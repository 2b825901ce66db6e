"""What the client of a session gives a board: plain data of any class goes as a copy, functions as callbacks, and nothing else goes."""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import Any

from rpyc_gateway.async_proxy import record_op
from rpyc_gateway.classes import described
from rpyc_gateway.errors import EncodeError
from rpyc_gateway.held import is_proxy
from rpyc_gateway.operands import plain_base
from rpyc_gateway.proto.copies import DEEP
from rpyc_gateway.proto.messages import ClassInfo, Verb
from rpyc_gateway.proto.plain import BY_NAME

__all__ = ["PLAIN", "Absent", "check_callable", "fetched"]

PLAIN = frozenset({type(None), bool, int, float, str, bytes})
"""What is sent as it is. (Enums and other classes derived from these come as proxies.)"""

NESTED = 32  # levels of objects that hold others: as many as a board takes


class Absent(Exception):
    """Something in an argument is the client's, and has to be fetched first."""


def check_callable(proxy: object) -> None:
    """Raises Absent for plain data of the client, EncodeError for what a board cannot call either."""
    info = described(proxy)
    assert info is not None
    if info.flags & ClassInfo.IS_CLASS:
        return
    if plain_base(info) is not None:
        raise Absent
    if "__call__" not in info.special:
        raise EncodeError(
            f"a board takes plain data and functions, and this is a {info.module}.{info.name} of the client: give it "
            "what the board needs of it (a number, a str, a tuple), or a function that does with it what is to be done"
        )


async def fetched(value: Any, depth: int = 0) -> Any:
    """`value` with copies of the client's plain data in it. Raises EncodeError for what has no copy."""
    kind = type(value)
    if kind in PLAIN:
        return value
    if depth > NESTED:
        raise EncodeError(f"a value for a board is nested deeper than {NESTED} levels")
    if kind is tuple or kind is list:
        return kind([await fetched(part, depth + 1) for part in value])
    if kind is dict:
        return {await fetched(key, depth + 1): await fetched(part, depth + 1) for key, part in value.items()}
    if kind is OrderedDict or kind is Counter:
        return await fetched(dict(value), depth)
    if is_proxy(value):
        try:
            check_callable(value)
        except Absent:
            return await fetched(await _copy(value), depth + 1)
    return value


async def _copy(proxy: Any) -> Any:
    """A copy of the client's plain data, in which objects that are no plain data are proxies still."""
    info = described(proxy)
    assert info is not None
    if (info.module, info.name) in BY_NAME:
        return await record_op(proxy, Verb.COPY, DEEP)
    # Of a class of the client's own no copy is given: it is asked as anybody may ask it.
    kind = plain_base(info)
    if kind is not None and issubclass(kind, dict):
        return dict([pair async for pair in proxy.items()])
    name, *args = _ASKING.get(kind, ("",))
    if not name:
        raise EncodeError(
            f"a board takes no {info.module}.{info.name}: give it a list, a tuple, or what it is to do with it"
        )
    return await record_op(proxy, Verb.OP, name, tuple(args))


_ALL = slice(None)
_ASKING: dict[type | None, tuple[Any, ...]] = {
    int: ("__index__",),
    float: ("__float__",),
    bytes: ("__bytes__",),
    str: ("__getitem__", _ALL),  # not `str` of it, which an enum answers as it likes
    tuple: ("__getitem__", _ALL),
    list: ("__getitem__", _ALL),
    bytearray: ("__bytes__",),
}
