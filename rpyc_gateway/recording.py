"""From what the proxies of trio code recorded to the steps of one program."""

from __future__ import annotations

from typing import Any

from rpyc_gateway.awaiting import Recorded
from rpyc_gateway.errors import LimitExceeded
from rpyc_gateway.held import Held, held_by
from rpyc_gateway.proto.messages import Verb
from rpyc_gateway.proto.values import BY_VALUE, DEPTH, Result
from rpyc_gateway.steps import STEPS, Step

__all__ = ["build", "chain", "known", "parent", "spelling"]

_get_slot = object.__getattribute__
_set_slot = object.__setattr__


def parent(proxy: object) -> Any:
    """What a step was recorded on; None for the proxy of an object."""
    return _get_slot(proxy, "__gw_parent__")


def known(proxy: object) -> bool:
    """Whether an expression has come to its end."""
    once = _get_slot(proxy, "__gw_once__")
    return once is not None and once.known


def chain(proxy: object) -> list[Any]:
    """The steps that were recorded from the proxy of an object up to this one."""
    links: list[Any] = []
    link: Any = proxy
    while parent(link) is not None:
        links.append(link)
        link = parent(link)
    return links[::-1]


def spelling(link: object) -> str:
    """How a step was written, as far as that can be told without asking anything of the operands."""
    verb, *operands = _get_slot(link, "__gw_step__")
    if verb is Verb.GET:
        return f".{operands[0]}"
    if verb is Verb.CALL:
        args, kwargs = operands
        named = [f"{name}={_brief(value)}" for name, value in kwargs.items()]
        return f"({', '.join([*map(_brief, args), *named])})"
    if verb is Verb.COPY:
        return ".obtain()"
    if verb is not Verb.OP:
        return f".{verb.name}"
    name, args = operands
    written = ", ".join(map(_brief, args))
    return f"[{written}]" if name == "__getitem__" else f".{name}({written})"


_BRIEF = 20


def _brief(value: object) -> str:
    if type(value) in (str, bytes):
        return repr(value) if len(value) <= _BRIEF else f"{value[:_BRIEF]!r}…"  # type: ignore[arg-type, index]
    if type(value) in BY_VALUE - {tuple, slice}:
        text = "…" if type(value) is int and value.bit_length() > 64 else repr(value)
        return text if len(text) <= _BRIEF else "…"
    return "…"


def build(proxy: Any) -> list[Step]:
    """The program of what a proxy recorded; expressions of the same session among its operands become steps of it.

    Raises LimitExceeded beyond STEPS, RuntimeError for a call that is part of another expression, TypeError for an operand of
    another session; nothing is changed then.
    """
    program = _Program(held_by(proxy))
    try:
        program.add(proxy)
    except BaseException:
        _forgive(proxy)
        raise
    for link in program.calls:
        _set_slot(link, "__gw_sent__", SENT)
    return program.steps


SENT = "sent"
REFUSED = "refused"
"""What became of a step that must not be dropped unawaited: refused with its expression, it may be sent with another."""


def _forgive(proxy: Any) -> None:
    """An expression was awaited in vain: nothing that it is made of was forgotten."""
    waiting: list[Any] = [proxy]
    while waiting:
        link = waiting.pop()
        if type(link) is tuple:
            waiting.extend(part for part in link if type(part) is tuple or issubclass(type(part), Recorded))
        elif issubclass(type(link), Recorded) and parent(link) is not None and _get_slot(link, "__gw_sent__") is None:
            _set_slot(link, "__gw_sent__", REFUSED)
            _, *operands = _get_slot(link, "__gw_step__")
            waiting += [parent(link), *(tuple(part.values()) if type(part) is dict else part for part in operands)]


class _Program:
    def __init__(self, target: Held) -> None:
        self.target = target
        self.steps: list[Step] = []
        self.calls: list[Any] = []
        self._index: dict[int, int] = {}
        self._tuples: dict[int, object] = {}
        self._depth = 0

    def add(self, proxy: Any) -> int:
        """Append the steps of an expression; the number of its last step."""
        links: list[Any] = []
        link = proxy
        while parent(link) is not None and not known(link):
            links.append(link)
            link = parent(link)
        if len(links) > STEPS:
            raise _too_long()
        source = self._root(link)
        for link in reversed(links):
            source = self._link(link, source)
        return source

    def _root(self, start: Any) -> int:
        value = start if parent(start) is None else _get_slot(start, "__gw_once__").result()
        if issubclass(type(value), Recorded) and held_by(value) is self.target:
            return 0
        return self._append((Verb.VALUE, 0, value))

    def _link(self, link: Any, source: int) -> int:
        before = self._index.get(id(link))
        if before is not None:
            return before
        if _get_slot(link, "__gw_where__") is not None:
            if _get_slot(link, "__gw_sent__") is SENT:
                raise RuntimeError(
                    f"{spelling(link)} was already sent as part of another expression; await it once and use the result"
                )
            self.calls.append(link)
        verb, *operands = _get_slot(link, "__gw_step__")
        if verb is Verb.CALL:
            args, kwargs = operands
            operands = [self._operand(args), {name: self._operand(value) for name, value in kwargs.items()}]
        else:
            operands = [self._operand(operand) for operand in operands]
        index = self._append((verb, source, *operands))
        self._index[id(link)] = index
        return index

    def _operand(self, operand: Any, depth: int = 0) -> Any:
        kind = type(operand)
        if issubclass(kind, Recorded) and parent(operand) is not None:
            return self._expression(operand)
        if kind is tuple and depth <= DEPTH:
            done = self._tuples.get(id(operand))
            if done is None:  # a tuple that holds another twice, and so on, doubles with each step
                done = self._tuples[id(operand)] = tuple([self._operand(part, depth + 1) for part in operand])
            return done
        if kind is slice:
            return slice(*(self._operand(part, depth + 1) for part in (operand.start, operand.stop, operand.step)))
        return operand

    def _expression(self, operand: Any) -> object:
        if known(operand):
            return _get_slot(operand, "__gw_once__").result()
        if held_by(operand).caller is not self.target.caller:
            raise TypeError("an operand is an unawaited expression of another session: await it first")
        self._depth += 1
        if self._depth > STEPS:
            raise _too_long()
        index = self.add(operand)
        self._depth -= 1
        return Result(index)

    def _append(self, step: Step) -> int:
        if len(self.steps) >= STEPS:
            raise _too_long()
        self.steps.append(step)
        return len(self.steps)


def _too_long() -> LimitExceeded:
    return LimitExceeded(f"an expression exceeds limit of {STEPS} steps: await a part of it first")
