"""Values without parts: the short way gives the bytes of the long one, and leaves alone what is not for it."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpyc_gateway.proto.atoms import all_atoms, all_flat, pack_atom, pack_atoms
from rpyc_gateway.proto.values import LARGE, Draft, Writer


class Level(IntEnum):
    LOW = 1


class Name(str):
    """A str to isinstance, with a class of its own."""

    __slots__ = ()


def long_way(value: object) -> Draft:
    writer = Writer(lambda thing: thing)
    return writer.finish(writer.value(value))


atoms = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.sampled_from([-(2**63), -(2**63) - 1, 2**64 - 1, 2**64])
    | st.floats(allow_nan=False)
    | st.text(st.characters() | st.characters(categories=["Cs"]))
    | st.binary(max_size=20)
)


@given(atoms)
def test_the_short_way_gives_the_same_bytes_or_leaves_it_to_the_long_one(value: object) -> None:
    packed = pack_atom(value)
    assert packed is None or Draft(packed) == long_way(value)


@pytest.mark.parametrize(
    "value", [2**64, -(2**63) - 1, "\ud800", b"x" * (LARGE + 1)], ids=lambda value: repr(value)[:20]
)
def test_what_is_not_packed_as_it_is_goes_the_long_way(value: object) -> None:
    assert pack_atom(value) is None


@pytest.mark.parametrize(
    "value", [1, True, None, "x", b"x", 1.5, "x" * (LARGE + 1), b"x" * LARGE], ids=lambda value: repr(value)[:20]
)
def test_an_atom_goes_the_short_way(value: object) -> None:
    packed = pack_atom(value)
    assert packed is not None
    assert Draft(packed) == long_way(value)


@pytest.mark.parametrize("value", [Level.LOW, Name("x"), (), [], 1j, ..., object], ids=repr)
def test_only_exact_types_are_atoms(value: Any) -> None:
    assert pack_atom(value) is None
    assert not all_atoms([1, value])
    assert not all_flat([1, value])


def test_bytes_are_atoms_but_not_flat() -> None:
    assert all_atoms([b"x", 1])
    assert not all_flat([b"x", 1])


def test_a_structure_that_cannot_be_packed_is_none() -> None:
    assert pack_atoms(["x", 2**64]) is None
    assert pack_atoms(["\ud800"]) is None
    assert pack_atoms([1, "a"]) == bytes.fromhex("9201a161")
