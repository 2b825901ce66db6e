"""The limit of blocking code: a socket, a message of 16 bytes there and back, and no meaning. Relayed by socat."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from threading import Thread

from tests.bench.processes import LOCALHOST, Way
from tests.bench.waiting import until

SMALL = b"sixteen bytes ok"
LENGTH = struct.Struct(">Q")
ECHO, SINK = b"e", b"s"  # what a connection is for, said in its first byte


def serve(tell: Callable[[object], None]) -> None:
    listener = socket.create_server((LOCALHOST, 0))
    tell(listener.getsockname()[1])
    while True:
        connection, _ = listener.accept()
        Thread(target=_answer, args=(connection,), daemon=True).start()


def _answer(connection: socket.socket) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with connection:
        if connection.recv(1) == ECHO:
            while data := connection.recv(65536):
                connection.sendall(data)
            return
        while header := connection.recv(LENGTH.size):
            body = bytearray(LENGTH.unpack(header)[0])
            _fill(connection, body)
            connection.sendall(LENGTH.pack(len(body)))


def _fill(connection: socket.socket, body: bytearray) -> None:
    rest = memoryview(body)
    while rest:
        rest = rest[connection.recv_into(rest) :]


@contextmanager
def open_client(way: Way) -> Iterator[Client]:
    port = int(way.start("serve"))
    for _ in range(way.relays):
        near = _free_port()
        listen = f"TCP-LISTEN:{near},bind={LOCALHOST},fork,reuseaddr,nodelay"
        way.run("socat", "-b", "262144", listen, f"TCP:{LOCALHOST}:{port},nodelay")
        until(lambda near=near: socket.create_connection((LOCALHOST, near)), ConnectionRefusedError).close()
        port = near
    with _connect(port, ECHO) as echo, _connect(port, SINK) as sink:
        client = Client(port, echo, sink)
        yield client
        client.tidy()


def _free_port() -> int:
    with socket.create_server((LOCALHOST, 0)) as probe:
        return int(probe.getsockname()[1])


def _connect(port: int, purpose: bytes) -> socket.socket:
    connection = socket.create_connection((LOCALHOST, port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(purpose)
    return connection


class Client:
    """What a program does that needs no RPC."""

    def __init__(self, port: int, echo: socket.socket, sink: socket.socket) -> None:
        self._port = port
        self._echo = echo
        self._sink = sink
        self._connections = ExitStack()

    def call(self, n: int) -> None:
        send, receive = self._echo.sendall, self._echo.recv
        for _ in range(n):
            send(SMALL)
            answer = receive(65536)
        assert answer == SMALL

    def send(self, data: bytes) -> None:
        self._sink.sendall(LENGTH.pack(len(data)))
        self._sink.sendall(data)
        assert self._sink.recv(LENGTH.size) == LENGTH.pack(len(data))

    def connect(self, n: int) -> None:
        for _ in range(n):
            connection = self._connections.enter_context(_connect(self._port, ECHO))
            connection.sendall(SMALL)
            assert connection.recv(65536) == SMALL

    def tidy(self) -> None:
        """Close what `connect` has made."""
        self._connections.close()
