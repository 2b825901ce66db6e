"""What a packed value is made of (docs/protocol.md, section 8): extension codes, bounds, and what writing and reading hand over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

__all__ = [
    "BODIES", "DEPTH", "ITEMS", "LARGE", "NESTED", "Described", "Draft", "Ext", "Payload", "Result", "Undecided",
]  # fmt: skip

LARGE = 8192
"""Bytes above which a body leaves the `call` circuit for `bulk` (docs/protocol.md, section 7)."""

BODIES = 1000
"""Bodies of one message, the packed part included: a bound on what a receiver must keep open."""

ITEMS = 1_000_000
"""Items of all tuples and sets of one message: one tuple that holds another twice, and so on, doubles with each step."""

DEPTH = 64
"""How many containers may be inside each other: enough for data, far from the interpreter's recursion limit."""


class Ext:
    """The MessagePack extension codes."""

    INT = 1
    STR = 2
    COMPLEX = 3
    SINGLETON = 4
    FROZENSET = 5
    SLICE = 6
    RANGE = 7
    REF = 8
    RESULT = 9
    BODY = 10
    CODEC = 11
    DESCRIBED = 12


class Result(NamedTuple):
    """Stands for the result of step `step` (from 1) of the program it is an operand of."""

    step: int


class Described(NamedTuple):
    """A reference that goes with a description, once in a message: what an exception says, for instance. `describe` is given the Writer."""

    reference: object
    describe: Callable[[Any], Any]


class Undecided:
    """Among the objects that references stand for: one whose description says what it becomes here; None where there is none.

    `become` is given the Reader and the description.
    """

    __slots__ = ("become",)

    def __init__(self, become: Callable[[Any, Any], object]) -> None:
        self.become = become


NESTED = 4
"""Descriptions inside each other; further in there are only references."""


class Draft(msgspec.Struct, frozen=True):
    """A packed value, the objects it refers to (in order of their index) and its long bytes."""

    packed: bytes
    refs: tuple[object, ...] = ()
    bodies: tuple[bytes | memoryview, ...] = ()


class Payload(msgspec.Struct, frozen=True):
    """A packed value as it was received: `refs` are wire references, `bodies` complete."""

    packed: bytes
    refs: tuple[Any, ...] = ()
    bodies: tuple[bytes, ...] = ()
