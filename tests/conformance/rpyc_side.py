"""The same rows on stock RPyC 6: its classic server, threaded, in a process of its own, reached over loopback."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Any

import rpyc
from rpyc.utils import classic

from tests.conformance.worlds import MAKER, Kit, RemoteWorld, made_by

__all__ = ["RpycSide", "open_rpyc"]

SERVER = """
from rpyc.core import ClassicService
from rpyc.utils.server import ThreadedServer
server = ThreadedServer(ClassicService, hostname="127.0.0.1", port=0, protocol_config={"sync_request_timeout": 4})
print(server.port, flush=True)
server.start()
"""
BEYOND = """
from rpyc.utils import classic
beyond = classic.connect("127.0.0.1", {port})
beyond.execute({maker!r})
"""
REQUEST_SECONDS = 4


class RpycSide:
    """A connection to a server, made again with the server when a row has broken it."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._conn: Any = None

    def world(self, setup: str, beyond: str) -> RemoteWorld:
        """What a setup makes over there."""
        if self._conn is None:
            self._connect()
        kit = Kit(classic.obtain, partial(classic.deliver, self._conn), rpyc.async_, rpyc.timed, rpyc.buffiter)
        return made_by(self._conn, setup, beyond, kit)

    def _connect(self) -> None:
        port, other = self._stack.enter_context(_server()), self._stack.enter_context(_server())
        self._conn = classic.connect("127.0.0.1", port)
        self._conn._config["sync_request_timeout"] = REQUEST_SECONDS
        self._conn.execute(MAKER)
        self._conn.execute(BEYOND.format(port=other, maker=MAKER))

    def tidy(self) -> None:
        """After a row: start afresh if the connection is broken or stuck."""
        try:
            self._conn.ping(timeout=1)
        except Exception:  # noqa: BLE001  # whatever it is, the next row gets a new one
            self.close()

    def close(self) -> None:
        """End the connection and its servers."""
        with suppress(Exception):
            self._conn.close()
        self._conn = None
        self._stack.close()


@contextmanager
def open_rpyc() -> Iterator[RpycSide]:
    """A side that starts its servers when they are needed."""
    side = RpycSide()
    try:
        yield side
    finally:
        side.close()


@contextmanager
def _server() -> Iterator[int]:
    with subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.kill()


assert rpyc.__version__.startswith("6."), "the score is that of RPyC 6"
