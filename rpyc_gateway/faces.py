"""How code that is written once calls functions here and there: as blocking code does, or as trio code."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing, suppress
from contextvars import Context
from typing import Any, Protocol, TypeVar

import trio

from rpyc_gateway import ops
from rpyc_gateway.deadlines import timeout
from rpyc_gateway.errors import GatewayError
from rpyc_gateway.iteration import buffiter
from rpyc_gateway.nursery import open_background
from rpyc_gateway.trio_face import TrioFace

__all__ = ["Face", "check_session", "run"]

PATIENCE = 2.0  # seconds

T = TypeVar("T")


def run(job: Callable[[Face], Coroutine[Any, Any, T]], *conns: Any) -> Any:
    """Do a job with sessions of one face: what it returns, or in trio code what is to be awaited for it. Raises TypeError for sessions of two, and for what is none."""
    for conn in conns:
        check_session(conn)
    faces = {isinstance(conn, TrioFace) for conn in conns}
    if len(faces) > 1:
        raise TypeError("one session is of blocking code and one of trio code: both are to be of the same")
    if faces.pop():
        return job(_Trio())
    return _finish(job(_Blocking()))


def check_session(conn: object) -> None:
    """Raises TypeError for what is no session, of either face."""
    if not hasattr(conn, "eval"):
        raise TypeError(f"a session of gw.connect or gw.open_session is needed here, not {conn!r}")


def _finish(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run one that never waits."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    raise RuntimeError("blocking code has waited as trio code does")


class Face(Protocol):
    """How functions of the two sides are called."""

    async def here(self, function: Callable[..., Any], *args: Any) -> Any: ...

    async def there(self, function: Any, *args: Any) -> Any: ...

    def fetch(self, items: Any, ahead: int) -> AsyncGenerator[Any, None]:
        """The items of an iterable over there, of which so many may come in one message."""
        ...

    def lend(self, items: Any, ahead: int) -> AbstractAsyncContextManager[Iterator[Any]]:
        """The same for a third party: an iterator that may be given to the far side of another session."""
        ...

    async def leave(self, file: Any) -> None:
        """Close a file there, also if whoever wanted it is cancelled: it is locked until then."""
        ...


class _Blocking:
    """Nothing of this waits with `await`: so one text serves both faces."""

    async def here(self, function: Callable[..., Any], *args: Any) -> Any:
        return function(*args)

    async def there(self, function: Any, *args: Any) -> Any:
        return function(*args)

    async def fetch(self, items: Any, ahead: int) -> AsyncGenerator[Any, None]:
        for item in buffiter(items, 1, ahead):
            yield item

    @asynccontextmanager
    async def lend(self, items: Any, ahead: int) -> AsyncGenerator[Iterator[Any], None]:
        with closing(buffiter(items, 1, ahead)) as buffered:
            yield buffered

    async def leave(self, file: Any) -> None:
        with suppress(GatewayError):
            Context().run(self._close, file)  # where no timeout is over

    def _close(self, file: Any) -> None:
        with timeout(PATIENCE):
            file.close()


class _Trio:
    async def here(self, function: Callable[..., Any], *args: Any) -> Any:
        return await trio.to_thread.run_sync(function, *args)

    async def there(self, function: Any, *args: Any) -> Any:
        return await function(*args)

    async def fetch(self, items: Any, ahead: int) -> AsyncGenerator[Any, None]:
        async for item in ops.iterate(items, prefetch=ahead):
            yield item

    @asynccontextmanager
    async def lend(self, items: Any, ahead: int) -> AsyncGenerator[Iterator[Any], None]:
        """It is iterated in a thread, and fetched in a task of this one's."""
        token = trio.lowlevel.current_trio_token()
        giving, taking = trio.open_memory_channel[Any](0)
        trouble: list[Exception] = []

        async def fetch() -> None:
            async with giving:
                try:
                    async for item in ops.iterate(items, prefetch=ahead):
                        await giving.send(item)
                except Exception as exc:  # noqa: BLE001  # whoever iterates gets it
                    trouble.append(exc)

        def taken() -> Iterator[Any]:
            while True:
                try:
                    yield trio.from_thread.run(taking.receive, trio_token=token)
                except trio.EndOfChannel:
                    break
            if trouble:
                raise trouble[0]

        async with open_background() as nursery:
            nursery.start_soon(fetch)
            yield taken()

    async def leave(self, file: Any) -> None:
        with trio.move_on_after(PATIENCE, shield=True), suppress(GatewayError):
            await file.close()
