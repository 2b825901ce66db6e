"""Worlds: places where the objects of a row live. Here, behind a session of ours, or behind a connection of RPyC."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

__all__ = ["MAKER", "LocalWorld", "RemoteWorld", "World", "made_by"]

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


class RemoteWorld(World):
    """Made by a far side; `obtain` and `deliver` are those of the library under test."""

    def __init__(
        self, made: Any, beyond: Any, obtain: Callable[[Any], object], deliver: Callable[[Any], object]
    ) -> None:
        names, known = made
        super().__init__(names, frozenset(known))
        self.obtain = obtain
        self.deliver = deliver
        if beyond is not None:
            self.beyond = World(beyond[0], frozenset(beyond[1]))


def made_by(
    conn: Any, setup: str, beyond: str, obtain: Callable[[Any], object], deliver: Callable[[Any], object]
) -> RemoteWorld:
    """What a setup made behind a session of ours or a connection of RPyC, which has executed MAKER: their vocabulary is the same."""
    make_beyond = conn.namespace["beyond"].namespace["make_names"] if beyond else lambda _setup: None
    return RemoteWorld(conn.namespace["make_names"](setup), make_beyond(beyond), obtain, deliver)
