"""What is measured, and what the figures of ours should be: the one place where both are written.

A workload names the method of a client that does so many units of work and checks what came of it. A client without that method cannot do
it, which is a dash in the report.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["WORKLOADS", "Target", "Workload", "chosen"]

MiB = 1 << 20


@dataclass(frozen=True, slots=True)
class Target:
    """`row` shall be at least so many times as fast as `base`; without a base its value shall be `most` at most."""

    row: str
    base: str = ""
    least: float = 0.0
    most: float = 0.0


@dataclass(frozen=True, slots=True)
class Workload:
    """One line of the table.

    `full` is the size of one piece of work (items, bytes); a row that is too slow for it gets a smaller one, and a star. Without it a
    piece is as large as a slot takes. Sizes are multiples of `step`.
    """

    name: str
    what: str
    method: str
    unit: str
    targets: tuple[Target, ...] = ()
    face: Literal["blocking", "trio"] | None = None  # of the rows that take part; None for both
    relays: int = 0
    delay: float = 0.0  # seconds that each way takes longer
    full: int | None = None
    least: int = 1  # no piece is smaller
    step: int = 1
    rounds: int | None = None  # fewer than the run's
    per: int = 1  # what a figure is given in: bytes by the MiB
    timed: bool = True  # False: the method returns the figure


WORKLOADS = (
    Workload(
        "call",
        "one small call after another, blocking face",
        "call",
        "calls/s",
        (Target("ours", "rpyc", 2.0), Target("ours-inline", "rpyc", 3.0)),
        face="blocking",
    ),
    Workload(
        "trio_call",
        "one small call after another, trio face",
        "call",
        "calls/s",
        (Target("ours-trio", "raw-trio", 0.35), Target("ours-trio-inline", "raw-trio", 0.7)),
        face="trio",
    ),
    Workload(
        "inflight100",
        "small calls, 100 kept in flight",
        "inflight",
        "calls/s",
        (Target("ours-trio", "rpyc", 15),),
        full=5_000,  # RPyC's last answers come 40 ms late, however many there are
        least=5_000,
    ),
    Workload(
        "burst100",
        "100 small calls at once, all awaited, again and again",
        "burst",
        "calls/s",
        (Target("ours-trio", "rpyc", 15),),
        step=100,
    ),
    Workload(
        "threads8",
        "small calls of 8 threads on one connection",
        "threads",
        "calls/s",
        (Target("ours", "rpyc", 10),),
        step=8,
    ),
    Workload(
        "chain",
        'modules.os.path.join("a", "b")',
        "chain",
        "chains/s",
        (Target("ours-trio", "rpyc", 6), Target("ours", "rpyc", 3)),
    ),
    Workload(
        "rtt20.chain",
        "the same at 20 ms round trip",
        "chain",
        "chains/s",
        (Target("ours-trio", "rpyc", 5.5),),
        delay=0.010,
        rounds=3,
    ),
    Workload(
        "iter_list",
        "iterate a remote list of 10,000",
        "iterate_list",
        "items/s",
        (Target("ours", "rpyc", 100), Target("ours-trio", "rpyc", 100)),
        full=10_000,
        least=1_000,
    ),
    Workload(
        "iter_gen",
        "iterate a remote generator of 10,000, in batches where that is offered",
        "iterate_generator",
        "items/s",
        (
            Target("ours", "rpyc", 100),
            Target("ours", "execnet", 5),
            Target("ours-trio", "rpyc", 100),
            Target("ours-trio", "execnet", 5),
        ),
        full=10_000,
        least=1_000,
    ),
    Workload(
        "send64m",
        "64 MiB of random bytes in one call",
        "send",
        "MiB/s",
        (Target("ours", "rpyc", 30), Target("ours-trio", "rpyc", 30), Target("ours-trio", "raw-trio", 0.9)),
        full=64 * MiB,
        least=8 * MiB,
        per=MiB,
    ),
    Workload(
        "upload64m",
        "a file of 64 MiB to the far side",
        "upload",
        "MiB/s",
        (Target("ours", "rpyc", 30), Target("ours-trio", "rpyc", 30)),
        full=64 * MiB,
        least=MiB // 2,
        per=MiB,
    ),
    Workload(
        "download64m",
        "a file of 64 MiB from the far side",
        "download",
        "MiB/s",
        (Target("ours", "rpyc", 30), Target("ours-trio", "rpyc", 30)),
        full=64 * MiB,
        least=MiB // 2,
        per=MiB,
    ),
    Workload(
        "upload500",
        "a directory of 500 files of 2,000 bytes to the far side",
        "upload_many",
        "files/s",
        (Target("ours", "rpyc", 5), Target("ours-trio", "rpyc", 5)),
        full=500,
        least=50,
    ),
    Workload(
        "download500",
        "a directory of 500 files of 2,000 bytes from the far side",
        "download_many",
        "files/s",
        (Target("ours", "rpyc", 5), Target("ours-trio", "rpyc", 5)),
        full=500,
        least=50,
    ),
    Workload(
        "callback",
        "the far side calls a function of a blocking client",
        "callback",
        "callbacks/s",
        (Target("ours", "rpyc", 3),),
    ),
    Workload(
        "proxies",
        "10,000 proxies made and dropped",
        "proxies",
        "proxies/s",
        (Target("ours", "rpyc", 8),),
        full=10_000,
        least=1_000,
    ),
    Workload(
        "proxies.bytes",
        "memory of the client for each proxy",
        "proxy_bytes",
        "bytes",
        (Target("ours", most=300),),
        full=2_000,
        rounds=1,
        timed=False,
    ),
    Workload(
        "relay1.call",
        "one small call after another through 1 relay, blocking",
        "call",
        "calls/s",
        (Target("ours", "rpyc", 2.5),),
        face="blocking",
        relays=1,
    ),
    Workload(
        "relay3.call",
        "one small call after another through 3 relays, blocking",
        "call",
        "calls/s",
        (Target("ours", "rpyc", 3),),
        face="blocking",
        relays=3,
    ),
    Workload(
        "relay3.send64m",
        "64 MiB of random bytes in one call through 3 relays",
        "send",
        "MiB/s",
        (Target("ours", "rpyc", 60), Target("ours-trio", "rpyc", 60), Target("ours-trio", "raw-trio", 1.0)),
        relays=3,
        full=64 * MiB,
        least=2 * MiB,
        per=MiB,
    ),
    Workload(
        "connect",
        "a connection made and its first call",
        "connect",
        "connections/s",
        (Target("ours", "rpyc", 2.5),),
        full=100,
        least=5,
    ),
)


def chosen(names: list[str]) -> tuple[Workload, ...]:
    """The workloads of these names, where `relay*` is all that begin so; all of them without names. Raises KeyError for an unknown one."""
    if not names:
        return WORKLOADS
    for name in names:
        if not any(_matches(workload, name) for workload in WORKLOADS):
            raise KeyError(name)
    return tuple(workload for workload in WORKLOADS if any(_matches(workload, name) for name in names))


def _matches(workload: Workload, name: str) -> bool:
    return workload.name.startswith(name[:-1]) if name.endswith("*") else workload.name == name
