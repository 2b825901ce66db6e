"""The `classic` service of a board: its whole interpreter, for sessions."""

from __future__ import annotations

import re
from typing import Any

from rpyc_gateway.awaiting import Later
from rpyc_gateway.device.conversation import Primitive
from rpyc_gateway.device.standins import ASKED, Desk, Standin
from rpyc_gateway.proto.messages import Verb
from rpyc_gateway.service import Policy, PublicOnly, Service, expose

__all__ = ["BoardService"]


class BoardModules:
    """`modules.machine`, `modules["os.path"]`: the modules of a board, imported when asked for."""

    __slots__ = ("_desk",)

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        return self[name]

    def __getitem__(self, name: str) -> Any:
        return self._desk.later(Primitive.IMPORT, name)


class BoardPolicy(PublicOnly):
    """What is the board's is for whoever may use the board, whatever its name; what stands for it here is not."""

    def check(self, target: object, verb: Verb, name: str) -> str | None:
        if type(target) is not Standin or name in Standin.__slots__ or not is_of_board(verb, name):
            return super().check(target, verb, name)
        return None


def is_of_board(verb: Verb, name: str) -> bool:
    return re.fullmatch(r"_[^_].*", name) is not None or (verb is Verb.GET and name in ASKED)


class BoardService(Service):
    """The whole interpreter of a board, as `classic` is that of a node: `modules`, `builtins`, `namespace`, `eval`, `execute`."""

    __gw_policy__: Policy | None = BoardPolicy()

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._modules = BoardModules(desk)

    def on_connect(self, session: object) -> None:
        path: tuple[str, ...] = getattr(session, "path", ())
        self._desk.cause.name = (path[0] if len(path) > 1 else "") or "a session without a name"

    def on_disconnect(self, session: object) -> None:
        self._desk.close()

    @property
    @expose
    def modules(self) -> BoardModules:
        """The modules of the board."""
        return self._modules

    @property
    @expose
    def builtins(self) -> Any:
        """Its builtins."""
        return self._modules["builtins"]

    @property
    @expose
    def namespace(self) -> Any:
        """The dict in which `eval` and `execute` run."""
        return self._desk.later(Primitive.EVAL, "globals()")

    @expose
    def events(self, source: Any = None, **how: Any) -> Any:
        """What the interrupts of `source` are called with, as an endless iterator: `source.irq(handler=..., **how)` until it is closed, or dropped.

        Without a source, what the board calls the iterator with, which is to be given to it as an argument. 256 events wait, and `dropped` counts those beyond.
        """
        return Later(self._desk.hear(source, how))  # type: ignore[arg-type]

    @expose
    def show(self, write: Any) -> bool:
        """Call `write` with each line that is printed while the board does what this session asks for. False if this board cannot tell those from others.

        What the board is doing waits for it, and is interrupted if it raises. It must not ask the board for anything.
        """
        return self._desk.show(write)

    @expose
    def getmodule(self, name: str) -> Any:
        """Import a module by its dotted name."""
        return self._desk.later(Primitive.IMPORT, name)

    @expose
    def eval(self, text: str) -> Any:
        """Evaluate an expression in the board's namespace."""
        return self._desk.later(Primitive.EVAL, text)

    @expose
    def execute(self, text: str) -> Any:
        """Execute statements in the board's namespace."""
        return self._desk.later(Primitive.EXEC, text)
