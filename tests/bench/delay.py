"""A relay that passes everything on late: what a long way is on a machine whose kernel cannot make one."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue

from tests.bench.processes import LOCALHOST

Later = SimpleQueue[tuple[float, bytes]]


def relay(tell: Callable[[object], None], port: str, seconds: str) -> None:
    """Listen, and pass on to `port` what comes, each way so much later. Nothing is held up, however much is on its way."""
    listener = socket.create_server((LOCALHOST, 0))
    tell(listener.getsockname()[1])
    while True:
        near, _ = listener.accept()
        far = socket.create_connection((LOCALHOST, int(port)))
        for source, sink in ((near, far), (far, near)):
            sink.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            queue: Later = SimpleQueue()
            threading.Thread(target=_read, args=(source, queue, float(seconds)), daemon=True).start()
            threading.Thread(target=_write, args=(sink, queue), daemon=True).start()


def _read(source: socket.socket, queue: Later, seconds: float) -> None:
    data = b"any"
    while data:
        try:
            data = source.recv(1 << 18)
        except OSError:
            data = b""
        queue.put((time.monotonic() + seconds, data))


def _write(sink: socket.socket, queue: Later) -> None:
    while True:
        due, data = queue.get()
        time.sleep(max(0.0, due - time.monotonic()))
        try:
            if not data:
                sink.shutdown(socket.SHUT_WR)
                return
            sink.sendall(data)
        except OSError:
            return
