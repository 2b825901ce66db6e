"""The transparent object of trio code: it records steps, and `await` sends them as one message."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import AsyncIterator, Generator
from sys import _getframe
from typing import Any

import trio

from rpyc_gateway.classes import SLOTS
from rpyc_gateway.errors import Cancelled
from rpyc_gateway.held import BATCH, CONTAINERS, Held, RemoteObject, held_by, is_proxy
from rpyc_gateway.program import Step
from rpyc_gateway.proto.messages import Verb
from rpyc_gateway.proto.values import DEPTH, Result

__all__ = ["AsyncProxy", "async_proxy", "build", "is_recorded", "record_op"]


class AsyncProxy(RemoteObject):
    """Records steps on an object of another process; `await` sends them as one message, once.

    It has no public name of its own: every attribute is a step. What has no dotted spelling in async code is in `gw.ops`.
    """

    __slots__ = (*SLOTS, "__gw_outcome__", "__gw_parent__", "__gw_sent__", "__gw_step__", "__gw_where__")

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("__") and name.endswith("__"):
            return object.__getattribute__(self, name)
        return _record(self, Verb.GET, name)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"assigning {name!r} needs an await: use `await gw.ops.setattr(proxy, {name!r}, value)`")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"deleting {name!r} needs an await: use `await gw.ops.delattr(proxy, {name!r})`")

    def __call__(self, /, *args: object, **kwargs: object) -> AsyncProxy:
        frame = _getframe(1)
        return _record(self, Verb.CALL, args, kwargs, where=(frame.f_code.co_filename, frame.f_lineno))

    def __getitem__(self, key: object) -> AsyncProxy:
        return _record(self, Verb.OP, "__getitem__", (key,))

    def __await__(self) -> Generator[Any, Any, Any]:
        return _send(self).__await__()

    def __aiter__(self) -> AsyncIterator[Any]:
        return _iterate_async(self)

    # Without these Python would fall back on __getitem__, which answers every index: a loop without end.
    def __iter__(self) -> Any:
        raise TypeError("a remote value is iterated with `async for`")

    def __reversed__(self) -> Any:
        raise TypeError("a remote value is reversed by `await session.builtins.reversed(proxy)`")

    def __contains__(self, item: object) -> bool:
        raise TypeError("what a remote value contains needs an await: use `await gw.ops.contains(proxy, item)`")

    def __bool__(self) -> bool:
        raise TypeError("the truth of a remote value needs an await: use `await gw.ops.truth(proxy)`")

    def __eq__(self, other: object) -> bool:
        if _parent(self) is None and is_proxy(other) and (type(other) is not AsyncProxy or _parent(other) is None):
            return held_by(self).identity == held_by(other).identity
        raise TypeError("comparing a remote value needs an await: use `await gw.ops.eq(a, b)`")

    def __hash__(self) -> int:
        return hash(held_by(self).identity) if _parent(self) is None else object.__hash__(self)

    def __repr__(self) -> str:
        held = held_by(self)
        steps = "".join(_spelling(link) for link in _chain(self))
        return f"<async proxy of a {held.info.module}.{held.info.name} object{steps and f': …{steps}'}>"

    @trio.lowlevel.enable_ki_protection  # a KeyboardInterrupt in a finalizer would be printed and forgotten
    def __del__(self) -> None:
        where = object.__getattribute__(self, "__gw_where__")
        if where is not None and not object.__getattribute__(self, "__gw_sent__"):
            message = f"a remote call was recorded and never awaited: {_spelling(self)}"
            warnings.warn_explicit(message, RuntimeWarning, where[0], where[1], source=self)


_set_slot = object.__setattr__
_get_slot = object.__getattribute__


def _new(held: Held, parent: AsyncProxy | None, step: Step | None, where: tuple[str, int] | None) -> AsyncProxy:
    proxy = object.__new__(AsyncProxy)
    _set_slot(proxy, "__gw_held__", held)
    _set_slot(proxy, "__gw_parent__", parent)
    _set_slot(proxy, "__gw_step__", step)
    _set_slot(proxy, "__gw_where__", where)
    _set_slot(proxy, "__gw_sent__", False)  # noqa: FBT003
    _set_slot(proxy, "__gw_outcome__", None)
    return proxy


def async_proxy(held: Held) -> AsyncProxy:
    """The trio proxy of what is held, made if there is none. The caller holds the link's turn."""
    face = held.async_face() if held.async_face is not None else None
    if face is not None:
        return face  # type: ignore[return-value]
    proxy = _new(held, None, None, None)
    held.async_face = weakref.ref(proxy)
    return proxy


def _record(proxy: AsyncProxy, verb: Verb, *operands: object, where: tuple[str, int] | None = None) -> AsyncProxy:
    return _new(held_by(proxy), proxy, (verb, *operands), where)


def record_op(proxy: AsyncProxy, verb: Verb, *operands: object) -> AsyncProxy:
    """A step without a dotted spelling, for gw.ops."""
    frame = _getframe(2)
    return _record(proxy, verb, *operands, where=(frame.f_code.co_filename, frame.f_lineno))


def _parent(proxy: object) -> AsyncProxy | None:
    parent: AsyncProxy | None = _get_slot(proxy, "__gw_parent__")
    return parent


def is_recorded(proxy: AsyncProxy) -> bool:
    """Whether it is an expression, whose value is not there yet."""
    return _parent(proxy) is not None


def _chain(proxy: AsyncProxy) -> list[AsyncProxy]:
    links: list[AsyncProxy] = []
    link: AsyncProxy | None = proxy
    while link is not None and _parent(link) is not None:
        links.append(link)
        link = _parent(link)
    return links[::-1]


def _spelling(proxy: AsyncProxy) -> str:
    verb, *operands = _get_slot(proxy, "__gw_step__")
    if verb is Verb.GET:
        return f".{operands[0]}"
    if verb is Verb.CALL:
        return "(…)"
    if verb is Verb.COPY:
        return ".obtain()"
    return "[…]" if operands[0] == "__getitem__" else f".{operands[0]}(…)"


async def _send(proxy: AsyncProxy) -> Any:
    """Send what a proxy recorded, once; a second await gives the same outcome. Cancelled, the far side is cancelled too."""
    if _parent(proxy) is None:
        return proxy
    outcome = _get_slot(proxy, "__gw_outcome__")
    if outcome is None:
        held = held_by(proxy)
        steps = build(proxy)
        try:
            outcome = (await held.caller.ask_async(held.number, steps), None)
        except Exception as error:
            _set_slot(proxy, "__gw_outcome__", (None, error))
            raise
        except BaseException:
            again = Cancelled("this expression was awaited before, and cancelled")
            _set_slot(proxy, "__gw_outcome__", (None, again))
            raise
        _set_slot(proxy, "__gw_outcome__", outcome)
    value, failure = outcome
    if failure is not None:
        raise failure
    return value


async def _iterate_async(proxy: AsyncProxy) -> AsyncIterator[Any]:
    """Iterate one item at a time, over builtin containers in batches."""
    start: Any = proxy if _parent(proxy) is None else await proxy
    if type(start) is not AsyncProxy:  # it came by value
        for item in start:
            yield item
        return
    info = held_by(start).info
    batch = BATCH if (info.module, info.name) in CONTAINERS else 1
    iterator = held_by(await _record(start, Verb.OP, "__iter__", ()))
    done = False
    while not done:
        items, done = await iterator.caller.ask_async(iterator.number, ((Verb.TAKE, 0, batch),))
        for item in items:
            yield item


def build(proxy: AsyncProxy) -> list[Step]:
    """The program of what a proxy recorded; proxies of the same session among its operands become steps of it."""
    program = _Program(held_by(proxy))
    program.add(proxy)
    return program.steps


class _Program:
    def __init__(self, target: Held) -> None:
        self.target = target
        self.steps: list[Step] = []
        self._index: dict[int, int] = {}

    def add(self, proxy: AsyncProxy) -> int:
        """Append the steps of an expression; the number of its last step."""
        source = self._root(held_by(proxy))
        for link in _chain(proxy):
            source = self._link(link, source)
        return source

    def _root(self, held: Held) -> int:
        if held is self.target:
            return 0
        return self._append((Verb.VALUE, 0, _new(held, None, None, None)))

    def _link(self, link: AsyncProxy, source: int) -> int:
        known = self._index.get(id(link))
        if known is not None:
            return known
        if _get_slot(link, "__gw_where__") is not None:
            if _get_slot(link, "__gw_sent__"):
                raise RuntimeError(
                    f"{_spelling(link)} was already sent as part of another expression; await it once and use the result"
                )
            _set_slot(link, "__gw_sent__", True)  # noqa: FBT003
        verb, *operands = _get_slot(link, "__gw_step__")
        if verb is Verb.CALL:
            args, kwargs = operands
            operands = [self._operand(args), {name: self._operand(value) for name, value in kwargs.items()}]
        else:
            operands = [self._operand(operand) for operand in operands]
        index = self._append((verb, source, *operands))
        self._index[id(link)] = index
        return index

    def _operand(self, operand: object, depth: int = 0) -> object:
        kind = type(operand)
        if kind is AsyncProxy and _parent(operand) is not None:
            if held_by(operand).caller is not self.target.caller:
                raise TypeError("an operand is an unawaited expression of another session: await it first")
            return Result(self.add(operand))  # type: ignore[arg-type]
        if kind is tuple and depth <= DEPTH:
            return tuple([self._operand(part, depth + 1) for part in operand])  # type: ignore[attr-defined]
        return operand

    def _append(self, step: Step) -> int:
        self.steps.append(step)
        return len(self.steps)
