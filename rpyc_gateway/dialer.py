"""Keeps a link up: dial, and when that fails or the link ends, wait a while with jitter and dial again."""

from __future__ import annotations

import logging
import math
import random as chance
import re
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Literal, NoReturn, TypeAlias

import trio

from rpyc_gateway.errors import Denied, DuplicateNode, GatewayError

__all__ = ["Attempt", "Backoff", "Dialer"]

logger = logging.getLogger(__name__)

Attempt: TypeAlias = Callable[["Dialer"], Awaitable[None]]

PID = re.compile(r" \(pid \d+\)")  # each attempt with a program has another one

# What the world does to a link. Anything else is a mistake in this program, and is logged with its traceback.
EXPECTED = (GatewayError, OSError, trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError)


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait after so many failures in a row: anything up to a ceiling that doubles (full jitter).

    All the jitter is there so that a hundred nodes that lost one gateway do not come back at the same moment.
    """

    failures: int = 0

    BASE = 0.5
    CAP = 30.0
    STEADY = 5.0
    """Seconds that a link must have been up to count as a success: one that dies at once is a failure like any other."""

    @property
    def ceiling(self) -> float:
        return min(self.CAP, self.BASE * 2.0 ** min(self.failures, 16))  # 16: a float has an end

    def delay(self, jitter: float) -> float:
        """Seconds to wait, for a jitter in 0..1."""
        return self.ceiling * jitter

    def failed(self) -> Backoff:
        return Backoff(self.failures + 1)


class Dialer:
    """Runs `attempt` again and again: it dials, calls `up` of the dialer once the link is up, and ends with the link.

    `state`, `reason` (why the link is not up; "" while it is, or when nothing is known yet) and `retry_at` (by trio's clock)
    are for people to look at. Each change is logged by one line; a failure that only repeats itself is not. `longest` is the
    most seconds between two attempts, where nobody has said no, and `steady` how many a link must have been up to count as a success;
    `wait_changed` returns when there is a reason not to wait any more.
    """

    def __init__(
        self,
        what: str,
        attempt: Attempt,
        *,
        longest: float = Backoff.CAP,
        steady: float = Backoff.STEADY,
        wait_changed: Callable[[], Awaitable[object]] = trio.sleep_forever,
        random: Callable[[], float] = chance.random,
    ) -> None:
        self.what = what
        self.state: Literal["dialling", "up", "waiting"] = "dialling"
        self.reason = ""
        self.retry_at: float | None = None
        self._attempt = attempt
        self._longest = longest
        self._steady = steady
        self._wait_changed = wait_changed
        self._random = random
        self._backoff = Backoff()
        self._up_since = math.inf
        self._told = ""

    async def run(self) -> NoReturn:
        """For ever. Cancel it to stop, which cancels the attempt that is under way."""
        while True:
            self.state, self.retry_at = "dialling", None
            failures = await self._try()
            delay = self._decide(failures)
            self.state, self.retry_at = "waiting", trio.current_time() + delay
            self._tell(delay)
            with trio.move_on_after(delay):
                await self._wait_changed()
                self._backoff = Backoff()  # what failed was with what was there before

    async def _try(self) -> list[Exception]:
        """Why the attempt ended; nothing if its link simply did."""
        try:
            await self._attempt(self)
        except Exception as exc:
            failures = list(_leaves(exc))
            if not all(isinstance(failure, EXPECTED) for failure in failures):
                logger.exception("%s: a mistake in this program ended the attempt", self.what)
            return failures
        return []

    def _decide(self, failures: list[Exception]) -> float:
        self.reason = "; ".join(dict.fromkeys(map(_reason, failures))) or "the link ended"
        if trio.current_time() - self._up_since >= self._steady:
            self._backoff = Backoff()
        self._up_since = math.inf
        delay = min(self._backoff.delay(self._random()), self._longest)
        self._backoff = self._backoff.failed()
        # Somebody said no, and will say it again until a person changes something.
        refused = any(isinstance(failure, (Denied, DuplicateNode)) for failure in failures)
        return Backoff.CAP if refused else delay

    def up(self) -> None:
        """The link is there: for the attempt to call."""
        self.state, self.reason, self.retry_at = "up", "", None
        self._up_since = trio.current_time()
        self._told = ""
        logger.info("%s: up", self.what)

    def _tell(self, delay: float) -> None:
        told, self._told = self._told, PID.sub("", self.reason)
        level = logging.DEBUG if self._told == told else logging.WARNING
        logger.log(level, "%s: %s; next try in %.1f s", self.what, self.reason, delay)


def _leaves(exc: Exception) -> Iterator[Exception]:
    if isinstance(exc, ExceptionGroup):
        for part in exc.exceptions:
            yield from _leaves(part)
    else:
        yield exc


def _reason(exc: Exception) -> str:
    if not isinstance(exc, EXPECTED):
        return f"{type(exc).__name__}: {exc}"
    return str(exc) or type(exc).__name__
