"""Values of a board's messages <-> bytes (docs/protocol.md, section 13)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Protocol

from rpyc_gateway.errors import EncodeError, ProtocolError

__all__ = ["Decoder", "Host", "Ref", "Result", "encode", "lead", "number"]

DEPTH = 32
"""Levels of nesting: a board's stack holds few more."""

FLOAT = struct.Struct("<d")
NONE, FALSE, TRUE, REAL, INT, NEGATIVE, REF, RESULT, HOST, EVENT, BYTES, STR, TUPLE, LIST, DICT = range(0xC0, 0xCF)
SHORT_STR = 0xA0
LONGEST_SHORT = 31  # bytes


class Owner(Protocol):
    """Whose objects they are: one life of a board."""

    def release(self, number: int) -> None:
        """Nobody has this object any more. In any thread, at any moment."""
        ...


class Ref:
    """An object of the board. `number` is its number there, in one life of the board: `owner`, which is told when nobody has this any more."""

    __slots__ = ("__weakref__", "number", "owner")

    def __init__(self, number: int, owner: Owner | None = None) -> None:
        self.number = number
        self.owner = owner

    def __repr__(self) -> str:
        return f"<object {self.number} of a board>"

    def __del__(self) -> None:
        if self.owner is not None:
            self.owner.release(self.number)


class Result:
    """The result of an earlier step of the same program."""

    __slots__ = ("step",)

    def __init__(self, step: int) -> None:
        self.step = step


class Host:
    """An object of this side, by its number. With `event` nobody waits for its result."""

    __slots__ = ("event", "number")

    def __init__(self, number: int, *, event: bool = False) -> None:
        self.number = number
        self.event = event


def number(value: int) -> bytes:
    """A number, seven bits in a byte, in time that grows with its size and no faster."""
    if value < 0x80:
        return bytes((value,))
    if value.bit_length() <= 63:
        out = bytearray()
        while value > 0x7F:
            out.append(value & 0x7F | 0x80)
            value >>= 7
        out.append(value)
        return bytes(out)
    digits = format(value, "b")
    digits = digits.zfill(-(-len(digits) // 7) * 7)
    groups = [int(digits[at : at + 7], 2) for at in range(len(digits) - 7, -1, -7)]
    return bytes(group | 0x80 for group in groups[:-1]) + bytes(groups[-1:])


def lead(kind: int, value: int) -> bytes:
    """The first byte of a value, and a number."""
    return bytes((kind,)) + number(value)


def encode(value: object, depth: int = 0) -> bytes:  # noqa: C901  # a table
    """A value for the board: None, bool, int, float, str, bytes, bytearray, tuple, list, dict, Ref, Result and Host, exactly.

    Raises EncodeError for any other.
    """
    if depth >= DEPTH and isinstance(value, tuple | list | dict):
        raise EncodeError(f"a value for a board is nested deeper than {DEPTH} levels")
    match value:
        case None:
            return b"\xc0"
        case bool():
            return b"\xc2" if value else b"\xc1"
        case int() if type(value) is int:
            if -33 < value < 128:
                return bytes((value & 0xFF,))
            return lead(INT, value) if value >= 0 else lead(NEGATIVE, ~value)
        case float() if type(value) is float:
            return bytes((REAL,)) + FLOAT.pack(value)
        case str() if type(value) is str:
            return encode_str(value)
        case bytes() | bytearray() if type(value) in (bytes, bytearray):
            return lead(BYTES, len(value)) + value
        case tuple() | list() if type(value) in (tuple, list):
            items = [encode(item, depth + 1) for item in value]
            return lead(TUPLE if type(value) is tuple else LIST, len(value)) + b"".join(items)
        case dict() if type(value) is dict:
            items = [encode(part, depth + 1) for pair in value.items() for part in pair]
            return lead(DICT, len(value)) + b"".join(items)
        case Ref():
            return lead(REF, value.number)
        case Result():
            return lead(RESULT, value.step)
        case Host():
            return lead(EVENT if value.event else HOST, value.number)
    raise EncodeError(f"a {type(value).__name__} cannot be sent to a board as a value")


def encode_str(value: str) -> bytes:
    try:
        data = value.encode()
    except UnicodeEncodeError as exc:
        raise EncodeError(f"a board takes no str with surrogates: {value[:40]!a}") from exc
    if len(data) <= LONGEST_SHORT:
        return bytes((SHORT_STR | len(data),)) + data
    return lead(STR, len(data)) + data


class Decoder:
    """Reads the values of one message of a board. Total: it gives values or raises ProtocolError, and makes nothing larger than the message.

    `ref` makes a Ref of a new number; `host` finds an object of this side by its number, and raises KeyError.
    """

    def __init__(self, data: bytes, ref: Callable[[int], Ref], host: Callable[[int], Any], at: int = 0) -> None:
        self._data = data
        self._at = at
        self._ref = ref
        self._host = host

    @property
    def more(self) -> bool:
        """Whether there is something left to read."""
        return self._at < len(self._data)

    def take(self, count: int) -> bytes:
        """So many bytes."""
        end = self._at + count
        if end > len(self._data):
            raise ProtocolError(f"a board's message ends {end - len(self._data)} bytes too early")
        data = self._data[self._at : end]
        self._at = end
        return data

    def number(self) -> int:
        """A number."""
        data, at = self._data, self._at
        while at < len(data) and data[at] > 0x7F:
            at += 1
        groups = self.take(at + 1 - self._at)
        if len(groups) == 1:
            return groups[0]
        return int("".join([format(group & 0x7F, "07b") for group in reversed(groups)]), 2)

    def values(self) -> list[Any]:
        """All that are left."""
        found = []
        while self.more:
            found.append(self.value())
        return found

    def value(self, depth: int = 0) -> Any:
        """The next one."""
        kind = self.take(1)[0]
        if kind < 0x80:
            return kind
        if kind >= 0xE0:
            return kind - 0x100
        if SHORT_STR <= kind <= SHORT_STR | LONGEST_SHORT:
            return self._text(kind & LONGEST_SHORT)
        if NONE <= kind <= TRUE:
            return (None, False, True)[kind - NONE]
        if kind == REAL:
            return FLOAT.unpack(self.take(8))[0]
        if INT <= kind <= DICT:
            return self._long(kind, self.number(), depth)
        raise ProtocolError(f"no value of a board begins with {kind:#04x}")

    def _long(self, kind: int, n: int, depth: int) -> Any:
        match kind:
            case 0xC4:
                return n
            case 0xC5:
                return ~n
            case 0xC6:
                return self._ref(n)
            case 0xC8 | 0xC9:
                return self._ours(n)
            case 0xCA:
                return self.take(n)
            case 0xCB:
                return self._text(n)
            case 0xCC | 0xCD | 0xCE:
                return self._collection(kind, n, depth)
        raise ProtocolError("a board sent the result of a step")

    def _ours(self, n: int) -> Any:
        try:
            return self._host(n)
        except KeyError:
            raise ProtocolError(f"a board names object {n} of its front, which it was not given") from None

    def _text(self, count: int) -> str:
        # What a board makes of bytes that are no UTF-8 is its business: it is shown, not refused.
        return self.take(count).decode(errors="backslashreplace")

    def _collection(self, kind: int, count: int, depth: int) -> Any:
        if depth >= DEPTH:
            raise ProtocolError(f"a board's value is nested deeper than {DEPTH} levels")
        items = count * 2 if kind == DICT else count
        if items > len(self._data) - self._at:
            raise ProtocolError(f"a board announces {count} items, and its message has fewer bytes")
        found = [self.value(depth + 1) for _ in range(items)]
        if kind == LIST:
            return found
        if kind == TUPLE:
            return tuple(found)
        try:
            return dict(zip(found[::2], found[1::2], strict=True))
        except TypeError as exc:
            raise ProtocolError(f"a board sent a dict with a key that is none: {exc}") from None
