"""Expressions of blocking code that are sent together: `with gw.batch(conn) as b:`."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self

from rpyc_gateway.awaiting import Recorded
from rpyc_gateway.classes import SLOTS, is_probe
from rpyc_gateway.errors import LimitExceeded
from rpyc_gateway.held import Held, RemoteObject, held_by, is_proxy
from rpyc_gateway.once import Once
from rpyc_gateway.operations import HINTS
from rpyc_gateway.proto.messages import Verb
from rpyc_gateway.proto.values import DEPTH
from rpyc_gateway.recording import Recording, build_together, recording_of, spelling
from rpyc_gateway.steps import STEPS, Step

__all__ = ["Batch", "Placeholder", "batch"]


def batch(conn: Any) -> Batch:
    """`with gw.batch(conn) as b:` records what is written on `b`, and sends it in one message at the end of the block.

    `b` has what the session has: `b.modules`, `b.builtins`, `b.namespace`, `b.root`, `b.eval`, `b.execute`; and `b(proxy)` stands for an object
    that is held. What is done to these is recorded, and gives placeholders, which may be used like them and as arguments; their `value` is
    there behind the block. All is done over there in the order in which it was written, in the thread that does the other calls of this one.

    An expression that uses the result of another is in one program with it, and with what was written between them: that ends with the first error,
    which is the error of all in it. The others are done all the same. The end of the block raises the first error. A block
    that is left by an exception sends nothing.

    Raises TypeError for what is no session of `connect`.
    """
    root = getattr(conn, "root", None)
    if not is_proxy(root) or issubclass(type(root), Recorded):
        raise TypeError(
            f"gw.batch takes a session of gw.connect, not a {type(conn).__qualname__}; in trio code any expression is one message"
        )
    return Batch(held_by(root))


class Batch:
    """What is recorded in a block, and was sent at its end."""

    def __init__(self, root: Held) -> None:
        self._root = root
        self._recordings: list[Recording] = []
        self._used: list[list[Recording]] = []  # which of the others each of them uses
        self._placeholders: dict[int, weakref.ref[Placeholder]] = {}
        self._state = "is not entered"

    def __repr__(self) -> str:
        return f"<batch of {len(self._recordings)} steps that {self._state}>"

    # -- what there is to write on --------------------------------------------------------------------------------------

    @property
    def root(self) -> Any:
        """Stands for the root of what the far side serves."""
        return _placeholder(self._root, None, self)

    @property
    def modules(self) -> Any:
        """`b.modules.os`, `b.modules["os.path"]`."""
        return _Modules(self.root)

    @property
    def builtins(self) -> Any:
        """Stands for the far side's builtins."""
        return self.root.builtins

    builtin = builtins

    @property
    def namespace(self) -> Any:
        """Stands for the dict in which `eval` and `execute` run."""
        return self.root.namespace

    def eval(self, text: str) -> Any:
        """Record the evaluation of an expression there."""
        return self.root.eval(text)

    def execute(self, text: str) -> Any:
        """Record the execution of statements there."""
        return self.root.execute(text)

    def teleport(self, function: Any) -> Any:
        """A function is made there before the block, and called in it: raises TypeError, which says so."""
        raise TypeError(
            "teleporting is no expression that could wait for the end of the block: there = conn.teleport(function) before it, and b(there)(...) in it"
        )

    def __call__(self, proxy: Any) -> Any:
        """Stands for an object of the session that is held here. Raises TypeError for anything else."""
        if issubclass(type(proxy), Recorded):
            raise TypeError(f"a batch is of blocking code: it takes no {type(proxy).__qualname__}")
        if not is_proxy(proxy) or held_by(proxy).caller is not self._root.caller:
            raise TypeError(
                f"a batch takes proxies of its own session, and not a {type(proxy).__qualname__} of another place"
            )
        return _placeholder(held_by(proxy), None, self)

    # -- recording ------------------------------------------------------------------------------------------------------

    def record(self, subject: Placeholder, verb: Verb, operands: tuple[Any, ...]) -> Placeholder:
        """A step on what `subject` stands for. Raises RuntimeError outside of the block, TypeError for operands that are not there yet elsewhere."""
        self._check_open()
        on = recording_of(subject)
        used = [] if on is None else [on]
        for operand in _recorded_in(operands):
            recording = recording_of(operand)
            if recording is None or recording.known:
                continue
            if type(operand) is not Placeholder or _batch_of(operand) is not self:
                raise TypeError(
                    "an operand stands for a result that is not there yet, and not of this batch: use its value"
                )
            used.append(recording)
        recording = Recording(subject if on is None else on, verb, operands)
        self._recordings.append(recording)
        self._used.append(used)
        placeholder = _placeholder(held_by(subject), recording, self)
        self._placeholders[id(recording)] = weakref.ref(placeholder)
        return placeholder

    def _check_open(self) -> None:
        if self._state != _OPEN:
            raise RuntimeError(f"nothing can be recorded in a batch that {self._state}")

    def value_of(self, placeholder: Placeholder) -> Any:
        """What a placeholder stands for. Raises what its expression raised; RuntimeError if it was not sent."""
        recording = recording_of(placeholder)
        if recording is None:
            raise TypeError("this stands for an object that is held: use that, or getattr(object, 'value')")
        if not recording.known:
            reason = "is known at its end, behind the block" if self._state == _OPEN else "was not sent"
            raise RuntimeError(f"what is recorded in a batch {reason}: this batch {self._state}")
        assert recording.once is not None
        return recording.once.result()

    # -- the block ------------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        if self._state != _NEW:
            raise RuntimeError(f"a batch is entered once, and this one {self._state}")
        self._state = _OPEN
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        if kind is not None:
            self._state = "was left by an exception"
            self._forget()
            return
        self._state = "has failed"
        try:
            errors = self._send()
            self._state = "was sent"
        finally:
            self._forget()
        if errors:
            first, *others = errors
            if others:
                first.add_note(f"{len(others)} more failed in this batch: {', '.join(map(_brief, others))}")
            try:
                raise first
            finally:
                del first, others, errors  # what is raised holds this frame

    def _forget(self) -> None:
        self._recordings, self._used, self._placeholders = [], [], {}

    def _send(self) -> list[Exception]:
        """Send what was recorded, and learn what it came to; the errors among that."""
        runs = self._runs()
        wanted = [[recording for recording in run if self._is_wanted(recording)] for run in runs]
        programs = [_program(run, some) for run, some in zip(runs, wanted, strict=True)]
        results = self._root.caller.ask_together(programs)
        errors: list[Exception] = []
        try:
            self._root.caller.see_through(results)
        finally:
            for run, some, result in zip(runs, wanted, results, strict=True):
                if not result.is_over:  # nothing was sent
                    continue
                value, failure, _ = result.ending()
                if failure is not None:
                    errors.append(failure)
                    _settle(run, (), failure)
                else:
                    _settle(some, (value,) if _is_last_alone(run, some) else value, None)
        return errors

    def _is_wanted(self, recording: Recording) -> bool:
        return self._placeholders[id(recording)]() is not None

    def _runs(self) -> list[list[Recording]]:
        """What was recorded, cut wherever nothing behind the cut uses what is before it."""
        runs: list[list[Recording]] = []
        starts: list[int] = []
        numbers: dict[int, int] = {}
        for number, (recording, used) in enumerate(zip(self._recordings, self._used, strict=True)):
            first = min((numbers[id(one)] for one in used), default=number)
            run, start = [recording], number
            while starts and first < start:
                start = starts.pop()
                run = runs.pop() + run
            runs.append(run)
            starts.append(start)
            numbers[id(recording)] = number
        return runs


_NEW, _OPEN = "is not entered", "is in its block"


def _is_last_alone(run: list[Recording], wanted: list[Recording]) -> bool:
    """Whether a program comes to the value itself, not to a tuple."""
    return len(wanted) == 1 and wanted[0] is run[-1]


def _program(run: list[Recording], wanted: list[Recording]) -> tuple[int, Sequence[Step]]:
    """The object, and the program on it, of a run."""
    start: Any = run[0]
    while isinstance(start, Recording):
        start = start.on
    target = held_by(start)
    try:
        return target.number, build_together(target, run, wanted)
    except LimitExceeded:
        raise LimitExceeded(
            f"between a result and its last use in a batch are more than {STEPS} steps, at {spelling(run[-1])}: end the batch before that, and use the value"
        ) from None


def _settle(recordings: list[Recording], values: Any, error: Exception | None) -> None:
    for place, recording in enumerate(recordings):
        recording.once = once = Once(None, ())
        once.learn(None if error is not None else values[place], error)


def _brief(error: Exception) -> str:
    return f"{type(error).__qualname__}: {error}"


def _recorded_in(operand: Any, depth: int = 0) -> Iterator[Any]:
    """What stands for results among the parts of operands, as far as a program looks for it there."""
    kind = type(operand)
    if issubclass(kind, Recorded):
        yield operand
    elif kind is tuple and depth <= DEPTH:
        for part in operand:
            yield from _recorded_in(part, depth + 1)
    elif kind is slice:
        yield from _recorded_in((operand.start, operand.stop, operand.step), depth + 1)
    elif kind is dict and depth == 1:  # the names of a call
        yield from _recorded_in(tuple(operand.values()), depth + 1)


# -- placeholders -------------------------------------------------------------------------------------------------------


class Placeholder(RemoteObject, Recorded):
    """Stands in a batch for a result that is not there yet: what is done to it is recorded.

    Its own are `value`, and the special names of Python; an attribute that is called `value` is `gw.ops.getattr(placeholder, "value")`.
    """

    __slots__ = (*SLOTS, "__gw_batch__", "__gw_step__")

    refusal = "a placeholder of a batch stands for what is not there yet: use its `value`, behind the block"

    @classmethod
    def record(cls, subject: object, verb: Any, operands: tuple[Any, ...]) -> Placeholder:
        """What stands for a step on `subject`."""
        assert type(subject) is Placeholder
        return _batch_of(subject).record(subject, verb, operands)

    def __getattribute__(self, name: str) -> Any:
        if name == "value":
            return _batch_of(self).value_of(self)
        if name.startswith("__") and name.endswith("__"):
            return object.__getattribute__(self, name)
        if is_probe(name):
            raise AttributeError(f"{name!r} is asked for by displays only: use gw.ops.getattr(placeholder, {name!r})")
        return Placeholder.record(self, Verb.GET, (name,))

    def __setattr__(self, name: str, value: object) -> None:
        if name == "value":
            raise AttributeError("`value` is the placeholder's own: use gw.ops.setattr(placeholder, 'value', ...)")
        Placeholder.record(self, Verb.SET, (name, value))

    def __delattr__(self, name: str) -> None:
        Placeholder.record(self, Verb.DEL, (name,))

    def __call__(self, /, *args: object, **kwargs: object) -> Any:
        return Placeholder.record(self, Verb.CALL, (args, kwargs))

    def __getitem__(self, key: object) -> Any:
        return Placeholder.record(self, Verb.OP, ("__getitem__", (key,)))

    def __setitem__(self, key: object, value: object) -> None:
        Placeholder.record(self, Verb.OP, ("__setitem__", (key, value)))

    def __delitem__(self, key: object) -> None:
        Placeholder.record(self, Verb.OP, ("__delitem__", (key,)))

    __hash__ = object.__hash__

    def __reduce_ex__(self, _protocol: object) -> Any:
        raise TypeError(f"cannot copy or pickle this: {Placeholder.refusal}")

    def __repr__(self) -> str:
        held, recording = held_by(self), recording_of(self)
        state = "object" if recording is None else "known" if recording.known else "recorded"
        return f"<placeholder of a batch, {state}: {held.info.name}{'' if recording is None else spelling(recording)}>"


def _refusal(method: str, spelled: str) -> Callable[..., Any]:
    instead = f"; or record gw.ops.{spelled}" if spelled else ""

    def refuse(_self: Placeholder, *_operands: object) -> Any:
        raise TypeError(f"{Placeholder.refusal}{instead}")

    refuse.__name__ = refuse.__qualname__ = method
    return refuse


# Without these Python would answer by itself, wrongly: by the identity of the placeholder, or by asking for items without end.
_REFUSED = {
    "__bool__": "truth(placeholder)",
    "__len__": "len(placeholder)",
    "__contains__": "contains(placeholder, item)",
    "__eq__": "eq(a, b)",
    "__ne__": "ne(a, b)",
    "__iter__": "iter(placeholder)",
    "__reversed__": "reversed(placeholder)",
    "__await__": "",
    "__enter__": "",
    "__exit__": "",
    "__index__": "index(placeholder)",
}
for _method, _spelled in {**HINTS, **_REFUSED}.items():
    if _method not in ("__setitem__", "__delitem__"):
        setattr(Placeholder, _method, _refusal(_method, _spelled.replace("proxy", "placeholder")))


def _placeholder(held: Held, recording: Recording | None, owner: Batch) -> Placeholder:
    placeholder = object.__new__(Placeholder)
    for name, value in (("__gw_held__", held), ("__gw_step__", recording), ("__gw_batch__", owner)):
        object.__setattr__(placeholder, name, value)
    return placeholder


def _batch_of(placeholder: Placeholder) -> Batch:
    return object.__getattribute__(placeholder, "__gw_batch__")  # type: ignore[no-any-return]


class _Modules:
    """`b.modules.os`, `b.modules["os.path"]`."""

    __slots__ = ("_root",)

    def __init__(self, root: Any) -> None:
        self._root = root

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        return self[name]

    def __getitem__(self, name: str) -> Any:
        return self._root.getmodule(name)
