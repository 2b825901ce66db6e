"""Runs the rows in turns: one slot at a time, A B C A B C, and who begins changes with every round."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.bench.figures import Measurement, rotated
from tests.bench.peers import Row
from tests.bench.processes import END_WITHIN, ROOT
from tests.bench.workloads import Workload

__all__ = ["Client", "open_clients", "run"]

ANSWER_WITHIN = 90.0
LAST_LINES = 12  # of its stderr, when a row fails


class Client:
    """The process of one row. After an answer that did not come it is dead, and says so to everybody who asks."""

    def __init__(self, row: Row, log: Path, far_cpu: int | None) -> None:
        self.row = row
        self._log = log
        self._dead = ""
        command = [sys.executable, "-m", "tests.bench.worker", row.name, *([] if far_cpu is None else [str(far_cpu)])]
        with log.open("w") as stderr:
            self._popen = subprocess.Popen(
                command,
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                start_new_session=True,
            )

    def ask(self, **order: object) -> dict[str, Any]:
        """Its answer, or what kept it from giving one as {"error": ...}."""
        if self._dead:
            return {"error": self._dead}
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._popen.stdin.write(json.dumps(order) + "\n")
            self._popen.stdin.flush()
        if not select.select([self._popen.stdout], [], [], ANSWER_WITHIN)[0]:
            self._dead = f"no answer within {ANSWER_WITHIN:g} s"
            self.kill()
            return {"error": self._dead}
        line = self._popen.stdout.readline()
        if not line:
            self._dead = "its process has ended"
            return {"error": self._dead}
        answer: dict[str, Any] = json.loads(line)
        return answer

    def last_words(self) -> str:
        """The end of what it and the processes behind it wrote to stderr."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-LAST_LINES:])

    def end(self) -> None:
        """Let it end what it started; then nothing of it is left."""
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._popen.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(2 * END_WITHIN)
        self.kill()
        self._popen.stdout.close()

    def kill(self) -> None:
        """End it with whatever it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen.wait()


@contextlib.contextmanager
def open_clients(rows: Sequence[Row], directory: Path, far_cpu: int | None) -> Iterator[list[Client]]:
    """A process for each row."""
    clients = [Client(row, directory / f"{row.name}.stderr", far_cpu) for row in rows]
    try:
        yield clients
    finally:
        for client in clients:
            client.end()


def run(clients: Sequence[Client], workloads: Sequence[Workload], *, rounds: int, slot: float) -> Iterator[Measurement]:
    """Measure, and tell of each slot when it is over. A row that cannot do a workload is asked once."""
    unable: set[tuple[str, str]] = set()
    for number in range(rounds):
        for workload in workloads:
            if workload.rounds is not None and number >= workload.rounds:
                continue
            for client in rotated(clients, number):
                pair = workload.name, client.row.name
                if pair in unable or not client.row.takes_part(workload):
                    continue
                measurement = _measure(client, workload, number, slot)
                if measurement.value is None:
                    unable.add(pair)
                yield measurement


def _measure(client: Client, workload: Workload, number: int, slot: float) -> Measurement:
    answer = client.ask(workload=workload.name, slot=slot)
    if "error" in answer:
        error = f"{answer['error']}\n{client.last_words()}"
        return Measurement(number, workload.name, client.row.name, error=error)
    if "missing" in answer:
        return Measurement(number, workload.name, client.row.name)
    answer.pop("units", None)
    return Measurement(number, workload.name, client.row.name, **answer)
