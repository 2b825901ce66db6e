"""What every board can be asked, whatever runs on it: the face that sessions, the command line and users see."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import trio

from rpyc_gateway.device.codec import Ref
from rpyc_gateway.device.conversation import Failure, Primitive, Step
from rpyc_gateway.device.repl import Platform
from rpyc_gateway.device.waiting import TaskWaiter, Waiter
from rpyc_gateway.errors import GatewayError, PeerRestarted

__all__ = ["AnyBoard", "BoardError", "again"]


class BoardError(GatewayError):
    """An exception of the board. `failure` has it in the board's words."""

    def __init__(self, failure: Failure, peer: str) -> None:
        kind = failure.kind or "it had no memory to say why it failed, or was interrupted"
        super().__init__(f"{peer}: {kind}{': ' if failure.text else ''}{failure.text}")
        self.failure = failure


class AnyBoard(ABC):
    """The interpreter of a board. All methods are for the trio thread; any number of tasks may call, and what they ask is done one after another."""

    kind: ClassVar[str] = ""
    """What is to be known of it, in a few words for `rpyc-gw nodes`."""

    def __init__(self, peer: str, platform: Platform) -> None:
        self.platform = platform
        self.lost: GatewayError | None = None
        """Why nothing can be asked any more."""
        self.broken = False
        """Whether it is the pipe."""
        self.dropped = 0
        """Events that came too fast, for the board or for this side."""
        self.peer = peer
        self.room = trio.lowlevel.ParkingLot()  # who waits to call, or for the end

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

    async def run(self, steps: Sequence[Step], *, copy: bool = False) -> Any:
        """Run a program in one message; the result of its last step. A step may use the Result of an earlier one.

        Raises BoardError; PeerRestarted or LinkLost if the board is gone, before or meanwhile: whether the call was done is unknown; EncodeError for
        a value that cannot be sent. Cancelled: the board is interrupted as soon as it is at this call, and others wait until it has ended there.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        waiter = TaskWaiter()
        while not self.begin(steps, waiter, copy=copy):
            await self.room.park()
        await waiter.wait(self.abandon)
        if waiter.error is not None:
            raise waiter.error
        return waiter.value

    async def wait_room(self) -> None:
        """Wait until there may be room for another call, or never any more."""
        await self.room.park()

    async def wait_lost(self) -> GatewayError:
        """Wait until nothing can be asked any more; why."""
        while self.lost is None:
            await self.room.park()
        return self.lost

    def tell(self) -> str:
        """What `rpyc-gw nodes` says of it."""
        return self.kind

    @abstractmethod
    async def serve(self, nursery: trio.Nursery) -> None:
        """Start its tasks; returns when it can be asked. Raises DialFailed."""

    @abstractmethod
    def begin(self, steps: Sequence[Step], waiter: Waiter, *, copy: bool = False) -> bool:
        """Send a program as `run` does, without waiting: `waiter` is told its outcome, once. False if it must wait for others: `wait_room`.

        Raises what `run` raises of this side.
        """

    @abstractmethod
    def abandon(self, waiter: Waiter) -> None:
        """Nobody waits any more: the board is interrupted if it is at this call, or comes to it."""

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
