"""The processes behind a client: started, pinned to a CPU, their CPU time read, ended."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

__all__ = ["Pin", "Way", "ask", "cpu_seconds", "descendants", "pin"]

Pin = Literal["same", "split", "none"]

ROOT = Path(__file__).parents[2]
START_WITHIN = 20.0
END_WITHIN = 2.0
LOCALHOST = "127.0.0.1"


class Way:
    """How a client gets to its server: through so many relays, with a delay or without. Whoever opens a client starts what it needs here."""

    def __init__(self, module: str, variant: str, *, relays: int = 0, delay: float = 0.0) -> None:
        self.variant = variant
        self.relays = relays
        self.delay = delay
        self._module = module
        self._started: list[subprocess.Popen[str]] = []
        self.processes: dict[str, subprocess.Popen[str]] = {}  # those of `start`, by what they are

    def start(self, role: str, *arguments: str) -> str:
        """Run a function of the peer's module in a process of its own; what it tells when it is ready is its address."""
        return self._start(self._module, role, *arguments)

    def delayed(self, port: int) -> int:
        """A port from which everything gets to this one, as late as this way wants it: the very port if that is at once."""
        if not self.delay:
            return port
        return int(self._start("tests.bench.delay", "relay", str(port), str(self.delay)))

    def run(self, *command: str) -> None:
        """Start any program, which says nothing."""
        self._started.append(subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, text=True))

    def _start(self, module: str, role: str, *arguments: str) -> str:
        process = subprocess.Popen(
            (sys.executable, "-m", "tests.bench.far", module, role, *arguments),
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._started.append(process)
        self.processes[f"{role} {len(self.processes) + 1}"] = process
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        if not address:
            raise RuntimeError(f"{module} {role} ended before it was ready")
        return address

    def end(self) -> None:
        """End what was started here, the nearest first, so that nobody waits for a neighbour who is gone."""
        for process in reversed(self._started):
            process.terminate()
        for process in reversed(self._started):
            try:
                process.wait(END_WITHIN)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            for pipe in filter(None, (process.stdin, process.stdout)):
                pipe.close()


def ask(process: subprocess.Popen[str], order: str) -> str:
    """The line that a process of `start` answers to a line."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{order}\n")
    process.stdin.flush()
    return process.stdout.readline()


def descendants(pid: int) -> list[int]:
    """The processes that this one has started, and those that they have."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(path.parent.name))

    def below(parent: int) -> Iterator[int]:
        for child in children.get(parent, ()):
            yield child
            yield from below(child)

    return list(below(pid))


def cpu_seconds(pid: int) -> float:
    """The CPU time that a process has used, those of its threads that have ended included, to the nanosecond."""
    # Linux numbers the CPU clock of a process like this; glibc's clock_getcpuclockid() does no more.
    return time.clock_gettime((~pid << 3) | 2)


def pin(pid: int, cpu: int) -> None:
    """Keep every thread of a process on one CPU, and those that it will start."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
            os.sched_setaffinity(int(task.name), {cpu})
