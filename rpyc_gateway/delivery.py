"""`obtain` and `deliver`: a copy of a remote object here, a copy of a local one there, each in one round trip at any number of hops."""

from __future__ import annotations

from typing import Any

from rpyc_gateway.async_proxy import AsyncProxy, is_recorded, record_op
from rpyc_gateway.awaiting import Recorded
from rpyc_gateway.held import held_by, is_proxy
from rpyc_gateway.operands import fetch
from rpyc_gateway.operators import sent
from rpyc_gateway.proto.copies import DEEP, PICKLE, Copied
from rpyc_gateway.proto.messages import Verb

__all__ = ["deliver", "obtain", "sent_later"]


def obtain(proxy: Any) -> Any:
    """A copy of what a proxy stands for, here; in trio code `await gw.obtain(expression)`. What is no proxy is returned as it is.

    Plain data needs nothing: builtin containers, dates, decimals and the like, inside each other to 64 levels, and what a codec is
    registered for. Anything else is pickled if both ends allow it. Objects of this process that come home are themselves. Raises
    EncodeError, which says what at which place stopped it.
    """
    if not is_proxy(proxy):
        return proxy
    if issubclass(type(proxy), Recorded):
        if type(proxy) is not AsyncProxy:
            raise TypeError(f"a copy is made of what is there: {type(proxy).refusal}")
        return record_op(proxy, Verb.COPY, DEEP | PICKLE)
    return fetch(proxy, DEEP | PICKLE)


def deliver(to: Any, value: object) -> Any:
    """A proxy of a copy of `value` that is made there; `to` is a session, or a proxy of one; in trio code it is awaited.

    What travels by value anyway comes back as itself. Takes what `obtain` takes, and raises what that raises; TypeError where `to` is neither.
    """
    target = to if is_proxy(to) else getattr(to, "root", None)
    if not is_proxy(target):
        raise TypeError(
            f"a value is delivered to a session or a proxy of one: deliver(conn, value), not to a {type(to).__qualname__}"
        )
    copied = Copied(value, DEEP | PICKLE)
    if issubclass(type(target), Recorded):
        if is_recorded(target):
            raise TypeError("a value is delivered to a session, or to an object that was awaited")
        return record_op(target, Verb.VALUE, copied)
    held = held_by(target)
    return held.caller.ask(held.number, ((Verb.VALUE, 0, copied),))


def sent_later(proxy: Any, other: object) -> object:
    """What goes out for an operand of an operator in trio code: see operators.sent. Of a result that is not there yet no class is known."""
    return other if is_recorded(proxy) else sent(held_by(proxy), other)
