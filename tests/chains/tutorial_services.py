"""The services of RPyC's tutorial and of its pages, in our words, in one process: python tutorial_services.py URL. test_rpyc_tutorials.py runs it."""

from __future__ import annotations

import functools
import os
import sys
import threading
from typing import Any

import trio

import rpyc_gateway as gw
from rpyc_gateway.gateway import Offer


class MyService(gw.Service):
    """Part 3: what begins with `exposed_` is for others."""

    def __init__(self) -> None:
        self.began = False

    def on_connect(self, session: object) -> None:
        self.began = True

    def exposed_get_answer(self) -> int:
        return 42

    def exposed_has_begun(self) -> bool:
        return self.began

    def get_question(self) -> str:
        return "what is the airspeed velocity of an unladen swallow?"

    class exposed_Pair:  # noqa: N801  # the prefix is for classes too
        """Made by clients."""

        def __init__(self, a: int, b: int) -> None:
            self.a = a
            self.b = b

        def exposed_total(self) -> int:
            return self.a + self.b


class CalculatorService(gw.Service):
    """The page on services, with marks instead of names."""

    @gw.expose
    def add(self, a: float, b: float) -> float:
        return a + b

    @gw.expose
    def div(self, a: float, b: float) -> float:
        return a / b

    def foo(self) -> None: ...


class MeetingService(gw.Service):
    """Two sides that serve each other: a client has no root of its own, and hands over an object or a function."""

    @gw.expose
    def bar(self, client: Any) -> str:
        return client.foo() + "bar"

    @gw.expose
    def bar_with(self, function: Any) -> str:
        return function() + "bar"

    @gw.expose
    def peek(self, client: Any) -> object:
        return client.secret


class FileMonitorService(gw.Service):
    """Part 5: events."""

    class exposed_FileMonitor:  # noqa: N801
        """Tells of each change of a file."""

        def __init__(self, filename: str, callback: Any, interval: float = 1) -> None:
            self.filename = filename
            self.interval = interval
            self.last: os.stat_result | None = None
            self.callback = gw.async_(callback)  # nobody waits for it
            self.over = threading.Event()
            self.exposed_seen = threading.Event()  # instead of "wait a little for it to have a look"
            self.thread = threading.Thread(target=self.work)
            self.thread.start()

        def exposed_stop(self) -> None:
            self.over.set()
            self.thread.join()

        def work(self) -> None:
            while not self.over.wait(self.interval):
                stat = os.stat(self.filename)
                if self.last is not None and self.last != stat:
                    self.callback(self.last, stat)
                self.last = stat
                self.exposed_seen.set()


class Protected:
    """The page on security: a private attribute that is to be seen all the same."""

    def __init__(self) -> None:
        self._secret = 18
        self.other = 19


class CautiousService(gw.Service, reads={"level", "secret"}, writes={"level"}):
    """The page on security: views, wrappers, and rules in place of `_rpyc_getattr`."""

    def __init__(self) -> None:
        self.level = 1
        self.hidden = Protected()

    @property
    def secret(self) -> int:
        return self.hidden._secret

    @gw.expose
    def open(self, filename: str) -> Any:
        return gw.restricted(open(filename), ["read", "close"], [])

    @gw.expose
    def wrapped(self) -> Any:
        return gw.restricted(self.hidden, ["other"], [])


class RoomService(gw.Service):
    """Takes arguments, for which RPyC has `classpartial`."""

    def __init__(self, name: str, *, floor: int) -> None:
        self.exposed_place = (name, floor)
        self.exposed_guests: list[str] = []


SERVICES = {
    kind.service_name(): Offer(kind, ("*",))
    for kind in (MyService, CalculatorService, MeetingService, FileMonitorService, CautiousService)
}
SERVICES["room"] = Offer(functools.partial(RoomService, "blue", floor=2), ("*",))


async def main(url: str) -> None:
    config = gw.Config(node={"name": "desk"}, listen=[{"url": url}])
    async with gw.open_node(config, services=SERVICES):
        await trio.sleep_forever()


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
