"""What trio code sees of a session: the objects that it begins with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from rpyc_gateway.async_proxy import AsyncProxy, async_proxy
from rpyc_gateway.held import Held
from rpyc_gateway.proto.messages import Verb
from rpyc_gateway.teleporting import teleport

__all__ = ["TrioFace"]


class TrioFace(ABC):
    """`modules`, `builtins`, `namespace`, `eval`, `execute` and `root` of a session; what they give is to be awaited."""

    held_root: Held
    _root: AsyncProxy | None = None  # kept: each expression begins with it, and to make it takes the link's turn

    @abstractmethod
    def step(self) -> AbstractContextManager[None]:
        """Hold the link's turn."""

    @property
    def root(self) -> AsyncProxy:
        """The root of what the far side serves."""
        if self._root is None:
            with self.step():
                self._root = async_proxy(self.held_root)
        return self._root

    @property
    def modules(self) -> Any:
        """`await session.modules.os.path.join("a", "b")`; `session.modules["os.path"]`."""
        return self.root.modules

    @property
    def builtins(self) -> Any:
        """The far side's builtins."""
        return self.root.builtins

    builtin = builtins

    @property
    def namespace(self) -> Any:
        """The dict in which `eval` and `execute` run."""
        return self.root.namespace

    def eval(self, text: str) -> Any:
        """Evaluate an expression there; to be awaited."""
        return self.root.eval(text)

    def execute(self, text: str) -> Any:
        """Execute statements there; to be awaited."""
        return self.root.execute(text)

    def teleport(self, function: Callable[..., Any]) -> Any:
        """A function of this process, made again there; to be awaited. See `teleport`."""
        return teleport(self, function)

    async def ping(self, data: object = None) -> object:
        """Send `data` there and back."""
        return await self.held_root.caller.ask_async(0, ((Verb.VALUE, 0, data),))
