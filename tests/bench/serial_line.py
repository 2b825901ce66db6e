"""`python -m tests.bench.serial_line`: two nodes joined by a serial line, and what they make of it. The line is a BadLine, so no hardware is needed.

Each figure is a share of what the line can carry, or a share of one CPU core: neighbours on the machine change them little. The line works in this
process and its CPU time is in none of the figures.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import trio

import rpyc_gateway as gw
from rpyc_gateway.config import Config, Dial, Listen, NodeSection, Serve
from rpyc_gateway.gateway import open_node
from rpyc_gateway.testing import BadLine
from tests.bench.processes import Way, cpu_seconds

BULK = 5.0  # seconds of line time that the bulk transfer is long
IDLE = 3.0  # seconds that nothing is done


@dataclass(frozen=True, slots=True)
class Line:
    """One kind of line, and what is wanted of it."""

    baudrate: int
    corrupt: float
    goodput: float  # the share of the line rate that should carry what users send


LINES = tuple(
    Line(baudrate, corrupt, goodput)
    for baudrate in (115_200, 921_600)
    for corrupt, goodput in ((0.0, 0.90), (0.001, 0.75), (0.01, 0.30))
)
WAIT = 0.040  # seconds that a small call may wait behind a bulk transfer, at 115200 baud
CPU = 0.10  # of a core, for each node, at 921600 baud
RESTING = 0.002  # of a core: nothing, but a ping each 15 s


@dataclass(frozen=True, slots=True)
class Found:
    """What one run came to. Seconds, and shares of one."""

    goodput: float
    small: float  # a small call on a line that is idle, in the median
    waited: float  # how much longer it took while the bulk was sent: the median,
    longest: float  # and the worst
    near_cpu: float  # of a core, while the bulk was sent
    far_cpu: float
    idle_cpu: float  # of both together


def main(arguments: list[str]) -> int:
    """Measure and report; 1 if something arrived wrong or a run failed (not if it is slow)."""
    options = _parser().parse_args(arguments)
    lines = [line for line in LINES if not options.baudrate or line.baudrate in options.baudrate]
    results: dict[Line, list[Found]] = {line: [] for line in lines}
    for number in range(options.rounds):
        for line in lines:
            found = measure(line, seed=number, bulk=options.bulk)
            results[line].append(found)
            if options.verbose:
                print(line, found, file=sys.stderr)
    for told in report(results):
        print(told)
    if options.json:
        rows = [asdict(line) | asdict(found) for line, all_found in results.items() for found in all_found]
        options.json.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return 0


def measure(line: Line, *, seed: int, bulk: float) -> Found:
    """Two nodes in processes of their own on a new line. Raises RuntimeError if one of them fails."""
    way = Way(__name__, "")
    with BadLine(line.baudrate, seed=seed, corrupt=line.corrupt) as cable, closing(_Ending(way)):
        near, far = (f"serial://{path}?baudrate={line.baudrate}" for path in (cable.near, cable.far))
        way.start("far_node", far)
        (far_process,) = way.processes.values()
        size = int(line.baudrate / 10 * bulk)
        return Found(
            **json.loads(way.start("near_node", near, str(size), str(line.baudrate / 10), str(far_process.pid)))
        )


class _Ending:
    def __init__(self, way: Way) -> None:
        self.close = way.end


def far_node(tell: Callable[[object], None], url: str) -> None:
    """The node that serves."""

    async def run() -> None:
        serve = (Serve(service="classic", allow=("*",)),)
        async with open_node(Config(node=NodeSection(name="far"), listen=(Listen(url=url),), serve=serve)):
            tell("ready")
            await trio.sleep_forever()

    trio.run(run)


def near_node(tell: Callable[[object], None], url: str, size: str, rate: str, far: str) -> None:
    """The node that dials, measures, and tells what it found."""
    tell(json.dumps(trio.run(_measure, url, int(size), float(rate), int(far))))


async def _measure(url: str, size: int, rate: float, far: int) -> dict[str, float]:
    async with open_node(Config(node=NodeSection(name="near"), dial=(Dial(url=url),))) as node:
        await node.wait_route("far")
        async with node.session("far") as session:
            small = await _small_calls(session, 20)
            idle, awake = _cpu(far), time.monotonic()
            await trio.sleep(IDLE)
            idle_cpu = (sum(_cpu(far)) - sum(idle)) / (time.monotonic() - awake)
            seconds, near_cpu, far_cpu = await _bulk(session, os.urandom(size), far)
            behind: list[float] = []
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_bulk, session, os.urandom(size), far)
                await trio.sleep(size / rate / 5)  # it is well under way
                with trio.move_on_after(size / rate / 2):
                    while True:
                        behind += await _small_calls(session, 1)
    usual = median(small)
    return asdict(
        Found(
            goodput=size / seconds / rate,
            small=usual,
            waited=median(behind) - usual,
            longest=max(behind) - usual,
            near_cpu=near_cpu / seconds,
            far_cpu=far_cpu / seconds,
            idle_cpu=idle_cpu,
        )
    )


async def _small_calls(session: gw.Session | Any, count: int) -> list[float]:
    took = []
    for _ in range(count):
        begun = time.monotonic()
        await session.builtins.len("small")
        took.append(time.monotonic() - begun)
        await trio.sleep(0.02)  # what is measured is how long one waits, not how many fit
    return took


async def _bulk(session: Any, data: bytes, far: int) -> tuple[float, float, float]:
    """Send it; the seconds that took, and the CPU seconds of this node and of the far one."""
    before, begun = _cpu(far), time.monotonic()
    digest = await session.modules.hashlib.sha256(data).hexdigest()
    seconds = time.monotonic() - begun
    near_cpu, far_cpu = (now - then for now, then in zip(_cpu(far), before, strict=True))
    if digest != hashlib.sha256(data).hexdigest():
        raise RuntimeError("something else arrived than was sent")
    return seconds, near_cpu, far_cpu


def _cpu(far: int) -> tuple[float, float]:
    return time.process_time(), cpu_seconds(far)


def report(results: dict[Line, list[Found]]) -> Iterator[str]:
    """A table, with what is wanted beside what was found."""
    yield "| baud | bytes corrupted | goodput | wanted | small call | behind bulk: + median, + worst | CPU near, far | CPU idle |"
    yield "|---|---|---|---|---|---|---|---|"
    for line, runs in results.items():
        found = _middle(runs)
        yield (
            f"| {line.baudrate} | {line.corrupt:.1%} | {found.goodput:.1%} | {line.goodput:.0%} | {found.small * 1e3:.1f} ms "
            f"| {found.waited * 1e3:.0f} ms, {found.longest * 1e3:.0f} ms | {found.near_cpu:.1%}, {found.far_cpu:.1%} | {found.idle_cpu:.2%} |"
        )
    yield ""
    for what, reached in judge({line: _middle(runs) for line, runs in results.items()}):
        yield f"- {what}: {'reached' if reached else 'MISSED'}"


def judge(found: dict[Line, Found]) -> Iterator[tuple[str, bool]]:
    """Each thing that is wanted, and whether it is so."""
    for line, of_line in found.items():
        name = f"{line.baudrate} baud, {line.corrupt:.1%} corrupted"
        yield f"{name}: goodput of {line.goodput:.0%}", of_line.goodput >= line.goodput
        if not line.corrupt and line.baudrate == 115_200:
            yield f"{name}: a small call waits {WAIT * 1e3:.0f} ms at most", of_line.longest <= WAIT
        if not line.corrupt and line.baudrate == 921_600:
            yield f"{name}: {CPU:.0%} of a core for each node", max(of_line.near_cpu, of_line.far_cpu) <= CPU
        yield f"{name}: nothing when idle", of_line.idle_cpu <= RESTING


def _middle(runs: Sequence[Found]) -> Found:
    return Found(*(median(values) for values in zip(*(asdict(run).values() for run in runs), strict=True)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.serial_line",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--baudrate", type=int, action="append", help="115200 or 921600 only")
    parser.add_argument("--rounds", type=int, default=3, help="default 3; each is another noise")
    parser.add_argument("--bulk", type=float, default=BULK, metavar="SECONDS", help="of line time; default 5")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every run, one object in a line")
    parser.add_argument("--verbose", action="store_true", help="tell of each run")
    return parser


if __name__ == "__main__":
    from tests.bench.serial_line import main as named_main  # the processes that it starts import it by that name

    sys.exit(named_main(sys.argv[1:]))
