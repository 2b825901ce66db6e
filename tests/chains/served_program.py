"""What a user of RPyC serves, in a process of its own: python served_program.py URL. test_services.py runs it."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import trio
import trio.lowlevel

import rpyc_gateway as gw


class FileMonitorService(gw.Service):
    """RPyC's tutorial has it so, but for the names of the library."""

    class exposed_FileMonitor:  # noqa: N801  # exposing names is not limited to methods
        """Tells of each change of a file's size."""

        def __init__(self, filename: str, callback: Any, interval: float = 1) -> None:
            self.filename = filename
            self.interval = interval
            self.last_stat: os.stat_result | None = None
            self.callback = gw.async_(callback)  # create an async callback
            self.active = threading.Event()
            self.exposed_looked = threading.Event()
            self.thread = threading.Thread(target=self.work)
            self.thread.start()

        def exposed_stop(self) -> None:  # this method has to be exposed too
            self.active.set()
            self.thread.join()

        def work(self) -> None:
            while not self.active.wait(self.interval):
                stat = os.stat(self.filename)
                if self.last_stat is not None and self.last_stat.st_size != stat.st_size:
                    self.callback(self.last_stat.st_size, stat.st_size)  # notify the client of the change
                self.last_stat = stat
                self.exposed_looked.set()


class Lab(FileMonitorService):
    """What else a service can have."""

    sessions = 0
    most = 0

    def __init__(self) -> None:
        self.value = 1
        self.exposed_instance = id(self)

    def on_connect(self, session: object) -> None:
        """One more."""
        Lab.sessions += 1
        Lab.most = max(Lab.most, Lab.sessions)

    def on_disconnect(self, session: object) -> None:
        """One less."""
        Lab.sessions -= 1

    @gw.expose
    def counts(self) -> tuple[int, int]:
        return Lab.sessions, Lab.most

    @property
    @gw.expose
    def level(self) -> int:
        return self.value

    @level.setter
    @gw.expose
    def level(self, value: int) -> None:
        if value > 10:
            raise ValueError("too loud")
        self.value = value

    @property
    @gw.expose
    def broken(self) -> int:
        raise LookupError("this attribute raises")

    @gw.expose
    async def later(self, value: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return value

    @gw.expose
    async def ticks(self, count: int) -> AsyncIterator[int]:
        for n in range(count):
            await trio.lowlevel.checkpoint()
            yield n

    @gw.expose
    def steps(self, count: int) -> Iterator[int]:
        yield from range(count)

    @gw.expose
    def view(self) -> Any:
        return gw.restricted(self, {"value", "private"}, {"value"})

    def private(self) -> str:
        return "shown by the view only"


if __name__ == "__main__":
    gw.serve(Lab, sys.argv[1], name="lab")
