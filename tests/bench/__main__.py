"""`python -m tests.bench`: how fast ours is, next to its peers and to what the machine allows.

`--quick` is for a look in between. `--profile WORKLOAD` shows where the time of one goes instead, on every side of it.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.bench import driver, report
from tests.bench.peers import ROWS, Row
from tests.bench.profiling import PROFILE
from tests.bench.workloads import WORKLOADS, Workload, chosen

PROFILE_SLOT = 1.0  # seconds


def main(arguments: list[str]) -> int:
    """Measure and report; 1 if a row failed (not if it is slow)."""
    options = _parser().parse_args(arguments)
    names = [options.profile] if options.profile else options.workloads
    wanted = _chosen_workloads(names)
    of_ours = [target.row for target in wanted[0].targets] if options.profile else []
    rows, left_out = _chosen_rows(options.only or of_ours)
    far_cpu = _pin(options.pin)
    for line in left_out:
        print(line)
    with TemporaryDirectory(prefix="bench-") as directory:
        if options.profile:
            return max((_profile(row, wanted[0], Path(directory), far_cpu) for row in rows), default=1)
        return _measure(options, rows, wanted, Path(directory), far_cpu)


def _measure(
    options: argparse.Namespace, rows: Sequence[Row], wanted: Sequence[Workload], directory: Path, far_cpu: int | None
) -> int:
    start = time.monotonic()
    rounds = options.rounds or (3 if options.quick else 7)
    slot = options.slot or (0.03 if options.quick else 0.08)
    measurements = []
    with driver.open_clients(rows, directory, far_cpu) as clients:
        for measurement in driver.run(clients, wanted, rounds=rounds, slot=slot):
            measurements.append(measurement)
            if measurement.error:
                print(f"FAILED: {measurement.row} in {measurement.workload}: {measurement.error}", file=sys.stderr)
            elif options.verbose and measurement.value is not None:
                print(f"{time.monotonic() - start:6.1f} s  {measurement}", file=sys.stderr)
    print(f"{', '.join(report.machine().values())}; {rounds} rounds in turns, slots of {slot * 1000:g} ms,", end=" ")
    print(f"pinned: {options.pin}; {time.monotonic() - start:.0f} s. Ratios are medians of those of each round.")
    print("CPU us are for each unit. *: smaller pieces than the workload says, for a peer that is too slow.\n")
    for line in report.tables(measurements, wanted, rows):
        print(line)
    if options.json:
        options.json.write_text("\n".join(report.json_lines(measurements, wanted)) + "\n")
    return 1 if any(measurement.error for measurement in measurements) else 0


def _profile(row: Row, workload: Workload, directory: Path, far_cpu: int | None) -> int:
    """Run one workload plainly, for what it costs, and watched, for where that goes."""
    answers = []
    for environment in ({}, {PROFILE: "1"}):
        with driver.open_clients([row], directory, far_cpu, environment) as [client]:
            answer = client.ask(workload=workload.name, slot=PROFILE_SLOT, profile=True)
        if "us" not in answer:
            problem = answer.get("error", "it cannot do that, or there is no time to profile")
            print(f"FAILED: {row.name} in {workload.name}: {problem}", file=sys.stderr)
            return 1
        answers.append(answer)
    print(f"\n# {workload.name}: {workload.what}\n# {row.name}: {row.what}\n")
    for line in report.profile(*answers):
        print(line)
    return 0


def _chosen_workloads(names: list[str]) -> Sequence[Workload]:
    try:
        return chosen(names)
    except KeyError as error:
        sys.exit(f"there is no workload {error}: {', '.join(workload.name for workload in WORKLOADS)}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [workload.name for workload in WORKLOADS]
    parser.add_argument("--only", type=_names, default=[], metavar="ROW,...", help=f"of {', '.join(ROWS)}")
    parser.add_argument(
        "--workloads",
        type=_names,
        default=[],
        metavar="NAME,...",
        help=f"of {', '.join(names)}; relay* is all that begin so",
    )
    parser.add_argument("--quick", action="store_true", help="three short rounds, for a look")
    parser.add_argument("--rounds", type=int, help="default 7")
    parser.add_argument("--slot", type=float, metavar="SECONDS", help="of each measurement; default 0.08")
    parser.add_argument(
        "--pin",
        choices=("same", "split", "none"),
        default="same",
        help="all processes on one CPU (default): wall time is then work; what is behind the clients on another; or wherever the kernel likes",
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write every slot and every target, one object in a line"
    )
    parser.add_argument(
        "--profile",
        metavar="WORKLOAD",
        help="show where its time goes, in the rows of ours that have a target, or those of --only",
    )
    parser.add_argument("--verbose", action="store_true", help="tell of each slot")
    return parser


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def _chosen_rows(names: list[str]) -> tuple[list[Row], list[str]]:
    """The rows that can run, and what to say of the others."""
    unknown = set(names) - set(ROWS)
    if unknown:
        sys.exit(f"there is no row {', '.join(sorted(unknown))}: {', '.join(ROWS)}")
    wanted = [row for row in ROWS.values() if not names or row.name in names]
    left_out = [
        f"Left out: {row.name}, for {', '.join(row.missing())} is not installed." for row in wanted if row.missing()
    ]
    return [row for row in wanted if not row.missing()], left_out


def _pin(how: str) -> int | None:
    """Pin this process and what it will start; the CPU that everything behind the clients is to be on, if that is another."""
    cpus = sorted(os.sched_getaffinity(0))
    if how == "none":
        return None
    os.sched_setaffinity(0, {cpus[0]})
    if how == "same":
        return None
    if len(cpus) < 2:
        sys.exit("--pin split needs two CPUs")
    return cpus[1]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
