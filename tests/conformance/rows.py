"""Rows: what is done to objects, written once for every place they may live in."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from textwrap import dedent
from types import CodeType
from typing import Any

__all__ = ["AsyncRow", "Chapter", "Row"]

Use = Callable[[Any], object]
AsyncUse = Callable[[Any], Awaitable[object]]


@dataclass(frozen=True)
class Row:
    """One use of the objects that `setup` makes. What comes out of it is the same wherever they are."""

    chapter: str
    name: str
    setup: str
    use: Use
    beyond: str = ""  # a second setup, for a place that only the first place reaches

    def __str__(self) -> str:
        return f"{self.chapter}: {self.name}"


@dataclass(frozen=True)
class AsyncRow:
    """The same for trio code."""

    chapter: str
    name: str
    setup: str
    use: AsyncUse

    def __str__(self) -> str:
        return f"{self.chapter}: {self.name}"


class Chapter:
    """The rows about one part of the language, in the order in which they are written."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.rows: list[Row] = []
        self.async_rows: list[AsyncRow] = []

    def lines(self, setup: str, *lines: str, about: str = "") -> None:
        """Rows that are one line each: statements, and an expression at the end, in which the names of the setup mean its objects."""
        for line in lines:
            self.rows.append(Row(self.name, f"{about}{line}", dedent(setup), _Line(line)))

    def row(self, setup: str, beyond: str = "") -> Callable[[Use], Use]:
        """A row that is a function of a world; its name says what it shows."""

        def add(use: Use) -> Use:
            self.rows.append(Row(self.name, _title(use), dedent(setup), use, dedent(beyond)))
            return use

        return add

    def async_row(self, setup: str) -> Callable[[AsyncUse], AsyncUse]:
        """A row of trio code."""

        def add(use: AsyncUse) -> AsyncUse:
            self.async_rows.append(AsyncRow(self.name, _title(use), dedent(setup), use))
            return use

        return add


def _title(use: Callable[..., object]) -> str:
    return use.__name__.strip("_").replace("_", " ")


class _Line:
    """Runs a line with the names of a world."""

    def __init__(self, line: str) -> None:
        statements = ast.parse(line).body
        last = statements.pop().value if isinstance(statements[-1], ast.Expr) else ast.parse("None", mode="eval").body
        self._statements = compile(ast.Module(statements, []), line, "exec")
        self._result = compile(ast.Expression(last), line, "eval")
        self._names = _names(self._statements) | _names(self._result)

    def __call__(self, world: Any) -> object:
        scope = {name: getattr(world, name) for name in self._names & world.names}
        scope["__builtins__"] = builtins
        scope["__name__"] = __name__
        exec(self._statements, scope)
        return eval(self._result, scope)


def _names(code: CodeType) -> set[str]:
    inner = [_names(part) for part in code.co_consts if isinstance(part, CodeType)]
    return set(code.co_names).union(*inner)
