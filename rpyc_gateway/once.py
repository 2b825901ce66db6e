"""One message for an expression of trio code, however many tasks await it, and however often."""

from __future__ import annotations

from typing import Any

import trio

from rpyc_gateway.errors import Cancelled
from rpyc_gateway.held import Held, Posted
from rpyc_gateway.steps import Steps

__all__ = ["Once"]


class Once:
    """Sent by the first task that awaits it; all get the same outcome.

    A task that is cancelled does no harm to the others: one of them waits in its place. With the last of them the far side is
    cancelled. Cancelled before it was sent, it may still be.
    """

    __slots__ = ("_busy", "_error", "_held", "_lot", "_posted", "_steps", "_value", "known")

    def __init__(self, held: Held | None, steps: Steps, error: Exception | None = None) -> None:
        self._held = held  # until the answer is there: the expression itself may be gone when it is sent
        self._steps: Steps = steps
        self._posted: Posted | None = None
        self._busy = False  # a task sends it, or waits for its answer
        self._lot: trio.lowlevel.ParkingLot | None = None  # where the others are
        self._error = error
        self.known = error is not None

    @trio.lowlevel.enable_ki_protection  # a KeyboardInterrupt between two of these lines would leave it busy for ever
    async def value(self) -> Any:
        """The value. Raises what the program raises, or Cancelled if all who waited were cancelled."""
        if self.known:
            await trio.lowlevel.checkpoint()
        while not self.known:
            if self._busy:
                self._lot = self._lot or trio.lowlevel.ParkingLot()
                await self._lot.park()
                continue
            self._busy = True
            try:
                posted = self._posted
                if posted is None:
                    held = self._held
                    assert held is not None
                    posted = self._posted = await held.caller.post(held.number, self._steps)
                value = await posted.value()
                if self._lot is None:  # as `learn` does, in this frame
                    self._held = self._posted = None
                    self._steps = ()
                    self._value = value
                    self.known = True
                    return value
                self.learn(value, None)
            except Exception as error:  # noqa: BLE001  # it is the outcome
                self.learn(None, error)
            except BaseException:
                self._leave()
                raise
            finally:
                self._busy = False
        try:
            return self.result()
        finally:
            del self  # what is raised holds this frame

    def result(self) -> Any:
        """The value, once it is known; raises like `value`."""
        error = self._error
        if error is None:
            return self._value
        try:
            raise error.with_traceback(None)  # it would grow with each await
        finally:
            del error, self  # what is raised holds this frame

    def _leave(self) -> None:
        """The task that waited for the answer was cancelled: another waits in its place, or nobody is interested any more."""
        if self._lot:
            self._lot.unpark()
        elif self._posted is not None:
            self._posted.abandon()
            self.learn(None, Cancelled("this expression was awaited before, and cancelled"))

    def learn(self, value: object, error: Exception | None) -> None:
        """It has come to this; where that is not said by a task that awaits it, it was sent with others."""
        self._value = value
        self._error = None if error is None else error.with_traceback(None)
        self._held = None
        self._steps = ()  # the operands are not ours any more
        self._posted = None
        self.known = True
        if self._lot is not None:
            self._lot.unpark_all()
