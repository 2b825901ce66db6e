"""Waiting for what is on its way up."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

__all__ = ["PAUSE", "until"]

T = TypeVar("T")

WITHIN = 20.0
PAUSE = 0.02


def until(attempt: Callable[[], T], fails: type[Exception]) -> T:
    """What the attempt gives as soon as it no longer fails so. Raises its last failure when the time is over."""
    end = time.monotonic() + WITHIN
    while True:
        try:
            return attempt()
        except fails:
            if time.monotonic() > end:
                raise
        time.sleep(PAUSE)
