"""What a front and the agent of its board say to each other, as one value: calls, answers, callbacks, events (docs/protocol.md, section 13)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Any, TypeAlias

from msgspec import Struct

from rpyc_gateway.device.codec import Decoder, Host, Ref, Result, encode, number
from rpyc_gateway.device.lent import Lent
from rpyc_gateway.errors import EncodeError, LimitExceeded, PeerRestarted, ProtocolError

__all__ = [
    "Answered",
    "Broken",
    "Called",
    "Conversation",
    "Dropped",
    "Fact",
    "Failed",
    "Failure",
    "Notified",
    "Oversized",
    "Primitive",
    "Step",
]

LARGEST = 1 << 20
"""Bytes of the longest message that is taken from a board."""

NAMES = 31
"""Calls that may be open at once: what five bits name."""

STEPS = 64
"""Steps of one program."""

BATCH = 30
"""Objects that are released in one message."""

PROGRAM, COPY, ANSWER, ERROR, EVENT = 0x40, 0x20, 0x80, 0xA0, 0xC0
NAME = 0x1F


class Primitive(IntEnum):
    """What every agent has."""

    RELEASE = 0
    GETATTR = 1
    SETATTR = 2
    GETITEM = 3
    EVAL = 4
    EXEC = 5
    IMPORT = 6
    REPR = 7
    DIR = 8
    APPLY = 9
    SAME = 10


Target: TypeAlias = Primitive | Ref | Result


class Step(Struct, frozen=True):
    """Call `target` with `args`, values for the board. Keyword arguments go by Primitive.APPLY."""

    target: Target
    args: tuple[Any, ...] = ()


class Failure(Struct, frozen=True):
    """An exception of the board, in its own words: the index of the step, the class, `str` of it, its traceback, `errno` of an OSError.

    `kind` is "" where the board had no memory to say more, or was interrupted again.
    """

    step: int = 0
    kind: str = ""
    text: str = ""
    traceback: str = ""
    errno: int | None = None


class Answered(Struct, frozen=True):
    """A call is done."""

    call: int
    value: Any


class Failed(Struct, frozen=True):
    """A call has raised."""

    call: int
    failure: Failure


class Called(Struct, frozen=True):
    """The board calls an object of this side, and waits for `answer` or `fail`."""

    callback: int
    target: Any
    args: tuple[Any, ...]
    keywords: dict[str, Any]


class Notified(Struct, frozen=True):
    """The board calls an object of this side, and goes on."""

    target: Any
    args: tuple[Any, ...]


class Dropped(Struct, frozen=True):
    """So many events have come too fast for the board."""

    count: int


class Broken(Struct, frozen=True):
    """The board does not keep to the protocol. Nothing follows."""

    reason: str


class Oversized(LimitExceeded):
    """A message of so many bytes, which this board cannot take. Nothing of it was sent."""


Fact: TypeAlias = Answered | Failed | Called | Notified | Dropped | Broken


class Conversation:
    """The front's side. It stands on the stream of a line, and has no clock. `released` is called, in any thread, when there is an object to be released."""

    free: int = 0
    """Bytes that were free in the board's heap at the beginning, 0 if that is not known. A message may have a quarter of what is free when it comes."""

    def __init__(self, *, largest: int = LARGEST, released: Callable[[], object] = lambda: None) -> None:
        self.broken = False
        self._largest = largest
        self._inflow = bytearray()
        self._out = bytearray()
        self._facts: list[Fact] = []
        self._open: dict[
            int, list[Ref]
        ] = {}  # calls in the order in which they were sent, and what they need until then
        self._callbacks: set[int] = set()
        self._lent = Lent()
        self._released: deque[int] = deque()
        self._last = 0
        self._tell_released = released

    # -- what it is

    @property
    def room(self) -> int:
        """How many calls may be begun now."""
        return NAMES - len(self._open)

    @property
    def running(self) -> int | None:
        """The call that the board is running, as far as is known; None if none is open."""
        calls = list(self._open)
        return calls[min(len(self._callbacks), len(calls) - 1)] if calls else None

    def facts(self) -> list[Fact]:
        """What has happened since the last call."""
        happened, self._facts = self._facts, []
        return happened

    # -- bytes in

    def receive_data(self, data: bytes) -> None:
        """Take the next bytes of the stream."""
        if self.broken:
            return
        self._inflow += data
        try:
            while message := self._next():
                self._take(message)
        except ProtocolError as error:
            self.broken = True
            self._facts.append(Broken(str(error)))

    def _next(self) -> bytes:
        """The next whole message, or b""."""
        inflow = self._inflow
        length = 0
        for at, byte in enumerate(inflow[:4]):
            length |= (byte & 0x7F) << (7 * at)
            if byte < 0x80:
                break
        else:
            if len(inflow) >= 4:
                raise ProtocolError("a board announces a message of more than 256 MB")
            return b""
        if not 0 < length <= self._largest:
            raise ProtocolError(
                f"a board announces a message of {length} bytes; at most {self._largest} are taken: ask for it in parts"
            )
        start = at + 1
        if len(inflow) < start + length:
            return b""
        message = bytes(inflow[start : start + length])
        del inflow[: start + length]
        return message

    def _take(self, message: bytes) -> None:
        head = message[0]
        name = head & NAME
        read = Decoder(message, self._borrow, self._lent.__getitem__, at=1)
        match head & 0xE0:
            case 0x00 | 0x40:
                self._take_callback(name, read, keywords=bool(head & PROGRAM))
            case 0x80:
                self._close(name)
                self._facts.append(Answered(name, read.value()))
            case 0xA0:
                self._close(name)
                self._facts.append(Failed(name, failure(read.values())))
            case 0xC0:
                target = read.number()
                args = tuple(read.values())
                if target:
                    self._facts.append(Notified(self._object(target), args))
                else:
                    self._facts.append(Dropped(args[0] if args and type(args[0]) is int else 0))
            case _:
                raise ProtocolError(f"no message of a board begins with {head:#04x}")
        if read.more:
            raise ProtocolError(f"a board's message has more in it than a message beginning with {head:#04x} has")

    def _take_callback(self, name: int, read: Decoder, *, keywords: bool) -> None:
        if not name or name in self._callbacks:
            raise ProtocolError(f"a board calls back under the number {name}, which is not free")
        target = self._object(read.number())
        args = read.values()
        named = args.pop() if keywords and args else {}
        if type(named) is not dict or not all(type(key) is str for key in named):
            raise ProtocolError("a board calls back with keyword arguments that are none")
        self._callbacks.add(name)
        self._facts.append(Called(name, target, tuple(args), named))

    def _object(self, number: int) -> Any:
        try:
            return self._lent[number]
        except KeyError:
            raise ProtocolError(f"a board calls object {number} of its front, which it was not given") from None

    def _close(self, name: int) -> None:
        if self._open.pop(name, None) is None:
            raise ProtocolError(f"a board answers call {name}, which is not open")

    def _borrow(self, number: int) -> Ref:
        if number <= max(Primitive):
            raise ProtocolError(f"a board gives its object {number} away, which is everybody's")
        return Ref(number, self)

    def release(self, number: int) -> None:
        """Nobody has this object of the board any more. In any thread, at any moment."""
        self._released.append(number)
        self._tell_released()

    # -- intentions

    def call(self, steps: Sequence[Step], *, copy: bool = False) -> int:
        """Run these steps on the board, one after another; the result of the last is the answer, as a copy if it is to be one.

        The number of the call, for its Answered or Failed. Raises EncodeError for a value that cannot be sent, LimitExceeded if too much is open, PeerRestarted for a Ref
        of another life.
        """
        if not 1 <= len(steps) <= STEPS:
            raise LimitExceeded(f"a program for a board has 1 to {STEPS} steps, not {len(steps)}")
        if not self.room:
            raise LimitExceeded(f"{NAMES} calls of this board are not answered yet")
        held = [part for step in steps for part in refs_in((step.target, step.args))]
        self._check_owner(held)
        head = COPY if copy else 0
        counts = [check_count(step) for step in steps]
        if len(steps) == 1:
            body = encode_step(steps[0])
        else:
            head |= PROGRAM
            body = b"".join(bytes((count,)) + encode_step(step) for count, step in zip(counts, steps, strict=True))
        self._check_length(body)
        name = self._name()
        self._say(bytes((head | name,)) + body)
        self._open[name] = held
        return name

    def _check_owner(self, refs: list[Ref]) -> None:
        if any(ref.owner is not self for ref in refs):
            raise PeerRestarted("this object is one of another board, or of another life of this one")

    def _check_length(self, body: bytes) -> None:
        """A board would refuse it, but only after all of it has come: on a slow line that takes minutes."""
        if self.free and len(body) >= self.free:
            raise Oversized(
                f"a message of {len(body) + 1} bytes, for a board that had {self.free} free when it was opened, and takes a quarter of that; it was not sent"
            )

    def _name(self) -> int:
        while True:
            self._last = self._last % NAMES + 1
            if self._last not in self._open:
                return self._last

    def answer(self, callback: int, value: object) -> None:
        """Answer a callback. Raises EncodeError, Oversized or PeerRestarted for a value that cannot be sent; then it is still to be answered."""
        self._check_owner(refs_in(value))
        body = encode(value)
        self._check_length(body)
        self._callbacks.remove(callback)
        self._say(bytes((ANSWER | callback,)) + body)

    def fail(self, callback: int, kind: str, text: str) -> None:
        """Let a callback raise: the board's class of that name, if it has one."""
        self._callbacks.remove(callback)
        kind, text = (part.encode(errors="backslashreplace").decode() for part in (kind, text))
        self._say(bytes((ERROR | callback,)) + encode(0) + encode(kind) + encode(text) + encode(""))

    def lend(self, thing: Any, *, event: bool = False) -> Host:
        """What stands for an object of this side, on the board. It is kept until `withdraw`; lent twice, it is the same."""
        return Host(self._lent.number_of(thing), event=event)

    def withdraw(self, thing: Any) -> None:
        """The board has no use for this object of ours any more."""
        self._lent.withdraw(thing)

    def nudge(self) -> None:
        """Say something that changes nothing: a board that runs the agent acknowledges it."""
        self._say(bytes((0,)) + encode(int(Primitive.RELEASE)))

    # -- bytes out

    def data_to_send(self) -> bytes:
        """The next bytes of the stream."""
        while self._released:
            count = min(len(self._released), BATCH)
            numbers = (self._released.popleft() for _ in range(count))
            self._say(bytes((0,)) + encode(int(Primitive.RELEASE)) + b"".join(map(encode, numbers)))
        out, self._out = self._out, bytearray()
        return bytes(out)

    def _say(self, message: bytes) -> None:
        self._out += number(len(message)) + message


def encode_step(step: Step) -> bytes:
    target = step.target
    if isinstance(target, Ref):
        head = encode(target.number)
    elif isinstance(target, Result):
        head = encode(target)
    else:
        head = encode(int(target))
    return head + b"".join(map(encode, step.args))


def check_count(step: Step) -> int:
    if len(step.args) > 255:
        raise EncodeError(f"a step of a program for a board has 255 arguments at most, not {len(step.args)}")
    return len(step.args)


def refs_in(value: Any) -> list[Ref]:
    """The objects of the board in this value, at any depth."""
    if isinstance(value, Ref):
        return [value]
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, tuple | list):
        return [ref for part in value for ref in refs_in(part)]
    return []


def failure(values: list[Any]) -> Failure:
    """What an ERROR says. Raises ProtocolError if that is nothing."""
    if not values:
        return Failure()
    match values:
        case [int(step), str(kind), str(text), *rest]:
            traceback, errno = [*rest, "", None][:2] if rest else ("", None)
            return Failure(
                step,
                kind,
                text,
                traceback if isinstance(traceback, str) else "",
                errno if isinstance(errno, int) else None,
            )
    raise ProtocolError("a board's error says neither its class nor its text")
