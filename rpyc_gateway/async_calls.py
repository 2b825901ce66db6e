"""`async_` and `timed`: remote functions that are started, and not waited for."""

from __future__ import annotations

import math
from types import MethodType
from typing import Any

from rpyc_gateway.async_result import AsyncResult
from rpyc_gateway.awaiting import Recorded
from rpyc_gateway.held import held_by, is_proxy
from rpyc_gateway.proto.messages import Verb
from rpyc_gateway.proxy import unread_method
from rpyc_gateway.steps import CALL, Step

__all__ = ["AsyncCall", "async_", "timed"]


class AsyncCall:
    """A remote function that returns an AsyncResult at once."""

    __slots__ = ("_expiry", "_held", "_method", "_proxy")

    def __init__(self, function: Any, expiry: float | None) -> None:
        self._expiry = expiry
        method = unread_method(function)
        self._method = None if method is None else method[1]
        self._proxy = function if method is None else None  # else it would be read for nothing
        self._held = held_by(function) if method is None else method[0]

    def __call__(self, /, *args: object, **kwargs: object) -> AsyncResult:
        held = self._held
        steps: tuple[Step, ...] = ((CALL, 0, args, kwargs),)
        if self._method is not None:
            steps = ((Verb.GET, 0, self._method), (CALL, 1, args, kwargs))
        result: AsyncResult = held.caller.start(held.number, steps, self._expiry)
        return result

    def __repr__(self) -> str:
        what = self._proxy if self._method is None else f"<method {self._method} of a {self._held.info.name} object>"
        return f"async_({what})" if self._expiry is None else f"timed({what}, {self._expiry:g})"

    def timed(self, seconds: float | None) -> AsyncCall:
        """The same function, with an expiry or without one."""
        other = object.__new__(AsyncCall)
        other._expiry, other._held, other._method, other._proxy = seconds, self._held, self._method, self._proxy
        return other


def async_(function: Any) -> AsyncCall:
    """A remote function (or class, or whatever can be called) that does not wait: it returns an AsyncResult at once.

    Its calls begin over there in the order in which a thread makes them, and then run at the same time, in any threads there. A method
    (`gw.async_(counter.add)`) is read with each call, in the same message. Where very many calls are under way, the next one waits
    until the far side takes it. Raises TypeError for what is no remote function; trio code has nurseries for this.
    """
    if type(function) is AsyncCall:
        return function
    return AsyncCall(_checked(function, "async_", "run it in a thread (concurrent.futures.ThreadPoolExecutor)"), None)


def timed(function: Any, seconds: float | None) -> AsyncCall:
    """The same, and each call expires after so many seconds: then it is cancelled over there, and its `value` raises TimedOut, a TimeoutError. With None it never does.

    Takes what `async_` takes, and what that returns. Raises ValueError for nan.
    """
    if seconds is not None and math.isnan(seconds):
        raise ValueError("an expiry of nan seconds is not possible")
    if type(function) is AsyncCall:
        return function.timed(seconds)
    return AsyncCall(
        _checked(function, "timed", "what it asks of others is bounded by `with gw.timeout(seconds):`"), seconds
    )


def _checked(function: Any, name: str, instead: str) -> Any:
    kind = type(function)
    if issubclass(kind, Recorded):
        raise TypeError(
            f"gw.{name} is for blocking code: in trio code start a task in a nursery, which awaits the call"
        )
    if not is_proxy(function):
        if kind is MethodType and is_proxy(getattr(function.__self__, "root", None)):
            raise TypeError(
                f"gw.{name} is for remote functions: take gw.{name}(conn.root.{function.__name__}) of this session"
            )
        raise TypeError(
            f"gw.{name} is for remote functions, and this {kind.__qualname__} is of this process: {instead}"
        )
    if not callable(function):
        raise TypeError(f"gw.{name} is for remote functions, and a {held_by(function).info.name} cannot be called")
    return function
