"""Operators of blocking proxies, as their class has them: what is plain data among the operands is sent, or fetched, as a copy."""

from __future__ import annotations

import dis
import operator
import sys
from collections.abc import Callable
from typing import Any

from rpyc_gateway.buffers import buffer_methods
from rpyc_gateway.classes import BINARY
from rpyc_gateway.held import Held, held_by, is_proxy
from rpyc_gateway.operands import SEQUENCES, localised, plain_base
from rpyc_gateway.proto.copies import Copied
from rpyc_gateway.proto.messages import ClassInfo
from rpyc_gateway.proto.plain import BY_NAME, KINDS, copyable, plain_kind
from rpyc_gateway.proto.values import BY_VALUE

__all__ = ["binary_methods", "extra_methods", "operate", "sent"]


def binary_methods(info: ClassInfo) -> dict[str, Callable[..., Any]]:
    """The special methods of two operands for a proxy class."""
    special = frozenset(info.special) & BINARY - {"__eq__", "__ne__"}
    return {name: _REFLECTED.get(name) or _FORWARD[name] for name in special}


def extra_methods(info: ClassInfo) -> dict[str, Callable[..., Any]]:
    """What the interpreter must find in a proxy class although the original does the same without a method of that name."""
    joins = "__add__" in info.special and plain_base(info) in SEQUENCES
    return buffer_methods(info) | ({"__radd__": _concatenated} if joins else {})


def operate(proxy: object, name: str, other: object, *modulo: object) -> Any:
    """Let the original's special method answer; NotImplemented is an answer."""
    held = held_by(proxy)
    return held.op(name, sent(held, other), *modulo)


def sent(held: Held, other: object) -> object:
    """What goes to the original for an operand: a copy of plain data if its class is a plain type and so takes nothing else."""
    kind = type(other)
    if kind in BY_VALUE or (held.info.module, held.info.name) not in BY_NAME:
        return other
    return Copied(other) if copyable(other) else other


def _forward(name: str) -> Callable[..., Any]:
    def method(self: object, other: object, *modulo: object) -> Any:
        return operate(self, name, other, *modulo)

    method.__name__ = method.__qualname__ = name
    return method


def _reflected(name: str) -> Callable[..., Any]:
    """`local + remote`: of two plain types the local one computes, as it would if both were local."""

    def method(self: object, left: object, *modulo: object) -> Any:
        info = held_by(self).info
        if modulo or plain_kind(type(left)) not in KINDS or (info.module, info.name) not in BY_NAME:
            return operate(self, name, left, *modulo)
        right = localised(self)
        if is_proxy(right):
            return operate(self, name, left)
        return _compute(name, left, right, sys._getframe(1))  # noqa: SLF001  # the expression that stands there

    method.__name__ = method.__qualname__ = name
    return method


def _concatenated(self: object, left: object) -> Any:
    """`[1] + remote`: lists have no reflected method, but nobody asks theirs while the other operand is a proxy."""
    if is_proxy(left) or plain_kind(type(left)) not in SEQUENCES:
        return NotImplemented
    right = localised(self)
    return NotImplemented if is_proxy(right) else _compute("__radd__", left, right, sys._getframe(1))  # noqa: SLF001


def _compute(name: str, left: object, right: object, frame: Any) -> Any:
    """`left op right`; where `left op= right` stands in the code, that: what is changed in place keeps its identity."""
    code, at = frame.f_code.co_code, frame.f_lasti
    if (code[at], code[at + 1]) in _IN_PLACE:
        inplace = getattr(operator, f"__i{name[3:]}", None)
        if inplace is not None:
            return inplace(left, right)
    return divmod(left, right) if name == "__rdivmod__" else getattr(operator, f"__{name[3:]}")(left, right)  # type: ignore[operator]


def _instructions(source: str) -> set[tuple[int, int]]:
    instructions = dis.get_instructions(compile(source, "<operator>", "exec"))
    return {(each.opcode, each.arg or 0) for each in instructions if each.opname.startswith(("BINARY", "INPLACE"))}


_SPELLINGS = ("+", "-", "*", "@", "/", "//", "%", "**", "<<", ">>", "&", "^", "|")
# Both go to the same reflected method, and only the instruction tells which one it is.
_IN_PLACE = frozenset().union(*(_instructions(f"a {each}= b") for each in _SPELLINGS))
_FORWARD = {name: _forward(name) for name in BINARY}
_REFLECTED = {name: _reflected(name) for name in BINARY if f"__{name[3:]}" in BINARY and name.startswith("__r")}
