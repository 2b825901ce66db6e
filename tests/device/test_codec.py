"""Values on their way to a board and back: by our codec, and by the agent's, run under CPython."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpyc_gateway.device.codec import Decoder, Host, Ref, Result, encode, number
from rpyc_gateway.errors import EncodeError, ProtocolError

from .wired import core

ATOMS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**60), 10**60)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.binary()
)
VALUES = st.recursive(
    ATOMS, lambda some: st.lists(some) | st.lists(some).map(tuple) | st.dictionaries(ATOMS, some), max_leaves=30
)
AGENT = core()


def nobody(_: int) -> Any:
    raise AssertionError("there are no objects in it")


def decode(data: bytes) -> Any:
    decoder = Decoder(data, Ref, nobody)
    value = decoder.value()
    assert not decoder.more
    return value


def there_and_back(value: Any) -> Any:
    """Our bytes, read by the agent, written by it, and read by us."""
    data = encode(value)
    found, end = AGENT["decode"](data, 0)
    assert end == len(data)
    written = bytearray()
    AGENT["encode"](found, written, 1)
    assert bytes(written) == data
    return decode(bytes(written))


@given(VALUES)
def test_a_value_comes_back_as_it_was(value: Any) -> None:
    found = there_and_back(value)
    assert found == value
    assert repr(found) == repr(value)  # a bool stays a bool, a tuple a tuple


@given(st.binary(max_size=60))
def test_any_bytes_are_values_or_a_protocol_error(data: bytes) -> None:
    decoder = Decoder(data, lambda n: Ref(n), {1: "ours"}.__getitem__)
    with suppress(ProtocolError):
        decoder.values()


@given(st.integers(min_value=0, max_value=2**700))
def test_a_number_is_what_the_agent_reads(value: int) -> None:
    assert AGENT["varint"](number(value), 0) == (value, len(number(value)))
    assert Decoder(number(value), Ref, nobody).number() == value


def test_a_number_of_a_million_bits_takes_no_time_to_speak_of() -> None:
    assert decode(encode(1 << 1_000_000)) == 1 << 1_000_000


def test_the_short_forms() -> None:
    assert encode(0) == b"\x00"
    assert encode(-32) == b"\xe0"
    assert encode("value") == b"\xa5value"
    assert [encode(value) for value in (None, False, True)] == [b"\xc0", b"\xc1", b"\xc2"]
    assert encode(Ref(300)) == b"\xc6\xac\x02"
    assert encode(Result(2)) == b"\xc7\x02"
    assert encode(Host(1)) + encode(Host(1, event=True)) == b"\xc8\x01\xc9\x01"
    assert math.isnan(decode(encode(math.nan)))


class Flag(int):
    pass


@pytest.mark.parametrize("value", [Flag(1), {1}, object(), "\ud800", 1j, [[object()]]])
def test_what_no_board_has_is_refused_here(value: Any) -> None:
    with pytest.raises(EncodeError, match="board"):
        encode(value)


def test_nesting_has_a_bound_on_both_sides() -> None:
    value: Any = ()
    for _ in range(31):
        value = (value,)
    assert decode(encode(value)) == value
    with pytest.raises(EncodeError, match="32 levels"):
        encode((value,))
    with pytest.raises(ProtocolError, match="32 levels"):
        decode(b"\xcc\x01" + encode(value))


def test_a_collection_is_never_larger_than_the_message() -> None:
    with pytest.raises(ProtocolError, match="announces"):
        decode(b"\xcd\xff\xff\xff\x7f")


def test_text_that_is_no_utf8_is_shown() -> None:
    assert decode(b"\xa3a\xffb") == "a\\xffb"


def test_an_object_that_nobody_has_any_more_is_told_of() -> None:
    class Board:
        told: ClassVar[list[int]] = []

        def release(self, number: int) -> None:
            self.told.append(number)

    ref = Ref(12, Board())
    assert "12" in repr(ref)
    del ref
    assert Board.told == [12]
