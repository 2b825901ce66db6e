"""People at a prompt: blocking code in the main thread, where Ctrl-C arrives, while trio runs in another thread and keeps the link alive."""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from queue import Empty, SimpleQueue
from typing import Generic, NoReturn, TypeVar

import trio

from rpyc_gateway.nursery import open_background
from rpyc_gateway.prompt import wake_main_thread

__all__ = ["Foreground"]

T = TypeVar("T")
T_ = TypeVar("T_")
LOOK = 0.2  # seconds between two looks whether Ctrl-C was pressed, where a queue does not notice that by itself


class Foreground(Generic[T]):
    """What an async context manager opens, for the main thread: `with Foreground(open_it) as it: it.call(work)`.

    `watch` is awaited meanwhile; when it raises, that is raised in the main thread: at once where that is `waiting_for_people`, else by `call`. Raises what
    opening and closing raise.
    """

    def __init__(
        self, opened: Callable[[], AbstractAsyncContextManager[T]], watch: Callable[[T], Awaitable[object]]
    ) -> None:
        self.it: T
        """What was opened."""
        self._opened = opened
        self._watch = watch
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="rpyc-gw board", daemon=True)
        self._begun: SimpleQueue[None] = SimpleQueue()
        self._scope = trio.CancelScope()
        self._token: trio.lowlevel.TrioToken | None = None
        self._nursery: trio.Nursery
        self._error: BaseException | None = None
        self._at_prompt = False

    def __enter__(self) -> Foreground[T]:
        self._thread.start()
        try:
            self._wait(self._begun)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        self._end()
        if self._error is not None and error is None:
            raise self._error

    def call(self, work: Callable[[T], Awaitable[T_]]) -> T_:
        """Await this in the thread of trio. Ctrl-C cancels it, and is raised as KeyboardInterrupt when it has ended."""
        done: SimpleQueue[Callable[[], T_]] = SimpleQueue()
        scope = trio.CancelScope()

        async def run() -> None:
            try:
                with scope:
                    value = await work(self.it)
                    done.put(lambda: value)
            except Exception as exc:  # noqa: BLE001 - it is raised in the main thread
                error = exc
                done.put(lambda: throw(error))
            if scope.cancelled_caught:
                done.put(lambda: throw(KeyboardInterrupt()))

        begun = False

        def begin() -> None:
            nonlocal begun
            begun = True
            self._nursery.start_soon(run)

        def interrupt() -> None:
            scope.cancel()
            if not begun:
                done.put(lambda: throw(KeyboardInterrupt()))

        todo: Callable[[], None] | None = begin
        while True:
            try:
                if todo is not None:
                    action, todo = todo, None
                    self._soon(action)
                outcome = self._wait(done)
            except KeyboardInterrupt:
                todo = interrupt
            else:
                return outcome()

    @contextmanager
    def waiting_for_people(self) -> Iterator[None]:
        """In the body what is lost is raised at once, although somebody is thinking."""
        with self._lock:
            if self._error is not None:
                raise self._error
            self._at_prompt = True
        try:
            yield
        except KeyboardInterrupt:
            if self._error is not None:
                raise self._error from None
            raise
        finally:
            self._at_prompt = False

    def _wait(self, queue: SimpleQueue[T_]) -> T_:
        while True:
            alive = self._thread.is_alive()
            try:
                return queue.get(timeout=LOOK)
            except Empty:
                if not alive:
                    raise self._error or RuntimeError("the thread of the board has ended") from None

    def _soon(self, action: Callable[[], object]) -> None:
        if self._token is not None:
            try:
                self._token.run_sync_soon(action)
            except trio.RunFinishedError:
                return  # `_wait` tells why

    def _end(self) -> None:
        while self._thread.is_alive():
            self._soon(self._scope.cancel)
            self._thread.join(LOOK)

    def _run(self) -> None:
        try:
            trio.run(self._attend)
        except BaseException as exc:  # noqa: BLE001 - it is raised in the main thread
            with self._lock:
                self._error = exc
            while self._at_prompt:
                wake_main_thread()
                time.sleep(LOOK)  # a signal that came just before the main thread began to wait has not woken it

    async def _attend(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        with self._scope:
            async with self._opened() as self.it, open_background() as self._nursery:
                self._begun.put(None)
                await self._watch(self.it)
                await trio.sleep_forever()


def throw(error: BaseException) -> NoReturn:
    raise error
