"""Programs for a board that is too small for the agent, as source for its REPL; and what it prints about them, as values.

Everything goes as text: there is no checksum, and objects stay over there in a dict. A callback is a line that the board prints, and one that it reads.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from keyword import iskeyword
from math import inf, isfinite, nan
from typing import Any

from rpyc_gateway.device.codec import Host, Ref, Result
from rpyc_gateway.device.conversation import Failure, Primitive, Step
from rpyc_gateway.device.lent import replaced
from rpyc_gateway.errors import EncodeError, ProtocolError

__all__ = [
    "MARK",
    "call_in",
    "caller",
    "failure_of",
    "helpers",
    "hosts_in",
    "raising",
    "read",
    "returning",
    "source_of",
]

MARK = 8  # characters of what tells an answer from what a program prints
DEPTH = 16  # levels of nesting: the parser of a small board has little stack

# What stays on the board, as short as it can be: objects by number, whether something is a value, and how an answer is printed.
_HELPERS = """_go={{}}
def _gp(x):
 if type(x)is tuple:
  for y in x:
   if not _gp(y):return 0
  return 1
 return x is None or type(x)in(bool,int,float,str,bytes)
def _ga(x,n,c=0):
 if c or _gp(x):print('\\n{mark}'+repr(x))
 else:
  _go[n]=x
  print('\\n{mark}@')
"""


def helpers(mark: str) -> str:
    """What has to be run before any program. `mark` is what no program prints."""
    return _HELPERS.format(mark=mark)


# What a function of this side is there: `n` is its number. The answer is a tuple: what it returned, and what it raised if there is a second.
_CALLER = """_gi={reader}
def _gc(n):
 def f(*a,**k):
  print('\\n{mark}!%d,%r'%(n,(a,k)))
  r=eval(_gi())
  if r[1:]:raise r[1]
  return r[0]
 return f
"""


def caller(mark: str, *, echoes: bool) -> str:
    """What has to be run before any program that has a Host in it. One that `echoes` what it is told has `input`, and no sys.stdin."""
    return _CALLER.format(mark=mark, reader="input" if echoes else "__import__('sys').stdin.readline")


def call_in(said: str) -> tuple[int, tuple[Any, ...], dict[str, Any]]:
    """Number, arguments and keyword arguments of a call by the board. Raises TypeError for what it cannot say."""
    try:
        match read(f"({said})"):
            case [int(number), [tuple(args), dict(keywords)]]:
                return number, args, keywords
    except ProtocolError:
        pass
    raise TypeError(f"without the agent a board calls back with plain values only, and this was {said[:80]}")


def returning(value: object) -> bytes:
    """The line that a callback which has returned this is answered with. Raises EncodeError."""
    return f"({_literal(value, 0)},)".encode()


def raising(kind: str, text: str) -> bytes:
    """The line that one is answered with that has raised this."""
    return f"(0,getattr(__import__('builtins'),{kind!a},RuntimeError)({text!a}))".encode()


def hosts_in(steps: Sequence[Step]) -> bool:
    """Whether there are functions of this side among the arguments."""
    found: list[object] = []
    for step in steps:
        replaced(step.args, found.append)
    return any(isinstance(part, Host) for part in found)


def source_of(steps: Sequence[Step], number: int, *, copy: bool, released: Sequence[int] = ()) -> tuple[str, int]:
    """The source of a program, and how many of its lines come before its first step. What is no value is kept under `number`; of `released` nobody has need any more.

    Raises EncodeError for what cannot be said.
    """
    lines = [f"for _gn in {(*released,)!r}:_go.pop(_gn,0)"] if released else []
    before = len(lines)
    end = f"{number},1)" if copy else f"{number})"
    if len(steps) == 1:
        (step,) = steps
        if step.target is Primitive.EXEC:  # as itself, and not once more as a string: it may be long
            lines += [_text(step), f"_ga(None,{end}"]
        else:
            lines.append(f"_ga({_expression(step)},{end}")
        return "\n".join(lines), before
    lines.append("_gs=[]")
    lines += [f"_gs.append({_expression(step)})" for step in steps]
    lines.append(f"_ga(_gs.pop(),{end}")
    return "\n".join(lines), before + 1


def _text(step: Step) -> str:
    (text,) = step.args
    if type(text) is not str:
        raise EncodeError(f"source for a board is a str, not {type(text).__name__}")
    return text


def _expression(step: Step) -> str:
    args = [_literal(arg, 0) for arg in step.args]
    match step.target:
        case Primitive.GETATTR if isinstance(step.args[0], Ref | Result) and _is_name(step.args[1]):
            return f"{args[0]}.{step.args[1]}"
        case Primitive.GETITEM:
            return f"{args[0]}[{args[1]}]"
        case Primitive.IMPORT:
            return f"__import__({args[0]},None,None,('x',))"
        case Primitive.APPLY:
            return f"{args[0]}(*{args[1]},**{args[2]})"
        case Primitive.SAME:
            return args[0]
        case Primitive():
            return f"{_BUILTINS[step.target]}({','.join(args)})"
        case target:
            return f"{_literal(target, 0)}({','.join(args)})"


def _is_name(text: object) -> bool:
    return type(text) is str and text.isidentifier() and text.isascii() and not iskeyword(text)


_BUILTINS = {
    Primitive.RELEASE: "bool",
    Primitive.GETATTR: "getattr",
    Primitive.SETATTR: "setattr",
    Primitive.EVAL: "eval",
    Primitive.EXEC: "exec",
    Primitive.REPR: "repr",
    Primitive.DIR: "dir",
}


def _literal(value: object, depth: int) -> str:  # noqa: C901  # a table
    """A value as source."""
    if depth > DEPTH:
        raise EncodeError(f"a value for this board is nested deeper than {DEPTH} levels")
    match value:
        case Ref():
            return f"_go[{value.number}]"
        case Result():
            return f"_gs[{value.step}]"
        case Host():
            return f"_gc({value.number})"
        case None | bool():
            return repr(value)
        case float() if type(value) is float:
            return repr(value) if isfinite(value) else f"float('{value}')"
        case int() | bytes() if type(value) in (int, bytes):
            return repr(value)
        case str() if type(value) is str:
            return ascii(value)
        case bytearray():
            return f"bytearray({bytes(value)!r})"
        case tuple() if type(value) is tuple:
            return f"({''.join(_literal(part, depth + 1) + ',' for part in value)})"
        case list() if type(value) is list:
            return f"[{','.join(_literal(part, depth + 1) for part in value)}]"
        case dict() if type(value) is dict:
            pairs = (f"{_literal(key, depth + 1)}:{_literal(part, depth + 1)}" for key, part in value.items())
            return f"{{{','.join(pairs)}}}"
    raise EncodeError(f"a value of {type(value).__qualname__} cannot be sent to a board")


def read(text: str) -> Any:
    """The value that a board has printed, by its repr. Raises ProtocolError if that is none."""
    try:
        return ast.literal_eval(_Finite().visit(ast.parse(text, mode="eval")).body)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise ProtocolError(f"a board has answered {text[:80]!r}, which is no value") from None


class _Finite(ast.NodeTransformer):
    """`inf` and `nan`, as they are printed."""

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.Constant({"inf": inf, "nan": nan}[node.id]) if node.id in ("inf", "nan") else node


_LINE = re.compile(r'File "<stdin>", line (\d+)')
_ERRNO = re.compile(r"\[Errno (\d+)\]|^(\d+)$")


def failure_of(traceback: str, before: int, steps: int) -> Failure:
    """What a REPL says of an exception. `before` is how many lines of the program are no steps."""
    last = traceback.rstrip().rpartition("\n")[2].strip()
    kind, _, text = last.partition(": ")
    line = _LINE.search(traceback)
    step = int(line[1]) - 1 - before if line else 0
    number = _ERRNO.search(text) if kind == "OSError" else None
    return Failure(
        min(max(step, 0), steps - 1),
        kind.rstrip(":"),
        text,
        traceback.strip(),
        int(number[1] or number[2]) if number else None,
    )
