"""Objects on their way through a session: what goes out as a reference, and the proxies for what comes in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from rpyc_gateway.async_proxy import async_proxy, is_recorded
from rpyc_gateway.classes import describe
from rpyc_gateway.errors import EncodeError, GatewayError
from rpyc_gateway.held import Caller, Held, RemoteObject, held_by, is_proxy
from rpyc_gateway.leading import Leadership
from rpyc_gateway.pickling import pickle_for, unpickle_for
from rpyc_gateway.program import Face
from rpyc_gateway.proto.facts import ExportDraft, HomeDraft, Import
from rpyc_gateway.proto.messages import ClassInfo
from rpyc_gateway.proto.raised import redeem
from rpyc_gateway.proto.rpc import Rpc
from rpyc_gateway.proto.values import WRITERS, Payload, Reader, Writer
from rpyc_gateway.proxy import blocking_proxy
from rpyc_gateway.raisable import Raisables, is_raisable
from rpyc_gateway.turn import Turn

__all__ = ["Desk", "References"]

_RAISABLE = ClassInfo.EXCEPTION | ClassInfo.TICKET
_OTHERS = (BaseException, RemoteObject, type)


class Desk(Protocol):
    """What the parts of a session share: its machine, and the turn under which that is stepped."""

    rpc: Rpc
    local: str
    error: GatewayError | None
    turn: Turn[Any]
    circuit: Any  # it has a `send`, for what a short way has made
    generation: int
    is_holding: bool

    @property
    def way_back(self) -> tuple[str, ...]:
        """The nodes that an answer came through, the peer first, without this one."""
        ...

    @property
    def lead(self) -> Leadership | None:
        """Who reads the link; None where only trio does."""
        ...

    @property
    def here(self) -> bool:
        """Whether this is the session's trio thread."""
        ...

    def in_trio(self, call: Callable[..., object], *args: object) -> None:
        """Call it in the session's trio thread: now if this is it, else soon."""
        ...

    def after_turn(self, task: Callable[[], object]) -> None:
        """Within a step: run `task` in the trio thread, when the turn has been given back."""
        ...

    def read_for_trio(self) -> None:
        """Trio tasks wait for what comes next. In the trio thread."""
        ...

    def speak(self) -> None:
        """With the turn held, at the end of what needed no `step` since there is room on the stack: send what was produced."""
        ...

    def step(self) -> AbstractContextManager[None]:
        """Hold the link's turn; what the steps in the body produce is sent at its end."""
        ...

    def put_together(self) -> None:
        """In a trio task: what this round of tasks asks is sent at its end."""
        ...

    @property
    def goes_on(self) -> bool:
        """Whether other tasks of this thread will have something to say in a moment, with which what there is to say may wait."""
        ...

    def say_later(self) -> None:
        """Within a step: what it produces may wait for what the other tasks of this thread will say in a moment."""
        ...

    def speak_later(self) -> None:
        """In a thread that `goes_on`: what waits is said after the last of its tasks, or in a few milliseconds."""
        ...

    def holds(self) -> None:
        """Objects of the peer are held from now on; from any thread, with the turn held."""
        ...

    def want_tasks(self) -> None:
        """A task of the session is needed, now or soon. In the trio thread."""
        ...

    def check_process(self) -> None:
        """Raise SessionClosed in a child that was forked from the session's process; before the turn is touched."""
        ...

    def check_open(self) -> None:
        """Raise what ended the session, if it is over."""
        ...


class References:
    """Lends objects to the peer and holds the peer's."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.caller: Caller | None = None  # whom the proxies ask: set once, by `ask_by`
        self.raisables = Raisables(desk.local, desk.rpc.info.vat, desk.step, lambda: desk.way_back)

    def ask_by(self, caller: Caller) -> None:
        """All proxies of this session ask this way."""
        self.caller = self.raisables.caller = caller

    def writer(self) -> Writer:
        """A Writer for one message of this session."""
        return Writer(self.reference, self._dumps)

    def open_reader(self, payload: Payload) -> Reader:
        """A Reader for a message of this session, as yet without the objects behind its references."""
        reader = Reader(payload)
        reader.node = self._desk.local
        reader.unpickle = self._loads
        return reader

    def reference(self, value: object) -> object:
        """What stands for an object that cannot go by value. In the thread that encodes, without the turn."""
        if is_raisable(value):
            return self.raisables.reference(value)
        if not is_proxy(value):
            return ExportDraft(value, describe(value))
        if is_recorded(value):
            raise EncodeError(type(value).refusal)  # type: ignore[attr-defined]
        held = held_by(value)
        if held.caller is self.caller:
            return HomeDraft(held.number)
        vat, origin = held.identity
        # The middle exports a proxy. Served code runs in threads, so it is the face that threads can use.
        with self._desk.step():
            twin = blocking_proxy(held)
        return ExportDraft(twin, held.info, vat, origin)

    def take(self, refs: Sequence[object], face: Face) -> tuple[object, ...]:
        """Take over the references of a message, and show them: proxies for the imports, the others as they are."""
        if not refs:
            return ()
        with self._desk.step():
            held = self._adopt_all(refs)
            try:
                return self._show(held, face)
            except BaseException:
                self._doubt(held)
                raise

    def take_one(self, ref: object) -> object:
        """The short way of `take`, for blocking code, in a thread whose signals wait and which has room on its stack.

        None, and nothing has changed, for anything but an import that is no exception: `take` those.
        """
        if type(ref) is not Import or ref.info.flags & _RAISABLE:
            return None
        desk = self._desk
        with desk.turn:
            if not desk.is_holding:
                desk.holds()
            held = self._adopt(ref)
            try:
                return blocking_proxy(held)
            except BaseException:
                self._desk.rpc.imports.doubt(held.number)
                raise

    def lend_one(self, value: object) -> ExportDraft | None:
        """The short way of `reference`, for an object of this process that is neither a class nor an exception, and no Writer knows how to copy."""
        kind = type(value)
        if kind in WRITERS or issubclass(kind, _OTHERS):
            return None
        return ExportDraft(value, describe(value))

    def hold(self, refs: Sequence[object]) -> tuple[object, ...]:
        """Take over the references of a message: a Held for each import, the others as they are."""
        if not refs:
            return ()
        with self._desk.step():
            held = self._adopt_all(refs)
            self._doubt(held)
            return held

    def show(self, held: Sequence[object], face: Face) -> tuple[object, ...]:
        """Proxies for what `hold` returned."""
        if not held:
            return ()
        with self._desk.step():
            return self._show(held, face)

    def _show(self, held: Sequence[object], face: Face) -> tuple[object, ...]:
        plain: Callable[[Held], object] = blocking_proxy if face is Face.BLOCKING else async_proxy
        made: dict[int, BaseException] = {}
        shown: list[object] = []
        for one in held:
            if type(one) is not Held:
                shown.append(one)
            elif one.info.flags & _RAISABLE:
                self._desk.rpc.imports.doubt(one.number)  # it may never get a proxy
                shown.append(self.raisables.show(one, face, made))
            else:
                shown.append(plain(one))
        return tuple(shown)

    def _dumps(self, value: object) -> bytes:
        return pickle_for(self._desk.rpc, value)

    def _loads(self, data: bytes) -> object:
        return unpickle_for(self._desk.rpc, data)

    def _adopt_all(self, refs: Sequence[object]) -> tuple[object, ...]:
        self._desk.holds()
        return tuple([self._adopt(ref) if type(ref) is Import else redeem(ref) for ref in refs])

    def _adopt(self, ref: Import) -> Held:
        caller = self.caller
        assert caller is not None
        held = self._desk.rpc.imports.adopt(ref.number, Held, caller, ref.number, ref.info, ref.vat, ref.origin)
        held.info = ref.info  # its class may have got a method since
        return held

    def _doubt(self, held: Sequence[object]) -> None:
        for one in held:
            if type(one) is Held:
                self._desk.rpc.imports.doubt(one.number)
