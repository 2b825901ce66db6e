"""What is printed, and what is kept: tables in Markdown, and JSON lines of the same."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench.figures import Measurement, judge, ratio, values, work
from tests.bench.peers import Row
from tests.bench.workloads import Workload

__all__ = ["json_lines", "machine", "profile", "tables"]

BASES = ("rpyc", "raw", "raw-trio")
FUNCTIONS = 30  # of each process in a profile


def machine() -> dict[str, str]:
    """Where this was measured."""
    models = [
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    return {
        "cpu": f"{os.cpu_count()} x {models[0] if models else platform.machine()}",
        "kernel": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
    }


def tables(measurements: Sequence[Measurement], workloads: Sequence[Workload], rows: Sequence[Row]) -> Iterator[str]:
    """The lines of the report."""
    yield from _targets(measurements, workloads)
    yield ""
    yield from _medians(measurements, workloads, rows)
    yield ""
    yield from _figures(measurements, workloads, rows)


def _targets(measurements: Sequence[Measurement], workloads: Sequence[Workload]) -> Iterator[str]:
    yield "| workload | row | to | target | measured | rounds from .. to | by CPU time | reached |"
    yield "|---|---|---|---:|---:|---:|---:|---|"
    for workload in workloads:
        for target in workload.targets:
            found, reached = judge(measurements, workload, target)
            wanted = f"{target.least:g}x" if target.base else f"at most {target.most:g}"
            sign = "x" if target.base else f" {workload.unit}"
            measured = f"{_short(found.median)}{sign}" if found else "-"
            spread = f"{_short(found.lowest)} .. {_short(found.highest)}" if found else "-"
            working = ratio(*(work(measurements, workload.name, row) for row in (target.row, target.base)))
            by_work = f"{_short(working.median)}x" if working else ""
            verdict = "-" if found is None else "yes" if reached else "**no**"
            yield (
                f"| {workload.name} | {target.row} | {target.base} | {wanted} | {measured} | {spread} | {by_work} | {verdict} |"
            )


def _medians(measurements: Sequence[Measurement], workloads: Sequence[Workload], rows: Sequence[Row]) -> Iterator[str]:
    """All rows side by side; a dash is for what a peer cannot do."""
    yield f"| median | {' | '.join(row.name for row in rows)} | |"
    yield f"|---|{'---:|' * len(rows)}---|"
    for workload in workloads:
        cells = []
        for row in rows:
            found = values(measurements, workload.name, row.name)
            star = "*" if _shortened(measurements, workload, row.name) else ""
            nothing = "-" if row.takes_part(workload) else ""
            cells.append(f"{_short(median(found.values()))}{star}" if found else nothing)
        yield f"| {workload.name} | {' | '.join(cells)} | {workload.unit} |"


def _shortened(measurements: Sequence[Measurement], workload: Workload, row: str) -> bool:
    return any(slot.shortened for slot in measurements if (slot.workload, slot.row) == (workload.name, row))


def _figures(measurements: Sequence[Measurement], workloads: Sequence[Workload], rows: Sequence[Row]) -> Iterator[str]:
    """Every row of every workload, the fastest first."""
    yield "| workload | row | median | from .. to | CPU us, client + far | to rpyc | to raw | to raw-trio |"
    yield "|---|---|---:|---:|---:|---:|---:|---:|"
    for workload in workloads:
        able = {row.name: found for row in rows if (found := values(measurements, workload.name, row.name))}
        for row in sorted(able, key=lambda row: median(able[row].values()), reverse=workload.timed):
            slots = [slot for slot in measurements if (slot.workload, slot.row) == (workload.name, row) and slot.value]
            star = "*" if _shortened(measurements, workload, row) else ""
            near, far = (median(getattr(slot, name) for slot in slots) for name in ("near_us", "far_us"))
            ratios = [ratio(able[row], able.get(base, {})) if base != row else None for base in BASES]
            told = " | ".join(f"{_short(found.median)}x" if found else "" for found in ratios)
            found = able[row].values()
            yield (
                f"| {workload.name} | {row}{star} | {_short(median(found))} {workload.unit} | {_short(min(found))} .. {_short(max(found))} "
                f"| {f'{_short(near)} + {_short(far)}' if workload.timed else ''} | {told} |"
            )


def profile(plain: Mapping[str, Any], watched: Mapping[str, Any]) -> Iterator[str]:
    """What each process spends on one unit, and the functions that have the largest shares of it."""
    for name, us in plain["us"].items():
        yield f"{name}: {_short(us)} us of CPU time for each unit"
    for name, functions in watched["seen"].items():
        total = sum(own for _, _, own, _ in functions) or 1.0
        yield ""
        yield f"{name}, watched ({_short(watched['us'][name])} us)"
        yield f"{'calls':>9} {'own':>7} {'whole':>7}"
        for function, calls, own, whole in sorted(functions, key=lambda seen: seen[2], reverse=True)[:FUNCTIONS]:
            yield f"{_short(calls / watched['units']):>9} {own / total:7.1%} {whole / total:7.1%} {function}"


def json_lines(measurements: Sequence[Measurement], workloads: Sequence[Workload]) -> Iterator[str]:
    """The machine, every slot, and every target, one object in a line."""
    yield json.dumps({"machine": machine()})
    for slot in measurements:
        yield json.dumps({"slot": asdict(slot)})
    for workload in workloads:
        for target in workload.targets:
            found, reached = judge(measurements, workload, target)
            told = {"workload": workload.name} | asdict(target) | {"reached": reached}
            yield json.dumps({"target": told | ({"ratio": asdict(found)} if found else {})})


def _short(value: float) -> str:
    for limit, unit in ((1e6, "M"), (1e4, "k")):
        if value >= limit:
            return f"{value / (1e6 if unit == 'M' else 1e3):.3g}{unit}"
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"
