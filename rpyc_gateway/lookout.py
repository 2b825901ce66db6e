"""Sees what is plugged in and pulled out, within a second, while somebody waits for it."""

from __future__ import annotations

import logging

import trio

from rpyc_gateway.transport import Finder, Place, find_transport

__all__ = ["ABSENT", "Lookout", "Watch"]

ABSENT = "nothing is plugged in there, and it is waited for (`rpyc-gw ports` lists what is)"

PERIOD = (
    1.0  # seconds between two looks. One costs half a millisecond, and who plugs in a board does not notice a second
)

logger = logging.getLogger(__name__)


class Lookout:
    """Looks for all who wait, once for them together. While nobody waits it does nothing."""

    def __init__(self) -> None:
        self._looking = trio.Lock()
        self._looks: dict[Finder, tuple[float, list[Place]]] = {}
        self._trouble = ""

    async def find(self, url: str) -> list[Place] | None:
        """What the URL stands for that is here, as it was half a period ago at most; None where its transport cannot tell.

        Raises ConfigError if there is no such transport.
        """
        transport = find_transport(url)
        if not isinstance(transport, Finder):
            return None
        return transport.fitting(url, await self._look(transport))

    async def wait_next(self) -> None:
        """Wait for the next look; all wait for the same moment."""
        await trio.sleep(PERIOD - trio.current_time() % PERIOD)

    async def _look(self, transport: Finder) -> list[Place]:
        async with self._looking:
            when, places = self._looks.get(transport, (-PERIOD, []))
            if trio.current_time() - when < PERIOD / 2:
                return places
            try:
                places = await trio.to_thread.run_sync(lambda: list(transport.places()), abandon_on_cancel=True)
            except OSError as exc:
                self._tell(str(exc))  # and it is taken to be as it was
            self._looks[transport] = trio.current_time(), places
            return places

    def _tell(self, trouble: str) -> None:
        if trouble != self._trouble:
            logger.warning("cannot see what is plugged in: %s", trouble)
        self._trouble = trouble


class Watch:
    """What one who dials a URL wants to know: whether anything is there, and when to try again."""

    def __init__(self, lookout: Lookout, url: str) -> None:
        self._lookout = lookout
        self._url = url
        self._seen: list[Place] | None = None

    async def look(self) -> bool:
        """Whether there may be something to dial. Raises ConfigError."""
        self._seen = None
        self._seen = await self._lookout.find(self._url)
        return self._seen != []

    async def wait_changed(self) -> None:
        """Wait until there is something else than at the last look; for ever, where nobody can tell."""
        if self._seen is None:
            await trio.sleep_forever()
        while await self._lookout.find(self._url) == self._seen:
            await self._lookout.wait_next()
