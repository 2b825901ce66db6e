"""One far thread for the calls of a block of trio code, as the calls of a thread have it by themselves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Protocol

import trio

from rpyc_gateway.waiters import Listener, new_number

__all__ = ["task_affinity", "thread"]


class _Block:
    """The affinity of a block: a number, until the block is over."""

    __slots__ = ("asking", "number", "outer")

    def __init__(self, asking: object, outer: _Block | None) -> None:
        self.asking = asking
        self.number = new_number()
        self.outer = outer


class Session(Listener, Protocol):
    """What `thread` needs of a session: it is told, like at the end of a thread, that the block is over."""

    @property
    def asking(self) -> object: ...


_blocks: ContextVar[_Block | None] = ContextVar("rpyc_gateway.affinity", default=None)


def task_affinity(asking: object) -> int:
    """The affinity of a call that the current task makes through this part of a session; 0 for any thread."""
    block = _blocks.get()
    while block is not None and block.asking is not asking:
        block = block.outer
    return block.number if block is not None else 0


@asynccontextmanager
async def thread(session: Session) -> AsyncIterator[None]:
    """`async with gw.thread(lab):` runs the calls of this block in one thread of the far side, one after the other.

    For what belongs to a thread: an RLock, `threading.local`, an sqlite3 connection. Tasks that are started in the block share its
    thread, and have none any more when the block is over. Other sessions are not concerned. A call that is cancelled may leave
    its thread stuck: the next one gets another. `async def` functions run as tasks there, as ever.
    """
    asking = getattr(session, "asking", None)
    if asking is None:
        raise TypeError(
            f"gw.thread takes a session of trio code, not {session!r}; a thread of blocking code has its own"
        )
    await trio.lowlevel.checkpoint()
    block = _Block(asking, _blocks.get())
    token = _blocks.set(block)
    try:
        yield
    finally:
        _blocks.reset(token)
        number, block.number = block.number, 0
        session.thread_ended(number)
