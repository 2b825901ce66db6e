"""Objects that stand on a front for those of its board, for sessions: what is done to them is done there."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import trio

from rpyc_gateway.awaiting import Blocks, Later, Recorded, Unsent, awaited
from rpyc_gateway.calls import checkpoint
from rpyc_gateway.device.anyboard import AnyBoard, BoardError
from rpyc_gateway.device.arguments import PLAIN, Absent, check_callable, fetched
from rpyc_gateway.device.board import Event
from rpyc_gateway.device.codec import Ref, Result
from rpyc_gateway.device.conversation import Primitive, Step
from rpyc_gateway.device.deeds import OPERATORS, made
from rpyc_gateway.device.events import Events, Inlet
from rpyc_gateway.device.raising import raised
from rpyc_gateway.device.waiting import Cause, ThreadWaiter, Waiter
from rpyc_gateway.errors import Cancelled, EncodeError, GatewayError
from rpyc_gateway.held import is_proxy

__all__ = ["ASKED", "Desk", "Standin"]

LOOK = 0.05  # seconds between two looks whether the caller has lost interest


class Desk:
    """Asks a board for the threads of one session that ends at its front."""

    def __init__(self, board: AnyBoard) -> None:
        self.cause = Cause("a session")
        self._board = board
        self._token = trio.lowlevel.current_trio_token()
        self._thread = threading.get_ident()
        self._deeds: dict[str, Ref] = {}  # functions on the board, by their names in SOURCES
        self._callbacks: dict[int, tuple[Any, Any]] = {}  # by the id of what they call, which is kept
        self._inlets: set[Inlet] = set()

    def ask(self, *steps: Step, copy: bool = False) -> Any:
        """The result of a program; what is no value comes as a Standin. With `copy` lists and dicts are values. For other threads than trio's, where it raises Blocks.

        Raises what the board raised, as a builtin exception where it is one; what Board.run raises; Cancelled where the caller has lost interest.
        """
        if threading.get_ident() == self._thread:
            raise Blocks
        waiter = ThreadWaiter(self.cause)
        try:
            told = self.told(steps)
        except Absent:
            told = trio.from_thread.run(self.told_whole, steps, trio_token=self._token)
        self._token.run_sync_soon(self._begin, told, waiter, copy)
        try:
            while not waiter.wait(LOOK):
                checkpoint()
        except BaseException:
            self._token.run_sync_soon(self._abandon, waiter)
            raise
        error = waiter.error
        if error is not None:
            raise raised(error) if isinstance(error, BoardError) else error
        return self.received(waiter.value)

    def _begin(self, steps: Sequence[Step], waiter: ThreadWaiter, copy: bool) -> None:  # noqa: FBT001  # run_sync_soon takes no names
        try:
            if not waiter.abandoned:
                self._board.begin(steps, waiter, copy=copy)
        except Exception as exc:  # noqa: BLE001  # it is the thread's
            waiter.finish(None, exc)

    def _abandon(self, waiter: ThreadWaiter) -> None:
        waiter.abandoned = True
        self._board.abandon(waiter)

    def later(self, target: Any, *args: Any) -> Later:
        """A step for the board that is all of the program, or is joined by the rest of it."""
        return Later(Joined(self, self._board, Step(target, args)))

    async def hear(self, source: object, how: dict[str, Any]) -> Events:
        """Events from the interrupts of `source`, whose `irq` is called with `how`; or from whatever calls them. Raises what Board.run raises; then there are none."""
        if not self._board.notifies:
            raise EncodeError(f"this board is driven {self._board.kind}")
        if source is not None and not isinstance(source, Standin):
            raise EncodeError("events are those of an object of the board that has `irq`, a Pin for example")
        inlet = Inlet(self._board, self.cause, self._inlets.discard)
        self._inlets.add(inlet)
        events = Events(inlet, self.received)
        if source is not None:
            irq = Step(Primitive.APPLY, (Result(0), (), {**how, "handler": events}))
            inlet.source = ref_of(source)  # cancelled in between, it is withdrawn
            try:
                await Joined(self, self._board, Step(Primitive.GETATTR, (source, "irq")), irq).wait()
            except Exception:
                inlet.source = None
                inlet.close()
                raise
        return events

    def show(self, write: Any) -> bool:
        """Give `write` what is printed for this session. False if nobody knows what that is."""
        if not self._board.tells_whose:
            return False

        async def show(line: bytes) -> None:
            await self._call_back(write, line.decode(errors="replace") + "\n")

        self.cause.show = show
        return True

    def told(self, steps: Sequence[Step]) -> list[Step]:
        """These steps in the board's words. Raises Absent if there is data of the client among the arguments: see `told_whole`."""
        return [Step(self._sent(step.target), tuple(map(self._sent, step.args))) for step in steps]

    async def told_whole(self, steps: Sequence[Step]) -> list[Step]:
        """The same, with copies of the client's data. Raises EncodeError for what has none."""
        return self.told([Step(step.target, await fetched(step.args)) for step in steps])

    def close(self) -> None:
        """The session is over: the board has no use for its functions any more."""
        for _, callback in self._callbacks.values():
            self._board.withdraw(callback)
        self._callbacks.clear()
        for inlet in list(self._inlets):
            inlet.close()

    def help(self, name: str, *args: Any) -> Any:
        """What one of SOURCES makes of these. Raises what `ask` raises, Blocks too."""
        found = self._deeds.get(name)
        if found is None:
            found = self._deeds[name] = ref_of(self.ask(*made(name)))
        return self.ask(Step(found, args))

    def help_later(self, name: str, *args: Any) -> Later:
        """The same, for whoever can wait for it."""
        found = self._deeds.get(name)
        return self._made_later(name, args) if found is None else self.later(found, *args)

    def _made_later(self, name: str, args: tuple[Any, ...]) -> Later:
        return Later(self._make(name, args))  # type: ignore[arg-type]

    async def _make(self, name: str, args: tuple[Any, ...]) -> Any:
        found = self._deeds[name] = ref_of(await Joined(self, self._board, *made(name)).wait())
        return await Joined(self, self._board, Step(found, args)).wait()

    def _sent(self, value: Any) -> Any:
        kind = type(value)
        if kind in PLAIN:
            return value
        if isinstance(value, Standin):
            return ref_of(value)
        if kind is tuple or kind is list:
            return kind(map(self._sent, value))
        if kind is dict:
            return {self._sent(key): self._sent(part) for key, part in value.items()}
        if kind is Events:
            return Event(value._inlet.hear)  # noqa: SLF001  # private to clients
        if is_proxy(value):
            check_callable(value)
        if callable(value) and not isinstance(value, Primitive | Ref | Result):
            if id(value) not in self._callbacks:
                self._callbacks[id(value)] = (value, functools.partial(self._call_back, value))
            return self._callbacks[id(value)][1]
        return value

    def received(self, value: Any) -> Any:
        """What came from the board in the words of this side."""
        if type(value) is tuple or type(value) is list:
            return type(value)(map(self.received, value))
        if type(value) is dict:
            return {self.received(key): self.received(part) for key, part in value.items()}
        return Standin(self, value) if isinstance(value, Ref) else value

    async def _call_back(self, function: Any, *args: Any, **keywords: Any) -> Any:
        """A function of a session's client: it may take its time."""
        call = functools.partial(function, *map(self.received, args), **keywords)
        if isinstance(function, Recorded):
            return self._sent(await fetched(await awaited(call())))
        return self._sent(await trio.to_thread.run_sync(call, abandon_on_cancel=True))


class Joined(Unsent):
    """Steps of one program, sent to the board in one message."""

    def __init__(self, desk: Desk, board: AnyBoard, *steps: Step) -> None:
        self._desk = desk
        self._board = board
        self.steps = [*steps]
        self._waiter: Told | None = None

    def placeholder(self, index: int) -> Standin:
        return Standin(self._desk, Result(index))

    def join(self, others: Sequence[Unsent]) -> None:
        for other in others:
            assert isinstance(other, Joined)
            self.steps += other.steps

    def begin(self, done: Callable[[object, BaseException | None], object]) -> bool:
        self._waiter = Told(self._desk.cause, lambda value, error: done(*self._outcome(value, error)))
        try:
            self._board.begin(self._desk.told(self.steps), self._waiter)
        except Exception:  # noqa: BLE001  # whoever waits for it in a task is told again
            return False
        return True

    def cancel(self) -> None:
        if self._waiter is not None and not self._waiter.done:
            self._board.abandon(self._waiter)
            self._waiter.finish(None, Cancelled("the call was cancelled before it was done"))

    async def wait(self) -> object:
        value: Any = None
        error: BaseException | None = None
        try:
            value = await self._board.run(await self._desk.told_whole(self.steps), cause=self._desk.cause)
        except Exception as exc:  # noqa: BLE001  # it is raised below
            error = exc
        value, error = self._outcome(value, error)
        if error is not None:
            raise error
        return value

    def _outcome(self, value: Any, error: BaseException | None) -> tuple[Any, BaseException | None]:
        if error is None:
            return self._desk.received(value), None
        if isinstance(error, BoardError):
            self.failed = min(error.failure.step, len(self.steps) - 1)
            return None, raised(error)
        if isinstance(error, EncodeError):
            self.failed = self._unsendable()
        return None, error

    def _unsendable(self) -> int:
        """Which of the steps has what cannot be sent."""
        for index, step in enumerate(self.steps):
            try:
                self._board.check(*self._desk.told([step]))
            except Absent:
                pass
            except GatewayError:
                return index
        return 0


class Told(Waiter):
    """Calls `done` when an answer is there."""

    __slots__ = ("_done",)

    def __init__(self, cause: Cause, done: Callable[[Any, BaseException | None], object]) -> None:
        super().__init__(cause)
        self._done = done

    def wake(self) -> None:
        self._done(self.value, self.error)


def ref_of(standin: Any) -> Any:
    """What it stands for."""
    return object.__getattribute__(standin, "_ref")


class Standin:
    """An object of a board, or the result of an earlier step that is to be sent in the same message.

    All that Python does to an object is done there. Attributes, calls, items and operators come Later; what has to be of a certain type
    (`len`, `in`, `==`, `str` ...) is waited for, which raises Blocks in trio's thread.
    """

    __slots__ = ("_desk", "_ref")

    def __init__(self, desk: Desk, ref: Ref | Result) -> None:
        object.__setattr__(self, "_desk", desk)
        object.__setattr__(self, "_ref", ref)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name.endswith("__") and name not in ASKED:
            raise AttributeError(name)  # Python asks for these by itself
        return self._desk.later(Primitive.GETATTR, self, name)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return self._desk.later(Primitive.GETATTR, self, "__class__")

    def __reduce_ex__(self, _protocol: Any) -> Any:
        raise TypeError(
            "objects of a board cannot be copied: gw.obtain has lists, dicts and tuples of them as one's own"
        )

    def __setattr__(self, name: str, value: object) -> None:
        self._desk.ask(Step(Primitive.SETATTR, (self, name, value)))

    def __delattr__(self, name: str) -> None:
        self._desk.help("delattr", self, name)

    def __dir__(self) -> list[str]:
        return list(self._desk.ask(Step(Primitive.DIR, (self,)), copy=True))

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        if keywords:
            return self._desk.later(Primitive.APPLY, self, args, keywords)
        return self._desk.later(self._ref, *args)

    def __instancecheck__(self, instance: object) -> bool:
        return bool(self._desk.help("isinstance", self, instance))

    def __subclasscheck__(self, cls: object) -> bool:
        return bool(self._desk.help("issubclass", self, cls))

    # -- items

    def __getitem__(self, key: object) -> Any:
        if type(key) is slice:
            return self._desk.help_later("slice", self, key.start, key.stop, key.step)
        return self._desk.later(Primitive.GETITEM, self, key)

    def __setitem__(self, key: object, value: object) -> None:
        if type(key) is slice:
            self._desk.help("setslice", self, key.start, key.stop, key.step, value)
        else:
            self._desk.help("setitem", self, key, value)

    def __delitem__(self, key: object) -> None:
        if type(key) is slice:
            self._desk.help("delslice", self, key.start, key.stop, key.step)
        else:
            self._desk.help("delitem", self, key)

    def __contains__(self, item: object) -> bool:
        return bool(self._desk.help("contains", self, item))

    def __len__(self) -> int:
        return int(self._desk.help("len", self))

    def __iter__(self) -> StandinIterator:
        return StandinIterator(self._desk, self._desk.help("iter", self))

    def __reversed__(self) -> StandinIterator:
        return StandinIterator(self._desk, self._desk.help("reversed", self))

    def __next__(self) -> Any:
        return next(StandinIterator(self._desk, self))

    # -- what it is

    def __bool__(self) -> bool:
        return bool(self._desk.help("bool", self))

    def __eq__(self, other: object) -> bool:
        return bool(self._desk.help("equal", self, other))

    def __ne__(self, other: object) -> bool:
        return bool(self._desk.help("different", self, other))

    def __hash__(self) -> int:
        return int(self._desk.help("hash", self))

    def __str__(self) -> str:
        return str(self._desk.help("str", self))

    def __repr__(self) -> str:
        return str(self._desk.ask(Step(Primitive.REPR, (self,))))

    def __format__(self, spec: str) -> str:
        return str(self._desk.help("format", self, spec))

    def __bytes__(self) -> bytes:
        found: bytes = self._desk.help("bytes", self)
        return found

    def __int__(self) -> int:
        return int(self._desk.help("int", self))

    def __index__(self) -> int:
        try:
            return int(self._desk.help("index", self))
        except AttributeError as error:
            raise TypeError("this object of the board is no index: it has no __index__") from error

    def __float__(self) -> float:
        return float(self._desk.help("float", self))

    def __round__(self, *digits: int) -> Any:
        return self._desk.help_later("round", self, *digits)

    def __pow__(self, other: object, *modulo: object) -> Any:
        return self._desk.help_later("pow" if modulo else "__pow__", self, other, *modulo)

    def __gw_copy__(self) -> Any:
        """What it is, if that is plain data; what is not within it comes as a Standin."""
        return self._desk.ask(Step(Primitive.SAME, (self,)), copy=True)

    # -- blocks

    def __enter__(self) -> Any:
        return self._desk.help("enter", self)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> Any:
        if kind is None:
            return self._desk.help("leave", self)
        args = error.args if error is not None and all(type(arg) in PLAIN for arg in error.args) else (str(error),)
        return self._desk.help("fail", self, kind.__name__, args, str(error))


ASKED = frozenset({"__name__", "__qualname__", "__file__", "__path__", "__class__"})
"""Names between underscores that are asked for on the board. All others are of what stands for an object, and nobody's."""


def _operator(name: str) -> Callable[..., Any]:
    def method(self: Standin, *others: object) -> Any:
        return self._desk.help_later(name, self, *others)

    method.__name__ = method.__qualname__ = name
    return method


for _name in OPERATORS.keys() - Standin.__dict__.keys():
    setattr(Standin, _name, _operator(_name))


class StandinIterator:
    """An iterator of a board. Raises what `next` raises there."""

    __slots__ = ("_desk", "_iterator")

    def __init__(self, desk: Desk, iterator: Standin) -> None:
        self._desk = desk
        self._iterator = iterator

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        found = self._desk.help("advance", self._iterator)
        if not found:
            raise StopIteration
        return found[0]
