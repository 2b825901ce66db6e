"""Work split over several nodes: how many primes there are, each node counting a part as soon as it is free.

python examples/split_work.py                                           # two nodes that it starts itself
python examples/split_work.py unix:///tmp/rpyc-gw-hq.sock lab-1 lab-2   # nodes behind a gateway
"""

from __future__ import annotations

import os
import platform
import sys
from collections import Counter

import rpyc_gateway as gw

HERE = f"stdio:{sys.executable} -m rpyc_gateway stdio --serve classic --name"
LIMIT, STEP = 30_000, 1_000


def primes(start: int) -> tuple[str, int]:
    """Who has counted, and how many there are from `start` on: it runs on a node, which gets it and STEP once."""
    numbers = range(max(start, 2), start + STEP)
    count = sum(all(n % d for d in range(2, int(n**0.5) + 1)) for n in numbers)
    return f"{platform.node()}, process {os.getpid()}", count


def main(*args: str) -> None:
    nodes = [(args[0], node) for node in args[1:]] or [(f"{HERE} {name}", name) for name in ("anne", "bert")]
    found: Counter[str] = Counter()
    with gw.Executor(nodes) as pool:
        for who, count in pool.map(primes, range(0, LIMIT, STEP)):
            found[who] += count
    for who, count in found.items():
        print(f"{who} has found {count}")
    print(f"There are {found.total()} primes below {LIMIT}.")


if __name__ == "__main__":
    main(*sys.argv[1:])
