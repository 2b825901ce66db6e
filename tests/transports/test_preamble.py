"""Banners before the link: what is text, what is the link's, wherever the bytes are cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpyc_gateway.errors import Code
from rpyc_gateway.proto import frames
from rpyc_gateway.proto.frames import Failure, FrameType, Hello
from rpyc_gateway.transport import GREETING
from rpyc_transports.preamble import HELD, QUOTED, Preamble

HELLO = frames.encode_hello(Hello(name="far", vat=bytes(16)))
ERROR = frames.encode_failure(FrameType.ERROR, 0, Failure(Code.LIMIT, "too many", "far"), frames.HELLO_FRAME)


@pytest.mark.parametrize("first", [HELLO, ERROR], ids=["HELLO", "ERROR"])
def test_what_a_listener_says_first_is_known_by_its_header(first: bytes) -> None:
    assert GREETING.match(first)


@given(
    banner=st.binary(max_size=60) | st.text("RPGW\1\0\16", max_size=40).map(str.encode),
    cuts=st.lists(st.integers(0, 300), max_size=9),
)
def test_the_link_begins_at_its_greeting_wherever_the_bytes_are_cut(banner: bytes, cuts: list[int]) -> None:
    data = banner + HELLO + b"more"
    found = GREETING.search(data)
    assert found is not None
    preamble = Preamble()
    parts = [preamble.receive(data[a:b]) for a, b in pairwise([0, *sorted(cuts), len(data)])]
    assert b"".join(text for text, _ in parts) == data[: found.start()]
    assert b"".join(link for _, link in parts) == data[found.start() :]
    assert preamble.found
    assert preamble.size == found.start()


def test_the_beginning_is_kept_for_people_and_no_more() -> None:
    preamble = Preamble()
    preamble.receive(b"Welcome to \xffar")
    assert preamble.beginning == "Welcome to \N{REPLACEMENT CHARACTER}ar"
    assert not preamble.found
    preamble.receive(b"!" * 10 * QUOTED)
    assert len(preamble.beginning) == QUOTED
    assert preamble.size == 14 + 10 * QUOTED - HELD


def test_text_that_only_speaks_of_a_link_is_none() -> None:
    preamble = Preamble()
    text, link = preamble.receive(b"RPGW RPGW \x01RPGW \x0e\x00\x00\x00 RPGW 1234567")
    assert (link, preamble.found) == (b"", False)
    assert text.endswith(b"RPGW ")
