"""A port server: one serial port for who connects by RFC 2217, made of pyserial's own server side. Its argument is the port."""

from __future__ import annotations

import socket
import sys
import threading
from contextlib import suppress

import serial
import serial.rfc2217


class Port(serial.Serial):
    """A port whose modem lines can be set, as those of a pty cannot."""

    def _update_dtr_state(self) -> None: ...
    def _update_rts_state(self) -> None: ...

    cts = dsr = ri = cd = False


class Line:
    """What PortManager writes its answers to."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def write(self, data: bytes) -> None:
        with self._lock:
            self._connection.sendall(data)


def serve(path: str, connection: socket.socket) -> None:
    with Port(path, timeout=0.05) as port, connection:
        line = Line(connection)
        manager = serial.rfc2217.PortManager(port, line)
        over = threading.Event()

        def send() -> None:
            while not over.is_set():
                try:
                    data = port.read(port.in_waiting or 1)
                    line.write(b"".join(manager.escape(data)))
                except OSError:
                    break
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

        sender = threading.Thread(target=send)
        sender.start()
        try:
            while data := connection.recv(4096):
                port.write(b"".join(manager.filter(data)))
        finally:
            over.set()
            sender.join()


def main() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    while True:
        connection, _ = listener.accept()
        with suppress(OSError):  # of the connection, or of a port that is gone
            serve(sys.argv[1], connection)


if __name__ == "__main__":
    main()
