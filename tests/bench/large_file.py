"""`python -m tests.bench.large_file`: a file of 1 GiB up, down and from node to node through a relay: how fast, and what memory each process takes for it."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import rpyc_gateway as gw
from tests.bench.peers import ours
from tests.bench.processes import LOCALHOST, Way
from tests.bench.waiting import until

MiB = 1 << 20
WHERE = {
    "up": lambda far, source, target: gw.upload(far[0], source, target),
    "down": lambda far, source, target: gw.download(far[0], source, target),
    "between": lambda far, source, target: gw.transfer(far[0], source, far[1], target),
}


class Memory(NamedTuple):
    """What a process had in RAM, in bytes: before, and at most since then."""

    before: int
    most: int


class Taken(NamedTuple):
    """What a transfer took."""

    way: str
    seconds: float
    memory: dict[str, Memory]


class Watched:
    """Processes whose peak of memory is wanted, by their names."""

    def __init__(self, pids: dict[str, int]) -> None:
        self._pids = pids

    def during(self, work: Callable[[], object]) -> dict[str, Memory]:
        """What they take while this is done."""
        before = {name: self._begin(pid) for name, pid in self._pids.items()}
        work()
        return {name: Memory(before[name], _kept(pid, "VmHWM")) for name, pid in self._pids.items()}

    @staticmethod
    def _begin(pid: int) -> int:
        Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak begins anew
        return _kept(pid, "VmRSS")


def _kept(pid: int, what: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{what}:"))


@contextmanager
def open_far() -> Iterator[tuple[list[gw.BlockingSession], dict[str, int]]]:
    """Sessions with two nodes behind a relay, and the processes."""
    way = Way(ours.__name__, "threads")
    try:
        servers = [way.start("serve", "threads") for _ in range(2)]
        relays = [way.start("relay", f"relay{number}", url) for number, url in enumerate(servers)]
        pids = {"client": os.getpid()}
        pids |= dict(zip(("far", "far 2", "relay", "relay 2"), (p.pid for p in way.processes.values()), strict=True))
        for url in relays:
            assert url.startswith(f"tcp://{LOCALHOST}")
        with _connect(relays[0]) as first, _connect(relays[1]) as second:
            yield [first, second], pids
    finally:
        way.end()


def _connect(url: str) -> gw.BlockingSession:
    return until(lambda: gw.connect(url, node="server", name="client"), gw.Unreachable)


def measure(size: int, directory: Path) -> Iterator[Taken]:
    """A file of so many bytes each way. Raises AssertionError if it is not the same afterwards."""
    with open_far() as (sessions, pids):
        watched = Watched(pids)
        for way, copy in WHERE.items():
            source, target = directory / "source", directory / way
            with source.open("wb") as file:
                file.write(os.urandom(MiB))
                file.truncate(size)  # a disk that reads slowly is not what this is about
            took: list[float] = []

            def work(copy: Any = copy, source: Path = source, target: Path = target, took: list[float] = took) -> None:
                start = time.perf_counter()
                copy(sessions, str(source), str(target))
                took.append(time.perf_counter() - start)

            memory = watched.during(work)
            assert target.stat().st_size == size
            with source.open("rb") as left, target.open("rb") as right:
                assert left.read(2 * MiB) == right.read(2 * MiB)
            target.unlink()
            yield Taken(way, took[0], memory)


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.large_file", description=__doc__)
    parser.add_argument("--size", type=int, default=1024, metavar="MIB", help="default 1024")
    parser.add_argument("--directory", help="where the files are; on a disk, that is in the figures")
    options = parser.parse_args()
    print("| way | MiB/s | peak of memory, MiB (and more than before) |\n|---|---:|---|")
    with TemporaryDirectory(prefix="bench-", dir=options.directory) as directory:
        for way, seconds, memory in measure(options.size * MiB, Path(directory)):
            told = ", ".join(
                f"{name} {most / MiB:.0f} (+{(most - before) / MiB:.0f})"
                for name, (before, most) in memory.items()
                if way == "between" or not name.endswith(" 2")
            )
            print(f"| {way} | {options.size / seconds:.0f} | {told} |")


if __name__ == "__main__":
    main()
