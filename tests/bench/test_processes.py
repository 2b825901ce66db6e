"""What is behind a client: its processes are found, their CPU time is theirs, and a delay is one."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue

from tests.bench import delay
from tests.bench.processes import LOCALHOST, Way, cpu_seconds, descendants

CHILD = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
print(child.pid, time.process_time(), flush=True)
input()
"""


@contextmanager
def started(program: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_the_cpu_time_of_a_process_is_its_own() -> None:
    with started(CHILD) as process:
        assert process.stdout is not None
        _, told = process.stdout.readline().split()
        process.send_signal(signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)
        used = cpu_seconds(process.pid)
        sum(range(100_000))
        assert cpu_seconds(process.pid) == used >= float(told) > 0


def test_children_of_children_are_found() -> None:
    with started(CHILD) as process:
        assert process.stdout is not None
        grandchild, _ = process.stdout.readline().split()
        assert descendants(process.pid) == [int(grandchild)]
        assert {process.pid, int(grandchild)} <= set(descendants(os.getpid()))


def test_a_way_ends_what_it_has_started() -> None:
    way = Way("tests.bench.peers.raw_socket", "")
    port = int(way.start("serve"))
    socket.create_connection((LOCALHOST, port)).close()
    way.end()
    assert [process.poll() for process in way.processes.values()] == [-signal.SIGTERM]


def test_a_delayed_way_brings_everything_in_order_and_late() -> None:
    with socket.create_server((LOCALHOST, 0)) as listener:
        told: SimpleQueue[int] = SimpleQueue()
        port = str(listener.getsockname()[1])
        threading.Thread(target=delay.relay, args=(told.put, port, "0.01"), daemon=True).start()
        near = socket.create_connection((LOCALHOST, told.get()))
        far, _ = listener.accept()
    with near, far:
        far.settimeout(10)
        start = time.monotonic()
        near.sendall(b"there")
        assert far.recv(5, socket.MSG_WAITALL) == b"there"
        far.sendall(b"and ")
        far.sendall(b"back")
        assert near.recv(8, socket.MSG_WAITALL) == b"and back"
        assert time.monotonic() - start >= 0.02
        near.shutdown(socket.SHUT_WR)
        assert far.recv(1) == b""
