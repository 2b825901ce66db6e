"""A process behind a client: python -m tests.bench.far MODULE ROLE ARGUMENT...

It calls the function ROLE of that module, which tells its address when it can be reached, and ends when its standard input does.
"""

from __future__ import annotations

import os
import sys
import threading
from importlib import import_module


def main(module: str, role: str, *arguments: str) -> None:
    """Run the role, for as long as whoever started this process lives."""
    threading.Thread(target=_obey, daemon=True).start()
    getattr(import_module(module), role)(_tell, *arguments)


def _tell(address: object) -> None:
    sys.stdout.write(f"{address}\n")
    sys.stdout.flush()


def _obey() -> None:
    for _line in sys.stdin:
        pass
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
