"""What the parts of a session share: its machine, stepped with the turn of its link held, and what is sent at the end of a step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import trio

from rpyc_gateway.circuits import BulkCircuit, CallCircuit
from rpyc_gateway.connection import Connection
from rpyc_gateway.errors import GatewayError, SessionClosed
from rpyc_gateway.leading import Leadership
from rpyc_gateway.per_process import process
from rpyc_gateway.proto.facts import Event
from rpyc_gateway.proto.rpc import Rpc
from rpyc_gateway.stack import STEP_ROOM, check_room
from rpyc_gateway.turn import Turn
from rpyc_gateway.worker import workers

__all__ = ["SessionDesk", "again"]


class SessionDesk(ABC):
    """The ground floor of a Session: the Desk of its parts. Made in the trio thread."""

    HANDLERS: ClassVar[dict[type[Event], Callable[[Any, Any], None]]] = {}
    """What is done about each fact that the machine tells."""

    turn: Turn[Any]  # that of its link
    lead: Leadership | None

    def __init__(self, rpc: Rpc, *, local: str) -> None:
        self.rpc = rpc
        self.local = local
        self.path: tuple[str, ...] = ()
        self.error: GatewayError | None = None
        self.circuit: CallCircuit | None = None
        self._steps: AbstractContextManager[None] = _Steps(self)
        self.bulk: BulkCircuit | None = None  # if it is there, bodies may wait to be sent
        self._token = trio.lowlevel.current_trio_token()
        self.generation = process.generation  # of the process that it belongs to
        self._holding = trio.Event()
        self.is_holding = False  # and that event is set, or will be

    def use(self, connection: Connection) -> None:
        """This is the session's link."""
        self._connection = connection
        self.turn = connection.turn
        self.lead = connection.lead

    def step(self) -> AbstractContextManager[None]:
        """Hold the link's turn, and send what the steps in the body produced. RecursionError, and nothing is changed, without room for them."""
        check_room(STEP_ROOM)
        return self._steps

    def push(self) -> None:
        """Queue the machine's bytes on the circuits. With the turn held; from a caller's thread too."""
        if self.error is not None or self.circuit is None:
            return
        for event in self.rpc.events():
            handle = self.HANDLERS.get(type(event))
            if handle is not None:
                handle(self, event)
        data = self.rpc.data_to_send()
        if data:
            self.circuit.send(data)
        if self.bulk is not None:
            self.bulk.pump(self.rpc)

    def speak(self) -> None:
        """The end of a step in which nothing went wrong: `push`, in a short way if the machine has one message to send. With the turn held."""
        data = self.rpc.one_message()
        if data is not None and self.circuit is not None and self.error is None:
            self.circuit.send(data)
        elif self.bulk is not None or not self.rpc.at_rest:
            self.push()

    # -- what waits for the end of a round

    def put_together(self) -> None:
        """In a trio task: what this round of tasks asks is sent at its end."""
        self._connection.put_together(self._ask_together)

    @abstractmethod
    def _ask_together(self) -> None:
        """Ask what has waited for that. With the turn held; the upper floor does it."""

    @abstractmethod
    def _answer_together(self) -> None:
        """Give the answers that have waited for that. With the turn held, in any thread; the upper floor does it."""

    @property
    def goes_on(self) -> bool:
        """Whether other tasks of this thread will have something to say in a moment, with which what there is to say may wait."""
        connection = self._connection
        return (bool(connection.tasks) and connection.here) or workers.will_go_on()

    def say_later(self) -> None:
        """Within a step: what it produces may wait for what the other tasks of this thread will say in a moment, if there are any."""
        if self.goes_on:
            self._have_flushed()
            self._connection.keep_back()

    def speak_later(self) -> None:
        """In a thread that `goes_on`: what waits is said after the last of its tasks, or in a few milliseconds."""
        self._connection.speak_later(self._answer_together)
        self._have_flushed()

    def _have_flushed(self) -> None:
        if not self._connection.here:  # who sees to it that it is after its own tasks
            workers.flush_later(self._connection)

    def after_turn(self, task: Callable[[], object]) -> None:
        """Within a step: run `task` in the trio thread, when the turn has been given back."""
        self._connection.after_turn(task)

    # -- threads

    @property
    def here(self) -> bool:
        """Whether this is the thread that runs trio for this session."""
        return self._connection.here

    def in_trio(self, call: Callable[..., object], *args: object) -> None:
        """Call it there: now if this is it, else soon."""
        self._connection.in_trio(call, *args)

    def _soon(self, function: Callable[[], object]) -> None:
        """Call it in the trio thread, later even if this is that."""
        try:
            self._token.run_sync_soon(function, idempotent=True)
        except trio.RunFinishedError:
            return  # nobody is left to tell

    def read_for_trio(self) -> None:
        """Trio tasks wait for what comes next: trio reads. In the trio thread."""
        self._connection.read_for_trio()

    def holds(self) -> None:
        """Objects of the peer are held from now on; from any thread, with the turn held."""
        if not self.is_holding:
            self.is_holding = True
            self._soon(self._start_to_hold)

    def _start_to_hold(self) -> None:
        self._holding.set()
        self.want_tasks()

    @abstractmethod
    def want_tasks(self) -> None:
        """A task of this session is needed, now or soon. In the trio thread; the upper floor has it started."""

    # -- whether it may be used

    @property
    def closed(self) -> bool:
        """Whether the session is over."""
        return self.error is not None

    @property
    def way_back(self) -> tuple[str, ...]:
        """The nodes that an answer came through, the peer first, without this one."""
        return self.path[:0:-1] if self.rpc.opener else self.path[:-1]

    def check_open(self) -> None:
        """Raise what ended the session, if it is over."""
        if self.error is not None:
            raise again(self.error)

    def check_process(self) -> None:
        """Raise SessionClosed in a child that was forked from this process: the turn may have been taken at that moment, for ever."""
        if self.generation != process.generation:
            raise SessionClosed("this session belongs to the process that forked this one; open a new one here")


class _Steps:
    """The context of a session's step: that of its link, and at its end what the machine has to say."""

    __slots__ = ("_session",)

    def __init__(self, session: SessionDesk) -> None:
        self._session = session

    def __enter__(self) -> None:
        self._session.turn.__enter__()

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        session = self._session
        try:
            if kind is None:
                session.speak()
        finally:
            session.turn.__exit__()


def again(error: GatewayError) -> GatewayError:
    """A copy of a session's error for one of those who get it: a traceback of its own for each."""
    copy = type(error)(str(error), hop=error.hop)
    copy.__cause__ = error
    return copy
