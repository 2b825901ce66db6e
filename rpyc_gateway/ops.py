"""What has no dotted spelling in trio code: `await gw.ops.len(proxy)`, `await gw.ops.setattr(proxy, "x", 1)`.

Mirrors `operator` and the builtins. Each function records one step on an AsyncProxy, to be awaited like any other expression.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any

from rpyc_gateway.async_proxy import AsyncProxy, record_op
from rpyc_gateway.delivery import sent_later
from rpyc_gateway.proto.messages import Verb


def setattr(proxy: AsyncProxy, name: builtins.str, value: object) -> AsyncProxy:  # noqa: A001  # mirrors the builtin
    """Record `proxy.name = value`."""
    return record_op(proxy, Verb.SET, name, value)


def delattr(proxy: AsyncProxy, name: builtins.str) -> AsyncProxy:  # noqa: A001  # mirrors the builtin
    """Record `del proxy.name`."""
    return record_op(proxy, Verb.DEL, name)


def getattr(proxy: AsyncProxy, name: builtins.str) -> AsyncProxy:  # noqa: A001  # mirrors the builtin
    """Record `proxy.name`, for names that are no identifiers or begin and end with underscores."""
    return record_op(proxy, Verb.GET, name)


def setitem(proxy: AsyncProxy, key: object, value: object) -> AsyncProxy:
    """Record `proxy[key] = value`."""
    return record_op(proxy, Verb.OP, "__setitem__", (key, value))


def delitem(proxy: AsyncProxy, key: object) -> AsyncProxy:
    """Record `del proxy[key]`."""
    return record_op(proxy, Verb.OP, "__delitem__", (key,))


def contains(proxy: AsyncProxy, item: object) -> AsyncProxy:
    """Record `item in proxy`."""
    return record_op(proxy, Verb.OP, "__contains__", (item,))


def _unary(name: builtins.str, spelling: builtins.str) -> Callable[[AsyncProxy], AsyncProxy]:
    def record(proxy: AsyncProxy) -> AsyncProxy:
        return record_op(proxy, Verb.OP, name, ())

    record.__doc__ = f"Record `{spelling}`."
    return record


def _binary(name: builtins.str, spelling: builtins.str) -> Callable[[AsyncProxy, Any], AsyncProxy]:
    def record(proxy: AsyncProxy, other: Any) -> AsyncProxy:
        return record_op(proxy, Verb.OP, name, (sent_later(proxy, other),))

    record.__doc__ = f"Record `{spelling}`."
    return record


len = _unary("__len__", "len(proxy)")  # noqa: A001  # mirrors the builtin, like the names below
str = _unary("__str__", "str(proxy)")  # noqa: A001
repr = _unary("__repr__", "repr(proxy)")  # noqa: A001
dir = _unary("__dir__", "dir(proxy)")  # noqa: A001
hash = _unary("__hash__", "hash(proxy)")  # noqa: A001
iter = _unary("__iter__", "iter(proxy)")  # noqa: A001
next = _unary("__next__", "next(proxy)")  # noqa: A001
abs = _unary("__abs__", "abs(proxy)")  # noqa: A001
truth = _unary("__bool__", "bool(proxy)")
neg = _unary("__neg__", "-proxy")
eq = _binary("__eq__", "proxy == other")
ne = _binary("__ne__", "proxy != other")
lt = _binary("__lt__", "proxy < other")
le = _binary("__le__", "proxy <= other")
gt = _binary("__gt__", "proxy > other")
ge = _binary("__ge__", "proxy >= other")
add = _binary("__add__", "proxy + other")
sub = _binary("__sub__", "proxy - other")
mul = _binary("__mul__", "proxy * other")
truediv = _binary("__truediv__", "proxy / other")
mod = _binary("__mod__", "proxy % other")
