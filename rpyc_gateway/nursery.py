"""A nursery around somebody else's `async with` body, whose exceptions stay what they are."""

from __future__ import annotations

from types import TracebackType

import trio

__all__ = ["open_background"]


class open_background:  # noqa: N801  # it stands where trio.open_nursery() would
    """A nursery for tasks that serve the body. When the body is over they are cancelled.

    An exception of the body comes out as itself, not in a group, so that `except FileNotFoundError` around it works.
    If a task in the nursery fails, the body is cancelled and the group of what failed is raised.
    """

    __slots__ = ("_manager", "_nursery")

    async def __aenter__(self) -> trio.Nursery:
        self._manager = trio.open_nursery()
        self._nursery = await self._manager.__aenter__()
        return self._nursery

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        if isinstance(error, trio.Cancelled | GeneratorExit):
            return await self._manager.__aexit__(kind, error, traceback)
        self._nursery.cancel_scope.cancel()
        await self._manager.__aexit__(None, None, None)
        return None
