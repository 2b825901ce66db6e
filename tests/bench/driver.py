"""Runs the rows in turns: one slot at a time, A B C A B C, and who begins changes with every round."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.bench.figures import Measurement, rotated
from tests.bench.peers import Row
from tests.bench.processes import END_WITHIN, ROOT
from tests.bench.workloads import Workload

__all__ = ["Client", "open_clients", "run"]

ANSWER_WITHIN = 60.0
LAST_LINES = 12  # of its stderr, when a row fails


class Client:
    """The process of one row. When it has ended, or does not answer, another one takes its place for the next workload."""

    def __init__(self, row: Row, log: Path, far_cpu: int | None, environment: Mapping[str, str] | None = None) -> None:
        self.row = row
        self._log = log
        self._arguments = [row.name, *([] if far_cpu is None else [str(far_cpu)])]
        self._environment = os.environ | (environment or {})
        self._popen = self._start()

    def _start(self) -> subprocess.Popen[str]:
        with self._log.open("w") as stderr:
            return subprocess.Popen(
                [sys.executable, "-m", "tests.bench.worker", *self._arguments],
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                start_new_session=True,
            )

    def ask(self, **order: object) -> dict[str, Any]:
        """Its answer, or what kept it from giving one, with the end of its stderr, as {"error": ...}."""
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._popen.stdin.write(json.dumps(order) + "\n")
            self._popen.stdin.flush()
        in_time = select.select([self._popen.stdout], [], [], ANSWER_WITHIN)[0]
        if in_time and (line := self._popen.stdout.readline()):
            answer: dict[str, Any] = json.loads(line)
            if "error" in answer:
                answer["error"] += f"\n{self.last_words()}"
            return answer
        problem = "its process has ended" if in_time else f"no answer within {ANSWER_WITHIN:g} s"
        answer = {"error": f"{problem}\n{self.last_words()}"}
        self.end(within=0)
        self._popen = self._start()
        return answer

    def last_words(self) -> str:
        """The end of what it and the processes behind it wrote to stderr."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-LAST_LINES:])

    def end(self, *, within: float = 2 * END_WITHIN) -> None:
        """Let it end what it started, if it does so in time; then nothing of it is left."""
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._popen.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(within)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen.wait()
        self._popen.stdout.close()


@contextlib.contextmanager
def open_clients(
    rows: Sequence[Row], directory: Path, far_cpu: int | None, environment: Mapping[str, str] | None = None
) -> Iterator[list[Client]]:
    """A process for each row."""
    clients = [Client(row, directory / f"{row.name}.stderr", far_cpu, environment) for row in rows]
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
        return Measurement(number, workload.name, client.row.name, error=answer["error"])
    if "missing" in answer:
        return Measurement(number, workload.name, client.row.name)
    return Measurement(number, workload.name, client.row.name, **answer)
