"""`either:URL or URL`: two ways to one node, the cable and the radio. `either:tcp://10.0.0.7:18860 or stdio:ssh lab rpyc-gw stdio`."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import trio

from rpyc_gateway.errors import ConfigError, DialFailed
from rpyc_gateway.transport import Handler, Pipe, check_url, find_transport, without_secrets


class EitherTransport:
    """Dials the first that answers; listens at all of them. What it is to each of them, they say themselves."""

    @asynccontextmanager
    async def connect(self, url: str) -> AsyncIterator[Pipe]:
        async with (
            AsyncExitStack() as stack
        ):  # whatever was entered is left, also if this is cancelled between two dials
            yield await self._dial(url, stack)

    async def _dial(self, url: str, stack: AsyncExitStack) -> Pipe:
        reasons = [problem] if (problem := self.check(url)) else []
        for way in [] if reasons else ways(url):
            try:
                return await stack.enter_async_context(find_transport(way).connect(way))
            except DialFailed as exc:
                reasons.append(str(exc))
        raise DialFailed(f"{without_secrets(url)}: {'; '.join(reasons)}")

    async def serve(self, url: str, handler: Handler, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        if problem := self.check(url):
            raise ConfigError([f"{without_secrets(url)}: {problem}"])
        try:
            async with trio.open_nursery() as nursery:
                bound = [
                    real for way in ways(url) for real in await nursery.start(find_transport(way).serve, way, handler)
                ]
                task_status.started(["either:" + " or ".join(bound)])  # port 0 has become a real one
        except ExceptionGroup as group:  # one of them cannot listen: ConfigError, as it is
            raise group.exceptions[0] from None

    def is_private(self, url: str) -> bool:
        return not self.check(url) and all(find_transport(way).is_private(way) for way in ways(url))

    def is_guarded(self, url: str) -> bool:
        return not self.check(url) and all(find_transport(way).is_guarded(way) for way in ways(url))

    def check(self, url: str) -> str | None:
        try:
            return next(filter(None, map(check_url, ways(url))), None)
        except ConfigError as exc:
            return f"is not of the form `either:URL or URL`: {exc}"


def ways(url: str) -> list[str]:
    return url.partition(":")[2].split(" or ")
