"""The client of one row, in a process of its own: python -m tests.bench.worker ROW [CPU]

It takes orders as JSON lines on its standard input and answers each with one. It sits still between them, as do the processes behind it.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import import_module
from typing import Any, TextIO

import trio

from tests.bench.peers import ROWS, Row
from tests.bench.processes import Way, ask, cpu_seconds, descendants, pin
from tests.bench.profiling import Profiler, profiler_if_asked
from tests.bench.workloads import WORKLOADS, Workload

FIRST = 20  # units of the first piece, while nobody knows how long one takes
TOO_LONG = 6  # slots; a piece that takes longer is made smaller
ENOUGH = 0.25  # of a slot: what is timed to know how much fits into one

Run = Callable[[Callable[..., Any], Any, int], Any]
"""Calls a method of a client so many times with an argument, wherever that client lives."""


@dataclass(slots=True)
class Plan:
    """What fits into a slot: so many pieces of a size."""

    size: int
    pieces: int


class Worker:
    """Measures one workload after the other, as it is told."""

    def __init__(
        self,
        row: Row,
        run: Run,
        open_client: Callable[[Way], Any],
        split_from: int | None,
        profiler: Profiler | None = None,
    ) -> None:
        self._row = row
        self._run = run
        self._open_client = open_client
        self._far_cpu = split_from
        self._profiler = profiler
        self._clients: dict[tuple[int, float], tuple[Any, Way]] = {}
        self._plans: dict[str, Plan] = {}
        self._far: list[int] = []
        self._body = b""

    def measure(self, workload: Workload, slot: float) -> dict[str, object]:
        """One slot of a workload. Raises whatever went wrong; AttributeError is for what this peer cannot do."""
        client, _ = self._client(workload)
        method = getattr(client, workload.method, None)
        if method is None:
            return {"missing": True}
        if not workload.timed:
            return {"value": self._run(method, workload.full, 1)}
        plan = self._planned(workload, client, method, slot)
        seconds, near, far = self._time(workload, client, method, plan)
        units = plan.size * plan.pieces / workload.per
        return {
            "value": units / seconds,
            "near_us": near / units * 1e6,
            "far_us": sum(far.values()) / units * 1e6,
            "shortened": workload.full is not None and plan.size < workload.full,
        }

    def profile(self, workload: Workload, slot: float) -> dict[str, object]:
        """What each process does in a slot, by its name: CPU microseconds for each unit, and its functions if they are watched."""
        client, way = self._client(workload)
        method = getattr(client, workload.method, None)
        if method is None or not workload.timed:
            return {"missing": True}
        plan = self._planned(workload, client, method, slot)
        units = plan.size * plan.pieces / workload.per
        watched = way.processes if self._profiler else {}
        for process in watched.values():
            ask(process, "begin")
        if self._profiler:
            self._profiler.begin()
        _, near, far = self._time(workload, client, method, plan)
        seen = {"client": self._profiler.seen()} if self._profiler else {}
        us = {"client": near * 1e6 / units}
        us |= {name: far[process.pid] * 1e6 / units for name, process in way.processes.items()}
        us["all but the client"] = sum(far.values()) * 1e6 / units
        seen |= {name: json.loads(ask(process, "tell")) for name, process in watched.items()}
        return {"units": units, "us": us, "seen": seen}

    def _planned(self, workload: Workload, client: Any, method: Callable[..., Any], slot: float) -> Plan:
        """What to do in a slot; everybody is warm when this returns."""
        plan = self._plans.get(workload.name)
        if plan is None:
            plan = self._plans[workload.name] = self._plan(workload, client, method, slot)
        self._time(workload, client, method, self._warm_up(workload, plan))
        self._find_far()
        gc.collect()
        return plan

    def _client(self, workload: Workload) -> tuple[Any, Way]:
        distance = workload.relays, workload.delay
        if distance not in self._clients:
            module = f"tests.bench.peers.{self._row.module}"
            way = Way(module, self._row.variant, relays=workload.relays, delay=workload.delay)
            self._clients[distance] = self._open_client(way), way
        self._find_far()
        return self._clients[distance]

    def _find_far(self) -> None:
        """Who is behind the client now: some relays start a process for each connection, in their own time."""
        self._far = descendants(os.getpid())
        if self._far_cpu is not None:
            for pid in self._far:
                pin(pid, self._far_cpu)

    def _plan(self, workload: Workload, client: Any, method: Callable[..., Any], slot: float) -> Plan:
        """Find out how much fits into a slot, by ever larger pieces."""
        full, step = workload.full, workload.step
        size = workload.least if full else max(step, 1 if workload.delay else FIRST)
        self._time(workload, client, method, Plan(size, 1))
        while True:
            seconds = self._time(workload, client, method, Plan(size, 1))[0]
            if full and (size == full or seconds * 2 > slot * TOO_LONG):
                return Plan(size, max(1, int(slot / seconds)))
            if not full and seconds > slot * ENOUGH:
                return Plan(max(1, round(size * slot / seconds / step)) * step, 1)
            size = min(size * 2, full) if full else size * 4

    @staticmethod
    def _warm_up(workload: Workload, plan: Plan) -> Plan:
        if plan.pieces > 1:
            return Plan(plan.size, max(1, plan.pieces // 4))
        return Plan(max(workload.step, plan.size // 4 // workload.step * workload.step), 1)

    def _time(
        self, workload: Workload, client: Any, method: Callable[..., Any], plan: Plan
    ) -> tuple[float, float, dict[int, float]]:
        """How long it takes, and the CPU seconds of the client and of each process behind it."""
        argument = self._bytes(plan.size) if workload.method == "send" else plan.size
        near, far, start = time.process_time(), {pid: cpu_seconds(pid) for pid in self._far}, time.perf_counter()
        self._run(method, argument, plan.pieces)
        seconds = time.perf_counter() - start
        near, far = time.process_time() - near, {pid: cpu_seconds(pid) - before for pid, before in far.items()}
        if hasattr(client, "tidy"):
            client.tidy()
        return seconds, near, far

    def _bytes(self, size: int) -> bytes:
        if len(self._body) < size:
            self._body = os.urandom(size)
        return self._body if len(self._body) == size else self._body[:size]


def obey(worker: Worker, orders: TextIO, answers: TextIO) -> None:
    """Do what each line says. What goes wrong is told, with the whole traceback on stderr."""
    workloads = {workload.name: workload for workload in WORKLOADS}
    for line in orders:
        order = json.loads(line)
        try:
            do = worker.profile if order.get("profile") else worker.measure
            answer = do(workloads[order["workload"]], order["slot"])
        except Exception as error:  # noqa: BLE001  # one workload of one row
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def in_blocking_code(row: Row, orders: TextIO, answers: TextIO, *options: Any) -> None:
    """Everything in the main thread of the process."""
    module = import_module(f"tests.bench.peers.{row.module}")

    def run(method: Callable[..., Any], argument: Any, times: int) -> Any:
        for _ in range(times):
            result = method(argument)
        return result

    with ExitStack() as stack:

        def open_client(way: Way) -> Any:
            stack.callback(way.end)
            return stack.enter_context(module.open_client(way))

        obey(Worker(row, run, open_client, *options), orders, answers)


async def in_trio(row: Row, orders: TextIO, answers: TextIO, *options: Any) -> None:
    """Trio in the main thread, as in a program; the orders are taken in another, which sleeps while a slot runs."""
    module = import_module(f"tests.bench.peers.{row.module}")

    async def repeat(method: Callable[..., Any], argument: Any, times: int) -> Any:
        for _ in range(times):
            result = await method(argument)
        return result

    def run(method: Callable[..., Any], argument: Any, times: int) -> Any:
        return trio.from_thread.run(repeat, method, argument, times)

    async def hold(way: Way, task_status: trio.TaskStatus[Any]) -> None:
        try:
            async with module.open_client(way) as client:
                task_status.started(client)
                await trio.sleep_forever()
        finally:
            way.end()

    async with trio.open_nursery() as nursery:

        def open_client(way: Way) -> Any:
            return trio.from_thread.run(nursery.start, hold, way)

        await trio.to_thread.run_sync(obey, Worker(row, run, open_client, *options), orders, answers)
        nursery.cancel_scope.cancel()


def main(name: str, far_cpu: str = "") -> None:
    """Serve until the orders end."""
    profiler = profiler_if_asked()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a peer prints is no answer
    row = ROWS[name]
    split_from = int(far_cpu) if far_cpu else None
    if row.face == "trio":
        trio.run(in_trio, row, sys.stdin, answers, split_from, profiler)
    else:
        in_blocking_code(row, sys.stdin, answers, split_from, profiler)


if __name__ == "__main__":
    main(*sys.argv[1:])
