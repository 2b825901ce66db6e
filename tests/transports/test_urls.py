"""A URL's options: what is meant is read, what is wrong is said in words for its author."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpyc_transports.urls import flag, number, parse, split, text

KNOWN = {"ca": text, "baudrate": number, "rtscts": flag}


def test_options_stand_behind_a_question_mark_and_are_decoded() -> None:
    url = "tls://relay:1?ca=%2Fetc%2Four%20ca.pem&rtscts=on"
    assert split(url) == ("tls://relay:1", {"ca": "/etc/our ca.pem", "rtscts": "on"})
    assert parse(url, KNOWN) == ({"ca": "/etc/our ca.pem", "rtscts": True}, [])


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("baudrat=9600", "there is no option 'baudrat' (known: baudrate, ca, rtscts); did you mean 'baudrate'?"),
        ("colour=red", "there is no option 'colour' (known: baudrate, ca, rtscts)"),
        ("ca=", "the option 'ca' is empty"),
        ("baudrate=fast", "the option 'baudrate' is 'fast', which is no whole number"),
        ("baudrate=-1", "the option 'baudrate' is '-1', which is no whole number"),
        ("rtscts=maybe", "the option 'rtscts' is 'maybe': say 1 or 0"),
        ("ca=a&ca=b", "the option 'ca' is given twice"),
    ],
)
def test_what_is_wrong_is_said_by_name(query: str, problem: str) -> None:
    assert parse(f"x://y?{query}", KNOWN)[1] == [problem]


def test_all_that_is_wrong_is_said_at_once_and_what_is_right_is_read() -> None:
    values, problems = parse("x://y?ca=a&bad=1&baudrate=x", KNOWN)
    assert values == {"ca": "a"}
    assert len(problems) == 2


@given(st.text())
def test_no_text_is_too_strange(url: str) -> None:
    split(url)
    parse(url, KNOWN)
