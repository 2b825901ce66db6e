"""The agent as it is sent: composed of its sections, made small, cut into parts that a small heap can compile."""

from __future__ import annotations

import ast
import re
from functools import cache
from importlib import resources

from rpyc_gateway.device.minify import minify

__all__ = ["PART", "agent", "agent_names", "parts"]

PART = 800
"""Bytes of one part: with more a heap of 24 KB of words of 64 bits is too small for the last of them."""


@cache
def agent(*sections: str) -> str:
    """The agent's source, small, of these sections of agent.py and hosted.py, in this order.

    Raises KeyError for a section that it has not.
    """
    by_name: dict[str, str] = {}
    for file in ("agent.py", "hosted.py"):
        found = re.split(r"^#: (\w+)$", resources.files(__package__).joinpath(file).read_text(), flags=re.MULTILINE)
        by_name |= dict(zip(found[1::2], found[2::2], strict=True))
    return minify("".join(by_name[name] for name in sections), keep={"main", "begin"})


@cache
def agent_names(*sections: str) -> tuple[str, ...]:
    """What this agent defines at the left margin, in its order."""
    names: dict[str, None] = {}
    for node in ast.parse(agent(*sections)).body:
        if isinstance(node, ast.FunctionDef):
            names[node.name] = None
        elif isinstance(node, ast.Assign):
            found = [part.id for target in node.targets for part in ast.walk(target) if isinstance(part, ast.Name)]
            names.update(dict.fromkeys(found))
    return tuple(names)


def parts(source: str, most: int = PART) -> list[str]:
    """`source`, cut at statements of the left margin into parts of at most so many bytes, if no statement is longer.

    Raises SyntaxError if it is no program for the Python of this process.
    """
    lines = source.splitlines(keepends=True)
    starts = [
        min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", []))]) - 1
        for node in ast.parse(source).body
    ]
    cut: list[str] = []
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        statement = "".join(lines[start:end])
        if cut and len((cut[-1] + statement).encode()) <= most:
            cut[-1] += statement
        else:
            cut.append(statement)
    return cut
