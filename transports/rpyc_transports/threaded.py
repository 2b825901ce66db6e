"""A serial port without a descriptor that could be waited for: one behind RFC 2217, or any on Windows. Threads read and write it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import serial
import trio

from rpyc_transports.portsettings import Settings
from rpyc_transports.portstream import PortStream, in_thread

__all__ = ["ThreadedStream", "open_threaded"]

GLANCE = 0.1  # seconds that a read waits for data: as long as that takes it to notice that it was cancelled

_T = TypeVar("_T")


class ThreadedStream(PortStream):
    """Any port of pyserial's. A read that is cancelled loses nothing."""

    def __init__(self, name: str, settings: Settings, port: Any) -> None:
        super().__init__(name, settings)
        self._port = port
        self._threads = trio.CapacityLimiter(2)  # of its own: reading holds one nearly all the time
        self._receiving = False
        self._heard = b""

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Raises BrokenResourceError when the port is gone; a serial line has no other end."""
        if max_bytes is not None and max_bytes < 1:
            raise ValueError("max_bytes must be at least 1")
        await self.wait_heard()
        taken = self._heard[:max_bytes]
        self._heard = self._heard[len(taken) :]
        return taken

    async def wait_heard(self) -> None:
        self._check_open()
        if self._receiving:
            raise trio.BusyResourceError("another task is receiving on this port")
        self._receiving = True
        try:
            await trio.lowlevel.checkpoint()
            while not self._heard:
                self._heard = await self._in_thread(self._read)
                self._check_open()
        finally:
            self._receiving = False

    def _read(self) -> bytes:
        first = self._port.read(1)
        return bytes(first + self._port.read(self._port.in_waiting)) if first else b""

    async def _write(self, piece: memoryview) -> None:
        await self._in_thread(lambda: self._port.write(bytes(piece)))

    def _close(self) -> None:
        _close(self._port)

    async def _set_baudrate(self, baudrate: int) -> None:
        await self._in_thread(lambda: setattr(self._port, "baudrate", baudrate))

    async def _in_thread(self, act: Callable[[], _T]) -> _T:
        try:
            return await trio.to_thread.run_sync(act, limiter=self._threads)
        except (OSError, ValueError, TypeError, AttributeError) as exc:  # the last two: it was closed meanwhile
            self._check_open()
            raise self._gone(exc) from exc


async def open_threaded(name: str, settings: Settings, make: Callable[[], Any] | None = None) -> ThreadedStream:
    """Open a port by its name, or another that `make` makes, in a thread: it can take seconds. Raises OSError."""
    port = await in_thread(lambda: _open(make() if make else _named(name), settings), _close)
    return ThreadedStream(name, settings, port)


def _named(name: str) -> Any:
    return serial.serial_for_url(name, do_not_open=True)


def _open(port: Any, settings: Settings) -> Any:
    port.timeout = GLANCE
    settings.configure(port)
    port.dtr, port.rts = settings.dtr == "on", settings.rts == "on"
    port.open()
    return port


def _close(port: Any) -> None:
    connection = getattr(port, "_socket", None)
    port.close()
    if connection is not None:  # pyserial forgets it where the other side has closed it first
        connection.close()
