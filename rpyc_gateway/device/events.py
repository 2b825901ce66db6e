"""Events of a board for a session: a queue at the front that the board puts things into without waiting, from interrupts too."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self

import trio

from rpyc_gateway.awaiting import Later
from rpyc_gateway.device.anyboard import AnyBoard, again
from rpyc_gateway.device.codec import Ref, Result
from rpyc_gateway.device.conversation import Primitive, Step
from rpyc_gateway.device.waiting import Cause, Waiter
from rpyc_gateway.errors import GatewayError, SessionClosed

__all__ = ["Events", "Inlet"]

MOST = 256  # events that may wait for a client: those of a second of a bouncing switch


class Inlet:
    """What the board has of the queue. It is kept until it is closed, in the trio thread."""

    def __init__(self, board: AnyBoard, cause: Cause, forget: Callable[[Inlet], object]) -> None:
        self.board = board
        self.source: Ref | None = None
        """Whose interrupts they are, once they are."""
        self.closed = False
        self.token = trio.lowlevel.current_trio_token()
        self._cause = cause
        self._forget = forget
        self._items: deque[tuple[Any, ...]] = deque()
        self._more = trio.lowlevel.ParkingLot()
        self._dropped = 0
        self._before = board.dropped

    @property
    def dropped(self) -> int:
        """Events that are lost: too many for this queue, or for the board and its line, whoever they were for."""
        return self._dropped + self.board.dropped - self._before

    def hear(self, *args: Any) -> None:
        """The board says so."""
        if len(self._items) < MOST:
            self._items.append(args)
            self._more.unpark_all()
        else:
            self._dropped += 1

    async def next(self) -> tuple[Any, ...]:
        """The arguments of the next event. Cancelled, it is there for the next who asks. Raises what the board is lost by, SessionClosed."""
        while not self._items:
            if self.closed:
                raise SessionClosed("these events were closed")
            if self.board.lost is not None:
                raise again(self.board.lost)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._wait_lost, nursery.cancel_scope)
                await self._more.park()
                nursery.cancel_scope.cancel()
        return self._items.popleft()

    async def _wait_lost(self, scope: trio.CancelScope) -> None:
        await self.board.wait_lost()
        scope.cancel()

    def close(self) -> None:
        """Have the interrupts withdrawn, and hear nothing more. Nobody waits for that."""
        if self.closed:
            return
        self.closed = True
        self._forget(self)
        if self.source is not None:
            withdraw = Step(Primitive.APPLY, (Result(0), (), {"handler": None}))
            with suppress(GatewayError):  # it is lost, or does so much that nobody would miss the rest
                self.board.begin([Step(Primitive.GETATTR, (self.source, "irq")), withdraw], Waiter(self._cause))
        self.board.withdraw(self.hear)
        self._more.unpark_all()


class Events:
    """An endless iterator, for `for` and `async for`. It is closed when a block that it was entered in ends, and when nobody has it any more.

    Given to the board it is a function that returns at once, and what it is called with is an event: the argument, or a tuple of several.
    """

    def __init__(self, inlet: Inlet, received: Callable[[Any], Any]) -> None:
        self._inlet = inlet
        self._received = received

    @property
    def dropped(self) -> int:
        """Events that are lost: too many for this queue, or for the board and its line, whoever they were for."""
        return self._inlet.dropped

    def close(self) -> None:
        """Withdraw them."""
        self._inlet.close()

    async def _next(self) -> Any:
        args = self._received(await self._inlet.next())
        return args[0] if len(args) == 1 else args

    def __iter__(self) -> Events:
        return self

    def __next__(self) -> Later:
        return Later(self._next())  # type: ignore[arg-type]

    def __aiter__(self) -> Events:
        return self

    async def __anext__(self) -> Any:
        return await self._next()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        with suppress(trio.RunFinishedError):
            self._inlet.token.run_sync_soon(self._inlet.close)
