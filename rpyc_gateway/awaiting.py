"""What is awaited before it is the result of a step: coroutines, and what the verbs of async code make."""

from __future__ import annotations

import functools
import inspect
import sys
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from types import AsyncGeneratorType, BuiltinMethodType, CoroutineType, FunctionType, GeneratorType, MethodType
from typing import Any, ClassVar, NamedTuple, TypeVar, final

from rpyc_gateway.proto.known import members, mro_of

__all__ = ["Blocks", "Ended", "Later", "Recorded", "Unsent", "awaited", "is_async", "later"]

_T = TypeVar("_T")


@final
class Later(NamedTuple):
    """A result that is there when this has been awaited, in a task of the session."""

    coroutine: CoroutineType[Any, Any, object] | Unsent


class Unsent(ABC):
    """A step that somebody else does, for whom objects stand here, and that was not sent there yet: the rest of its program may join it.

    A service that fronts something and runs in trio returns one, in a Later, whenever an attribute or an item of one of its stand-ins is
    read, or it is called. All of it is for the trio thread.
    """

    failed = 0
    """Which of the joined steps has raised, once one has: 0 for this one."""

    @abstractmethod
    def placeholder(self, index: int) -> object:
        """A stand-in for the result of this step, for the steps behind it: it is the one with this index of those that are sent at once."""

    @abstractmethod
    def join(self, others: Sequence[Unsent]) -> None:
        """Take along these steps, which are done to its placeholder and to theirs. The result is that of the last one."""

    @abstractmethod
    def begin(self, done: Callable[[object, BaseException | None], object]) -> bool:
        """Send it without a task: `done` is called once, later, with the result or the error. False if that must wait: await it in a task."""

    @abstractmethod
    def cancel(self) -> None:
        """Nobody waits any more for what was begun; `done` is called with an error if it was not yet."""

    @abstractmethod
    def wait(self) -> Coroutine[Any, Any, object]:
        """Send it, and wait for the result."""


class Blocks(BaseException):
    """What a service that runs in trio raises where it would block: nothing has been done, and the same step is done again in a thread."""


class Ended(Exception):
    """Carries the StopIteration of a step out of a coroutine, which may not raise that itself."""

    def __init__(self, stop: StopIteration) -> None:
        super().__init__(stop)
        self.stop = stop


class Recorded:
    """What stands for a result that is not there yet: the expressions of trio code, and of batches. A call that returns one is not over."""

    __slots__ = ()

    face: ClassVar[Callable[[object], Any]]
    """The trio face of a proxy of blocking code; set by the module that has them."""

    refusal: ClassVar[str]
    """What to say where one of this class is sent as if it were a value."""

    @classmethod
    def record(cls, subject: object, verb: Any, operands: tuple[Any, ...]) -> Any:
        """What stands for a step on `subject`, which is one of this class."""
        raise NotImplementedError


async def awaited(awaitable: Awaitable[_T]) -> _T:
    """Await anything that can be, by a coroutine."""
    return await awaitable


def later(result: object) -> Later | None:
    """What must be awaited of the result of a call: coroutines of any make, but not every object that could be awaited.

    An object with an `__await__` (a job, a future) is the result, and goes by reference like other objects.
    """
    kind = type(result)
    if kind is CoroutineType:
        return Later(result)  # type: ignore[arg-type]
    if kind in _STEPS or issubclass(kind, Recorded) or _is_coroutine(kind, result):
        if kind is Later:
            return result  # type: ignore[return-value]
        return Later(awaited(result))  # type: ignore[arg-type]
    return None


async def _empty() -> AsyncGenerator[None, None]:
    return
    yield


def _kinds_of_steps() -> frozenset[type]:
    """The classes of what `asend` and `athrow` of an async generator return, which have no names; and what is one already."""
    hooks = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(
        None, None
    )  # this may be loaded in the middle of a trio run, which would miss the end of this one
    try:
        generator = _empty()
        steps = (generator.asend(None), generator.athrow(GeneratorExit))
        for step in steps:
            step.close()
        return frozenset({Later, *map(type, steps)})
    finally:
        sys.set_asyncgen_hooks(*hooks)


_STEPS = _kinds_of_steps()


def _is_coroutine(kind: type, result: object) -> bool:
    if kind is GeneratorType:  # of a function marked by types.coroutine
        return bool(result.gi_code.co_flags & inspect.CO_ITERABLE_COROUTINE)  # type: ignore[attr-defined]
    if kind in _PLAIN:
        return False
    # Not the abstract class, which asks the class for its `__mro__`: a metaclass may answer that.
    for base in mro_of(kind):
        if "__await__" in members(base):
            break
    else:
        return False  # as a rule
    found = {name for base in mro_of(kind) for name in _COROUTINE if name in members(base)}
    return len(found) == len(_COROUTINE)


_COROUTINE = frozenset({"__await__", "send", "throw", "close"})
_PLAIN = frozenset({type(None), bool, int, float, str, bytes, tuple, list, dict, set})

_ASYNC_CODE = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR | inspect.CO_ITERABLE_COROUTINE
_ASYNC_METHODS = frozenset({"__await__", "__aiter__", "__anext__", "__aenter__"})
_DEPTH = 20


def is_async(function: Any) -> bool:
    """Whether what is called here is trio code, which needs awaitable proxies: `async def`, what wraps it, and classes for async code.

    Unlike `inspect` it asks the object nothing: a proxy would make a call of each question.
    """
    for _ in range(_DEPTH):
        kind = type(function)
        if kind is functools.partial:
            function = function.func
        elif kind is MethodType:
            function = function.__func__
        elif kind is FunctionType:
            if function.__code__.co_flags & _ASYNC_CODE:
                return True
            function = function.__dict__.get("__wrapped__")  # what asynccontextmanager makes
        elif kind is BuiltinMethodType:
            return type(function.__self__) is AsyncGeneratorType and function.__name__ == "asend"
        elif issubclass(kind, type):
            return any(not _ASYNC_METHODS.isdisjoint(members(base)) for base in mro_of(function))
        else:
            function = _own_call(kind)
        if function is None:
            return False
    return False


def _own_call(kind: type) -> object:
    """The `__call__` of a class written in Python, for an object that is called."""
    for base in mro_of(kind):
        call = members(base).get("__call__")
        if call is not None:
            return call if type(call) is FunctionType else None
    return None
