"""One search: `python -m tests.fuzz.search TARGET FLAGS...`, in a process that ends with it. atheris must see the modules when they are imported."""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["rpyc_gateway", "rpyc_transports"]):
    from rpyc_gateway.transport import find_transport
    from tests.fuzz.targets import SCHEMES, TARGETS

    for scheme in SCHEMES:
        find_transport(f"{scheme}:")  # imported by this

if __name__ == "__main__":
    atheris.Setup([sys.argv[0], *sys.argv[2:]], TARGETS[sys.argv[1]])
    atheris.Fuzz()
