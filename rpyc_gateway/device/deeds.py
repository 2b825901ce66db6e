"""What boards can do and no primitive of their agent does: functions of one expression, made there when they are first needed."""

from __future__ import annotations

from rpyc_gateway.device.conversation import Primitive, Step

__all__ = ["OPERATORS", "SOURCES", "made"]

_BINARY = {
    "add": "+",
    "sub": "-",
    "mul": "*",
    "matmul": "@",
    "truediv": "/",
    "floordiv": "//",
    "mod": "%",
    "lshift": "<<",
    "rshift": ">>",
    "and": "&",
    "xor": "^",
    "or": "|",
    "pow": "**",
}
_ORDER = {"lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_UNARY = {"neg": "-a", "pos": "+a", "invert": "~a", "abs": "abs(a)"}

OPERATORS: dict[str, str] = {
    **{f"__{name}__": f"lambda a,b:a{sign}b" for name, sign in (_BINARY | _ORDER).items()},
    **{f"__r{name}__": f"lambda a,b:b{sign}a" for name, sign in _BINARY.items()},
    **{f"__i{name}__": f"def {{}}(a,b):\n a{sign}=b\n return a" for name, sign in _BINARY.items()},
    **{f"__{name}__": f"lambda a:{source}" for name, source in _UNARY.items()},
    "__divmod__": "lambda a,b:divmod(a,b)",
    "__rdivmod__": "lambda a,b:divmod(b,a)",
}
"""The operators of two operands and of one, by their special methods; what needs a statement has a place for its name."""

SOURCES: dict[str, str] = {
    **OPERATORS,
    "pow": "lambda a,b,c:pow(a,b,c)",
    "slice": "lambda a,b,c,d:a[b:c:d]",
    "setslice": "def {}(a,b,c,d,e):a[b:c:d]=e",
    "delslice": "def {}(a,b,c,d):del a[b:c:d]",
    "contains": "lambda a,b:b in a",
    "equal": "lambda a,b:a==b",
    "different": "lambda a,b:a!=b",
    "isinstance": "lambda a,b:isinstance(b,a)",
    "issubclass": "lambda a,b:issubclass(b,a)",
    "setitem": "def {}(a,b,c):a[b]=c",
    "delitem": "def {}(a,b):del a[b]",
    "delattr": "lambda a,b:delattr(a,b)",
    "advance": "def {}(a):\n try:return next(a),\n except StopIteration:return()",
    "index": "lambda a:a.__index__()",
    "enter": "lambda a:a.__enter__()",
    "leave": "lambda a:a.__exit__(None,None,None)",
    "fail": (
        "def {}(a,n,t,s):\n"
        " import builtins\n"
        " k=globals().get(n)or getattr(builtins,n,None)\n"
        " try:e=k(*t)\n"
        " except TypeError:e=None\n"
        " if not isinstance(e,BaseException):e=Exception(n+': '+s)\n"
        " return a.__exit__(type(e),e,None)"
    ),
    **{name: f"lambda a,*b:{name}(a,*b)" for name in ("len", "bool", "iter", "reversed", "str", "int", "float")},
    **{name: f"lambda a,*b:{name}(a,*b)" for name in ("hash", "round", "format", "bytes", "complex")},
}
"""All of them. `fail` leaves a context manager with an exception: its class by name, its arguments, its text."""


def made(name: str) -> list[Step]:
    """The steps that make one of SOURCES."""
    source = SOURCES[name]
    if not source.startswith("def"):
        return [Step(Primitive.EVAL, (source,))]
    there = f"_gateway_{name.strip('_')}"
    return [Step(Primitive.EXEC, (source.format(there),)), Step(Primitive.EVAL, (there,))]
