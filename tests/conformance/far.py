"""The far side of the conformance suite: a lab, and relays in front of it, in a thread of their own; and the check that nothing leaks."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory
from typing import Any

import trio

import rpyc_gateway as gw
from rpyc_gateway.config import Config, Dial, Listen, NodeSection
from rpyc_gateway.session import Session, SessionStatistics
from tests.conformance.worlds import MAKER, Kit, RemoteWorld, World, made_by
from tests.house import CLASSIC

__all__ = ["RELAYS", "Far", "open_far", "trio_world", "world"]

RELAYS = (0, 1, 3)
PATIENCE = 2.0
"""Seconds that what was dropped may take to be gone: a thread of the far side may still be leaving the code that used it."""

BEYOND = """
import rpyc_gateway
beyond = rpyc_gateway.connect({url!r}, name="lab-s-own")
beyond.execute({maker!r})
"""

NOTHING = SessionStatistics(*[0] * len(SessionStatistics._fields))


class Far:
    """Where the far side is reached; a session with the lab for each distance, as long as nothing went wrong on it."""

    def __init__(self, urls: dict[int, str], attic: str, lab: gw.Node) -> None:
        self._urls = urls
        self._attic = attic
        self._lab = lab
        self._sessions: dict[int, gw.BlockingSession] = {}

    def url(self, relays: int) -> str:
        """Where to connect to, to reach the lab over so many relays."""
        return self._urls[relays]

    def session(self, relays: int) -> gw.BlockingSession:
        """The session with the lab, so many relays away, ready to make worlds."""
        conn = self._sessions.get(relays)
        if conn is None or conn.closed:
            conn = self._sessions[relays] = gw.connect(self._urls[relays], node="lab", name="laptop")
            conn.execute(MAKER)
            conn.execute(BEYOND.format(url=self._attic, maker=MAKER))
        return conn

    @contextmanager
    def lent(self, relays: int, *, cycles: str = "") -> Iterator[gw.BlockingSession]:
        """A session for one test, which must leave nothing on it; if it makes `cycles` across, they end with the session."""
        conn = self.session(relays)
        try:
            yield conn
            if cycles:
                self.forget(relays)
                conn = self.session(relays)
            self.check_empty(relays)
        except BaseException:
            self.forget(relays)
            raise

    @asynccontextmanager
    async def lent_async(self, relays: int) -> AsyncIterator[Session]:
        """A session of trio code for one test, which must leave nothing on it."""
        async with gw.open_session(self._urls[relays], node="lab", name="laptop") as lab:
            await lab.execute(MAKER)
            yield lab
            give_up = time.monotonic() + PATIENCE
            while True:
                await lab.ping()
                if self._is_empty(lab):
                    return
                assert time.monotonic() < give_up, f"something leaks: {self._held(lab)}"
                gc.collect()

    def forget(self, relays: int) -> None:
        """End a session, so that what went wrong on it is over."""
        conn = self._sessions.pop(relays, None)
        if conn is not None:
            conn.execute("beyond.close()")
            conn.close()

    def lose(self, relays: int) -> None:
        """Forget a session whose link has broken."""
        conn = self._sessions.pop(relays, None)
        if conn is not None:
            conn.close()

    def newest_end(self) -> Session:
        """The lab's end of the session that was opened last."""
        return list(self._lab._serving._sessions.values())[-1][0]

    def close(self) -> None:
        """End all sessions."""
        for relays in list(self._sessions):
            self.forget(relays)

    def check_empty(self, relays: int) -> None:
        """Fail if a session still holds anything once everything that was used on it is dropped."""
        conn = self.session(relays)
        give_up = time.monotonic() + PATIENCE
        while True:
            conn.ping()  # releases are in order with calls
            if self._is_empty(conn._session):
                return
            assert time.monotonic() < give_up, f"something leaks: {self._held(conn._session)}"
            gc.collect()

    def _is_empty(self, near: Session) -> bool:
        return all(held == NOTHING for held in self._held(near))

    def _held(self, near: Session) -> list[SessionStatistics]:
        """What a session holds, at this end and at all ends at the lab. Threads are kept as long as those of the other side live that they serve."""
        ends = [session for session, _ in self._lab._serving._sessions.values()]
        held = [session.statistics() for session in (near, *ends)]
        return [one._replace(threads=0) for one in held]


def world(conn: gw.BlockingSession, setup: str, beyond: str) -> RemoteWorld:
    """What a setup made behind a session."""
    return made_by(conn, setup, beyond, Kit(gw.obtain, partial(gw.deliver, conn), gw.async_, gw.timed, gw.buffiter))


async def trio_world(lab: Any, setup: str) -> World:
    """The same behind a session of trio code."""
    names, known = await lab.namespace["make_names"](setup)
    return World(names, await lab.builtins.tuple(known))


@contextmanager
def open_far() -> Iterator[Far]:
    """r3 - r2 - r1 - lab: the lab itself, r1 and r3 can be reached from here."""
    with TemporaryDirectory(prefix="far") as folder:
        ready: SimpleQueue[Any] = SimpleQueue()
        thread = threading.Thread(target=trio.run, args=(_serve, Path(folder), ready), name="far side")
        thread.start()
        far, token, stop = ready.get()
        yield far
        far.close()
        token.run_sync_soon(stop)
        thread.join()


async def _serve(folder: Path, ready: SimpleQueue[Any]) -> None:
    def config(name: str, *dial: str, serve: Any = ()) -> Config:
        return Config(
            node=NodeSection(name=name),
            listen=(Listen(url=f"unix://{folder}/{name}"),),
            dial=tuple(Dial(url=f"unix://{folder}/{to}") for to in dial),
            serve=serve,
        )

    async with (
        gw.open_node(config("attic", serve=CLASSIC)),
        gw.open_node(config("lab", serve=CLASSIC)) as lab,
        gw.open_node(config("r1", "lab")),
        gw.open_node(config("r2", "r1")),
        gw.open_node(config("r3", "r2")) as last,
    ):
        await last.wait_route("lab")
        over = trio.Event()
        urls = {0: f"unix://{folder}/lab", 1: f"unix://{folder}/r1", 3: f"unix://{folder}/r3"}
        ready.put((Far(urls, f"unix://{folder}/attic", lab), trio.lowlevel.current_trio_token(), over.set))
        await over.wait()
