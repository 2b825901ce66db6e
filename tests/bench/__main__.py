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

from tests.bench import driver, report, workloads
from tests.bench.peers import ROWS, Row
from tests.bench.profiling import PROFILE

PROFILE_SLOT = 1.0  # seconds


def main(arguments: list[str]) -> int:
    """Measure and report; 1 if a row failed (not if it is slow)."""
    options = _parser().parse_args(arguments)
    wanted = _chosen_workloads(options.workloads)
    far_cpu = _pin(options.pin)
    if options.profile:
        return _profile(options.profile, options.only or ["ours"], far_cpu)
    rows, left_out = _chosen_rows(options.only)
    rounds = options.rounds or (3 if options.quick else 7)
    slot = options.slot or (0.03 if options.quick else 0.08)
    start = time.monotonic()
    measurements = []
    with TemporaryDirectory(prefix="bench-") as directory:
        with driver.open_clients(rows, Path(directory), far_cpu) as clients:
            for measurement in driver.run(clients, wanted, rounds=rounds, slot=slot):
                measurements.append(measurement)
                if measurement.error:
                    print(f"FAILED: {measurement.row} in {measurement.workload}: {measurement.error}", file=sys.stderr)
                elif options.verbose and measurement.value is not None:
                    print(f"{time.monotonic() - start:6.1f} s  {measurement}", file=sys.stderr)
    told = ", ".join(report.machine().values())
    print(
        f"{told}; {rounds} rounds in turns, slots of {slot * 1000:.0f} ms, pinned: {options.pin}; {time.monotonic() - start:.0f} s."
    )
    print(
        "Ratios are medians of those of each round. CPU us are for each unit. *: pieces smaller than the workload says, at the same rate."
    )
    for line in left_out:
        print(line)
    print()
    for line in report.tables(measurements, wanted, rows):
        print(line)
    if options.json:
        options.json.write_text("\n".join(report.json_lines(measurements, wanted)) + "\n")
    return 1 if any(measurement.error for measurement in measurements) else 0


def _profile(name: str, names: list[str], far_cpu: int | None) -> int:
    """Run one workload plainly, for what it costs, and watched, for where that goes."""
    [workload] = _chosen_workloads([name])
    rows, left_out = _chosen_rows(names)
    for line in left_out:
        print(line)
    failed = 0
    for row in rows:
        answers = []
        for environment in ({}, {PROFILE: "1"}):
            with TemporaryDirectory(prefix="bench-") as directory:
                with driver.open_clients([row], Path(directory), far_cpu, environment) as [client]:
                    answers.append(client.ask(workload=name, slot=PROFILE_SLOT, profile=True))
                    if "us" not in answers[-1]:
                        print(
                            f"FAILED: {row.name} in {name}: {answers[-1].get('error', 'it cannot do that')}",
                            file=sys.stderr,
                        )
        if all("us" in answer for answer in answers):
            print(f"# {name}, {row.name}: {workload.what}; {row.what}\n")
            for line in report.profile(*answers):
                print(line)
        else:
            failed = 1
    return failed


def _chosen_workloads(names: list[str]) -> Sequence[workloads.Workload]:
    try:
        return workloads.chosen(names)
    except KeyError as error:
        sys.exit(f"there is no workload {error}: {', '.join(workload.name for workload in workloads.WORKLOADS)}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [workload.name for workload in workloads.WORKLOADS]
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
    parser.add_argument("--profile", metavar="WORKLOAD", help="show where its time goes, in ours or the rows of --only")
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
