"""Numbers of a board over time."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count as counting
from math import inf
from typing import Any

import trio

from rpyc_gateway.cli.onboard.interpreters import BoardFailed, Interpreter, defined

__all__ = ["watch"]

LARGEST = 10**300  # of what can be drawn
WATCH = """
def f(before, expression):
    space = {"__name__": "__main__"}
    exec(before, space)
    return eval("lambda: (" + expression + "\\n)", space)
"""


async def watch(
    board: Interpreter,
    expression: str,
    before: str,
    take: Callable[[float], object],
    *,
    every: float,
    times: float = inf,
) -> None:
    """Give `take` the value of an expression, so many times, every so many seconds. What was missed because the board took longer is left out.

    `before` is run first, in the namespace of the expression. Raises BoardFailed, also for what is no number.
    """
    read = await board.call(await board.evaluate(defined(WATCH)), before, expression)
    begun = trio.current_time()
    for number in counting(1):
        take(as_number(board, expression, await board.call(read)))
        if number >= times:
            return
        passed = trio.current_time() - begun
        await trio.sleep_until(begun + (passed // every + 1) * every if every else begun)


def as_number(board: Interpreter, expression: str, value: Any) -> float:
    """The value. Raises BoardFailed."""
    if type(value) is float or (isinstance(value, int) and abs(value) < LARGEST):
        return int(value) if isinstance(value, bool) else value
    if isinstance(value, int):
        what = "an int of more than 300 digits"
    else:
        what = f"{value!r}" if value is None or type(value) in (str, bytes, tuple) else "an object"
    raise BoardFailed(board.name, "", f"{expression} is {what[:80]}, which is no number that can be drawn")
