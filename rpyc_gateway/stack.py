"""Whether the stack has room for what must not be interrupted by a RecursionError."""

from __future__ import annotations

import sys

__all__ = ["STEP_ROOM", "check_room"]

ROOM = 96
"""Calls that must fit on the stack before a question is asked: its steps, and a callback that fails for want of room and says so."""

STEP_ROOM = 48
"""Calls that fit on the stack before a step begins: a RecursionError in the middle of it would leave a machine half changed."""


def check_room(room: int = ROOM) -> None:
    """Raise RecursionError if not so many calls fit on the stack of this thread."""
    try:
        sys._getframe(sys.getrecursionlimit() // 4)  # noqa: SLF001  # the one cheap question about depth that there is
    except ValueError:
        return  # not even a quarter is used
    _descend(room)


def _descend(calls: int) -> None:
    # Not only frames count: calls through C do too, in some versions of Python, and nothing else knows how many there are.
    if calls:
        _descend(calls - 1)
