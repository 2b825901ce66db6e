"""The transparent object of trio code: it records steps, and `await` sends them as one message."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Generator
from functools import partial
from sys import _getframe
from types import TracebackType
from typing import Any

import trio

from rpyc_gateway.affinity import task_affinity
from rpyc_gateway.async_verbs import HERE
from rpyc_gateway.awaiting import Recorded
from rpyc_gateway.classes import SLOTS, is_probe
from rpyc_gateway.errors import Cancelled
from rpyc_gateway.held import Held, RemoteObject, held_by, is_proxy
from rpyc_gateway.iteration import FIRST, LARGEST, First, Iteration
from rpyc_gateway.once import Once
from rpyc_gateway.operations import HINTS
from rpyc_gateway.proto.messages import Verb
from rpyc_gateway.recording import build, chain, known, parent, spelling
from rpyc_gateway.steps import Step

__all__ = ["AsyncProxy", "async_proxy", "is_recorded", "iterate", "record_op", "settled"]


class AsyncProxy(RemoteObject, Recorded):
    """Records steps on an object of another process; `await` sends them as one message, once.

    It has no public name of its own: every attribute is a step. What has no dotted spelling in async code is in `gw.ops`.
    """

    __slots__ = (*SLOTS, "__gw_once__", "__gw_parent__", "__gw_sent__", "__gw_stays__", "__gw_step__", "__gw_where__")

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("__") and name.endswith("__"):
            return _own(self, name)
        if is_probe(name):
            raise AttributeError(f"{name!r} is asked for by displays only: use `await gw.ops.getattr(proxy, {name!r})`")
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

    def __aiter__(self) -> Iteration:
        return iterate(self, 1)

    async def __aenter__(self) -> Any:
        proxy = settled(self)
        if type(proxy) is not AsyncProxy:
            raise TypeError(f"{self!r} came to a {type(proxy).__qualname__} that is here: enter that")
        # In a block of gw.thread its thread enters, and leaves, what belongs to a thread.
        here = (HERE,) if task_affinity(held_by(proxy).caller) else ()
        stay, value = await _record(proxy, Verb.ENTER, *here)
        stays = _get_slot(self, "__gw_stays__")
        if stays is None:
            _set_slot(self, "__gw_stays__", stays := [])
        stays.append((held_by(stay), bool(here)))
        return value

    async def __aexit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> bool:
        # One object may be entered many times at once. Its stays are equals, so that any will do.
        stays: list[tuple[Held, bool]] | None = _get_slot(self, "__gw_stays__")
        if not stays:
            raise RuntimeError(f"{self!r} was not entered")
        stay, here = stays.pop()
        caller = stay.caller
        try:
            if not _is_cancelled(error):
                return bool(await _leave(stay, error))
            if (
                here and (stay.info.module, stay.info.name) != _STAY
            ):  # whatever its peer says: only where we asked for it
                with trio.CancelScope(shield=True):  # nobody else would leave it
                    await _leave(stay, Cancelled("the block was cancelled"))
        except BaseException:
            del stay
            caller.give_back()
            raise
        # The far side leaves what nobody holds, as a block is left that was cancelled.
        del stay
        caller.give_back()
        return False

    # Without these Python would fall back on __getitem__, which answers every index: a loop without end.
    def __iter__(self) -> Any:
        raise TypeError("a remote value is iterated with `async for`")

    def __reversed__(self) -> Any:
        raise TypeError("a remote value is reversed by `await gw.ops.reversed(proxy)`")

    def __contains__(self, item: object) -> bool:
        raise TypeError("what a remote value contains needs an await: use `await gw.ops.contains(proxy, item)`")

    def __len__(self) -> int:
        raise TypeError("the length of a remote value needs an await: use `await gw.ops.len(proxy)`")

    def __bool__(self) -> bool:
        raise TypeError("the truth of a remote value needs an await: use `await gw.ops.truth(proxy)`")

    def __enter__(self) -> Any:
        raise TypeError("a remote context manager is entered with `async with`, whichever kind it is")

    def __exit__(self, *_reason: object) -> None: ...

    def __eq__(self, other: object) -> bool:
        if parent(self) is None and is_proxy(other) and not is_recorded(other):
            return held_by(self).identity == held_by(other).identity
        raise TypeError("comparing a remote value needs an await: use `await gw.ops.eq(a, b)`")

    def __hash__(self) -> int:
        return hash(held_by(self).identity) if parent(self) is None else object.__hash__(self)

    def __copy__(self) -> Any:
        raise TypeError("copying a remote value needs an await: use `await gw.ops.copy(proxy)`")

    def __deepcopy__(self, _memo: object) -> Any:
        raise TypeError("copying a remote value needs an await: use `await gw.ops.deepcopy(proxy)`")

    def __reduce_ex__(self, _protocol: object) -> Any:
        raise TypeError("cannot pickle an async proxy: it stands for an object of another process")

    def __repr__(self) -> str:
        held = held_by(self)
        root = f"{held.info.module}.{held.info.name}"
        if parent(self) is None:
            return f"<async proxy of a {root} object>"
        links = chain(self)
        state = "awaited" if known(self) else "unawaited"
        return f"<{state} expression ({root} object){''.join(map(spelling, links))}>"

    @trio.lowlevel.enable_ki_protection  # a KeyboardInterrupt in a finalizer would be printed and forgotten
    def __del__(self) -> None:
        where = object.__getattribute__(self, "__gw_where__")
        if where is not None and object.__getattribute__(self, "__gw_sent__") is None:
            message = f"a remote call was recorded and never awaited: {''.join(map(spelling, chain(self)))}"
            warnings.warn_explicit(message, RuntimeWarning, where[0], where[1], source=self)


_set_slot = object.__setattr__
_get_slot = object.__getattribute__


def _own(proxy: AsyncProxy, name: str) -> Any:
    try:
        return object.__getattribute__(proxy, name)
    except AttributeError:
        hint = f"an async proxy has no {name}; that of its original: `await gw.ops.getattr(proxy, {name!r})`"
        raise AttributeError(hint, name=name, obj=proxy) from None


def _refusal(method: str, spelled: str) -> Callable[..., Any]:
    def refuse(_self: AsyncProxy, *_operands: object) -> Any:
        raise TypeError(f"this needs an await, as it is done in another process: use `await gw.ops.{spelled}`")

    refuse.__name__ = refuse.__qualname__ = method
    return refuse


for _method, _spelled in HINTS.items():
    setattr(AsyncProxy, _method, _refusal(_method, _spelled))


def _new(held: Held, parent: AsyncProxy | None, step: Step | None, where: tuple[str, int] | None) -> AsyncProxy:
    proxy = object.__new__(AsyncProxy)
    _set_slot(proxy, "__gw_held__", held)
    _set_slot(proxy, "__gw_parent__", parent)
    _set_slot(proxy, "__gw_step__", step)
    _set_slot(proxy, "__gw_where__", where)
    _set_slot(proxy, "__gw_sent__", None)
    _set_slot(proxy, "__gw_once__", None)
    _set_slot(proxy, "__gw_stays__", None)
    return proxy


def async_proxy(held: Held) -> AsyncProxy:
    """The trio proxy of what is held, made if there is none. The caller holds the link's turn."""
    face = held.async_face() if held.async_face is not None else None
    if face is not None:
        return face  # type: ignore[return-value]
    proxy = _new(held, None, None, None)
    held.async_face = weakref.ref(proxy)
    return proxy


def is_recorded(value: object) -> bool:
    """Whether it is an expression, whose value is not there yet."""
    return type(value) is AsyncProxy and parent(value) is not None


def _record(proxy: AsyncProxy, verb: Verb, *operands: object, where: tuple[str, int] | None = None) -> AsyncProxy:
    return _new(held_by(proxy), proxy, (verb, *operands), where)


def record_op(proxy: object, verb: Verb, *operands: object, depth: int = 2) -> AsyncProxy:
    """A step without a dotted spelling, on a proxy of either face. Raises TypeError for what is none."""
    proxy = _awaitable(proxy)
    frame = _getframe(depth)
    return _record(proxy, verb, *operands, where=(frame.f_code.co_filename, frame.f_lineno))


def _awaitable(proxy: object) -> AsyncProxy:
    """The trio face of a proxy of either."""
    if type(proxy) is AsyncProxy:
        return proxy
    if not is_proxy(proxy):
        raise TypeError(f"gw.ops is for remote values, and a {type(proxy).__qualname__} is here already")
    return _new(held_by(proxy), None, None, None)


Recorded.face = staticmethod(_awaitable)


def settled(proxy: AsyncProxy) -> Any:
    """The value of an expression that was awaited; what was not is itself. Raises what awaiting it raised."""
    return _get_slot(proxy, "__gw_once__").result() if parent(proxy) is not None and known(proxy) else proxy


async def _send(proxy: AsyncProxy) -> Any:
    """Send what a proxy recorded, once; a second await gives the same outcome. Cancelled, the far side is cancelled too."""
    if parent(proxy) is None:
        await trio.lowlevel.checkpoint()
        return proxy
    once = _get_slot(proxy, "__gw_once__")
    if once is None:
        held = held_by(proxy)
        try:
            once = Once(held.caller, held.number, build(proxy))
        except Exception as error:  # noqa: BLE001  # it is the outcome
            once = Once(held.caller, held.number, (), error)
        _set_slot(proxy, "__gw_once__", once)
    del proxy  # what is raised holds this frame
    try:
        return await once.value()
    finally:
        del once


def iterate(proxy: object, prefetch: int) -> Iteration:
    """Iterate over a remote value, fetching up to `prefetch` items ahead where that could be seen."""
    return Iteration(partial(_begin_walk, _awaitable(proxy), prefetch), max(FIRST, prefetch))


async def _begin_walk(proxy: AsyncProxy, prefetch: int) -> First:
    subject = settled(proxy)
    if type(subject) is not AsyncProxy:  # it came by value, or home
        return tuple(subject), True, None
    first: First = await _record(subject, Verb.ITER, max(LARGEST, prefetch), prefetch, max(FIRST, prefetch))
    return first


_STAY = ("rpyc_gateway.stays", "Stay")


async def _leave(stay: Held, error: BaseException | None) -> Any:
    step = (Verb.OP, 0, "__aexit__", () if error is None else (error,))
    return await stay.caller.ask_async(stay.number, (step,))


def _is_cancelled(error: BaseException | None) -> bool:
    """Whether a block ends because it was cancelled."""
    if isinstance(error, BaseExceptionGroup):
        return error.subgroup(trio.Cancelled) is not None
    return isinstance(error, trio.Cancelled)
