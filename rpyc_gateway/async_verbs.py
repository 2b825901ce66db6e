"""What async code does to objects of this process, as steps of a program: await, `async for`, `async with`; plain objects are good for it too."""

from __future__ import annotations

from collections.abc import Callable
from types import CoroutineType
from typing import Any, Protocol

from rpyc_gateway.awaiting import Later, Recorded, awaited
from rpyc_gateway.classes import described
from rpyc_gateway.errors import ProtocolError
from rpyc_gateway.proto.kinds import original_kind
from rpyc_gateway.proto.messages import Verb
from rpyc_gateway.proto.rebuilt import field
from rpyc_gateway.proto.values import BY_VALUE
from rpyc_gateway.service import Policy
from rpyc_gateway.stays import Stay
from rpyc_gateway.walks import Walk

__all__ = ["ASYNC_OPS", "HERE", "begin_walk", "count_of", "enter", "exit_with", "special_method"]

HERE = 1
"""Flag of ENTER: a plain manager is entered, and left, in the thread that serves the call."""

MOST = 100_000
"""Items of one batch."""


class Reading(Protocol):
    """What a step has at hand: the policy, and its operands."""

    @property
    def policy(self) -> Policy:
        """What every verb passes."""
        ...

    def value(self, structure: object) -> Any:
        """An operand."""
        ...

    def exception(self, structures: list[Any]) -> BaseException | None:
        """What `__exit__` is given: an exception, or none."""
        ...


_Op = Callable[[Any, list[Any], Reading], object]


def special_method(subject: object, name: str) -> Callable[..., Any]:
    """A special method, from the class as Python does it. Raises TypeError if there is none."""
    method: Callable[..., Any] | None = getattr(type(subject), name, None)
    if method is None:
        raise TypeError(f"{type(subject).__qualname__!r} object has no {name}")
    return method


def exit_with(subject: Any, name: str, error: BaseException | None) -> Any:
    """Call `__exit__` or `__aexit__` with an exception, or without."""
    method = special_method(subject, name)
    if error is None:
        return method(subject, None, None, None)
    try:
        raise error  # for a traceback: its own stays where it was raised
    except BaseException:  # noqa: BLE001  # it is an argument
        return method(subject, original_kind(error), error, field(error, "__traceback__"))


def _await(subject: Any, _args: list[Any], reading: Reading) -> Later:
    reading.policy.check(subject, Verb.OP, "__await__")
    return Later(awaited(subject))  # type: ignore[arg-type]


def _aiter(subject: Any, _args: list[Any], reading: Reading) -> object:
    name = Walk.beginning(subject)
    reading.policy.check(subject, Verb.OP, name)
    return aiter(subject) if name == "__aiter__" else iter(subject)


def _anext(subject: Any, args: list[Any], reading: Reading) -> object:
    name = "__anext__" if hasattr(type(subject), "__anext__") else "__next__"
    reading.policy.check(subject, Verb.OP, name)
    default = [reading.value(value) for value in args]
    return next(subject, *default) if name == "__next__" else Later(awaited(anext(subject, *default)))  # type: ignore[arg-type]


def _aenter(subject: Any, _args: list[Any], reading: Reading) -> object:
    name = Stay.beginning(subject)
    reading.policy.check(subject, Verb.OP, name)
    entered = special_method(subject, name)(subject)
    return entered if name == "__enter__" else Later(awaited(entered))  # type: ignore[arg-type]


def _aexit(subject: Any, args: list[Any], reading: Reading) -> object:
    if type(subject) is Stay:
        return Later(subject.leave(reading.exception(args)))  # type: ignore[arg-type]
    name = "__aexit__" if hasattr(type(subject), "__aexit__") else "__exit__"
    reading.policy.check(subject, Verb.OP, name)
    left = exit_with(subject, name, reading.exception(args))
    return bool(left) if name == "__exit__" else Later(awaited(left))  # type: ignore[arg-type]


def _elsewhere(name: str, here: _Op) -> _Op:
    """What is held from another node is asked there, in trio: its proxy here is for threads."""

    def op(subject: Any, args: list[Any], reading: Reading) -> object:
        if not _is_elsewhere(subject, name):
            return here(subject, args, reading)
        reading.policy.check(subject, Verb.OP, name)
        values = [reading.value(value) for value in args]
        held = object.__getattribute__(subject, "__gw_held__")
        return Later(held.caller.ask_async(held.number, ((Verb.OP, 0, name, tuple(values)),)))

    return op


def _is_elsewhere(subject: object, name: str) -> bool:
    info = described(subject)
    return info is not None and name in info.special


ASYNC_OPS: dict[str, _Op] = {
    name: _elsewhere(name, here)
    for name, here in {
        "__await__": _await,
        "__aiter__": _aiter,
        "__anext__": _anext,
        "__aenter__": _aenter,
        "__aexit__": _aexit,
    }.items()
}


def enter(subject: Any, operands: list[Any], reading: Reading) -> object:
    """ENTER: stay in a context manager; the result is the stay and what was entered. Or enter a plain one here, in the caller's own thread."""
    name = Stay.beginning(subject)
    reading.policy.check(subject, Verb.OP, name)
    for needed in (name, name.replace("enter", "exit")):
        special_method(subject, needed)
    if operands and operands[0] == HERE and name == "__enter__":
        return subject, special_method(subject, name)(subject)
    if _is_elsewhere(subject, "__aenter__"):
        subject = Recorded.face(subject)
    return Later(Stay(subject).enter())  # type: ignore[arg-type]


def begin_walk(subject: Any, operands: list[Any], reading: Reading) -> object:
    """ITER: the first items, whether they were all, and the walk that goes on if not."""
    quiet, most = (count_of(operands, place) for place in (0, 1))
    first = count_of(operands, 2) if len(operands) > 2 else MOST
    if type(subject) not in BY_VALUE:  # what is in a value goes wherever it goes
        reading.policy.check(subject, Verb.OP, Walk.beginning(subject))
    if _is_elsewhere(subject, "__aiter__"):
        subject = Recorded.face(subject)
    walk = Walk(subject, quiet, most)
    batch = walk.take(first)
    return Later(_first(walk, batch.coroutine)) if type(batch) is Later else (*batch, None if batch[1] else walk)  # type: ignore[arg-type]


async def _first(walk: Walk, batch: CoroutineType[Any, Any, Any]) -> tuple[object, ...]:
    items, done = await batch
    return items, done, None if done else walk


def count_of(operands: list[Any], place: int) -> int:
    """How many items a batch may have. Raises ProtocolError."""
    count = operands[place] if len(operands) > place else 0
    if type(count) is not int or not 0 < count <= MOST:
        raise ProtocolError(f"a batch of {count!r} items")
    return count
