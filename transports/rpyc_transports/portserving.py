"""Pipes over serial ports, and serving one port: one pipe after the other, also when its device is unplugged meanwhile."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import trio

from rpyc_gateway.errors import ConfigError
from rpyc_gateway.transport import Handler, Pipe, handle
from rpyc_transports.portstream import PIECE, PortStream

__all__ = ["ANY_RATE", "pipe", "serve_port"]

ANY_RATE = 4_000_000  # baud: a listener tries whatever its dialler asks for
RETRY = 0.1  # seconds until a port that is gone is looked for; doubled each time
LONGEST_RETRY = 2.0
STEADY = 1.0  # seconds that a pipe must have lasted for the next one to begin without waiting

logger = logging.getLogger("rpyc_gateway.serial")


def pipe(stream: PortStream, *, identity: str, private: bool, fastest: int) -> Pipe:
    """The stream of a port as a Pipe. `fastest` is in baud."""
    settings = stream.settings
    made = Pipe(
        stream,
        f"{stream.name} at {settings.baudrate} baud",
        identity=identity,
        private=private,
        reliable=False,
        rate=settings.rate(),
        message=PIECE,
        reserved=b"\x11\x13" if settings.xonxoff else b"",  # a port is set up to pass on anything else
        fastest=fastest if fastest > settings.baudrate else 0,
        set_rate=stream.set_rate,
    )
    stream.offer(made)
    return made


async def serve_port(
    url: str,
    open_port: Callable[[], Awaitable[tuple[PortStream, Pipe]]],
    handler: Handler,
    task_status: trio.TaskStatus[list[str]],
) -> None:
    """Open and serve until cancelled. `open_port` raises ConfigError; only the first one is passed on."""
    stream, made = await open_port()
    task_status.started([url])
    while True:
        begun = trio.current_time()
        try:
            await stream.wait_heard()
            await handle(made, handler)
        except trio.BrokenResourceError as exc:
            logger.warning("%s: %s", url, exc)
        finally:
            await trio.aclose_forcefully(stream)
        delay = 0.0 if trio.current_time() - begun >= STEADY else RETRY
        stream, made = await _open_again(url, open_port, delay)


async def _open_again(
    url: str, open_port: Callable[[], Awaitable[tuple[PortStream, Pipe]]], delay: float
) -> tuple[PortStream, Pipe]:
    told = ""
    while True:
        await trio.sleep(delay)
        delay = min(LONGEST_RETRY, 2 * delay or RETRY)
        try:
            opened = await open_port()
        except ConfigError as exc:
            level = logging.DEBUG if str(exc) == told else logging.WARNING
            told = str(exc)
            logger.log(level, "%s; waiting for it", exc)
        else:
            if told:
                logger.warning("%s: it is back", url)
            return opened
