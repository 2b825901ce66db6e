"""Hypothesis profiles, and a bound on every async test so that a hang is a failure."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from functools import wraps
from inspect import iscoroutinefunction
from typing import ParamSpec

import pytest
import trio
from hypothesis import HealthCheck, settings
from trio.testing import MockClock

from tests.patience import Patience

settings.register_profile("dev", max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("dev"), max_examples=200, derandomize=True, print_blob=True)
settings.register_profile("soak", settings.get_profile("dev"), max_examples=20_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))

# A shell starts what it puts into the background with SIGINT ignored, and the programs under test would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

REAL_SECONDS = 60
# When every task is stuck, an autojump clock gets here in a moment; live links stop it every 15 s.
VIRTUAL_SECONDS = 10**4

P = ParamSpec("P")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        return  # the workers are to be traced
    # Processes that tests start are not: many of them are interrupted, and a KeyboardInterrupt inside coverage's own tracer leaves
    # its lock taken, so that the program under test hangs.
    for name in [name for name in os.environ if name.startswith("COVERAGE_PROCESS")]:
        del os.environ[name]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if isinstance(item, pytest.Function) and iscoroutinefunction(item.obj):
            virtual = "autojump_clock" in item.fixturenames
            item.obj = _bounded(item.obj, VIRTUAL_SECONDS if virtual else REAL_SECONDS)


def pytest_collection_finish() -> None:
    """Thousands of tests are there for good: each `gc.collect()` of one of them took half a second to look at them all."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _quiet_again() -> Iterator[None]:
    """What a test of the command line has set up of logging is no other test's."""
    yield
    logging.getLogger().setLevel(logging.WARNING)


@pytest.fixture
def untraced() -> Iterator[None]:
    """Without coverage's tracer: where all threads are traced, Python 3.11 cannot be interrupted (see console.py)."""
    here, others = sys.gettrace(), threading.gettrace()
    sys.settrace(None)
    threading.settrace(None)
    yield
    threading.settrace(others)
    sys.settrace(here)


@pytest.fixture
def autojump_clock(monkeypatch: pytest.MonkeyPatch) -> MockClock:
    """pytest-trio's, but calls that are served in threads are given a moment."""
    clock = MockClock(autojump_threshold=0)
    Patience(clock, monkeypatch)
    return clock


def _bounded(test: Callable[P, Awaitable[None]], seconds: float) -> Callable[P, Awaitable[None]]:
    @wraps(test)
    async def run(*args: P.args, **kwargs: P.kwargs) -> None:
        with trio.fail_after(seconds):
            await test(*args, **kwargs)

    return run
