"""MicroPython's unix port as a board on a serial port: `python fake_board.py PORT [HEAP]`. It is there until its stdin ends.

The interpreter has a pty of its own as its controlling tty, so that 03 interrupts it as it would on a board; when it exits or is killed,
another begins at once, as after a reset. Each prints its process id here.
"""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager

MICROPYTHON = os.path.join(os.path.dirname(sys.executable), "micropython")


def main(port: str, heap: str = "") -> None:
    outer = os.open(port, os.O_RDWR | os.O_NOCTTY)
    tty.setraw(outer)
    first = True
    while True:
        if not first:
            os.write(outer, b"MPY: soft reboot\r\n")
        first = False
        child, inner = spawn(heap)
        print(child.pid, flush=True)
        try:
            if not carry(outer, inner, child.pid):
                return
        finally:
            child.kill()
            child.wait()
            os.close(inner)


def spawn(heap: str) -> tuple[subprocess.Popen[bytes], int]:
    master, slave = pty.openpty()
    tty.setraw(slave)
    modes = termios.tcgetattr(slave)
    modes[3] |= termios.ISIG | termios.NOFLSH
    modes[6][termios.VINTR] = b"\x03"
    modes[6][termios.VQUIT] = modes[6][termios.VSUSP] = b"\x00"
    termios.tcsetattr(slave, termios.TCSANOW, modes)

    def own() -> None:
        os.setsid()
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

    command = [MICROPYTHON, *(["-X", f"heapsize={heap}"] if heap else [])]
    child = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, preexec_fn=own, pass_fds=[slave])
    os.close(slave)
    return child, master


def carry(outer: int, inner: int, pid: int) -> bool:
    """Carry bytes between the port and the interpreter until that ends (True), or stdin does (False)."""
    said = b""
    started = False
    while True:
        # The interpreter would die of a 03 before its first prompt; a board would not.
        sources = [inner, 0, *([outer] if started else [])]
        readable, _, _ = select.select(sources, [], [])
        if 0 in readable and not os.read(0, 1):
            return False
        if outer in readable:
            type_in(inner, os.read(outer, 4096), pid)
        if inner in readable:
            try:
                data = os.read(inner, 4096)
            except OSError:
                return True
            if not started:
                said += data
                started = b">>> " in said
            os.write(outer, data)


def type_in(inner: int, keys: bytes, pid: int) -> None:
    """Give it keys, but no 03 in a moment in which it would die of that; a board would not."""
    while b"\x03" in keys:
        with stopped(pid):
            if not is_deadly(inner, pid):
                os.write(inner, keys)
                return
        time.sleep(0.001)
    os.write(inner, keys)


def is_deadly(inner: int, pid: int) -> bool:
    """Whether a 03 is a signal, for which it has no handler: for a moment before and after each program."""
    if fact_of(pid, "State")[0] == "Z":
        return False
    is_signal = termios.tcgetattr(inner)[3] & termios.ISIG
    return bool(is_signal and not int(fact_of(pid, "SigCgt"), 16) & 1 << signal.SIGINT - 1)


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """In the body it does nothing."""
    if fact_of(pid, "State")[0] == "T":  # by a test
        yield
        return
    os.kill(pid, signal.SIGSTOP)
    while fact_of(pid, "State")[0] not in "TZ":
        time.sleep(0)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def fact_of(pid: int, name: str) -> str:
    with open(f"/proc/{pid}/status") as status:
        return next(line.split()[1] for line in status if line.startswith(f"{name}:"))


if __name__ == "__main__":
    main(*sys.argv[1:])
