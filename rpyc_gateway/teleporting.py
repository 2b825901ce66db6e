"""`teleport`: a function of this process is made again on the far side, and called there."""

from __future__ import annotations

import ast
import dis
import inspect
import marshal
import sys
from collections.abc import Iterable, Iterator
from importlib.resources import files
from importlib.util import MAGIC_NUMBER
from types import CellType, CodeType, FunctionType, ModuleType
from typing import Any, TypeVar

from rpyc_gateway.proto.copies import DEEP, Copied
from rpyc_gateway.proto.plain import ATOMS, KINDS
from rpyc_gateway.proto.values import DEPTH, by_value, travels

__all__ = ["teleport"]

Told = tuple[str, Any]
_Function = TypeVar("_Function")

BOARDS = ("micropython", "circuitpython")
REFUSAL = 'raise TypeError("functions of CPython do not run on a board: conn.execute(source) defines them there")'
VERSION = ".".join(map(str, sys.version_info[:3]))
_GLOBAL = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "STORE_GLOBAL", "DELETE_GLOBAL"})


def teleport(conn: Any, function: _Function) -> Any:
    """A proxy of a function that is made there as `function` is here; in trio code it is awaited. `conn` is a session with `classic`.

    Its closure, defaults, annotations and attributes go with it, and the globals that it uses: plain data as copies; modules, and functions and classes
    of other modules, by their names, and are imported there; functions of its own module are teleported too. Lambdas, generators,
    `async def` and nested functions are functions. Where the far side's Python has other bytecode they go as source.

    Raises TypeError for what is no function of Python code, for anything in it that cannot go (the message names it), and where source is needed and
    there is none, and for a board; ImportError where the far side does not have a module.
    """
    if not isinstance(function, FunctionType):
        raise TypeError(_refusal(function))
    packed = [Copied(part, DEEP) for part in _Luggage(function).packed()]
    source = files(__package__).joinpath("landing.py").read_text(encoding="utf-8")
    chosen = f"{REFUSAL!r} if __import__('sys').implementation.name in {BOARDS!r} else {source!r}"
    land = f"(lambda space: exec(compile({chosen}, 'rpyc_gateway/landing.py', 'exec'), space) or space['land'])({{'__name__': 'landing'}})"
    return conn.eval(land)(*packed)


def _refusal(thing: object) -> str:
    if isinstance(thing, type):
        return f"the class {thing.__qualname__} cannot be teleported, only functions: upload_package() its module, or define it within the function"
    if inspect.ismethod(thing):
        return f"{thing.__qualname__} is a method, and its object stays here: teleport a function, and pass it what it needs"
    if inspect.isroutine(thing):
        return f"{thing.__name__} is not written in Python, there is nothing to send: conn.modules and conn.builtins have what is there"
    return f"a {type(thing).__qualname__} cannot be teleported, only functions that are written in Python"


class _Luggage:
    """A function and all that has to go with it, each thing once: what is shared here is shared there."""

    def __init__(self, root: FunctionType) -> None:
        self._root = root
        self._functions: list[FunctionType] = []
        self._spaces: list[dict[str, Any]] = []
        self._names: list[dict[str, Told]] = []
        self._cells: list[CellType] = []
        self._contents: list[Told] = []
        self._told: list[tuple[Any, ...]] = []

    def packed(self) -> tuple[Any, ...]:
        """What `landing.land` takes."""
        self._add(self._root)
        for function in self._functions:  # it grows meanwhile
            self._told.append(self._tell(function))
        spaces = tuple(
            (str(space.get("__name__")), tuple(names.items()))
            for space, names in zip(self._spaces, self._names, strict=True)
        )
        return MAGIC_NUMBER, VERSION, spaces, tuple(self._told), tuple(self._contents)

    def _add(self, function: FunctionType) -> int:
        return _place(self._functions, function)

    def _tell(self, function: FunctionType) -> tuple[Any, ...]:
        code, where = function.__code__, function.__qualname__
        space = self._pack_globals(function)
        closure = tuple(
            (name, self._pack_cell(cell, f"{name}, which {where} has from around it,"))
            for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True)
        )
        facts = (
            tuple(self._value(value, f"a default of {where}") for value in function.__defaults__ or ()),
            self._values(function.__kwdefaults__ or {}, f"of {where}, the default"),
            tuple((name, self._annotation(value)) for name, value in inspect.get_annotations(function).items()),
            self._values(function.__dict__, f"of {where}, the attribute"),
            (where, function.__module__, function.__doc__),
        )
        return function.__name__, marshal.dumps(code), _source(code), space, closure, facts

    def _pack_globals(self, function: FunctionType) -> int:
        scope = function.__globals__
        number = _place(self._spaces, scope)
        if number == len(self._names):
            self._names.append({})
        names = self._names[number]
        used = [part.co_names for part in _codes(function.__code__)]
        for name in _globals(function.__code__):
            if name in scope and name not in names:
                where = f"{name}, a global that {function.__qualname__} uses,"
                names[name] = self._value(scope[name], where, {word for words in used for word in words})
        return number

    def _pack_cell(self, cell: CellType, where: str) -> int:
        number = _place(self._cells, cell)
        if number == len(self._contents):
            self._contents.append(("empty", None))
            try:
                self._contents[number] = self._value(cell.cell_contents, where)
            except ValueError:  # it is empty
                return number
        return number

    def _values(self, values: dict[str, Any], where: str) -> tuple[tuple[str, Told], ...]:
        return tuple((name, self._value(value, f"{where} {name}")) for name, value in values.items())

    def _annotation(self, value: object) -> Told:
        try:
            return self._value(value, "")
        except TypeError:
            return "plain", inspect.formatannotation(value)  # it is for readers

    def _value(self, value: Any, where: str, used: Iterable[str] = ()) -> Told:
        if isinstance(value, ModuleType) and value.__name__ != "__main__":
            used = set(used)
            beginning = f"{value.__name__}."
            below = (name for name in list(sys.modules) if name.startswith(beginning))
            return "import", (
                value.__name__,
                (),
                tuple(name for name in below if used.issuperset(name.removeprefix(beginning).split("."))),
            )
        if self._is_elsewhere(value):
            return "import", (value.__module__, tuple(value.__qualname__.split(".")), ())
        if isinstance(value, FunctionType):
            return "function", self._add(value)
        if _is_plain(value):
            return "plain", value
        raise TypeError(
            f"{where} cannot go with {self._root.__qualname__}: {_refusal(value)}. Plain data, modules and functions can; what else it needs, pass it as an argument"
        )

    def _is_elsewhere(self, value: Any) -> bool:
        """Whether it is a class or function of another module, where it is found by its name."""
        if not (isinstance(value, type) or inspect.isroutine(value)) or inspect.ismethod(value):
            return False
        module = getattr(value, "__module__", None)
        if module in (None, "__main__", self._root.__module__):
            return False
        found: Any = sys.modules.get(module)
        for name in value.__qualname__.split("."):
            found = getattr(found, name, None)
        return found is value


def _place(things: list[Any], thing: object) -> int:
    """Where it is among things that are told apart by identity; it is added if it is not."""
    for number, known in enumerate(things):
        if known is thing:
            return number
    things.append(thing)
    return len(things) - 1


def _is_plain(value: Any, depth: int = 0) -> bool:
    kind = type(value)
    if depth > DEPTH or isinstance(value, type):
        return False
    if kind in (tuple, frozenset) or kind in KINDS - ATOMS:
        items: list[Any] = list(value)
        if issubclass(kind, dict):
            items += value.values()
        return all(_is_plain(item, depth + 1) for item in items)
    return kind in ATOMS or by_value(value) or travels(kind)


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _globals(code: CodeType) -> Iterator[str]:
    for part in _codes(code):
        for instruction in dis.get_instructions(part):
            if instruction.opname in _GLOBAL:
                yield instruction.argval


def _source(code: CodeType) -> str | None:
    """A function `make` that returns one with this code, for any Python; None where its source is not found or not told from others."""
    try:
        text = inspect.getsource(code)
        tree = ast.parse(f"if 1:\n{text}" if text[:1].isspace() else text)
    except (OSError, TypeError, SyntaxError):
        return None
    if code.co_name == "<lambda>":
        lambdas = [node for node in ast.walk(tree) if isinstance(node, ast.Lambda)]
        if len(lambdas) != 1:
            return None
        _strip(lambdas[0].args)
        body = f"return {ast.unparse(lambdas[0])}"
    else:
        found = [
            node
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == code.co_name
        ]
        if not found:
            return None
        found[0].decorator_list, found[0].returns = [], None
        _strip(found[0].args)
        lines = ast.unparse(found[0]).replace("\n", "\n    ")
        body = f"{lines}\n    return {code.co_name}"
    closed = ", ".join(f"{name}=None" for name in code.co_freevars if name != code.co_name)
    return f"def make({closed}):\n    {body}\n"


def _strip(args: ast.arguments) -> None:
    """Without annotations and the values of defaults: those were worked out here."""
    args.defaults = [ast.Constant(None) for _ in args.defaults]
    args.kw_defaults = [default and ast.Constant(None) for default in args.kw_defaults]
    for arg in (*args.posonlyargs, *args.args, *args.kwonlyargs, args.vararg, args.kwarg):
        if arg is not None:
            arg.annotation = None
