"""What came out of a use, as plain data: two outcomes are equal if a program could not tell them apart by looking."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any

import trio

__all__ = ["outcome", "outcome_in_trio", "shape"]

_PLAIN = (type(None), bool, int, float, complex, bytes, type(...), type(NotImplemented), range, slice)
_ADDRESS = re.compile(r"0x[0-9a-f]{6,}")


def outcome(use: Callable[[Any], object], world: Any) -> tuple[object, ...]:
    """("returned", what) or ("raised", type, args)."""
    try:
        return "returned", shape(use(world))
    except Exception as error:  # noqa: BLE001  # it is the outcome
        return raised(error)


async def outcome_in_trio(use: Callable[[Any], Awaitable[object]], world: Any, seconds: float) -> tuple[object, ...]:
    """The same of trio code, which has so many seconds."""
    try:
        with trio.fail_after(seconds):
            return "returned", shape(await use(world))
    except Exception as error:  # noqa: BLE001  # it is the outcome
        return raised(error)


def raised(error: BaseException) -> tuple[object, ...]:
    """The outcome of a use that raised."""
    return "raised", type(error).__name__, tuple(map(shape, error.args))


def shape(value: object) -> object:
    """A value as it is; anything else as its class and repr. Addresses differ between two runs of a program too."""
    kind = type(value)
    if kind is str:
        return _ADDRESS.sub("0x", value)  # type: ignore[arg-type]
    if kind in _PLAIN:
        return value
    if kind is tuple:
        return tuple(map(shape, value))  # type: ignore[arg-type]
    if isinstance(value, BaseException):
        return value.__class__.__name__, tuple(map(shape, value.args))
    return value.__class__.__name__, _ADDRESS.sub("0x", repr(value))
