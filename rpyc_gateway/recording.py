"""From what the proxies of trio code recorded to the steps of one program."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import msgspec
import trio

from rpyc_gateway.awaiting import Recorded
from rpyc_gateway.errors import LimitExceeded
from rpyc_gateway.held import Held, held_by
from rpyc_gateway.once import Once
from rpyc_gateway.proto.atoms import FLAT, UNPACKABLE, pack, pack_atoms
from rpyc_gateway.proto.messages import Verb
from rpyc_gateway.proto.values import BY_VALUE, DEPTH, Draft, Result
from rpyc_gateway.steps import STEPS, Step, Steps

__all__ = ["Owed", "Recording", "build", "build_together", "recording_of", "spelling"]


class Recording(msgspec.Struct, eq=False):
    """One step as it was written: `on` the proxy of an object, or on another step. `once` is what it came to, once it was awaited."""

    on: Any
    verb: Verb
    operands: tuple[Any, ...]
    once: Once | None = None
    sent: str = ""  # what became of it, as part of whatever expression

    @property
    def known(self) -> bool:
        """Whether the expression that ends with this step has come to its end."""
        return self.once is not None and self.once.known


class Owed(Recording, eq=False):
    """A step that somebody meant to be done: dropped unawaited, it warns with its line, which is found out then: it takes long in long functions."""

    code: Any = None  # that wrote it
    at: int = 0  # and where in it

    @trio.lowlevel.enable_ki_protection  # a KeyboardInterrupt in a finalizer would be printed and forgotten
    def __del__(self) -> None:
        if not self.sent:
            message = f"a remote call was recorded and never awaited: {spelling(self)}"
            line = next((line for start, end, line in self.code.co_lines() if start <= self.at < end and line), 0)
            warnings.warn_explicit(message, RuntimeWarning, self.code.co_filename, line, source=self)


def recording_of(proxy: Any) -> Recording | None:
    """The last step of an expression; None for the proxy of an object."""
    return _get_slot(proxy, "__gw_step__")  # type: ignore[no-any-return]


_get_slot = object.__getattribute__


def spelling(link: Recording) -> str:
    """How an expression was written after the object that it began with, as far as that can be told without asking anything of the operands."""
    return "".join(map(_spelled, _chain(link)))


def _chain(link: Any) -> list[Recording]:
    """The steps that were recorded from the proxy of an object up to this one."""
    links: list[Recording] = []
    while isinstance(link, Recording):
        links.append(link)
        link = link.on
    return links[::-1]


def _spelled(link: Recording) -> str:
    verb, operands = link.verb, link.operands
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


def build(proxy: Any, recording: Recording) -> Steps:
    """The program of what a proxy recorded; expressions of the same session among its operands become steps of it.

    Raises LimitExceeded beyond STEPS, RuntimeError for a call that is part of another expression, TypeError for an operand of
    another session; nothing is changed then.
    """
    straight = _straight(recording)
    if straight is not None:
        return straight
    program = _Program(held_by(proxy))
    try:
        program.add(recording)
    except BaseException:
        _forgive(recording)
        raise
    for link in program.owed:
        link.sent = SENT
    return program.steps


def build_together(target: Held, recordings: Sequence[Recording], wanted: Sequence[Recording]) -> list[Step]:
    """The program of recorded steps in the order in which they were written, all of them done, on what `target` and others hold.

    It comes to what the last one does if that alone is `wanted`, else to a tuple of what those that are wanted come to. Raises LimitExceeded beyond STEPS.
    """
    program = _Program(target)
    for recording in recordings:
        program.add(recording)
    results = [program.index_of(recording) for recording in wanted]
    if results != [len(program.steps)]:
        program.steps.append((Verb.VALUE, 0, tuple(map(Result, results))))
    if len(program.steps) > STEPS:
        raise _too_long()
    return program.steps


SENT = "sent"
REFUSED = "refused"
"""What became of a step that must not be dropped unawaited: refused with its expression, it may be sent with another."""


def _straight(recording: Recording) -> Draft | None:
    """The packed program of a plain chain of attributes and calls with atoms for arguments, as most are; None if it takes more thought."""
    if recording.verb is _CALL and type(recording.on) not in _RECORDINGS:
        return _one_call(recording)
    links: list[Recording] = []
    link: Any = recording
    while type(link) in _RECORDINGS:
        if link.once is not None or link.sent is SENT or len(links) == STEPS:
            return None
        links.append(link)
        link = link.on
    written: list[Step] = []
    for source, link in enumerate(reversed(links)):
        verb, operands = link.verb, link.operands
        if verb is _GET:
            written.append((_GET_CODE, source, operands[0]))
        elif verb is _CALL:
            args, kwargs = operands
            if kwargs:
                args = (*args, *kwargs.values())
            if not _are_flat(map(type, args)):
                return None
            written.append((_CALL_CODE, source, args, tuple(kwargs)))
        else:
            return None
    packed = pack_atoms(written)
    if packed is None:
        return None
    for link in links:
        if type(link) is Owed:
            link.sent = SENT
    return Draft(packed)


def _one_call(call: Recording) -> Draft | None:
    """The same for an expression that is no more than a call of an object that is here."""
    args, kwargs = call.operands
    if call.once is not None or call.sent is SENT or kwargs or not _are_flat(map(type, args)):
        return None
    try:
        packed = pack(((_CALL_CODE, 0, args, ()),))
    except UNPACKABLE:
        return None
    call.sent = SENT
    return Draft(packed)


_are_flat = FLAT.issuperset
_RECORDINGS = frozenset({Owed, Recording})
_GET, _CALL = Verb.GET, Verb.CALL
_GET_CODE, _CALL_CODE = int(_GET), int(_CALL)


def _forgive(recording: Recording) -> None:
    """An expression was awaited in vain: nothing that it is made of was forgotten."""
    waiting: list[Any] = [recording]
    while waiting:
        link = waiting.pop()
        kind = type(link)
        if kind is tuple:
            waiting.extend(part for part in link if type(part) is tuple or issubclass(type(part), Recorded))
        elif issubclass(kind, Recorded):
            waiting.append(recording_of(link))
        elif issubclass(kind, Recording) and not link.sent:
            link.sent = REFUSED
            waiting += [link.on, *(tuple(part.values()) if type(part) is dict else part for part in link.operands)]


class _Program:
    def __init__(self, target: Held) -> None:
        self.target = target
        self.steps: list[Step] = []
        self.owed: list[Recording] = []
        self._index: dict[int, int] = {}
        self._tuples: dict[int, object] = {}
        self._depth = 0

    def add(self, recording: Recording) -> int:
        """Append the steps of an expression; the number of its last step."""
        links: list[Recording] = []
        link: Any = recording
        while isinstance(link, Recording) and not link.known:
            links.append(link)
            link = link.on
        if len(links) > STEPS:
            raise _too_long()
        source = self._root(link)
        for link in reversed(links):
            source = self._link(link, source)
        return source

    def index_of(self, recording: Recording) -> int:
        """The number of a step that was added."""
        return self._index[id(recording)]

    def _root(self, start: Any) -> int:
        value = _outcome(start) if isinstance(start, Recording) else start
        if issubclass(type(value), Recorded) and held_by(value) is self.target:
            return 0
        return self._append((Verb.VALUE, 0, value))

    def _link(self, link: Recording, source: int) -> int:
        before = self._index.get(id(link))
        if before is not None:
            return before
        if type(link) is Owed:
            if link.sent is SENT:
                raise RuntimeError(
                    f"{_spelled(link)} was already sent as part of another expression; await it once and use the result"
                )
            self.owed.append(link)
        operands: Sequence[Any] = link.operands
        if link.verb is Verb.CALL:
            args, kwargs = operands
            operands = [self._operand(args), {name: self._operand(value) for name, value in kwargs.items()}]
        else:
            operands = [self._operand(operand) for operand in operands]
        index = self._append((link.verb, source, *operands))
        self._index[id(link)] = index
        return index

    def _operand(self, operand: Any, depth: int = 0) -> Any:
        kind = type(operand)
        if issubclass(kind, Recorded):
            recording = recording_of(operand)
            return operand if recording is None else self._expression(operand, recording)
        if kind is tuple and depth <= DEPTH:
            done = self._tuples.get(id(operand))
            if done is None:  # a tuple that holds another twice, and so on, doubles with each step
                done = self._tuples[id(operand)] = tuple([self._operand(part, depth + 1) for part in operand])
            return done
        if kind is slice:
            return slice(*(self._operand(part, depth + 1) for part in (operand.start, operand.stop, operand.step)))
        return operand

    def _expression(self, operand: Any, recording: Recording) -> object:
        if recording.known:
            return _outcome(recording)
        if held_by(operand).caller is not self.target.caller:
            raise TypeError("an operand is an unawaited expression of another session: await it first")
        self._depth += 1
        if self._depth > STEPS:
            raise _too_long()
        index = self.add(recording)
        self._depth -= 1
        return Result(index)

    def _append(self, step: Step) -> int:
        if len(self.steps) >= STEPS:
            raise _too_long()
        self.steps.append(step)
        return len(self.steps)


def _outcome(recording: Recording) -> Any:
    """What an expression came to that was awaited. Raises what that raised."""
    assert recording.once is not None
    return recording.once.result()


def _too_long() -> LimitExceeded:
    return LimitExceeded(f"an expression exceeds limit of {STEPS} steps: await a part of it first")
