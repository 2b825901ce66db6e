"""A service that tells its clients what happens: a callback of theirs is an event, which is sent and not waited for.

python examples/thermostat.py serve unix:///tmp/thermostat.sock
python examples/thermostat.py watch unix:///tmp/thermostat.sock     # as many as you like; each is told of all
python examples/thermostat.py set unix:///tmp/thermostat.sock 21.5
python examples/thermostat.py                                       # all of it at once, on this machine
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

import rpyc_gateway as gw

Watcher = Callable[[float, float], object]


class Thermostat(gw.Service):
    """One for all who connect."""

    def __init__(self) -> None:
        self._degrees = 20.0
        self._watchers: dict[Any, Watcher] = {}

    @gw.expose
    def watch(self, watcher: Watcher) -> float:
        """Let `watcher(before, now)` be called at each change; how warm it is."""
        self._watchers[watcher] = gw.async_(watcher)
        return self._degrees

    @gw.expose
    def set(self, degrees: float) -> None:
        """Tell everybody. Who is slow holds nobody up, and who is gone is forgotten."""
        before, self._degrees = self._degrees, degrees
        for watcher, tell in list(self._watchers.items()):
            try:
                tell(before, degrees)
            except (gw.LinkLost, gw.SessionClosed):
                del self._watchers[watcher]


def main(what: str, url: str, *args: str) -> None:
    if what == "serve":
        gw.serve(Thermostat(), url)
    with gw.connect(url, service="thermostat") as conn:
        if what == "set":
            conn.root.set(float(args[0]))
            return
        told = threading.Event()

        def tell(before: float, now: float) -> None:
            print(f"{before} -> {now}", flush=True)
            told.set()

        print(f"It is {conn.root.watch(tell)} degrees.", flush=True)
        if what == "demo":
            conn.root.set(21.5)
        told.wait(10 if what == "demo" else None)


if __name__ == "__main__":
    main(*(sys.argv[1:] or ("demo", f"stdio:{sys.executable} {__file__} serve stdio:")))
