"""The chain of the demo as a fixture's worth: three real processes, found and ended."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from rpyc_gateway.cli.demo import Hq, connect_when_up, running_chain


@contextmanager
def chain() -> Iterator[Hq]:
    """hq, relay and lab, ready for use."""
    with TemporaryDirectory(prefix="gw-") as directory, running_chain(Path(directory)) as hq:
        connect_when_up(hq).close()
        yield hq


def processes_with(mark: str) -> list[int]:
    """The processes that have this text in the environment they were started with."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                environment = (entry / "environ").read_bytes()
            except OSError:  # it has just ended
                continue
            if mark.encode() in environment:
                found.append(int(entry.name))
    return found
