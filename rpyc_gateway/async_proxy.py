"""The transparent object of trio code: it records steps, and `await` sends them as one message."""

from __future__ import annotations

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
from rpyc_gateway.held import AsyncHandle, Held, RemoteObject, held_by, is_proxy
from rpyc_gateway.iteration import FIRST, LARGEST, First, Iteration
from rpyc_gateway.once import Once
from rpyc_gateway.operations import HINTS
from rpyc_gateway.proto.messages import Verb
from rpyc_gateway.recording import Owed, Recording, build, recording_of, spelling

__all__ = ["AsyncProxy", "async_proxy", "is_recorded", "iterate", "record_op", "settled"]


class AsyncProxy(RemoteObject, Recorded):
    """Records steps on an object of another process; `await` sends them as one message, once.

    It has no public name of its own: every attribute is a step. What has no dotted spelling in async code is in `gw.ops`.
    """

    __slots__ = (*SLOTS, "__gw_stays__", "__gw_step__")

    refusal = (
        "an expression that was not awaited is inside a value: await it first, or pass it as an argument of its own"
    )

    def __getattribute__(self, name: str) -> Any:
        if name[:1] == "_":
            if name.startswith("__") and name.endswith("__"):
                return _own(self, name)
            if is_probe(name):
                raise AttributeError(
                    f"{name!r} is asked for by displays only: use `await gw.ops.getattr(proxy, {name!r})`"
                )
        step, proxy = _get_step(self), _create(AsyncProxy)  # as `_record` does, in this frame
        _set_held(proxy, _get_held(self))
        _set_step(proxy, Recording(self if step is None else step, _GET, (name,)))
        return proxy

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"assigning {name!r} needs an await: use `await gw.ops.setattr(proxy, {name!r}, value)`")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"deleting {name!r} needs an await: use `await gw.ops.delattr(proxy, {name!r})`")

    def __call__(self, /, *args: object, **kwargs: object) -> AsyncProxy:
        frame = _getframe(1)
        step = _get_step(self)
        owed = Owed(self if step is None else step, _CALL, (args, kwargs), None, "", frame.f_code, frame.f_lasti)
        proxy = _create(AsyncProxy)
        _set_held(proxy, _get_held(self))
        _set_step(proxy, owed)
        return proxy

    def __getitem__(self, key: object) -> AsyncProxy:
        return _record(self, Verb.OP, ("__getitem__", (key,)))

    def __await__(self) -> Generator[Any, Any, Any]:
        recording = _get_step(self)
        if recording is None:
            return _here(self).__await__()
        once = recording.once
        if once is None:
            once = recording.once = _begin(self, recording)
        waiting: Generator[Any, Any, Any] = once.value().__await__()
        return waiting

    def __aiter__(self) -> Iteration:
        return iterate(self, 1)

    async def __aenter__(self) -> Any:
        proxy = settled(self)
        if type(proxy) is not AsyncProxy:
            raise TypeError(f"{self!r} came to a {type(proxy).__qualname__} that is here: enter that")
        # In a block of gw.thread its thread enters, and leaves, what belongs to a thread.
        here = (HERE,) if task_affinity(held_by(proxy).caller) else ()
        stay, value = await _record(proxy, Verb.ENTER, here)
        _stays(self).append((held_by(stay), bool(here)))
        return value

    async def __aexit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> bool:
        # One object may be entered many times at once. Its stays are equals, so that any will do.
        stays = _stays(self)
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
        if recording_of(self) is None and is_proxy(other) and not is_recorded(other):
            return held_by(self).identity == held_by(other).identity
        raise TypeError("comparing a remote value needs an await: use `await gw.ops.eq(a, b)`")

    def __hash__(self) -> int:
        return hash(held_by(self).identity) if recording_of(self) is None else object.__hash__(self)

    def __copy__(self) -> Any:
        raise TypeError("copying a remote value needs an await: use `await gw.ops.copy(proxy)`")

    def __deepcopy__(self, _memo: object) -> Any:
        raise TypeError("copying a remote value needs an await: use `await gw.ops.deepcopy(proxy)`")

    def __reduce_ex__(self, _protocol: object) -> Any:
        raise TypeError("cannot pickle an async proxy: it stands for an object of another process")

    def __repr__(self) -> str:
        held = held_by(self)
        root = f"{held.info.module}.{held.info.name}"
        recording = recording_of(self)
        if recording is None:
            return f"<async proxy of a {root} object>"
        state = "awaited" if recording.known else "unawaited"
        return f"<{state} expression ({root} object){spelling(recording)}>"


_set_slot = object.__setattr__
_get_slot = object.__getattribute__
_GET, _CALL = Verb.GET, Verb.CALL


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


# Each attribute of an expression makes a proxy: by the descriptors of its slots, which is quicker than by their names.
_create = object.__new__
_get_held, _set_held = (getattr(AsyncProxy.__dict__["__gw_held__"], name) for name in ("__get__", "__set__"))
_get_step, _set_step = (getattr(AsyncProxy.__dict__["__gw_step__"], name) for name in ("__get__", "__set__"))


def _new(held: Held, step: Recording | None) -> AsyncProxy:
    proxy = _create(AsyncProxy)
    _set_held(proxy, held)
    _set_step(proxy, step)
    return proxy


def async_proxy(held: Held) -> AsyncProxy:
    """The trio proxy of what is held, made if there is none. The caller holds the link's turn."""
    face = held.face(AsyncHandle)
    if face is not None:
        return face  # type: ignore[return-value]
    proxy = _new(held, None)
    held.show(AsyncHandle, proxy)
    return proxy


def _stays(proxy: AsyncProxy) -> list[tuple[Held, bool]]:
    """The stays in what a proxy stands for; those entered last come last."""
    try:
        return _get_slot(proxy, "__gw_stays__")  # type: ignore[no-any-return]
    except AttributeError:
        stays: list[tuple[Held, bool]] = []
        _set_slot(proxy, "__gw_stays__", stays)
        return stays


def is_recorded(value: object) -> bool:
    """Whether it is an expression, whose value is not there yet."""
    return issubclass(type(value), Recorded) and recording_of(value) is not None


def _record(proxy: AsyncProxy, verb: Verb, operands: tuple[Any, ...]) -> AsyncProxy:
    step = _get_step(proxy)
    return _new(_get_held(proxy), Recording(proxy if step is None else step, verb, operands))


def record_op(proxy: object, verb: Verb, *operands: object, depth: int = 2) -> AsyncProxy:
    """A step without a dotted spelling, on a proxy of either face, or in a batch. Raises TypeError for what is none."""
    kind = type(proxy)
    if kind is not AsyncProxy and issubclass(kind, Recorded):
        recorded: AsyncProxy = kind.record(proxy, verb, operands)  # one that is used in the same ways
        return recorded
    proxy = _awaitable(proxy)
    frame = _getframe(depth)
    on = recording_of(proxy) or proxy
    return _new(held_by(proxy), Owed(on, verb, operands, None, "", frame.f_code, frame.f_lasti))


def _awaitable(proxy: object) -> AsyncProxy:
    """The trio face of a proxy of either."""
    if type(proxy) is AsyncProxy:
        return proxy
    kind = type(proxy)
    if issubclass(kind, Recorded):
        raise TypeError(f"this is for trio code: {kind.refusal}")
    if not is_proxy(proxy):
        raise TypeError(f"gw.ops is for remote values, and a {type(proxy).__qualname__} is here already")
    return _new(held_by(proxy), None)


Recorded.face = staticmethod(_awaitable)


def settled(proxy: AsyncProxy) -> Any:
    """The value of an expression that was awaited; what was not is itself. Raises what awaiting it raised."""
    recording = recording_of(proxy)
    return recording.once.result() if recording is not None and recording.once and recording.known else proxy


async def _here(proxy: AsyncProxy) -> AsyncProxy:
    """Awaiting the proxy of an object is a checkpoint."""
    await trio.lowlevel.checkpoint()
    return proxy


def _begin(proxy: AsyncProxy, recording: Recording) -> Once:
    """What a proxy recorded, to be sent once; a second await gives the same outcome. Cancelled, the far side is cancelled too."""
    held = _get_held(proxy)
    try:
        return Once(held, build(proxy, recording))
    except Exception as error:  # noqa: BLE001  # it is the outcome
        return Once(held, (), error)


def iterate(proxy: object, prefetch: int) -> Iteration:
    """Iterate over a remote value, fetching up to `prefetch` items ahead where that could be seen."""
    return Iteration(partial(_begin_walk, _awaitable(proxy), prefetch), max(FIRST, prefetch))


async def _begin_walk(proxy: AsyncProxy, prefetch: int) -> First:
    subject = settled(proxy)
    if type(subject) is not AsyncProxy:  # it came by value, or home
        return tuple(subject), True, None
    first: First = await _record(subject, Verb.ITER, (max(LARGEST, prefetch), prefetch, max(FIRST, prefetch)))
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
