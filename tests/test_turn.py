"""The turn: one holder, who is known; and SIGINT that waits for it."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from types import FrameType

import pytest
import trio

from rpyc_gateway.turn import Turn, deferral

Came = list[str]


@pytest.fixture
def interrupts() -> Iterator[Came]:
    """What a program's own SIGINT handler has heard."""
    came: Came = []

    def handler(number: int, frame: FrameType | None) -> None:
        came.append(signal.Signals(number).name)

    before = signal.signal(signal.SIGINT, handler)
    yield came
    signal.signal(signal.SIGINT, before)


def test_a_turn_knows_its_holder() -> None:
    turn = Turn(None)
    assert not turn.held
    with turn:
        assert turn.held
        elsewhere: list[bool] = []
        thread = threading.Thread(target=lambda: elsewhere.append(turn.held))
        thread.start()
        thread.join()
        assert elsewhere == [False]
    assert not turn.held


def test_one_thread_at_a_time() -> None:
    turn = Turn(None)
    order: list[str] = []
    trying = threading.Event()

    def second() -> None:
        trying.set()
        with turn:
            order.append("second")

    thread = threading.Thread(target=second)
    with turn:
        thread.start()
        trying.wait(10)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]


def test_within_a_turn_of_the_same_thread_it_only_counts() -> None:
    turn = Turn("machine")
    with turn as outer:
        with turn as inner:
            assert (outer, inner) == ("machine", "machine")
        assert turn.held
    assert not turn.held


def test_it_is_given_back_when_a_step_fails() -> None:
    turn = Turn(None)
    with pytest.raises(ZeroDivisionError), turn:
        _ = 1 / 0
    assert not turn.held
    with turn:
        assert turn.held


def test_an_interrupt_waits_for_the_end_of_the_turn(interrupts: Came) -> None:
    ours = signal.getsignal(signal.SIGINT)
    with Turn(None):
        signal.raise_signal(signal.SIGINT)
        assert interrupts == []
    assert interrupts == ["SIGINT"]
    assert signal.getsignal(signal.SIGINT) is ours
    signal.raise_signal(signal.SIGINT)
    assert interrupts == ["SIGINT", "SIGINT"]


def test_an_interrupt_waits_for_the_outer_of_two_turns(interrupts: Came) -> None:
    with Turn(None):
        with Turn(None):
            signal.raise_signal(signal.SIGINT)
        assert interrupts == []
    assert interrupts == ["SIGINT"]


def test_the_interpreter_s_own_handler_raises_after_the_turn() -> None:
    turn = Turn(None)
    done: list[str] = []

    def interrupted() -> None:
        with turn:
            signal.raise_signal(signal.SIGINT)
            done.append("the step")
        done.append("what follows it")

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            interrupted()
        assert done == ["the step"]
        assert not turn.held
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_handler_that_ends_the_program_waits_too() -> None:
    """`sys.exit` in a SIGTERM handler would otherwise leave with the turn taken."""

    def leave(number: int, frame: object) -> None:
        raise SystemExit(3)

    before = signal.signal(signal.SIGTERM, leave)
    turn, steps = Turn(None), []
    try:
        with pytest.raises(SystemExit), turn:  # noqa: PT012  # that the step ends is the point
            signal.raise_signal(signal.SIGTERM)
            steps.append("done")
        assert steps == ["done"]
        assert not turn.held
        assert signal.getsignal(signal.SIGTERM) is leave
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("action", [signal.SIG_IGN, signal.SIG_DFL])
def test_what_is_no_handler_is_left_alone(action: signal.Handlers) -> None:
    before = signal.signal(signal.SIGINT, action)
    try:
        with Turn(None):
            assert signal.getsignal(signal.SIGINT) == action
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_handler_that_was_set_between_two_turns_is_the_one_that_hears(interrupts: Came) -> None:
    turn, others = Turn(None), Came()
    with turn:
        signal.raise_signal(signal.SIGINT)
    ours = signal.signal(signal.SIGINT, lambda number, frame: others.append("another"))
    with turn:
        signal.raise_signal(signal.SIGINT)
    signal.signal(signal.SIGINT, ours)
    with turn:
        signal.raise_signal(signal.SIGINT)
    assert (interrupts, others) == (["SIGINT", "SIGINT"], ["another"])
    assert signal.getsignal(signal.SIGINT) is ours


def test_other_threads_leave_signals_alone(interrupts: Came) -> None:
    ours = signal.getsignal(signal.SIGINT)
    seen: list[object] = []

    def elsewhere() -> None:
        with Turn(None):
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join(10)
    assert seen == [ours]
    assert interrupts == []


async def test_inside_trio_signals_are_trio_s_business(interrupts: Came) -> None:
    ours = signal.getsignal(signal.SIGINT)
    assert callable(ours)
    with Turn(None):
        assert signal.getsignal(signal.SIGINT) is ours
    await trio.lowlevel.checkpoint()
    assert interrupts == []


def test_a_child_that_another_thread_forks_hears_its_signals() -> None:
    """In the middle of a step of the main thread, which the child does not have."""
    code = """
import os, signal, threading
from rpyc_gateway.turn import Turn, deferral
signal.signal(signal.SIGTERM, lambda *_: os._exit(7))
codes = []
def fork():
    child = os.fork()
    if not child:
        signal.raise_signal(signal.SIGTERM)
        with Turn(None):
            os._exit(0)
    codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
with Turn(None):
    forker = threading.Thread(target=fork)
    forker.start()
    forker.join()
assert codes == [7], codes
"""
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=False, timeout=60).returncode == 0


def test_what_came_before_a_wait_is_heard_when_it_begins_and_what_comes_then_at_once(interrupts: Came) -> None:
    assert deferral.begin()
    signal.raise_signal(signal.SIGINT)
    assert interrupts == []
    deferral.let_through()
    assert interrupts == ["SIGINT"]
    signal.raise_signal(signal.SIGINT)
    assert interrupts == ["SIGINT", "SIGINT"]
    deferral.open = False
    signal.raise_signal(signal.SIGINT)
    assert interrupts == ["SIGINT", "SIGINT"]
    deferral.end()
    assert interrupts == ["SIGINT", "SIGINT", "SIGINT"]
