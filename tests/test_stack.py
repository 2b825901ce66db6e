"""A stack that is nearly full: what is begun on it ends in order, or is not begun."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rpyc_gateway.stack import check_room
from tests.blocking_house import open_blocking_lab


def test_an_empty_stack_has_room() -> None:
    check_room()


def test_what_fits_is_told_to_the_call() -> None:
    outcomes = [_with_room(room, lambda: check_room(50)) for room in range(100)]
    assert outcomes == sorted(
        outcomes, key=lambda outcome: outcome is None
    )  # up to some room it is an error, and then never again
    assert outcomes[30] is RecursionError
    assert outcomes[90] is None


def test_a_stack_that_is_nearly_full_costs_the_call_and_never_the_session() -> None:
    with open_blocking_lab() as house, house.connect() as conn:
        call = conn.eval("lambda f, *args: f(*args)")
        for operation in (
            lambda: conn.ping(1),
            lambda: call(lambda: 1),
            lambda: call(lambda *a: 1, ((((1,),),),), [1]),
        ):
            outcomes = [_with_room(room, operation) for room in range(200)]
            assert outcomes[0] is RecursionError
            assert outcomes[-1] == 1
            assert set(outcomes) == {RecursionError, 1}
        (far,) = house.sessions()
        house.until(lambda: far.statistics()[:2] == (0, 0) and far.statistics().running == 0)
        assert conn._session.statistics()[:2] == (0, 0)
        assert conn._session.asking.by_cause == far.asking.by_cause == {}


def _with_room(room: int, operation: Callable[[], Any]) -> Any:
    """What an operation comes to where so many calls fit on the stack."""
    try:
        return _sink(_depth_left() - room, operation)
    except RecursionError:
        return RecursionError


def _sink(calls: int, operation: Callable[[], Any]) -> Any:
    return operation() if calls <= 0 else _sink(calls - 1, operation)


def _depth_left(calls: int = 0) -> int:
    try:
        return _depth_left(calls + 1)
    except RecursionError:
        return calls
