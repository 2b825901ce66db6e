"""Makes functions that were teleported. It is sent to the far side as text: standard library only (Python 3.8 and later)."""

from __future__ import annotations

import builtins
import marshal
import sys
from functools import reduce
from importlib import import_module
from importlib.util import MAGIC_NUMBER
from types import CellType, CodeType, FunctionType
from typing import Any


def land(magic: bytes, version: str, spaces: Any, functions: Any, cells: Any) -> Any:
    """The first of the functions, made of what teleporting.py has written down of it.

    Raises TypeError if bytecode of another Python came without source, ImportError if what they use cannot be imported here.
    """
    return _Landing(magic, version, spaces, functions, cells).made[0]


class _Landing:
    """All that has come with one function: first each thing is made, then filled, for they may refer to each other."""

    def __init__(self, magic: bytes, version: str, spaces: Any, functions: Any, cells: Any) -> None:
        self._root = functions[0][0]
        self._version = version
        scopes: list[dict[str, Any]] = [{"__name__": name, "__builtins__": builtins} for name, _ in spaces]
        made_cells = [CellType() for _ in cells]
        self.made: list[FunctionType] = []
        for name, data, source, space, closure, _ in functions:
            code = marshal.loads(data) if magic == MAGIC_NUMBER else self._compile(source, name)
            known = {free: made_cells[number] for free, number in closure}
            self.made.append(
                FunctionType(code, scopes[space], name, None, tuple(known[free] for free in code.co_freevars))
            )
        for number, (_, names) in enumerate(spaces):
            scopes[number].update(self._values(names))
        for number, told in enumerate(cells):
            if told[0] != "empty":
                made_cells[number].cell_contents = self._value(told)
        for number, told in enumerate(functions):
            self._fill(self.made[number], *told[-1])

    def _fill(
        self, function: FunctionType, defaults: Any, keywords: Any, annotations: Any, attributes: Any, names: Any
    ) -> None:
        function.__defaults__ = tuple(map(self._value, defaults)) or None
        function.__kwdefaults__ = self._values(keywords)
        function.__annotations__ = self._values(annotations)
        function.__dict__.update(self._values(attributes))
        function.__qualname__, function.__module__, function.__doc__ = names

    def _values(self, told: Any) -> dict[str, Any]:
        return {name: self._value(value) for name, value in told}

    def _value(self, told: Any) -> Any:
        kind, what = told
        if kind == "plain":
            return what
        if kind == "function":
            return self.made[what]
        module, path, others = what
        try:
            for other in others:
                import_module(other)
            return reduce(getattr, path, import_module(module))
        except (ImportError, AttributeError) as exc:
            wanted = ".".join((module, *path))
            raise ImportError(f"{self._root} uses {wanted}, which cannot be imported here: {exc}") from exc

    def _compile(self, source: str | None, name: str) -> CodeType:
        here = ".".join(map(str, sys.version_info[:3]))
        if source is None:
            raise TypeError(
                f"the bytecode of {name} is of Python {self._version}, and Python {here} is here: it would have to go as source, and none was found there."
                " Define it with `def` in a file, or conn.execute() its text"
            )
        space: dict[str, Any] = {}
        try:
            exec(compile(source, f"<teleported {name}>", "exec"), space)
        except SyntaxError as exc:
            raise TypeError(
                f"the source of {name} is for Python {self._version}, and Python {here} is here: {exc}"
            ) from exc
        code: CodeType = space["make"]().__code__
        return code
