"""Somebody at a terminal: a program has one of its own, is asked by it, and answers."""

from __future__ import annotations

import os
import select
import subprocess
import time
from collections.abc import Sequence

WITHIN = 40.0  # seconds for all of it, on a busy machine


def answer_at_a_terminal(command: Sequence[str], question: bytes, answer: bytes) -> bytes:
    """What is seen on the terminal of a program, which is in its foreground, until it has ended. It is killed if that takes too long."""
    ours, theirs = os.openpty()
    try:
        # setsid makes it a session, and the terminal that of the session.
        with subprocess.Popen(("setsid", "--ctty", *command), stdin=theirs, stdout=theirs, stderr=theirs) as process:
            os.close(theirs)
            try:
                return _talk(ours, question, answer)
            finally:
                process.kill()
    finally:
        os.close(ours)


def _talk(terminal: int, question: bytes, answer: bytes) -> bytes:
    deadline = time.monotonic() + WITHIN
    seen, asked = b"", False
    while select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))[0]:
        try:
            seen += os.read(terminal, 1000)
        except OSError:  # Linux's way to say that nobody has it open any more
            return seen
        if question in seen and not asked:
            os.write(terminal, answer)
            asked = True
    raise AssertionError(f"it did not end within {WITHIN:g} s; on the terminal was {seen!r}")
