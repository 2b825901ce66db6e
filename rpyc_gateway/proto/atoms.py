"""Values without parts, packed as they are: the fast path of most messages.

A structure of nothing but atoms needs no Writer, and no Reader. What MessagePack cannot say of them (integers beyond 64 bits, lone
surrogates) or should not (long bytes) is found when it is packed, or left to those.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

import msgspec

from rpyc_gateway.proto.packed import ITEMS, LARGE

__all__ = [
    "ATOMS",
    "FLAT",
    "MANY",
    "all_atoms",
    "all_flat",
    "are_rows",
    "items_in",
    "pack_atom",
    "pack_atoms",
    "pack_many",
]

pack = msgspec.msgpack.Encoder().encode
UNPACKABLE = (OverflowError, UnicodeEncodeError)
"""What `pack` raises for atoms that cannot be packed as they are."""

FLAT = frozenset({type(None), bool, int, float, str})
"""Types of atoms that need no look before they are packed: not bytes, which may be long."""

ATOMS = FLAT | {bytes}
"""Types of which a structure that was unpacked holds the values themselves."""

_are_flat = FLAT.issuperset
_are_atoms = ATOMS.issuperset


def all_atoms(values: Iterable[object]) -> bool:
    """Whether these are atoms, by their exact types: a bool is one, an IntEnum is none."""
    return _are_atoms(map(type, values))


def all_flat(values: Iterable[object]) -> bool:
    """Whether these are FLAT."""
    return _are_flat(map(type, values))


def pack_atoms(structure: Any) -> bytes | None:
    """A structure of atoms; None if one of them cannot be packed as it is."""
    try:
        return pack(structure)
    except UNPACKABLE:
        return None


def are_rows(items: Sequence[Any], kind: type, atoms: frozenset[type] = ATOMS, most: int = ITEMS) -> bool:
    """Whether these are at least MANY containers of exactly this kind with nothing in them but atoms, `most` in all."""
    return (
        len(items) >= MANY
        and {kind}.issuperset(map(type, items))
        and items_in(items) <= most
        and atoms.issuperset(map(type, chain.from_iterable(items)))
    )


MANY = 8
"""Items from which on it is quicker to look at all of them first."""


def items_in(rows: Sequence[Any]) -> int:
    """How many items these containers have in all."""
    return sum(map(len, rows))


def pack_many(items: tuple[Any, ...], most: int) -> bytes | None:
    """A tuple of many atoms, or of rows of them that have at most `most` in all; None for any other, or if it cannot be packed as it is."""
    if len(items) >= MANY and (all_flat(items) or are_rows(items, tuple, FLAT, most)):
        return pack_atoms(items)
    return None


def pack_atom(value: object) -> bytes | None:
    """A value if it is an atom that is packed as it is; None for others."""
    kind = type(value)
    if kind not in FLAT and (kind is not bytes or len(value) > LARGE):  # type: ignore[arg-type]
        return None
    try:
        return pack(value)
    except UNPACKABLE:
        return None
