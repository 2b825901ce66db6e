"""Lines for a log out of whatever programs print, however it arrives."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from rpyc_transports.lines import LONGEST_LINE, Lines


@given(text=st.binary(max_size=200), cuts=st.lists(st.integers(0, 200)))
def test_lines_are_the_same_however_they_arrive(text: bytes, cuts: list[int]) -> None:
    whole, pieces = Lines(), Lines()
    expected = [*whole.split(text), *whole.rest()]
    heard = [line for a, b in pairwise([0, *sorted(cuts), len(text)]) for line in pieces.split(text[a:b])]
    assert [*heard, *pieces.rest()] == expected


@given(st.lists(st.binary() | st.binary(min_size=900, max_size=3000), max_size=5))
def test_lines_are_bounded_and_harmless_to_a_terminal(data: list[bytes]) -> None:
    lines = Lines()
    for piece in data:
        for line in lines.split(piece):
            assert line.isprintable()
            assert line
        assert len(lines._line) <= LONGEST_LINE + 1


def test_control_characters_are_spelled_out() -> None:
    lines = Lines()
    assert list(lines.split(b"\x1b[2Jcleared\r\n\n caf\xc3\xa9\tau lait \xff\nrest")) == [
        "\\x1b[2Jcleared",
        " café\\tau lait \N{REPLACEMENT CHARACTER}",
    ]
    assert list(lines.rest()) == ["rest"]


def test_the_line_that_has_not_ended_can_be_looked_at() -> None:
    lines = Lines()
    assert list(lines.split(b"one\nops@bastion's password: ")) == ["one"]
    assert lines.unfinished == "ops@bastion's password:"
    assert list(lines.split(b"\n")) == ["ops@bastion's password:"]
    assert lines.unfinished == ""
