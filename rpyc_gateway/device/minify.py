"""Makes a small Python program smaller: no comments, docstrings, needless space and lines; short names."""

from __future__ import annotations

import ast
import io
import keyword
import tokenize
from collections import Counter
from collections.abc import Iterable
from itertools import product
from string import ascii_letters, ascii_lowercase, ascii_uppercase

__all__ = ["minify"]

PAIRS = ["".join(pair) for pair in product(ascii_letters, repeat=2)]


def minify(source: str, *, keep: set[str]) -> str:
    """The same program. Names that it binds itself are changed, but those to `keep`.

    It is for programs that are written for it, in ASCII: no names in strings (nor f-strings), no keyword arguments to their own functions, no `def` in a `def`.
    Raises SyntaxError.
    """
    names = Names(ast.parse(source), keep)
    lines: list[tuple[int, str]] = []  # depth and text
    line = ""
    depth = 0
    after_dot = False
    for kind, text, start, _, _ in tokenize.generate_tokens(io.StringIO(source).readline):
        if kind == tokenize.INDENT:
            depth += 1
        elif kind == tokenize.DEDENT:
            depth -= 1
        elif kind == tokenize.NEWLINE:
            if not is_docstring(line):
                lines.append((depth, line))
            line = ""
        elif kind in (tokenize.NAME, tokenize.NUMBER, tokenize.STRING, tokenize.OP):
            if kind == tokenize.NAME and not after_dot:
                text = names.short(text, start)
            line += " " * (bool(line) and is_word(line[-1]) and is_word(text[0])) + text
            after_dot = text == "."
    return "".join(f"{' ' * depth}{text}\n" for depth, text in joined(lines))


def is_word(character: str) -> bool:
    return character.isalnum() or character == "_"


def is_docstring(line: str) -> bool:
    return line.startswith(('"', "'")) and line.endswith(('"', "'"))


def joined(lines: list[tuple[int, str]]) -> list[tuple[int, str]]:
    """Simple statements in one line, behind what they depend on if nothing else does. At the left margin each keeps its line."""
    runs: list[tuple[int, str]] = []
    for depth, text in lines:
        if depth and runs and runs[-1][0] == depth and is_simple(text) and is_simple(runs[-1][1]):
            runs[-1] = (depth, f"{runs[-1][1]};{text}")
        else:
            runs.append((depth, text))
    short: list[tuple[int, str]] = []
    for at, (depth, text) in enumerate(runs):
        alone = at + 1 == len(runs) or runs[at + 1][0] < depth
        if alone and is_simple(text) and short and short[-1][0] == depth - 1 and not is_simple(short[-1][1]):
            short[-1] = (depth - 1, short[-1][1] + text)
        else:
            short.append((depth, text))
    return short


def is_simple(line: str) -> bool:
    """Whether it may stand behind a semicolon or a colon."""
    return not line.endswith(":") and not line.startswith("@")


class Names:
    """New names for those that a program binds, shortest for the most used: global ones have a capital or two letters, local ones a small letter."""

    def __init__(self, tree: ast.Module, keep: set[str]) -> None:
        nodes = list(ast.walk(tree))
        functions = [node for node in nodes if isinstance(node, ast.FunctionDef | ast.Lambda)]
        inside = {id(child) for node in functions for child in ast.walk(node)}
        imported = (alias for node in nodes if isinstance(node, ast.Import | ast.ImportFrom) for alias in node.names)
        fixed = keep | {alias.asname or alias.name for alias in imported}
        for node in nodes:
            if isinstance(node, ast.ClassDef):  # what is in it is an attribute
                fixed |= bound(node.body) | {child.name for child in node.body if isinstance(child, ast.FunctionDef)}
        outer = bound(node for node in nodes if id(node) not in inside)
        outer |= {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        used = uses(nodes)
        self._outer = shortened(outer - fixed, used, [*ascii_uppercase, *PAIRS], fixed | (used.keys() - outer))
        self._scopes: list[tuple[tuple[int, int], tuple[int, int], dict[str, str]]] = []
        for node in functions:
            children = list(ast.walk(node))
            shared = {name for child in children if isinstance(child, ast.Global) for name in child.names}
            local = bound(children) - shared - fixed
            used = uses(children)
            taken = fixed | {self._outer.get(name, name) for name in used.keys() - local}
            end = (node.end_lineno or 0, node.end_col_offset or 0)
            scope = shortened(local, used, [*ascii_lowercase, *PAIRS], taken)
            self._scopes.insert(0, ((node.lineno, node.col_offset), end, scope))

    def short(self, name: str, where: tuple[int, int]) -> str:
        """What the name at this line and column is called from now on."""
        for start, end, scope in self._scopes:
            if start <= where < end and name in scope:
                return scope[name]
        return self._outer.get(name, name)


def bound(nodes: Iterable[ast.AST]) -> set[str]:
    """The names that these parts of a program bind, but functions, classes and imports."""
    names: set[str] = set()
    for node in nodes:
        match node:
            case ast.arg(arg=name) | ast.ExceptHandler(name=str(name)) | ast.Name(id=name, ctx=ast.Store()):
                names.add(name)
    return names


def uses(nodes: Iterable[ast.AST]) -> Counter[str]:
    return Counter(node.id for node in nodes if isinstance(node, ast.Name))


def shortened(names: set[str], used: Counter[str], candidates: list[str], taken: set[str]) -> dict[str, str]:
    free = (name for name in candidates if name not in taken and not keyword.iskeyword(name))
    ordered = sorted((name for name in names if not name.startswith("__")), key=lambda name: (-used[name], name))
    return dict(zip(ordered, free, strict=False))
