"""A nursery around somebody else's `async with` body, whose exceptions stay what they are."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio


@asynccontextmanager
async def open_background() -> AsyncIterator[trio.Nursery]:
    """Yield a nursery for tasks that serve the body. When the body is over they are cancelled.

    An exception of the body comes out as itself, not in a group, so that `except FileNotFoundError` around it works.
    If a task in the nursery fails, the body is cancelled and the group of what failed is raised.
    """
    failure: BaseException | None = None
    async with trio.open_nursery() as nursery:
        try:
            yield nursery
        except (trio.Cancelled, GeneratorExit):
            raise
        except BaseException as error:  # noqa: BLE001 - raised again below, outside of the nursery, which would wrap it
            failure = error
        nursery.cancel_scope.cancel()
    if failure is None:
        return
    try:
        raise failure
    finally:
        del failure  # the traceback holds this frame
