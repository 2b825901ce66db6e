"""The operators by their names in Python's `operator`: what a peer may ask for where both operands have a say."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

__all__ = ["HINTS", "OPERATORS"]

_ARITHMETIC = ("add", "sub", "mul", "matmul", "truediv", "floordiv", "mod", "lshift", "rshift", "and_", "or_", "xor")
_COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")
_OTHERS = {
    "divmod": (divmod, "__divmod__"),
    "pow": (pow, "__pow__"),
    "ipow": (operator.ipow, "__ipow__"),
    "concat": (operator.concat, "__add__"),
    "iconcat": (operator.iconcat, "__iadd__"),
    "countOf": (operator.countOf, "__iter__"),
    "indexOf": (operator.indexOf, "__iter__"),
    "is_": (operator.is_, "__eq__"),
    "is_not": (operator.is_not, "__ne__"),
    "not_": (operator.not_, "__bool__"),
}


def _special(name: str) -> str:
    return f"__{name.rstrip('_')}__"


def _plain(name: str) -> tuple[Callable[..., Any], str]:
    return getattr(operator, name), _special(name)


OPERATORS: dict[str, tuple[Callable[..., Any], str]] = {
    **{name: _plain(name) for name in (*_ARITHMETIC, *_COMPARISONS)},
    **{f"i{name.rstrip('_')}": _plain(f"i{name.rstrip('_')}") for name in _ARITHMETIC},
    **_OTHERS,  # type: ignore[dict-item]  # functions of the standard library, all of them
}
"""Each with the special method by which a policy judges it."""


def _hints() -> dict[str, str]:
    binary = {special: f"{name}(a, b)" for name, (_, special) in OPERATORS.items() if name not in _OTHERS}
    reflected = {special.replace("__", "__r", 1): binary[special] for special in map(_special, _ARITHMETIC)}
    powers = {"__divmod__": "divmod(a, b)", "__pow__": "pow(a, b)", "__rpow__": "pow(a, b)", "__ipow__": "ipow(a, b)"}
    unary = {f"__{name}__": f"{name}(proxy)" for name in _UNARY}
    items = {"__setitem__": "setitem(proxy, key, value)", "__delitem__": "delitem(proxy, key)"}
    hints = {**binary, **reflected, **powers, **unary, **items}
    del hints["__eq__"], hints["__ne__"]  # answered for objects that are held
    return hints


_UNARY = ("neg", "pos", "abs", "invert", "int", "float", "complex", "bytes", "round", "next")
HINTS = _hints()
"""Special methods that the proxies of trio code have only to say how `gw.ops` spells them."""
