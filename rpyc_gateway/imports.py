"""`with imports(conn):`, in which `import machine` is the far side's, to people and to type checkers."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from inspect import currentframe
from threading import Lock
from types import FrameType, SimpleNamespace, TracebackType
from typing import Any, Protocol

__all__ = ["imports"]


class HasModules(Protocol):
    """A session, of either face."""

    @property
    def modules(self) -> Any:
        """`modules["os.path"]` is that module there."""


class imports:  # noqa: N801  # it is read as a function: with imports(conn)
    """`import` statements written in the body of this `with` find the modules of the far side, and nothing of this one.

    Type checkers do not know that: they check what is done with `machine` by the stubs that are installed here for it. No other code is
    affected, neither in other threads nor what the body calls. The names are those of the block's scope and stay after it, as any import's.

    `conn` is a session that serves `classic`: of the blocking face, or of the trio face, whose expressions are awaited, which stubs do not know.
    Raises what an import raises there: ImportError; and ImportError for `from ... import *`.
    """

    def __init__(self, conn: HasModules) -> None:
        self._modules = conn.modules
        self._frame: FrameType | None = None
        self._outer: imports | None = None

    def __enter__(self) -> None:
        frame = self._frame = _caller()
        with _lock:
            self._outer = _open.get(frame)
            _open[frame] = self
            if builtins.__import__ is not _import:
                global _usual
                _usual = builtins.__import__
                builtins.__import__ = _import

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        frame, self._frame = self._frame, None
        with _lock:
            if self._outer is None:
                del _open[frame]
            else:
                _open[frame] = self._outer
            if not _open and builtins.__import__ is _import:  # or somebody has put a hook of their own around ours
                builtins.__import__ = _usual

    def find(self, name: str, wanted: Sequence[str]) -> Any:
        """What an import statement is given that wants these names of a module, or its first part if there are none."""
        module = self._modules[name]
        if not wanted:
            return self._modules[name.partition(".")[0]] if "." in name else module
        return SimpleNamespace(**{part: self._part(module, name, part) for part in wanted})

    def _part(self, module: Any, name: str, part: str) -> Any:
        if part == "*":
            raise ImportError(f"from {name} import *: the names of a far module are imported one by one")
        try:
            return getattr(module, part)
        except AttributeError:
            try:
                return self._modules[f"{name}.{part}"]
            except ImportError:
                raise ImportError(f"cannot import name {part!r} from {name!r} of the far side") from None


_lock = Lock()
_open: dict[FrameType | None, imports] = {}  # by the frame of the body
_usual = builtins.__import__


def _import(name: str, *context: Any, **named: Any) -> Any:
    """What stands for `builtins.__import__` while there is such a block anywhere."""
    match context:
        case (
            _,
            _,
            wanted,
            0,
        ):  # an import statement says all, by position: globals, locals, what is wanted of the module, dots before its name
            block = _open.get(_caller())
            if block is not None:
                return block.find(name, wanted or ())
    return _usual(name, *context, **named)


def _caller() -> FrameType | None:
    """The frame that has called the function that asks."""
    frame = currentframe()
    for _ in range(2):
        frame = frame and frame.f_back
    return frame
