"""Programs of steps (docs/protocol.md, section 9), run for the peer.

Running is the one choke point: every verb of a peer passes `Policy.check` here, and nowhere else touches an object for it.
"""

from __future__ import annotations

import copy
import math
import operator
import os
from collections.abc import Callable, Sequence
from enum import Enum
from types import BuiltinMethodType
from typing import Any

import msgspec
import trio

from rpyc_gateway.async_verbs import ASYNC_OPS, begin_walk, count_of, enter, exit_with, special_method
from rpyc_gateway.awaiting import Blocks, Ended, Later, Unsent, is_async, later
from rpyc_gateway.classes import BINARY, SPECIAL, described
from rpyc_gateway.errors import NotExposed, ProtocolError
from rpyc_gateway.operands import fetch, localised_class, method_of_other, run_binary
from rpyc_gateway.operations import OPERATORS
from rpyc_gateway.proto.atoms import ATOMS, all_atoms
from rpyc_gateway.proto.copies import BASE, DEEP, PICKLE, Copied
from rpyc_gateway.proto.known import members
from rpyc_gateway.proto.messages import Verb
from rpyc_gateway.proto.values import BY_VALUE, Payload, Reader, read_structure
from rpyc_gateway.service import Policy, Service, listed, read
from rpyc_gateway.steps import STEPS
from rpyc_gateway.walks import Walk

__all__ = ["Done", "Face", "Outcome", "Program", "RaisedAt"]


class Face(Enum):
    """How the proxies look that a piece of code is given: blocking in threads, awaitable in tasks."""

    BLOCKING = "blocking"
    ASYNC = "async"


class Done(msgspec.Struct, frozen=True):
    """A program ran to its end."""

    value: object


class RaisedAt(msgspec.Struct, frozen=True):
    """A step of a program raised."""

    error: BaseException
    step: int


Outcome = Done | RaisedAt


class Program:
    """A program of the peer, run on `target`.

    `adopt` gives the objects behind the payload's references, with the face of the code that will get them. To a step it is what
    reads the operands, and the policy that judges them.
    """

    __slots__ = (
        "_adopt",
        "_gathered",
        "_open_reader",
        "_payload",
        "_reader",
        "_results",
        "_steps",
        "_target",
        "policy",
    )

    def __init__(
        self,
        payload: Payload,
        target: object,
        policy: Policy,
        adopt: Callable[[Face], Sequence[object]],
        open_reader: Callable[[Payload], Reader] = Reader,
    ) -> None:
        self.policy = policy
        self._payload = payload
        self._target = target
        self._adopt = adopt
        self._open_reader = open_reader
        self._reader: Reader | None = None
        self._steps: list[Any] | None = None
        self._results: list[object] = []
        self._gathered: _Gathered | None = None

    def go_on(self, result: object = None, error: BaseException | None = None) -> Outcome | Later:
        """Run up to the end, or to a step whose coroutine must be awaited: it goes on with what that returned, or raised.

        Whatever a step raises is the outcome; this raises nothing. In one frame: mutual recursion has each once for each level.
        """
        target, policy, results, steps = self._target, self.policy, self._results, self._steps
        try:
            if steps is None:
                steps = self._steps = _steps(self._payload.packed)
            else:
                self._resume(result, error)
            for step in steps[len(results) :] if results else steps:
                try:
                    verb, source = step[0], step[1]
                    if source < 0:
                        raise ValueError("sources are counted from 0")
                    subject: Any = results[source - 1] if source else target
                    perform = _VERBS[verb]
                except (TypeError, ValueError, LookupError) as problem:
                    raise ProtocolError(f"a step cannot be read: {problem}") from problem
                if perform is not None:
                    if verb in _LAST and step is not steps[-1]:
                        raise ProtocolError(f"{Verb(verb).name} is not the last step of its program")
                    result = perform(subject, step[2:], self)
                else:
                    policy.check(subject, _CALL, "")
                    if len(step) == _CALL_ITEMS and step[3] == [] and type(step[2]) is list and all_atoms(step[2]):
                        result = subject(*step[2])  # atoms without names, as most arguments are
                    else:
                        args, kwargs = self._arguments(subject, step[2:])
                        result = subject(*args, **kwargs)
                        del args, kwargs
                    result = later(result) or result if type(result) not in BY_VALUE else result
                if type(result) is Later and type(result := self._gather(result, steps)) is Later:
                    return result
                results.append(result)
        except BaseException as problem:  # noqa: BLE001  # SystemExit too: a peer's call must not end this process
            if type(problem) is Blocks and steps:
                return self._again_in_thread(steps[len(results)])
            raised = RaisedAt(problem, len(results) + 1 if steps else 0)
        else:
            done = Done(results[-1] if results else target)
            self.close()
            return done
        self.close()
        try:
            return raised
        finally:
            del raised  # its traceback keeps this frame: the two would keep each other

    def close(self) -> None:
        """Let go of what it was run on and came to."""
        self._target = self._reader = None
        self._results, self._steps = [], []
        self._adopt = _nothing

    def _again_in_thread(self, step: Any) -> Later:
        """Do a step, in a thread, that would have blocked here. It has been read before."""
        subject = self._results[step[1] - 1] if step[1] else self._target
        return Later(_in_thread(_VERBS[step[0]], subject, step[2:], self))  # type: ignore[arg-type]

    def _gather(self, result: Any, steps: list[Any]) -> object:
        """What to go on with: a placeholder if all that follows joins this step, or the Later that must be awaited first."""
        unsent, place = result.coroutine, len(self._results)
        if not isinstance(unsent, Unsent):
            return result
        if self._gathered is None:
            if not _may_join(steps, place + 1):
                return result
            self._gathered = _Gathered([], place)
        self._gathered.unsent.append(unsent)
        if place + 1 < len(steps):
            return unsent.placeholder(place - self._gathered.place)
        first, *others = self._gathered.unsent
        first.join(others)
        return Later(first)

    @property
    def at_last(self) -> bool:
        """Whether what is awaited is the result."""
        return self._gathered is not None or len(self._results) + 1 == len(self._steps or ())

    def _resume(self, result: object, error: BaseException | None) -> None:
        """Take what a Later came to. Raises what it raised."""
        gathered, self._gathered = self._gathered, None
        if error is None:
            self._results.append(result)
            return
        if gathered is not None:
            del self._results[gathered.place + gathered.unsent[0].failed :]
        raise error

    def value(self, structure: object, face: Face = Face.BLOCKING) -> Any:
        """An operand, for code of this face."""
        if type(structure) in ATOMS:
            return structure
        reader = self._reader
        if reader is None:
            reader = self._reader = self._open_reader(self._payload)
            reader.results = self._results
        reader.refs = self._adopt(face)
        return reader.value(structure)

    def exception(self, structures: list[Any], face: Face = Face.ASYNC) -> BaseException | None:
        """What `__exit__` is given: an exception, or none."""
        if not structures:
            return None
        error = self.value(structures[0], face)
        if not issubclass(type(error), BaseException):
            raise ProtocolError("an __exit__ with something else than an exception")
        return error  # type: ignore[no-any-return]

    def _arguments(self, function: Any, operands: list[Any]) -> tuple[list[Any], dict[str, Any]]:
        """What a CALL hands to `function`."""
        face = Face.ASYNC if is_async(function) else Face.BLOCKING
        try:
            values, names = operands
            args = [self.value(value, face) for value in values]
            positional = len(args) - len(names)
            kwargs = dict(zip(map(str, names), args[positional:], strict=True))
        except (TypeError, ValueError) as error:
            raise ProtocolError(f"a call cannot be read: {error}") from error
        return _thrown(function, args[:positional]), kwargs

    def wait_for_call(self) -> None:
        """The call that is all of this program has been made (see `steps.plain_step`), and what it returned must be awaited."""
        self._steps = _steps(self._payload.packed)


class _Gathered(msgspec.Struct):
    """Steps of a program that are sent to somebody else at once, and the place of the first one in it."""

    unsent: list[Unsent]
    place: int


def _may_join(steps: list[Any], start: int) -> bool:
    """Whether all steps from this index on are such as an Unsent comes of, each done to what another of them, or the one before them, came to."""
    for step in steps[start:]:
        match step:
            case [Verb.GET | Verb.CALL, int(source), *_] | [Verb.OP, int(source), "__getitem__", *_]:
                if not start <= source:
                    return False
            case _:
                return False
    return start < len(steps)


async def _in_thread(perform: Callable[..., object] | None, *args: Any) -> object:
    if perform is None:
        raise RuntimeError("a function that is served in trio would block: return what is to be awaited")
    return await trio.to_thread.run_sync(_perform, perform, *args, abandon_on_cancel=True)


def _perform(perform: Callable[..., object], *args: Any) -> object:
    try:
        return perform(*args)
    except StopIteration as stop:
        raise Ended(stop) from None


def _nothing(_face: Face) -> Sequence[object]:
    return ()


_CALL, _CALL_ITEMS = Verb.CALL, 4
_LAST = frozenset({Verb.COPY, Verb.ENTER})


def _steps(packed: bytes) -> list[Any]:
    steps = read_structure(packed)
    if type(steps) is not list or len(steps) > STEPS:
        raise ProtocolError(f"a program must be an array of at most {STEPS} steps")
    return steps


def _thrown(function: Any, args: list[Any]) -> list[Any]:
    """What is thrown into a generator, without a traceback of another process: no generator takes one, and contextlib gives one."""
    if type(function) is BuiltinMethodType and len(args) == THROWN and function.__name__ in ("throw", "athrow"):
        return args[:2] if described(args[2]) is not None else args
    return args


THROWN = 3
"""Arguments of `throw(type, value, traceback)`."""


def _get(subject: Any, operands: list[Any], reading: Program) -> object:
    if not operands or type(operands[0]) is not str:  # as `_name` does, in this frame
        raise ProtocolError("a step without a name")
    return read(reading.policy, subject, operands[0])


def _set(subject: Any, operands: list[Any], reading: Program) -> None:
    name = _name(operands)
    name = reading.policy.check(subject, Verb.SET, name) or name
    if len(operands) < 2:
        raise ProtocolError("a SET step without a value")
    setattr(subject, name, reading.value(operands[1]))


def _del(subject: Any, operands: list[Any], reading: Program) -> None:
    name = _name(operands)
    name = reading.policy.check(subject, Verb.DEL, name) or name
    delattr(subject, name)


def _op(subject: Any, operands: list[Any], reading: Program) -> object:
    name = _name(operands)
    if len(operands) < 2 or type(operands[1]) is not list:
        raise ProtocolError("an OP step without arguments")
    if name in OPERATORS:
        return _operate(subject, name, operands[1], reading)
    if name not in SPECIAL or name == "__call__":  # a call is a verb of its own, which a policy judges as such
        raise NotExposed(f"{name!r} is not a special method that peers may use")
    asynchronous = ASYNC_OPS.get(name)
    if asynchronous is not None:
        return asynchronous(subject, operands[1], reading)
    if name == "__dir__" and issubclass(type(subject), Service):
        return listed(reading.policy, subject)
    reading.policy.check(subject, Verb.OP, name)
    if name == "__exit__":
        return exit_with(subject, "__exit__", reading.exception(operands[1], Face.BLOCKING))
    args = [reading.value(value) for value in operands[1]]
    builtin = _BUILTINS.get(name)
    if builtin is not None:
        return builtin(subject, *args)
    if name in BINARY:
        _check_others(args, name, reading.policy)
        return run_binary(name, subject, args)
    return special_method(subject, name)(subject, *args)


def _operate(subject: Any, name: str, args: list[Any], reading: Program) -> object:
    """What the operator itself does: both operands are asked, and NotImplemented is a TypeError."""
    operate, special = OPERATORS[name]
    reading.policy.check(subject, Verb.OP, special)
    others = [reading.value(value) for value in args]
    _check_others(others, special, reading.policy)
    return operate(subject, *others)


def _check_others(others: list[object], name: str, policy: Policy) -> None:
    """Judge the other operands: one of them may be the one that answers, unless all it has is what every object has."""
    name = method_of_other(name)
    for other in others:
        kind = type(other)
        if kind not in BY_VALUE and getattr(kind, name, None) is not getattr(object, name, None):
            policy.check(other, Verb.OP, name)


def _take(subject: Any, operands: list[Any], reading: Program) -> object:
    if type(subject) is Walk:
        return subject.take(count_of(operands, 0))
    reading.policy.check(subject, Verb.TAKE, "")
    count = count_of(operands, 0)
    items: list[object] = []
    advance = type(subject).__next__
    try:
        while len(items) < count:
            items.append(advance(subject))
    except StopIteration:
        return tuple(items), True
    return tuple(items), False


def _value(subject: object, operands: list[Any], reading: Program) -> object:
    reading.policy.check(subject, Verb.VALUE, "")
    return reading.value(operands[0]) if operands else None


def _copy(subject: object, operands: list[Any], reading: Program) -> object:
    """A copy is made when the result is written. What this process holds of another is fetched from there, as is what a front stands for (`__gw_copy__`)."""
    if not operands or type(operands[0]) is not int:
        raise ProtocolError("a COPY step without flags")
    flags = operands[0]
    reading.policy.check(subject, Verb.COPY, "base" if flags & BASE else "")
    if described(subject) is None:
        own: Any = members(type(subject)).get("__gw_copy__")
        return Copied(subject if own is None else own(subject), flags)
    value = fetch(subject, flags & ~PICKLE | (DEEP if flags & PICKLE else 0))
    return Copied(value, flags)


def _name(operands: list[Any]) -> str:
    if not operands or type(operands[0]) is not str:
        raise ProtocolError("a step without a name")
    return operands[0]


def _dir(subject: object) -> tuple[str, ...]:
    return tuple(dir(subject))


class _Memo:
    """What was copied deeply on behalf of one structure of a peer. Nothing of it is public: it holds the insides of what was copied."""

    __slots__ = ("_copies",)

    def __init__(self) -> None:
        self._copies: dict[int, Any] = {}


def _deepcopy(subject: object, *memo: object) -> object:
    """With a memo (None for a new one) the copy and the memo."""
    if not memo:
        return copy.deepcopy(subject)
    known = memo[0] if type(memo[0]) is _Memo else _Memo()
    return copy.deepcopy(subject, known._copies), known  # noqa: SLF001  # private to peers, not to this module


# What has a builtin of its own, which knows all the ways an object can answer (iter by __getitem__, bool by __len__ ...).
_BUILTINS: dict[str, Callable[..., object]] = {
    "__repr__": repr,
    "__str__": str,
    "__bytes__": bytes,
    "__format__": format,
    "__hash__": hash,
    "__bool__": bool,
    "__dir__": _dir,
    "__iter__": iter,
    "__next__": next,
    "__reversed__": reversed,
    "__contains__": operator.contains,
    "__getitem__": operator.getitem,
    "__setitem__": operator.setitem,
    "__delitem__": operator.delitem,
    "__length_hint__": operator.length_hint,
    "__instancecheck__": lambda cls, instance: isinstance(instance, cls),
    "__subclasscheck__": lambda cls, other: issubclass(localised_class(other), cls),
    "__round__": round,
    "__len__": len,
    "__int__": int,
    "__float__": float,
    "__complex__": complex,
    "__index__": operator.index,
    "__abs__": abs,
    "__neg__": operator.neg,
    "__pos__": operator.pos,
    "__invert__": operator.invert,
    "__trunc__": math.trunc,
    "__floor__": math.floor,
    "__ceil__": math.ceil,
    "__fspath__": os.fspath,
    "__copy__": copy.copy,
    "__deepcopy__": _deepcopy,
}
_VERBS: dict[Any, Callable[[Any, list[Any], Program], object] | None] = {
    Verb.GET: _get,
    Verb.SET: _set,
    Verb.DEL: _del,
    Verb.CALL: None,  # is done in the frame of the program
    Verb.OP: _op,
    Verb.TAKE: _take,
    Verb.VALUE: _value,
    Verb.COPY: _copy,
    Verb.ITER: begin_walk,
    Verb.ENTER: enter,
}
