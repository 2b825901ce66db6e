"""`Executor`: work for several nodes, as `concurrent.futures` has it."""

from __future__ import annotations

import concurrent.futures
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from contextvars import copy_context
from functools import partial
from itertools import count, islice
from types import TracebackType
from typing import Any, TypeVar

import trio

from rpyc_gateway.awaiting import Recorded
from rpyc_gateway.errors import SessionClosed, Unreachable
from rpyc_gateway.far_calls import FarCall, FarNode, NotBegun
from rpyc_gateway.held import held_by, is_proxy
from rpyc_gateway.per_process import process
from rpyc_gateway.sync import BlockingSession, connect

__all__ = ["Executor"]

Where = BlockingSession | str | tuple[str, str]
_T = TypeVar("_T")


class Executor(concurrent.futures.Executor):
    """Runs functions on nodes: the next one goes to whichever node is free. See docs/executor.md.

    Functions of this process are teleported, once to each node; what the standard library has is taken from there; a remote function runs
    where it is. Arguments that are plain data go as copies, and so results come back; anything else goes by reference. A call has a
    `concurrent.futures.Future`, whose `cancel` ends the call over there too, when it has begun.

    A node that is lost fails the calls that it has begun with LinkLost, and the others do what had not begun; with no node left that fails with
    Unreachable.
    """

    def __init__(self, nodes: Where | Iterable[Where], *, per_node: int = 1) -> None:
        """Work for these nodes, `per_node` calls at a time on each of them.

        A node is a session of `connect`, which stays open; or a URL, or (URL, name of a node), which is opened here and closed by `shutdown`.
        Raises ValueError for no node, for one that is named twice, and where not even one call at a time is allowed; RuntimeError in
        the thread that runs trio; what `connect` raises.
        """
        if trio.lowlevel.in_trio_run():
            raise RuntimeError("an Executor is for blocking code: in trio code start the calls in a nursery")
        if per_node < 1:
            raise ValueError(f"a node has to do at least one call at a time, not {per_node}")
        with ExitStack() as opened:
            self._nodes = [FarNode(conn, per_node) for conn in _sessions(_listed(nodes), opened)]
            if not self._nodes:
                raise ValueError("an Executor needs at least one node")
            if len({node.caller for node in self._nodes}) < len(self._nodes):
                raise ValueError(
                    "the same session is named twice: `per_node` says how many calls a node does at a time"
                )
            self._opened = opened.pop_all()
        # Its threads linger, and a process that comes to its end waits for them: so do its calls, as with other executors.
        self._threads = ThreadPoolExecutor(per_node * len(self._nodes), "rpyc-gateway executor")
        self._lock = threading.Lock()  # held for a moment only: nothing is sent, and no code of others runs meanwhile
        self._closing = threading.Lock()
        self._waiting: deque[FarCall] = deque()
        self._open: set[FarCall] = set()
        self._turns = count(1)
        self._is_shut = False
        self._generation = process.generation

    def __repr__(self) -> str:
        with self._lock:
            begun = sum(node.busy for node in self._nodes)
            waiting = len(self._waiting) + sum(len(node.own) for node in self._nodes)
        where = ", ".join(node.name + (" (lost)" if node.lost else "") for node in self._nodes)
        return f"<Executor on {where}: {begun} calls begun, {waiting} waiting{', shut down' if self._is_shut else ''}>"

    # -- what users call ----------------------------------------------------------------------------------------------

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call `fn(*args, **kwargs)` on a node; its future. Waits for nothing.

        Raises RuntimeError after `shutdown`, Unreachable if no node is left, SessionClosed in a forked child, TypeError for what cannot be called there, ValueError for a
        remote function of a node that is not among these.
        """
        while isinstance(fn, partial):
            fn, args, kwargs = fn.func, (*fn.args, *args), {**fn.keywords, **kwargs}
        return self._begin(FarCall(fn, [args], kwargs))

    def map(
        self, fn: Callable[..., _T], *iterables: Iterable[Any], timeout: float | None = None, chunksize: int = 1
    ) -> Iterator[_T]:
        """The results of `fn(*items)`, in order; `chunksize` of them are one call, which costs less where each is short.

        All of them are submitted at once. The iterator raises TimeoutError if the next one is not there `timeout` seconds after this call; and
        when it ends before the last, in whichever way, what is left is cancelled. An exception takes the place of its whole chunk.
        """
        if chunksize < 1:
            raise ValueError(f"a chunk has at least one item, not {chunksize}")
        if chunksize == 1:
            return super().map(fn, *iterables, timeout=timeout)
        rows = zip(*iterables, strict=False)
        chunks = super().map(_Chunked(fn), iter(lambda: list(islice(rows, chunksize)), []), timeout=timeout)
        return _joined(chunks)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002  # as it is in concurrent.futures
        """Take no more calls. With `wait`, return when all that were submitted have ended; with `cancel_futures`, those that have not begun do not begin.

        Sessions that were opened here are closed behind the last call; those that were given stay open.
        """
        if self._is_of_parent:
            return
        with self._lock:
            self._is_shut = True
            left = self._take_waiting() if cancel_futures else []
        for call in left:
            call.cancel()
        if wait:
            while left := self._still_open():
                concurrent.futures.wait(left)
        self._close_opened()

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        """Wait for all calls. Interrupted (Ctrl-C), before or meanwhile, they are cancelled instead: nobody will look at them."""
        try:
            if kind is None or issubclass(kind, Exception):
                self.shutdown()
                return
        except BaseException:
            self._cancel_all()
            raise
        self._cancel_all()

    def _cancel_all(self) -> None:
        if self._is_of_parent:
            return
        self.shutdown(wait=False, cancel_futures=True)
        for call in self._still_open():
            call.cancel()
        self._close_opened()

    @property
    def _is_of_parent(self) -> bool:
        """Whether this is a forked child: its threads are not here, and its locks may be held for ever."""
        return self._generation != process.generation

    # -- who does what ------------------------------------------------------------------------------------------------

    def _begin(self, call: FarCall) -> FarCall:
        if isinstance(call.function, _Chunked):
            call.unpack_rows(call.function.function)
        if not callable(call.function):
            raise TypeError(f"a {type(call.function).__qualname__} cannot be called")
        own = self._home_of(call.function)
        if self._is_of_parent:
            raise SessionClosed("this Executor belongs to the process that forked this one; make a new one here")
        with self._lock:
            if self._is_shut:
                raise RuntimeError("this Executor was shut down: it takes no more calls")
            nodes = self._nodes if own is None else [own]
            is_left = not all(node.lost for node in nodes)
            if is_left:
                (self._waiting if own is None else own.own).append(call)
                self._open.add(call)
        if not is_left:
            raise _nobody_left(nodes)
        call.add_done_callback(self._ended)
        self._go_on()
        return call

    def _home_of(self, function: object) -> FarNode | None:
        """The node of a remote function. Raises TypeError for one of trio code, ValueError for one of another session."""
        if not is_proxy(function):
            return None
        if issubclass(type(function), Recorded):
            raise TypeError(
                "an Executor is for blocking code: in trio code start a task in a nursery, which awaits the call"
            )
        caller = held_by(function).caller
        for node in self._nodes:
            if node.caller is caller:
                return node
        raise ValueError(f"{function!r} runs where it is, and that is not in a session of this Executor")

    def _go_on(self) -> None:
        """Let whoever is free begin with what waits, and fail what nobody can do any more."""
        with self._lock:
            begun = list(self._assign())
            failed = list(self._take_orphans()) if any(node.lost for node in self._nodes) else []
        for call, nodes in failed:
            call.fail(_nobody_left(nodes))
        for node, call in begun:
            try:
                self._threads.submit(self._work, node, call)
            except RuntimeError as error:  # there can be no more threads, or this process comes to its end
                with self._lock:
                    node.busy -= 1
                call.fail(error)

    def _assign(self) -> Iterator[tuple[FarNode, FarCall]]:
        """What goes out now, and where: to those that do least, in turn."""
        free = [node for node in self._nodes if node.is_free]
        while free:
            node = min(free, key=lambda node: (node.busy, node.turn))
            call = self._next_for(node)
            if call is not None:
                node.busy += 1
                node.turn = next(self._turns)
                yield node, call
            if call is None or not node.is_free:
                free.remove(node)

    def _next_for(self, node: FarNode) -> FarCall | None:
        calls = node.own or self._waiting
        return calls.popleft() if calls else None

    def _take_orphans(self) -> Iterator[tuple[FarCall, Sequence[FarNode]]]:
        """Calls that nobody can do any more, and who could have."""
        for node in self._nodes:
            if node.lost:
                yield from ((call, [node]) for call in _emptied(node.own))
        if all(node.lost for node in self._nodes):
            yield from ((call, self._nodes) for call in _emptied(self._waiting))

    def _work(self, node: FarNode, first: FarCall) -> None:
        """Do one call after the other on a node, until nothing waits. In a thread of its own."""
        call: FarCall | None = first
        while call is not None:
            try:
                node.perform(call)
            except NotBegun:  # it is the next that is done
                with self._lock:
                    (node.own if is_proxy(call.function) else self._waiting).appendleft(call)
            with self._lock:
                call = None if node.lost else self._next_for(node)
                if call is None:
                    node.busy -= 1
        self._go_on()

    def _take_waiting(self) -> list[FarCall]:
        return [call for calls in (self._waiting, *(node.own for node in self._nodes)) for call in _emptied(calls)]

    def _still_open(self) -> list[FarCall]:
        with self._lock:
            return list(self._open)

    def _ended(self, call: Future[Any]) -> None:
        with self._lock:
            self._open.discard(call)
            is_last = self._is_shut and not self._open
        if is_last:
            self._close_opened()

    def _close_opened(self) -> None:
        """Let go of the threads and close the sessions that are ours, if nobody needs them any more."""
        with self._closing:
            if not self._still_open():
                self._threads.shutdown(wait=False)
                self._opened.close()


def _emptied(calls: deque[FarCall]) -> list[FarCall]:
    taken = list(calls)
    calls.clear()
    return taken


class _Chunked:
    """Stands for a function that is to be called for each item of a chunk."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __call__(self) -> None:
        """Submitted like a function."""


def _joined(chunks: Iterator[Any]) -> Iterator[Any]:
    for chunk in chunks:
        yield from chunk


def _listed(nodes: Where | Iterable[Where]) -> list[Where]:
    if isinstance(nodes, str | BlockingSession):
        return [nodes]
    return list(nodes)


def _sessions(nodes: Sequence[Where], opened: ExitStack) -> list[BlockingSession]:
    """Their sessions; those that are not there yet are opened all at once, and closed with `opened`. Raises the first error, with nothing left open."""
    ways = [_way(where) for where in nodes]
    opening = [_begin_to_open(*way) for way in ways if way is not None]
    try:
        conns = [future.result() for future in opening]
    except BaseException:
        for future in opening:
            future.add_done_callback(_close_late)
        raise
    for conn in conns:
        opened.callback(conn.close)
    new = iter(conns)
    return [where if isinstance(where, BlockingSession) else next(new) for where in nodes]


def _way(where: Where) -> tuple[str, str | None] | None:
    """The URL and the name of a node that is to be opened."""
    match where:
        case BlockingSession():
            return None
        case str():
            return where, None
        case (str() as url, str() as node):
            return url, node
    raise TypeError(f"a node is a session of gw.connect, a URL, or (URL, name), not a {type(where).__qualname__}")


def _begin_to_open(url: str, node: str | None) -> Future[BlockingSession]:
    opening: Future[BlockingSession] = Future()

    def run() -> None:
        try:
            opening.set_result(connect(url, node=node))
        except BaseException as error:  # noqa: BLE001  # raised where it is waited for
            opening.set_exception(error)

    # In a copy of this context, which bears the end of a `gw.timeout`. A daemon: a process that was interrupted does not wait for it.
    threading.Thread(target=copy_context().run, args=(run,), name="rpyc-gateway opening", daemon=True).start()
    return opening


def _close_late(opening: Future[BlockingSession]) -> None:
    if opening.exception() is None:
        opening.result().close()


def _nobody_left(nodes: Iterable[FarNode]) -> Unreachable:
    lost = "; ".join(f"{node.name} ({node.reason()})" for node in nodes)
    return Unreachable(f"the call was not begun, since no node is left that can: {lost}")
