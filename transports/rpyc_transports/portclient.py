"""pyserial's client of port servers (RFC 2217), for servers that say anything: what they send is bounded, and what makes no sense is told in words."""

from __future__ import annotations

import queue
import socket
import time

import serial
from serial import rfc2217

from rpyc_transports.telnet import Negotiation, Option, Telnet

__all__ = ["PortClient"]

PIECE = 4096  # bytes read at once
AHEAD = 64  # pieces that are read before they are wanted; then the server has to wait
GLANCE = 0.01  # seconds between two looks whether one was taken


class PortClient(rfc2217.Serial):
    """A port behind a server. pyserial negotiates and asks for settings; its thread reads what comes, by this."""

    _read_buffer: queue.Queue[bytes]
    _socket: socket.socket

    def __init__(self, url: str) -> None:
        super().__init__()
        self.port = url
        self._left = b""  # of a piece that was read in part
        self._why = ""  # nothing more comes, for this reason

    def open(self) -> None:
        """Raises OSError: the server cannot be reached, refuses a setting, or says what no server says."""
        try:
            super().open()
        except OSError as exc:
            if self._why:  # that is the cause
                raise serial.SerialException(self._why) from exc
            raise

    @property
    def in_waiting(self) -> int:
        """Bytes that `read` gives at once; there may be more behind them."""
        return len(self._left)

    def read(self, size: int = 1) -> bytes:
        """Up to so many bytes, b"" if none come within the timeout. Raises SerialException with what went wrong, after what came before it."""
        if not self._left:
            try:
                self._left = self._read_buffer.get(timeout=self.timeout)
            except queue.Empty:
                if self._why:
                    raise serial.SerialException(self._why) from None
                return b""
        taken, self._left = self._left[:size], self._left[size:]
        return taken

    def reset_input_buffer(self) -> None:
        super().reset_input_buffer()
        self._left = b""

    def _telnet_read_loop(self) -> None:
        why = "the port server has ended the connection"
        try:
            self._hear()
        except OSError as exc:
            why = f"the connection to the port server broke: {exc.strerror or exc}"
        except Exception as exc:  # noqa: BLE001  pyserial raises what it happens to meet
            why = f"what the port server says makes no sense: {exc}"
        if self.is_open:  # it was not closed here
            self._why = why

    def _hear(self) -> None:
        telnet, connection = Telnet(), self._socket
        while self.is_open:
            if self._read_buffer.qsize() >= AHEAD:
                time.sleep(GLANCE)
                continue
            try:
                data = connection.recv(PIECE)
            except TimeoutError:  # pyserial's socket gives up every five seconds
                continue
            if not data:
                return
            heard = bytearray()
            try:
                for part in telnet.receive(data):
                    if isinstance(part, Negotiation):
                        self._telnet_negotiate_option(part[:1], part[1:])  # type: ignore[attr-defined]
                    elif isinstance(part, Option):
                        self._telnet_process_subnegotiation(bytes(part))  # type: ignore[attr-defined]
                    else:
                        heard += part
            finally:
                if heard:
                    self._read_buffer.put(bytes(heard))
