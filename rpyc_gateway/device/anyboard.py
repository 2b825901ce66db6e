"""What every board can be asked, whatever runs on it: the face that sessions, the command line and users see."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import trio

from rpyc_gateway.device.codec import Ref
from rpyc_gateway.device.conversation import Failure, Primitive, Step
from rpyc_gateway.device.repl import Platform
from rpyc_gateway.device.waiting import Cause, TaskWaiter, Waiter
from rpyc_gateway.errors import GatewayError, LimitExceeded, PeerRestarted, RemoteError

__all__ = ["AnyBoard", "BoardError", "again"]


class BoardError(RemoteError):
    """An exception of the board. `failure` has it in the board's words."""

    def __init__(self, failure: Failure, peer: str) -> None:
        kind = failure.kind or "it had no memory to say why it failed, or was interrupted"
        super().__init__(f"{peer}: {kind}{': ' if failure.text else ''}{failure.text}")
        self.failure = failure


WAITING = 256
"""Programs of one Cause that may wait for their turn: each is in the memory of the front."""


class AnyBoard(ABC):
    """The interpreter of a board. All methods are for the trio thread; any number of tasks may call, and what they ask is done one after another.

    A board has one thread, which is for one Cause at a time: from its first program to the end of its last one, callbacks included. It may send
    more meanwhile; when others wait for their turn only a callback of it may. They get it in the order in which they came, but that nobody has it
    twice in a row while another waits.
    """

    kind: ClassVar[str] = ""
    """What is to be known of it, in a few words for `rpyc-gw nodes`."""
    notifies: ClassVar[bool] = True
    """Whether it can call functions of this side without waiting for them: events."""
    tells_whose: ClassVar[bool] = False
    """Whether it knows for which Cause something is printed."""

    def __init__(self, peer: str, platform: Platform) -> None:
        self.platform = platform
        self.lost: GatewayError | None = None
        """Why nothing can be asked any more."""
        self.broken = False
        """Whether it is the pipe."""
        self.dropped = 0
        """Events that came too fast, for the board or for this side."""
        self.peer = peer
        self.end = trio.lowlevel.ParkingLot()  # who waits for it
        self._own = Cause("its node")
        self._holder: Cause | None = None
        self._previous: Cause | None = None  # who had it before
        self._turns: dict[Waiter, tuple[Sequence[Step], bool]] = {}  # programs that wait, and whether copies are wanted

    async def evaluate(self, source: str, *, copy: bool = False) -> Any:
        """The value of an expression in the board's namespace: None, bool, int, float, str, bytes and tuples of them, a Ref to all else.

        With `copy` lists and dicts come as values too. Raises what `run` raises.
        """
        return await self.run([Step(Primitive.EVAL, (source,))], copy=copy)

    async def execute(self, source: str) -> None:
        """Run statements in the namespace of `evaluate`. Raises what `run` raises."""
        await self.run([Step(Primitive.EXEC, (source,))])

    async def call(self, target: Primitive | Ref, *args: Any, copy: bool = False, **keywords: Any) -> Any:
        """Call an object of the board. Functions among the arguments become callbacks, as Event(function) such that it does not wait for. Raises what `run` raises."""
        if keywords:
            if not isinstance(target, Ref):
                raise TypeError("a primitive takes no keyword arguments")
            return await self.run([Step(Primitive.APPLY, (target, args, keywords))], copy=copy)
        return await self.run([Step(target, args)], copy=copy)

    async def run(self, steps: Sequence[Step], *, copy: bool = False, cause: Cause | None = None) -> Any:
        """Run a program in one message; the result of its last step. A step may use the Result of an earlier one.

        Raises BoardError; PeerRestarted or LinkLost if the board is gone, before or meanwhile: whether the call was done is unknown; EncodeError for
        a value that cannot be sent; LimitExceeded if 256 programs wait already. Cancelled: the board is interrupted as soon as it is at this call, and others wait until it has ended there.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        waiter = TaskWaiter(cause)
        self.begin(steps, waiter, copy=copy)
        await waiter.wait(self.abandon)
        if waiter.error is not None:
            raise waiter.error
        return waiter.value

    async def wait_lost(self) -> GatewayError:
        """Wait until nothing can be asked any more; why."""
        while self.lost is None:
            await self.end.park()
        return self.lost

    def tell(self) -> str:
        """What `rpyc-gw nodes` says of it."""
        held = ""
        if self._holder is not None:
            held = f"held by {self._holder.name}"
            if self._turns:
                held += f", {len(self._turns)} wait{'s' * (len(self._turns) == 1)}"
        return "; ".join(filter(None, (self.kind, held)))

    @abstractmethod
    async def serve(self, nursery: trio.Nursery) -> None:
        """Start its tasks; returns when it can be asked. Raises DialFailed."""

    def begin(self, steps: Sequence[Step], waiter: Waiter, *, copy: bool = False) -> None:
        """Send a program as `run` does, when it is its turn, without waiting: `waiter` is told its outcome, once.

        Raises what `run` raises of this side, if that is known at once.
        """
        if self.lost is not None:
            raise again(self.lost)
        cause = waiter.cause or self._own
        if self.ready and (
            (self._holder in (cause, None) and not self._turns) or (self._holder is cause and self.nested)
        ):
            self.start(steps, waiter, copy=copy)
            self._holder = cause
            return
        if sum((other.cause or self._own) is cause for other in self._turns) >= WAITING:
            raise LimitExceeded(
                f"{self.peer}: {WAITING} programs of {cause.name} wait for this board already: wait for some of their answers first"
            )
        self._turns[waiter] = steps, copy

    def abandon(self, waiter: Waiter) -> None:
        """Nobody waits any more: the board is interrupted if it is at this call, or comes to it."""
        if self._turns.pop(waiter, None) is None:
            self.interrupt(waiter)

    def go_on(self) -> None:
        """A program has ended, or a callback has begun: others may have their turn."""
        if self.idle:
            self._previous, self._holder = self._holder or self._previous, None
        while self.ready and (waiter := self._next()) is not None:
            steps, copy = self._turns.pop(waiter)
            try:
                self.start(steps, waiter, copy=copy)
            except Exception as error:  # noqa: BLE001  # it is for who has asked, and nobody else's
                waiter.finish(None, error)
            else:
                self._holder = waiter.cause or self._own

    def _next(self) -> Waiter | None:
        """Whose turn it is."""
        causes = {waiter: waiter.cause or self._own for waiter in self._turns}
        if self._holder is None:
            others = (waiter for waiter, cause in causes.items() if cause is not self._previous)
            return next(others, None) or next(iter(causes), None)
        if not self.nested and any(cause is not self._holder for cause in causes.values()):
            return None  # it has had its turn
        return next((waiter for waiter, cause in causes.items() if cause is self._holder), None)

    def end_turns(self, error: GatewayError) -> None:
        """It is lost: no turn comes any more."""
        turns, self._turns = self._turns, {}
        self._holder = None
        for waiter in turns:
            waiter.finish(None, again(error))
        self.end.unpark_all()

    @property
    def nested(self) -> bool:
        """Whether a callback is under way."""
        return False

    @property
    @abstractmethod
    def ready(self) -> bool:
        """Whether another program may be sent."""

    @property
    @abstractmethod
    def idle(self) -> bool:
        """Whether no program is under way."""

    @abstractmethod
    def start(self, steps: Sequence[Step], waiter: Waiter, *, copy: bool) -> None:
        """Send a program. Raises what `run` raises of this side."""

    @abstractmethod
    def interrupt(self, waiter: Waiter) -> None:
        """Nobody waits any more for a program that was sent."""

    @abstractmethod
    def check(self, step: Step) -> None:
        """Raises EncodeError if this step has what cannot be sent."""

    @abstractmethod
    def withdraw(self, function: Callable[..., object]) -> None:
        """The board has no use for this callback any more."""

    def restarted(self, why: str) -> PeerRestarted:
        """What is said of a board that is another one now."""
        return PeerRestarted(
            f"{self.peer}: {why}; its objects are gone, and whether a call that was under way has been done is unknown"
        )


def again(error: GatewayError) -> GatewayError:
    """The same error, for another who waits: each has a traceback of its own."""
    return type(error)(str(error))
