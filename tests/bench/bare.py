"""`python -m tests.bench.bare [PYTHON]`: a bare Python as a child and through a real ssh on the loopback; and the whole node, where that is installed, for comparison."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import rpyc_gateway as gw
from tests.chains.sshd import open_far
from tests.device.interpreters import OLDEST

SECONDS = 1.0  # for each figure
TURNS = 3
MUCH = bytes(1 << 20)


def rate(action: Callable[[], Any]) -> float:
    """How often that can be done in a second."""
    count = 0
    start = time.perf_counter()
    while (now := time.perf_counter()) - start < SECONDS:
        action()
        count += 1
    return count / (now - start)


def cancelled(conn: gw.BlockingSession) -> float:
    """Seconds from the deadline of a call that sleeps to the next answer."""
    start = time.perf_counter()
    try:
        with gw.timeout(0.2):
            conn.modules.time.sleep(60)
    except gw.TimedOut:
        conn.eval("1")
    return time.perf_counter() - start - 0.2


def measure(url: str) -> str:
    start = time.perf_counter()
    with gw.connect(url) as conn:
        begun = time.perf_counter() - start
        function = conn.eval("abs")
        length = conn.eval("len")
        down = conn.eval("bytes")
        calls = rate(lambda: function(-5))
        there = rate(lambda: length(MUCH))
        back = rate(lambda: down(1 << 20))
        return (
            f"{begun:.2f} s until it can be called, {calls:.0f} calls/s, {there * 1.048576:.0f} MB/s up and {back * 1.048576:.0f} down in values of 1 MiB,"
            f" {median(cancelled(conn) for _ in range(5)) * 1000:.1f} ms until it answers after a call that was cancelled"
        )


def main() -> None:
    bare = sys.argv[1] if len(sys.argv) > 1 else OLDEST
    with open_far() as far:
        urls = {
            "a child, bare": f"stdio:?python=agent {bare}",
            "a child, whole": f"stdio:{sys.executable}",
            "through ssh, bare": far.url(bare, of_url="?python=agent "),
            "through ssh, whole": far.url(sys.executable),
        }
        for _ in range(TURNS):
            for name, url in urls.items():
                print(f"{name}: {measure(url)}")


if __name__ == "__main__":
    main()
