"""Worlds: places where the objects of a row live. Here, behind a session of ours, or behind a connection of RPyC."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future
from copy import deepcopy
from threading import Thread
from typing import Any, NamedTuple

__all__ = ["MAKER", "Kit", "LocalWorld", "RemoteWorld", "World", "made_by"]

MAKER = """
import sys, types
def make_names(source):
    module = types.ModuleType("conformance")
    sys.modules["conformance"] = module
    try: exec(compile(source, "<setup>", "exec"), module.__dict__)
    finally: del sys.modules["conformance"]
    return module.__dict__, frozenset(module.__dict__)
"""
"""What a far side executes once, so that each row has names of its own. Their module exists only while the setup runs, for dataclasses look
for it: far classes must not be found here by name."""


class World:
    """The names that a setup made, as attributes."""

    def __init__(self, names: Any, known: frozenset[str]) -> None:
        self._objects = names
        self.names = known

    def __getattr__(self, name: str) -> Any:
        return self._objects[name]


class LocalWorld(World):
    """Made by executing the setup here."""

    def __init__(self, setup: str, beyond: str = "") -> None:
        scope: dict[str, Any] = {}
        exec(MAKER, scope)
        super().__init__(*scope["make_names"](setup))
        if beyond:
            self.beyond = LocalWorld(beyond)

    @staticmethod
    def obtain(value: object) -> object:
        return deepcopy(value)

    deliver = obtain

    @staticmethod
    def async_(function: Callable[..., Any]) -> Callable[..., LocalResult]:
        return lambda *args, **kwargs: LocalResult(function, args, kwargs)

    @staticmethod
    def timed(function: Callable[..., Any], seconds: float) -> Callable[..., LocalResult]:
        return lambda *args, **kwargs: LocalResult(function, args, kwargs, seconds)

    @staticmethod
    def buffiter(iterable: Iterable[Any], _chunk: int = 10, _max_chunk: int = 1000, _factor: float = 2) -> Any:
        return iter(iterable)


class LocalResult:
    """What an AsyncResult is to a function of this process, which runs in a thread."""

    def __init__(self, function: Callable[..., Any], args: Any, kwargs: Any, seconds: float | None = None) -> None:
        self._future: Future[Any] = Future()
        self._seconds = seconds
        self._callbacks: list[Any] = []
        Thread(target=self._run, args=(function, args, kwargs), daemon=True).start()

    def _run(self, function: Callable[..., Any], args: Any, kwargs: Any) -> None:
        try:
            self._future.set_result(function(*args, **kwargs))
        except Exception as error:  # noqa: BLE001  # it is the outcome
            self._future.set_exception(error)

    def wait(self) -> None:
        try:
            self._future.exception(self._seconds)
        except TimeoutError:
            raise TimeoutError("result expired") from None
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(self)

    @property
    def value(self) -> Any:
        self.wait()
        return self._future.result()

    @property
    def ready(self) -> bool:
        return self._future.done()

    @property
    def error(self) -> bool:
        return self.ready and self._future.exception() is not None

    @property
    def expired(self) -> bool:
        return self._seconds is not None and not self.ready

    def add_callback(self, function: Callable[[Any], object]) -> None:
        self._callbacks.append(function)
        if self.ready:
            self.wait()

    def set_expiry(self, seconds: float | None) -> None:
        self._seconds = seconds


class Kit(NamedTuple):
    """The tools of a library under test."""

    obtain: Callable[[Any], object]
    deliver: Callable[[Any], object]
    async_: Callable[[Any], Any]
    timed: Callable[[Any, float], Any]
    buffiter: Callable[..., Any]


class RemoteWorld(World):
    """Made by a far side; the tools are those of the library under test."""

    def __init__(self, made: Any, beyond: Any, kit: Kit) -> None:
        names, known = made
        super().__init__(names, frozenset(known))
        self.obtain, self.deliver, self.async_, self.timed, self.buffiter = kit
        if beyond is not None:
            self.beyond = World(beyond[0], frozenset(beyond[1]))


def made_by(conn: Any, setup: str, beyond: str, kit: Kit) -> RemoteWorld:
    """What a setup made behind a session of ours or a connection of RPyC, which has executed MAKER: their vocabulary is the same."""
    make_beyond = conn.namespace["beyond"].namespace["make_names"] if beyond else lambda _setup: None
    return RemoteWorld(conn.namespace["make_names"](setup), make_beyond(beyond), kit)
