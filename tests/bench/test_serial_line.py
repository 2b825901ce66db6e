"""The benchmark of serial lines runs and judges as it says. How fast anybody is, is not judged here."""

from __future__ import annotations

from dataclasses import replace

from tests.bench import serial_line
from tests.bench.serial_line import LINES, Found, Line, judge, report

GOOD = Found(goodput=0.95, small=0.01, waited=0.02, longest=0.03, near_cpu=0.05, far_cpu=0.06, idle_cpu=0.0)


def test_a_line_is_measured_from_end_to_end() -> None:
    found = serial_line.measure(Line(921_600, 0.001, 0.75), seed=1, bulk=0.5)
    assert 0 < found.goodput <= 1
    assert found.near_cpu
    assert found.far_cpu
    assert found.longest >= found.waited


def test_the_report_says_what_is_reached() -> None:
    told = "\n".join(report({line: [GOOD] for line in LINES}))
    assert "MISSED" not in told
    assert told.count("reached") == 6 + 1 + 1 + 6


def test_each_wish_is_judged_by_itself() -> None:
    slow, fast = (next(line for line in LINES if line.baudrate == rate) for rate in (115_200, 921_600))
    for line, found, missed in (
        (slow, replace(GOOD, goodput=0.89), "goodput"),
        (slow, replace(GOOD, longest=0.05), "waits"),
        (fast, replace(GOOD, far_cpu=0.2), "core"),
        (fast, replace(GOOD, idle_cpu=0.1), "idle"),
    ):
        assert [missed in what for what, reached in judge({line: found}) if not reached] == [True]
