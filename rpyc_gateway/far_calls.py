"""The calls of an Executor: each is its own future; and what a node does with one."""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial, reduce
from inspect import isroutine
from types import FunctionType
from typing import Any

from rpyc_gateway.async_result import AsyncResult
from rpyc_gateway.errors import EncodeError, GatewayError, LinkLost, ProtocolError, SessionClosed
from rpyc_gateway.held import held_by, is_proxy
from rpyc_gateway.proto.copies import DEEP, PICKLE, Copied
from rpyc_gateway.proto.messages import Verb
from rpyc_gateway.proto.plain import BY_NAME, KINDS, NESTS
from rpyc_gateway.proto.values import Result, by_value
from rpyc_gateway.proxy import unread_method
from rpyc_gateway.steps import CALL, STEPS, Step
from rpyc_gateway.sync import BlockingSession
from rpyc_gateway.teleporting import teleport
from rpyc_gateway.weak import WeakTable

__all__ = ["FarCall", "FarNode", "NotBegun"]


class NotBegun(Exception):
    """The node is lost, and has seen nothing of the call."""


class FarCall(Future[Any]):
    """A function that is called on some node, once for each row of arguments; the future of that.

    To `concurrent.futures` it is pending until it is done, so that it can be cancelled: whoever takes the token out of `_end` ends it.
    """

    def __init__(self, function: Callable[..., Any], rows: list[Sequence[Any]], kwargs: dict[str, Any]) -> None:
        super().__init__()
        self.function: Any = function
        self.rows = rows
        self.kwargs = kwargs
        self.is_chunk = False
        self._end = [None]
        self.has_begun = False
        self._under_way: AsyncResult | None = None

    def unpack_rows(self, function: Callable[..., Any]) -> None:
        """The one row holds a chunk: the function is called for each of its items."""
        ((rows,),) = self.rows
        while isinstance(function, partial):
            rows = [(*function.args, *row) for row in rows]
            self.kwargs = {**function.keywords, **self.kwargs}
            function = function.func
        self.function, self.rows, self.is_chunk = function, rows, True

    def running(self) -> bool:
        """Whether a node has begun with it."""
        return self.has_begun and not self.done()

    def cancel(self) -> bool:
        """Cancel it: it does not begin, or ends over there as a call of `async_` does. False if it had ended before."""
        if not self._claim():
            return self.cancelled()
        super().cancel()
        self.set_running_or_notify_cancel()
        under_way = self._under_way
        if under_way is not None:
            under_way.cancel()
        return True

    def fail(self, error: BaseException) -> None:
        """It came to this, if it has not ended."""
        if self._claim():
            self.set_exception(error)

    def succeed(self, value: object) -> None:
        """The same."""
        if self._claim():
            self.set_result(value)

    def follow(self, under_way: AsyncResult) -> None:
        """A node was asked for this part of it."""
        self._under_way = under_way
        if not self._end:  # cancelled in this moment
            under_way.cancel()

    def _claim(self) -> bool:
        try:
            self._end.pop()
        except IndexError:
            return False
        return True


class FarNode:
    """One node of an Executor, and the functions that have been sent there. `busy`, `turn` and `own` are its Executor's, under its lock."""

    def __init__(self, conn: BlockingSession, per_node: int) -> None:
        self.caller = held_by(conn.root).caller
        self.name = conn.path[-1]
        self.busy = 0
        self.turn = 0  # when it was last given something
        self.own: deque[FarCall] = deque()  # calls of functions that are there
        self._conn = conn
        self._per_node = per_node
        self._named: dict[tuple[str, str], Any] = {}  # functions that were there already
        self._teleported: WeakTable[FunctionType, Any] = WeakTable()
        self._sending = threading.Lock()

    @property
    def lost(self) -> bool:
        """Whether it does nothing any more."""
        return self._conn.closed

    def reason(self) -> str:
        """Why it is lost."""
        try:
            self._conn.ping()
        except GatewayError as error:
            return str(error)
        raise AssertionError("it is not lost")

    @property
    def is_free(self) -> bool:
        """Whether it can take one more call."""
        return self.busy < self._per_node and not self.lost

    def perform(self, call: FarCall) -> None:
        """Do a call, and let it end. Raises NotBegun if the node is lost before it has been asked."""
        values: list[Any] = []
        is_asked = False
        try:
            function = self._there(call.function)
            # As many as one program holds, and what picks up their results.
            for start in range(0, len(call.rows), STEPS - 2):
                if call.done():
                    return
                call.has_begun = True
                under_way = self._ask(function, call.rows[start : start + STEPS - 2], call.kwargs)
                is_asked = True
                call.follow(under_way)
                under_way.wait()
                value, error, _ = under_way.ending()
                if error is not None:
                    call.fail(error)
                    return
                values += self._collected(value)
        except (LinkLost, SessionClosed) as error:
            if self.lost and not is_asked:
                call.has_begun = False
                raise NotBegun from error
            call.fail(error)
        except BaseException as error:  # noqa: BLE001  # it is the call's: whoever waits for that is told
            call.fail(error)
        else:
            call.succeed(values if call.is_chunk else values[0])

    def _there(self, function: Any) -> Any:
        """The function, over there: sent once."""
        if is_proxy(function):
            return function
        name = _importable(function)
        with self._sending:
            if name is not None:
                if name not in self._named:
                    self._named[name] = reduce(getattr, name[1].split("."), self._conn.modules[name[0]])
                return self._named[name]
            if not isinstance(function, FunctionType):
                return teleport(self._conn, function)  # it says why that cannot be
            there = self._teleported.fact(id(function))
            if there is None:
                there = teleport(self._conn, function)
                self._teleported.keep(id(function), function, there)
            return there

    def _ask(self, function: Any, rows: Sequence[Sequence[Any]], kwargs: dict[str, Any]) -> AsyncResult:
        """Start one program that calls it for each row; it comes to a tuple."""
        method = unread_method(function)
        held = held_by(function) if method is None else method[0]
        steps: list[Step] = [] if method is None else [(Verb.GET, 0, method[1])]
        subject = len(steps)
        named = {name: _sent(value) for name, value in kwargs.items()}
        steps += [(CALL, subject, tuple(map(_sent, row)), named) for row in rows]
        results = tuple(Result(subject + number) for number in range(1, len(rows) + 1))
        under_way: AsyncResult = self.caller.start(held.number, [*steps, (Verb.VALUE, 0, results)])
        return under_way

    def _collected(self, value: Any) -> Any:
        """A copy of a result, as deep as there can be one: what is plain data here, proxies of the rest."""
        pickles = self._conn.pickles
        if not _has_copy(value, pickles=pickles):
            return value
        for flags in (DEEP | PICKLE, DEEP) if pickles else (DEEP,):
            try:
                return self.caller.start(0, ((Verb.VALUE, 0, value), (Verb.COPY, 1, flags))).value
            except (EncodeError, ProtocolError):
                pass  # it holds itself, say, or has keys that are no plain data; or there is no such class here
        return value


def _sent(value: Any) -> Any:
    """How an argument goes: a copy of what is plain data."""
    kind = type(value)
    return Copied(value, DEEP) if kind in KINDS or (kind in NESTS and not by_value(value)) else value


def _has_copy(value: Any, *, pickles: bool) -> bool:
    """Whether a copy of what came would be another thing than that."""
    if is_proxy(value):
        info = held_by(value).info
        return pickles or BY_NAME.get((info.module, info.name)) in KINDS
    return type(value) in (tuple, frozenset) and any(_has_copy(item, pickles=pickles) for item in value)


def _importable(function: Any) -> tuple[str, str] | None:
    """The name by which the far side has it too: of a class, of what is not written in Python, of what is in the standard library."""
    owner = getattr(function, "__objclass__", None) or getattr(function, "__self__", None)
    module = (owner if isinstance(owner, type) else function).__module__  # that of `str.upper` is None
    if not isinstance(module, str) or module == "__main__":
        return None
    if isinstance(function, FunctionType) and module.partition(".")[0] not in sys.stdlib_module_names:
        return None
    path = getattr(function, "__qualname__", "")
    found: Any = sys.modules.get(module)
    for name in path.split("."):
        found = getattr(found, name, None)
    is_same = found is function or (isroutine(function) and found == function)  # methods are made anew by each look
    return (module, path) if is_same else None
