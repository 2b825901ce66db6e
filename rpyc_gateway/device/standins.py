"""Objects that stand on a front for those of its board, for sessions: what is done to them is done there."""

from __future__ import annotations

import ast
import builtins
import functools
import re
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import trio

from rpyc_gateway.awaiting import Blocks, Later, Recorded, Unsent, awaited
from rpyc_gateway.calls import checkpoint
from rpyc_gateway.device.anyboard import AnyBoard, BoardError
from rpyc_gateway.device.codec import Ref, Result
from rpyc_gateway.device.conversation import Failure, Primitive, Step
from rpyc_gateway.device.waiting import ThreadWaiter, Waiter
from rpyc_gateway.errors import Cancelled, EncodeError, GatewayError
from rpyc_gateway.proto.messages import Verb
from rpyc_gateway.service import Policy, PublicOnly, Service, expose

__all__ = ["BoardService", "Desk"]

LOOK = 0.05  # seconds between two looks whether the caller has lost interest

# What boards can do and their agent has no primitive for: defined there when it is first needed.
HELPERS = {
    "slice": "def {}(a, b, c, d): return a[b:c:d]",
    "setitem": "def {}(a, b, c): a[b] = c",
    "delitem": "def {}(a, b): del a[b]",
    "contains": "def {}(a, b): return b in a",
    "delattr": "def {}(a, b): delattr(a, b)",
    "equal": "def {}(a, b): return a == b",
    "advance": "def {}(a):\n try: return next(a),\n except StopIteration: return ()",
}


class Desk:
    """Asks a board for the threads of one session that ends at its front. `nursery` lives as long as the board."""

    def __init__(self, board: AnyBoard, nursery: trio.Nursery) -> None:
        self._board = board
        self._nursery = nursery
        self._token = trio.lowlevel.current_trio_token()
        self._thread = threading.get_ident()
        self._helpers: dict[str, Any] = {}
        self._callbacks: dict[int, tuple[Any, Any]] = {}  # by the id of what they call, which is kept

    def ask(self, *steps: Step, copy: bool = False) -> Any:
        """The result of a program; what is no value comes as a Standin. With `copy` lists and dicts are values. For other threads than trio's, where it raises Blocks.

        Raises what the board raised, as a builtin exception where it is one; what Board.run raises; Cancelled where the caller has lost interest.
        """
        if threading.get_ident() == self._thread:
            raise Blocks
        waiter = ThreadWaiter()
        told = self.told(steps)
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
            if not waiter.abandoned and not self._board.begin(steps, waiter, copy=copy):
                self._nursery.start_soon(self._begin_later, steps, waiter, copy)
        except Exception as exc:  # noqa: BLE001  # it is the thread's
            waiter.finish(None, exc)

    async def _begin_later(self, steps: Sequence[Step], waiter: ThreadWaiter, copy: bool) -> None:  # noqa: FBT001
        await self._board.wait_room()
        self._begin(steps, waiter, copy)

    def _abandon(self, waiter: ThreadWaiter) -> None:
        waiter.abandoned = True
        self._board.abandon(waiter)

    def later(self, target: Any, *args: Any) -> Later:
        """A step for the board that is all of the program, or is joined by the rest of it."""
        return Later(Joined(self, self._board, Step(target, args)))

    def told(self, steps: Sequence[Step]) -> list[Step]:
        """These steps in the board's words."""
        return [Step(self._sent(step.target), tuple(map(self._sent, step.args))) for step in steps]

    def close(self) -> None:
        """The session is over: the board has no use for its functions any more."""
        for _, callback in self._callbacks.values():
            self._board.withdraw(callback)
        self._callbacks.clear()

    def help(self, name: str, *args: Any) -> Any:
        """Call one of HELPERS, on the board."""
        found = self._helpers.get(name)
        if found is None:
            there = f"_gateway_{name}"
            found = self._helpers[name] = self.ask(
                Step(Primitive.EXEC, (HELPERS[name].format(there),)), Step(Primitive.EVAL, (there,))
            )
        return self.ask(Step(object.__getattribute__(found, "_ref"), args))

    def _sent(self, value: Any) -> Any:
        if isinstance(value, Standin):
            return object.__getattribute__(value, "_ref")
        if type(value) is tuple:
            return tuple(map(self._sent, value))
        if type(value) is dict:  # keyword arguments
            return {key: self._sent(part) for key, part in value.items()}
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
            return self._sent(await awaited(call()))
        return self._sent(await trio.to_thread.run_sync(call, abandon_on_cancel=True))


class Joined(Unsent):
    """Steps of one program, sent to the board in one message."""

    def __init__(self, desk: Desk, board: AnyBoard, step: Step) -> None:
        self._desk = desk
        self._board = board
        self.steps = [step]
        self._waiter: Told | None = None

    def placeholder(self, index: int) -> Standin:
        return Standin(self._desk, Result(index))

    def join(self, others: Sequence[Unsent]) -> None:
        for other in others:
            assert isinstance(other, Joined)
            self.steps += other.steps

    def begin(self, done: Callable[[object, BaseException | None], object]) -> bool:
        self._waiter = Told(lambda value, error: done(*self._outcome(value, error)))
        try:
            return self._board.begin(self._desk.told(self.steps), self._waiter)
        except Exception:  # noqa: BLE001  # whoever waits for it in a task is told again
            return False

    def cancel(self) -> None:
        if self._waiter is not None and not self._waiter.done:
            self._board.abandon(self._waiter)
            self._waiter.finish(None, Cancelled("the call was cancelled before it was done"))

    async def wait(self) -> object:
        value: Any = None
        error: BaseException | None = None
        try:
            value = await self._board.run(self._desk.told(self.steps))
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
        for index, step in enumerate(self._desk.told(self.steps)):
            try:
                self._board.check(step)
            except GatewayError:
                return index
        return 0


class Told(Waiter):
    """Calls `done` when an answer is there."""

    __slots__ = ("_done",)

    def __init__(self, done: Callable[[Any, BaseException | None], object]) -> None:
        super().__init__()
        self._done = done

    def wake(self) -> None:
        self._done(self.value, self.error)


def raised(error: BoardError) -> BaseException:
    """The exception of a board, as a builtin one if it is one, with the traceback from there as a note."""
    failure: Failure = error.failure
    kind = getattr(builtins, failure.kind, None)
    if not (isinstance(kind, type) and issubclass(kind, Exception)):
        return error
    args: tuple[Any, ...] = (failure.text,)
    if issubclass(kind, OSError) and failure.errno is not None:
        args = (failure.errno, re.sub(r"^\[Errno \d+\] ", "", failure.text))  # which it puts there again
    elif kind is KeyError:
        with suppress(ValueError, SyntaxError):
            args = (ast.literal_eval(failure.text),)
    try:
        found: Exception = kind(*args)
    except TypeError:  # some want more than a text
        return error
    found.add_note(f"on the board:\n{failure.traceback}" if failure.traceback else "on the board")
    return found


class Standin:
    """An object of a board, or the result of an earlier step that is to be sent in the same message.

    Attributes, calls, items, iteration, `len`, `in`, `==`, `str` and `repr` are asked for there. The first three come Later.
    """

    __slots__ = ("_desk", "_ref")

    def __init__(self, desk: Desk, ref: Ref | Result) -> None:
        object.__setattr__(self, "_desk", desk)
        object.__setattr__(self, "_ref", ref)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)  # Python asks for these by itself
        return self._desk.later(Primitive.GETATTR, self, name)

    def __setattr__(self, name: str, value: object) -> None:
        self._desk.ask(Step(Primitive.SETATTR, (self, name, value)))

    def __delattr__(self, name: str) -> None:
        self._desk.help("delattr", self, name)

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        if keywords:
            return self._desk.later(Primitive.APPLY, self, args, keywords)
        return self._desk.later(self._ref, *args)

    def __getitem__(self, key: object) -> Any:
        if type(key) is slice:
            return self._desk.help("slice", self, key.start, key.stop, key.step)
        return self._desk.later(Primitive.GETITEM, self, key)

    def __setitem__(self, key: object, value: object) -> None:
        self._desk.help("setitem", self, key, value)

    def __delitem__(self, key: object) -> None:
        self._desk.help("delitem", self, key)

    def __contains__(self, item: object) -> bool:
        return bool(self._desk.help("contains", self, item))

    def __len__(self) -> int:
        length: int = self._desk.ask(Step(Primitive.EVAL, ("len",)), Step(Result(0), (self,)))
        return length

    def __bool__(self) -> bool:
        return bool(self._desk.ask(Step(Primitive.EVAL, ("bool",)), Step(Result(0), (self,))))

    def __iter__(self) -> StandinIterator:
        return StandinIterator(self._desk, self._desk.ask(Step(Primitive.EVAL, ("iter",)), Step(Result(0), (self,))))

    def __eq__(self, other: object) -> bool:
        return bool(self._desk.help("equal", self, other))

    __hash__ = object.__hash__

    def __gw_copy__(self) -> Any:
        """What it is, if that is plain data; what is not within it comes as a Standin."""
        return self._desk.ask(Step(Primitive.SAME, (self,)), copy=True)

    def __str__(self) -> str:
        return str(self._desk.ask(Step(Primitive.EVAL, ("str",)), Step(Result(0), (self,))))

    def __repr__(self) -> str:
        return str(self._desk.ask(Step(Primitive.REPR, (self,))))


class StandinIterator:
    """An iterator of a board. Raises what `next` raises there."""

    __slots__ = ("_desk", "_iterator")

    def __init__(self, desk: Desk, iterator: Standin) -> None:
        self._desk = desk
        self._iterator = iterator

    def __iter__(self) -> StandinIterator:
        return self

    def __next__(self) -> Any:
        found = self._desk.help("advance", self._iterator)
        if not found:
            raise StopIteration
        return found[0]


class BoardModules:
    """`modules.machine`, `modules["os.path"]`: the modules of a board, imported when asked for."""

    __slots__ = ("_desk",)

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        return self[name]

    def __getitem__(self, name: str) -> Any:
        return self._desk.later(Primitive.IMPORT, name)


class BoardPolicy(PublicOnly):
    """What is the board's is for whoever may use the board, whatever its name; what stands for it here is not."""

    def check(self, target: object, verb: Verb, name: str) -> None:
        if type(target) is not Standin or name in Standin.__slots__ or not re.fullmatch(r"_[^_].*", name):
            super().check(target, verb, name)


class BoardService(Service):
    """The whole interpreter of a board, as `classic` is that of a node: `modules`, `builtins`, `namespace`, `eval`, `execute`."""

    __gw_policy__: Policy | None = BoardPolicy()

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._modules = BoardModules(desk)

    def on_disconnect(self, session: object) -> None:
        self._desk.close()

    @property
    @expose
    def modules(self) -> BoardModules:
        """The modules of the board."""
        return self._modules

    @property
    @expose
    def builtins(self) -> Any:
        """Its builtins."""
        return self._modules["builtins"]

    @property
    @expose
    def namespace(self) -> Any:
        """The dict in which `eval` and `execute` run."""
        return self._desk.later(Primitive.EVAL, "globals()")

    @expose
    def getmodule(self, name: str) -> Any:
        """Import a module by its dotted name."""
        return self._desk.later(Primitive.IMPORT, name)

    @expose
    def eval(self, text: str) -> Any:
        """Evaluate an expression in the board's namespace."""
        return self._desk.later(Primitive.EVAL, text)

    @expose
    def execute(self, text: str) -> Any:
        """Execute statements in the board's namespace."""
        return self._desk.later(Primitive.EXEC, text)
