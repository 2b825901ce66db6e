"""Numbers over time in one line."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from rpyc_gateway.cli.sparkline import PLAIN, Sparkline


def line(*numbers: float, columns: int = 80, levels: str = "▁▂▃▄▅▆▇█") -> str:
    sparkline = Sparkline(levels)
    for number in numbers:
        sparkline.add(number)
    return sparkline.line(columns)


def test_numbers_are_drawn_between_the_least_and_the_greatest() -> None:
    assert line(*range(8)) == "▁▂▃▄▅▆▇█ 7  min 0  max 7"
    assert line(20, 20.5, 21) == "▁▅█ 21  min 20  max 21"
    assert line(3, 3, 3) == "▁▁▁ 3  min 3  max 3"
    assert line(0, 1, levels=PLAIN) == "_@ 1  min 0  max 1"
    assert line() == ""


def test_what_is_not_finite_is_seen_and_in_the_way_of_nothing() -> None:
    assert line(0, math.nan, math.inf, 1) == "▁??█ 1  min 0  max 1"
    assert line(math.nan) == "? nan"
    assert line(-1e308, 1e308) == "▁▁ 1e+308  min -1e+308  max 1e+308"


def test_the_latest_are_drawn_between_those_that_are_drawn_where_there_is_no_room_for_all() -> None:
    assert line(1000, *range(8), columns=27) == "▁▂▃▄▅▆▇█ 7  min 0  max 1000"
    assert line(1000, 0, 1, columns=21) == "▁█ 1  min 0  max 1000"


@given(st.lists(st.floats() | st.integers(), min_size=1), st.integers(0, 100))
def test_it_is_never_longer_than_there_is_room(numbers: list[float], columns: int) -> None:
    assert len(line(*numbers, columns=columns)) <= columns
