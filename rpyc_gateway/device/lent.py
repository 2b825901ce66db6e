"""Functions of this side that a board may call, by the numbers under which it knows them."""

from __future__ import annotations

from collections.abc import Callable
from types import MethodType
from typing import Any

from rpyc_gateway.device.codec import Host, Ref, Result

__all__ = ["Lent", "gone", "is_function", "replaced"]


class Lent:
    """What one life of a board was given."""

    def __init__(self) -> None:
        self._things: dict[int, Any] = {}
        self._numbers: dict[tuple[int, ...], int] = {}

    def __getitem__(self, number: int) -> Any:
        """What has this number; `gone` if it was withdrawn. Raises KeyError if nothing ever had."""
        return self._things[number]

    def number_of(self, thing: Any) -> int:
        """Its number from now on, until it is withdrawn."""
        key = identity(thing)
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self._things) + 1
            self._things[number] = thing
        return number

    def withdraw(self, thing: Any) -> None:
        """The board has no use for it any more."""
        number = self._numbers.pop(identity(thing), None)
        if number is not None:
            self._things[number] = gone


def identity(thing: Any) -> tuple[int, ...]:
    """What tells it from others; a bound method is made anew whenever it is read."""
    return (id(thing.__self__), id(thing.__func__)) if isinstance(thing, MethodType) else (id(thing),)


def gone(*_: Any, **__: Any) -> None:
    """Stands where a function was that was withdrawn. Raises ReferenceError."""
    raise ReferenceError("the front has withdrawn this object")


def is_function(value: object) -> bool:
    """Whether it is something of this side that can be called."""
    return callable(value) and not isinstance(value, Ref | Result | Host)


def replaced(value: Any, stand_for: Callable[[Any], Any]) -> Any:
    """`value` with what `stand_for` makes of each part of it that has no parts."""
    if type(value) is tuple or type(value) is list:
        return type(value)(replaced(part, stand_for) for part in value)
    if type(value) is dict:
        return {key: replaced(part, stand_for) for key, part in value.items()}
    return stand_for(value)
