"""What the stories of whole chains share: a house of real processes, and a bound on every blocking test."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from inspect import iscoroutinefunction

import pytest

from tests.chains.processes import House, open_house
from tests.chains.sshd import Far, open_far

SECONDS = 60


@pytest.fixture
def house() -> Iterator[House]:
    """Processes of one test."""
    with open_house() as house:
        yield house


@pytest.fixture(scope="module")
def far() -> Iterator[Far]:
    """What ssh reaches, for the tests of one module."""
    with open_far() as far:
        yield far


@pytest.fixture(autouse=True)
def _bounded(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every blocking test ends: tests/conftest.py bounds the async ones."""
    if iscoroutinefunction(request.function):
        yield
        return

    def stop(_number: int, _frame: object) -> None:
        raise TimeoutError(f"the test took more than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
