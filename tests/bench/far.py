"""A process behind a client: python -m tests.bench.far MODULE ROLE ARGUMENT...

It calls the function ROLE of that module, which tells its address when it can be reached, and ends when its standard input does. Lines that
come there ask a watched process to begin, and to tell what it has seen.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from importlib import import_module

from tests.bench.profiling import Profiler, profiler_if_asked


def main(module: str, role: str, *arguments: str) -> None:
    """Run the role, for as long as whoever started this process lives."""
    threading.Thread(target=_obey, args=(profiler_if_asked(),), daemon=True).start()
    getattr(import_module(module), role)(_tell, *arguments)


def _tell(told: object) -> None:
    sys.stdout.write(f"{told}\n")
    sys.stdout.flush()


def _obey(profiler: Profiler | None) -> None:
    sys.setprofile(None)  # whoever tells what was seen is not to be seen
    for order in sys.stdin:
        assert profiler is not None
        if order == "begin\n":
            profiler.begin()
        _tell(json.dumps(profiler.seen()))
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
