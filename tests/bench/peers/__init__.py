"""The rows of the report: ours in its two faces and two ways of serving, the peers, and what the machine allows.

A row's module has `open_client(way)`, a context manager (an async one for the trio face) that gives an object with the methods of
workloads.py, and the functions that Way.start runs in processes of their own.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

from tests.bench.workloads import Workload

__all__ = ["ROWS", "Row"]


@dataclass(frozen=True, slots=True)
class Row:
    """One competitor. `needs` are modules and programs without which it is left out; `only` are the workloads in which it takes part."""

    name: str
    what: str
    module: str
    face: Literal["blocking", "trio"]
    variant: str = ""
    needs: tuple[str, ...] = ()
    only: tuple[str, ...] = ()

    def takes_part(self, workload: Workload) -> bool:
        """Whether it is to be asked for this at all; it may still be unable."""
        return workload.face in (None, self.face) and (not self.only or workload.name in self.only)

    def missing(self) -> list[str]:
        """What it needs and is not installed."""
        return [name for name in self.needs if find_spec(name) is None and shutil.which(name) is None]


ROWS = {
    row.name: row
    for row in (
        Row("ours", "blocking face, served in worker threads", "ours", "blocking", "threads"),
        Row("ours-inline", "blocking face, served inline", "ours", "blocking", "trio", only=("call",)),
        Row("ours-trio", "trio face, served in worker threads", "ours_trio", "trio", "threads"),
        Row("ours-trio-inline", "trio face, served inline", "ours_trio", "trio", "trio", only=("trio_call",)),
        Row("rpyc", "classic, its threaded server", "rpyc_classic", "blocking", needs=("rpyc",)),
        Row("pyro5", "its own serializer", "pyro", "blocking", needs=("Pyro5",)),
        Row("execnet", "channels to a child behind a pipe", "execnet_channels", "blocking", needs=("execnet",)),
        Row("mitogen", "a local child", "mitogen_calls", "blocking", needs=("mitogen",)),
        Row("raw", "limit: a blocking socket, relayed by socat", "raw_socket", "blocking", needs=("socat",)),
        Row("raw-trio", "limit: a trio stream, relayed by trio", "raw_trio", "trio"),
    )
}
