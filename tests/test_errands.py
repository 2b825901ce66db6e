"""What one link has to do on others: in order, with one turn at a time."""

from __future__ import annotations

import threading

import pytest

from rpyc_gateway.errands import Errands
from rpyc_gateway.turn import Turn


class Link:
    """Writes down what is done on it, and whose turn it was."""

    def __init__(self) -> None:
        self.turn = Turn("machine")
        self.done: list[object] = []
        self.turns = 0

    def do(self, label: int, value: object) -> None:
        assert self.turn.held
        self.done.append((label, value))

    def fail(self, _label: int, _value: object) -> None:
        raise ZeroDivisionError

    def disown(self, label: int) -> None:
        assert self.turn.held
        self.done.append(("disowned", label))


def test_they_are_run_in_order_each_with_the_turn_of_its_link() -> None:
    errands, one, two = Errands[Link](), Link(), Link()
    for value, link in enumerate((one, one, two, one)):
        errands.add(link, Link.do, 7, value)
    errands.run()
    assert (one.done, two.done) == ([(7, 0), (7, 1), (7, 3)], [(7, 2)])
    assert not errands.waiting
    assert not one.turn.held


def test_one_that_fails_costs_its_stream_and_nobody_else(caplog: pytest.LogCaptureFixture) -> None:
    errands, link = Errands[Link](), Link()
    errands.add(link, Link.fail, 7, None)
    errands.add(link, Link.do, 8, "next")
    errands.run()
    assert link.done == [("disowned", 7), (8, "next")]
    assert "what it was to pass on failed" in caplog.text


def test_whoever_comes_while_another_thread_is_at_it_leaves_them_to_that_one() -> None:
    errands, link = Errands[Link](), Link()
    begun, go = threading.Event(), threading.Event()

    def wait(link: Link, label: int, value: object) -> None:
        begun.set()
        go.wait(10)
        link.do(label, value)

    errands.add(link, wait, 7, "first")
    other = threading.Thread(target=errands.run)
    other.start()
    assert begun.wait(10)
    errands.add(link, Link.do, 7, "second")
    errands.run()  # returns at once: it must not overtake the first
    assert link.done == []
    go.set()
    other.join(10)
    assert link.done == [(7, "first"), (7, "second")]


def test_what_an_errand_adds_is_run_after_it() -> None:
    errands, link = Errands[Link](), Link()

    def more(link: Link, label: int, value: object) -> None:
        link.do(label, value)
        errands.add(link, Link.do, label, "more")
        errands.run()  # further out this is done already

    errands.add(link, more, 7, "first")
    errands.run()
    assert link.done == [(7, "first"), (7, "more")]
