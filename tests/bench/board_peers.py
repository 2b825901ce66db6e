"""`python -m tests.bench.board_peers`: a board driven by ours, mpremote and belay, in turns. It is MicroPython's unix port; the line is a BadLine.

Each has a board and a line of its own, the line in a process of its own. A ratio is that of one round. mpremote polls each 10 ms, but not at paths in
/dev/pts/; by a symbolic link to the same pty it does what it does at a real port: that is `mpremote-tty`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

import trio

from rpyc_gateway.cli.onboard.files import get as get_file
from rpyc_gateway.cli.onboard.files import put as put_file
from rpyc_gateway.cli.onboard.interpreters import AtPort
from rpyc_gateway.device.driver import open_board
from tests.bench.figures import Measurement, ratio, rotated, values
from tests.device.boards import board_on, pipe_to

PROGRAM = """
def same(x): return x
def down(): return payload
def up(x): return len(x)
class A:
 def m(self): return 2
a = A()
payload = bytes(range(256)) * 8
"""
PAYLOAD = bytes(range(256)) * 8
FILE = "bench.bin"
WARM = 3  # units before what is measured
LINE = """
import sys
from rpyc_gateway.testing import BadLine
with BadLine(float(sys.argv[1])) as line:
    print(line.near, line.far, flush=True)
    sys.stdin.read()
"""

UNPACED = math.inf
BAUD = (115_200.0, 921_600.0, UNPACED)
MPREMOTE = ("mpremote", "mpremote-tty")

# At least how much faster than a peer, at each of BAUD; 0: nothing is wanted.
TARGETS = {
    ("call", "belay"): (2.5, 3, 5),
    ("method", "belay"): (5, 5, 5),
    ("call", "mpremote"): (1, 1, 0),
    ("call", "mpremote-tty"): (3, 3, 3),
    ("up", "belay"): (2, 2, 2),
    ("down", "belay"): (2, 2, 2),
    **{(workload, peer): (2, 2, 2) for workload in ("put", "get") for peer in MPREMOTE},
}

Actions: TypeAlias = dict[str, Callable[[], Awaitable[Any]]]


@contextmanager
def line_of(baudrate: float) -> Iterator[tuple[str, str]]:
    command = [sys.executable, "-c", LINE, str(baudrate)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        near, far = process.stdout.readline().split()
        try:
            yield near, far
        finally:
            process.stdin.close()


@asynccontextmanager
async def ours(port: str, baudrate: float, directory: Path) -> AsyncIterator[Actions]:
    async with pipe_to(port, rate=baudrate / 10) as pipe, open_board(pipe) as board:
        await board.execute(PROGRAM)
        same, method, up, down = [await board.evaluate(name) for name in ("same", "a.m", "up", "down")]
        there = AtPort("the board", board, shows=True)
        sent, got, remote = directory / "sent", directory / "got", str(directory / FILE)
        sent.write_bytes(PAYLOAD)

        async def get() -> int:
            await get_file(there, remote, got, nothing)
            return len(got.read_bytes())

        async def put() -> None:
            await put_file(there, sent, remote, nothing)

        yield {
            "call": lambda: board.call(same, 5),
            "method": lambda: board.call(method),
            "up": lambda: board.call(up, PAYLOAD),
            "down": lambda: board.call(down),
            "put": put,
            "get": get,
        }


def nothing(_done: int, _all: int) -> None:
    pass


@asynccontextmanager
async def mpremote(port: str, _baudrate: float, directory: Path) -> AsyncIterator[Actions]:
    from mpremote.transport_serial import SerialTransport

    there = SerialTransport(port)
    try:
        there.enter_raw_repl(soft_reset=False)
        there.exec(PROGRAM)
        remote = str(directory / FILE)
        yield {
            "call": blocking(lambda: there.eval("same(5)")),
            "method": blocking(lambda: there.eval("a.m()")),
            "put": blocking(lambda: there.fs_writefile(remote, PAYLOAD)),
            "get": blocking(lambda: there.fs_readfile(remote)),
        }
        there.exit_raw_repl()
    finally:
        there.close()


@asynccontextmanager
async def mpremote_pty(port: str, baudrate: float, directory: Path) -> AsyncIterator[Actions]:
    async with mpremote(os.path.realpath(port), baudrate, directory) as actions:  # noqa: ASYNC240 - a BadLine gives links
        yield actions


@asynccontextmanager
async def mpremote_tty(port: str, baudrate: float, directory: Path) -> AsyncIterator[Actions]:
    link = directory / "ttyBOARD"
    os.symlink(port, link)
    async with mpremote(str(link), baudrate, directory) as actions:
        yield actions


@asynccontextmanager
async def belay(port: str, _baudrate: float, _directory: Path) -> AsyncIterator[Actions]:
    import belay
    from belay.pyboard import Pyboard

    class Kept(Pyboard):
        def enter_raw_repl(self, soft_reset: bool = True) -> None:  # noqa: FBT001, FBT002 - as it is there
            """The board of the tests does not stay in its raw REPL when it is reset."""
            super().enter_raw_repl(soft_reset=False)

    belay.device.Pyboard = Kept
    device = belay.Device(port, startup="")
    try:
        device(PROGRAM)

        @device.task
        def same(x):
            return x

        @device.task
        def up(x):
            return len(x)

        @device.task
        def down():
            return payload  # noqa: F821

        a = device.proxy("a")
        yield {
            "call": blocking(lambda: same(5)),
            "method": blocking(lambda: a.m()),
            "up": blocking(lambda: up(PAYLOAD)),
            "down": blocking(lambda: down()),
        }
    finally:
        device.close()


def blocking(action: Callable[[], Any]) -> Callable[[], Awaitable[Any]]:
    """As the others are; nothing else is measured meanwhile."""

    async def act() -> Any:
        return action()

    return act


ROWS = {"ours": ours, "mpremote": mpremote_pty, "mpremote-tty": mpremote_tty, "belay": belay}
CHECKS = {"call": 5, "method": 2, "up": len(PAYLOAD)}


async def slot(action: Callable[[], Awaitable[Any]], seconds: float) -> float:
    """How often that can be done in a second."""
    count = 0
    start = now = time.perf_counter()
    while not count or now - start < seconds:
        await action()
        count += 1
        now = time.perf_counter()
    return count / (now - start)


async def measure(baudrate: float, rounds: int, seconds: float) -> list[Measurement]:
    found = []
    async with AsyncExitStack() as stack:
        rows: dict[str, Actions] = {}
        for name, row in ROWS.items():
            if find_spec(name.partition("-")[0]) is None and name != "ours":
                continue
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            near, far = stack.enter_context(line_of(baudrate))
            stack.enter_context(board_on(far))
            await trio.sleep(0.5)  # until its interpreter has begun
            rows[name] = await stack.enter_async_context(row(near, baudrate, directory))
        for name, actions in rows.items():
            for workload, action in actions.items():
                for _ in range(WARM):
                    told = await action()
                if told != CHECKS.get(workload, told):
                    raise AssertionError(f"{name}: {workload} gave {told!r}")
        for number in range(rounds):
            for workload in rows["ours"]:
                for name in rotated([name for name in rows if workload in rows[name]], number):
                    value = await slot(rows[name][workload], seconds)
                    found.append(Measurement(number, workload, name, value))
    return found


def report(baudrate: float, found: list[Measurement]) -> Iterator[str]:
    """The lines of the table for this line."""
    for (workload, peer), wanted in TARGETS.items():
        ours, theirs = values(found, workload, "ours"), values(found, workload, peer)
        least = wanted[BAUD.index(baudrate)]
        compared = ratio(ours, theirs)
        if compared is None:
            continue
        reached = "" if not least else "yes" if compared.median >= least else "**no**"
        line = "unpaced" if baudrate == UNPACED else f"{baudrate:.0f}"
        rates = [sorted(one.values())[len(one) // 2] for one in (ours, theirs)]
        yield (
            f"| {line} | {workload} | {peer} | {f'{least:g}x' if least else ''} | {compared.median:.3g}x | {compared.lowest:.3g} .. {compared.highest:.3g}"
            f" | {rates[0]:.4g}/s | {rates[1]:.4g}/s | {reached} |"
        )


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.board_peers", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="two short rounds, which show that it runs: about a minute"
    )
    parser.add_argument("--json", type=Path, help="each slot as a line of JSON, to this file")
    options = parser.parse_args(arguments)
    print("| baud | workload | peer | wanted | ratio | of the rounds | ours | peer | reached |")
    print("|---|---|---|---:|---:|---|---:|---:|---|")
    for baudrate in BAUD:
        found = trio.run(measure, baudrate, *((2, 0.05) if options.quick else (5, 0.25)))
        for line in report(baudrate, found):
            print(line, flush=True)
        if options.json:
            with options.json.open("a", encoding="utf-8") as file:
                for one in found:
                    file.write(
                        json.dumps({"baudrate": "unpaced" if baudrate == UNPACED else baudrate, **asdict(one)}) + "\n"
                    )


if __name__ == "__main__":
    main(sys.argv[1:])
