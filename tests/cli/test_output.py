"""What people see while something is copied."""

from __future__ import annotations

import pytest

from rpyc_gateway.cli.output import Bar


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_bar_says_how_much_is_done_and_how_fast_and_goes_away(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    bar = Bar("main.py", clock=clock, columns=200)
    clock.now += 2
    bar.show(0, 4000)
    bar.show(1000, 4000)
    bar.show(1001, 4000)  # the same number, and the same moment
    clock.now += 2
    bar.show(1002, 4000)
    bar.show(4000, 4000)
    assert capsys.readouterr().err.split("\r") == [
        "",
        "main.py: 0 % [........................] 0 B of 4.0 KB, 0 B/s\x1b[K",
        "main.py: 25 % [######..................] 1.0 KB of 4.0 KB, 500 B/s\x1b[K",
        "main.py: 25 % [######..................] 1.0 KB of 4.0 KB, 250 B/s\x1b[K",
        "\x1b[K",
    ]


def test_a_bar_that_showed_nothing_leaves_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    bar = Bar("empty")
    bar.show(0, 0)
    bar.erase()
    assert capsys.readouterr().err == ""


def test_a_bar_is_no_longer_than_the_terminal_is_wide_and_says_nothing_that_it_would_obey() -> None:
    clock = Clock()
    bar = Bar("\x1b[2J" + "long" * 30, clock=clock, columns=40)
    line = bar.line(1, 2_000_000, clock.now)
    assert len(line) == 39
    assert line.startswith("\\x1b[2Jlong")
