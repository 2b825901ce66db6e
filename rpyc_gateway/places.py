"""Where served code runs: in worker threads, in the process's main thread, or in the thread that runs trio."""

from __future__ import annotations

import signal
import threading
from collections.abc import Awaitable, Callable, Sequence
from queue import Empty, SimpleQueue
from types import FrameType
from typing import Any, Literal, get_args

import trio

from rpyc_gateway.errors import ConfigError

__all__ = ["MainThread", "Runs", "check_place", "main_thread"]

Runs = Literal["threads", "main", "trio"]
"""`threads`: as many at once as there are callers. `main`: one after the other, in the main thread. `trio`: inline, must never block."""

LOOK_UP = 1.0
"""Seconds until the main thread looks up from what it waits for: a signal that another thread was given by the system does not wake it, nor one
that comes when it has looked last and does not wait yet."""

Task = Callable[[], object]
Main = Callable[[trio.Event], Awaitable[object]]


class MainThread:
    """The main thread as a place for served code: it runs what it is given while trio runs in another thread."""

    def __init__(self) -> None:
        self.given = False  # whether it takes tasks
        self._inbox: SimpleQueue[Task | None] = SimpleQueue()
        self._busy = False
        self._heard: signal.Signals | None = None
        self._thrown: KeyboardInterrupt | None = None
        self._before: dict[signal.Signals, Any] = {}
        self._tell: Callable[[], object] | None = None

    def submit(self, task: Task) -> None:
        """Run `task` there, after what was given before; from any thread."""
        self._inbox.put(task)

    def run(self, main: Main, signals: Sequence[signal.Signals]) -> signal.Signals | None:
        """Run `main` under trio in a thread of its own, and served code here, until `main` has returned. Raises what it raises.

        The first of `signals` sets the event that `main` is given, and raises KeyboardInterrupt in the served code that runs; the next one
        has the effect that it had before. Returns the signal that came. To be called in the main thread.
        """
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("served code can run in the main thread only where that is given to it: call this there")
        self.__init__()  # type: ignore[misc]  # what a run before this one left behind is nobody's
        failures: list[BaseException] = []
        thread = threading.Thread(target=self._run_trio, args=(main, failures), name="rpyc-gateway trio", daemon=True)
        self.given = True
        self._before = {number: signal.signal(number, self._hear) for number in signals}
        try:
            thread.start()
            self._serve()
            thread.join()
        finally:
            self.given = False
            self._restore()
        if failures:
            raise failures[0]
        return self._heard

    def _run_trio(self, main: Main, failures: list[BaseException]) -> None:
        async def told() -> None:
            event = trio.Event()
            token = trio.lowlevel.current_trio_token()
            self._tell = lambda: token.run_sync_soon(event.set)
            if self._heard is not None:  # before anybody listened
                event.set()
            await main(event)

        try:
            trio.run(told)
        except BaseException as error:  # noqa: BLE001  # raised again in the main thread
            failures.append(error)
        finally:
            self._inbox.put(None)

    def _serve(self) -> None:
        while True:
            try:
                task = self._inbox.get(timeout=LOOK_UP)
            except Empty:
                continue
            if task is None:
                return
            self._busy = True
            try:
                task()
            except KeyboardInterrupt as interrupt:
                # Ours, or one that served code raised by itself, which is no reason to end; what else comes after ours is in earnest.
                if self._heard is not None and interrupt is not self._thrown:
                    raise
            finally:
                self._busy = False
                del task

    def _hear(self, number: int, _frame: FrameType | None) -> None:
        self._heard = signal.Signals(number)
        self._restore()
        try:
            if self._tell is not None:
                self._tell()
        except trio.RunFinishedError:
            return
        if self._busy:
            self._thrown = KeyboardInterrupt(f"{self._heard.name}: this process is ending")
            raise self._thrown

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}


main_thread = MainThread()
"""The main thread of this process."""


def check_place(service: str, runs: str) -> None:
    """Raise ConfigError if the code of a service cannot run there in this process."""
    if runs not in get_args(Runs):
        known = ", ".join(map(repr, get_args(Runs)))
        raise ConfigError([f"service {service!r}: runs: must be one of {known}, not {runs!r}"])
    if runs == "main" and not main_thread.given:
        what = "runs trio" if threading.current_thread() is threading.main_thread() else "is the program's own"
        raise ConfigError(
            [
                f"service {service!r}: runs: its code cannot run in the main thread, which {what} here: "
                'serve with `gw.serve` or `rpyc-gw run`, which keep it free, or use "threads" or "trio"'
            ]
        )
