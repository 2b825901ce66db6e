"""Somebody who types at a terminal: what is typed, what is seen, one after the other."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

WITHIN = 30.0  # seconds for what is waited for, on a busy machine
AGAIN = 3.0  # seconds until somebody presses a key again
COLOURS = re.compile(rb"\x1b\[\??[0-9;]*[A-Za-z]")


class Typist:
    """At the terminal of a program."""

    def __init__(self, terminal: int, process: subprocess.Popen[bytes]) -> None:
        self._terminal = terminal
        self.process = process
        self.seen = b""

    def type(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def see(self, text: str) -> str:
        """Wait until this is seen; all up to that, since the last time."""
        wanted = text.encode()
        while wanted not in self.seen:
            self._read(f"waiting for {text!r}")
        end = self.seen.index(wanted) + len(wanted)
        found, self.seen = self.seen[:end], self.seen[end:]
        return found.decode()

    def press_until(self, key: str, text: str) -> None:
        """Press a key, and again if nothing comes of it: Python's readline sleeps over a Ctrl-C in the moment in which it comes to wait for a key."""
        deadline = time.monotonic() + WITHIN
        while text.encode() not in self.seen:
            assert time.monotonic() < deadline, f"nothing comes of {key!r}: on the terminal was {self.seen!r}"
            self.type(key)
            while text.encode() not in self.seen and select.select([self._terminal], [], [], AGAIN)[0]:
                self._read(f"waiting for {text!r}")
        self.see(text)

    def see_end(self) -> tuple[int, str]:
        """Wait until the program has ended; its exit code and the rest that was seen."""
        while True:
            try:
                self._read("waiting for its end")
            except OSError:  # Linux's way to say that nobody has it open any more
                return self.process.wait(WITHIN), self.seen.decode()

    def _read(self, why: str) -> None:
        deadline = time.monotonic() + WITHIN
        if not select.select([self._terminal], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise AssertionError(f"{why}: on the terminal was {self.seen!r}")
        self.seen += COLOURS.sub(b"", os.read(self._terminal, 4096)).replace(b"\r\n", b"\n")


@contextmanager
def at_a_terminal(command: Sequence[str], **environment: str) -> Iterator[Typist]:
    """A program in the foreground of a terminal of its own. It is killed at the end."""
    ours, theirs = os.openpty()
    with subprocess.Popen(
        ("setsid", "--ctty", "--wait", *command),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "dumb", **environment},
    ) as process:
        os.close(theirs)
        try:
            yield Typist(ours, process)
        finally:
            if process.poll() is None:
                os.killpg(os.tcgetpgrp(ours), signal.SIGKILL)
            os.close(ours)
