"""Telnet is cut into what it is, wherever the pieces end; what is none is said to be none, and little is kept of it."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpyc_transports.telnet import LONGEST_OPTION, Negotiation, Option, Telnet

IAC, SB, SE, NOP, WILL, DO = (bytes((byte,)) for byte in (255, 250, 240, 241, 251, 253))


def read(*pieces: bytes) -> list[bytes]:
    """What was said, with data that is in several pieces put together."""
    telnet, parts = Telnet(), []
    for piece in pieces:
        for part in telnet.receive(piece):
            if parts and type(part) is bytes is type(parts[-1]):
                parts[-1] += part
            else:
                parts.append(part)
    return parts


SAID = (
    b"ab"
    + IAC
    + IAC
    + IAC
    + NOP
    + b"c"
    + IAC
    + WILL
    + b","
    + IAC
    + SB
    + b",e\xff\xff\0"
    + IAC
    + SE
    + b"d"
    + IAC
    + DO
    + IAC
)
MEANT = [b"ab\xffc", Negotiation(WILL + b","), Option(b",e\xff\0"), b"d", Negotiation(DO + IAC)]


@given(cuts=st.lists(st.integers(0, len(SAID)), max_size=8))
def test_it_is_the_same_however_it_is_cut(cuts: list[int]) -> None:
    bounds = [0, *sorted(cuts), len(SAID)]
    parts = read(*(SAID[start:end] for start, end in pairwise(bounds)))
    assert [(type(part), bytes(part)) for part in parts] == [(type(part), bytes(part)) for part in MEANT]


@given(data=st.binary())
def test_data_comes_back_as_it_was(data: bytes) -> None:
    assert b"".join(read(data.replace(IAC, IAC + IAC))) == data


@pytest.mark.parametrize("said", [IAC + SE, b"x" + IAC + SB + b"," + IAC + WILL, IAC + SB + bytes(LONGEST_OPTION)])
def test_what_is_no_telnet_is_said_to_be_none(said: bytes) -> None:
    with pytest.raises(ValueError, match="an option"):
        read(said)


@given(pieces=st.lists(st.binary(max_size=40) | st.lists(st.sampled_from([IAC, SB, SE, b"x"])).map(b"".join)))
def test_any_bytes_are_something_or_no_telnet(pieces: list[bytes]) -> None:
    telnet, taken = Telnet(), 0
    for piece in pieces:
        try:
            taken += sum(map(len, telnet.receive(piece)))
        except ValueError:
            return
    assert taken <= sum(map(len, pieces))
