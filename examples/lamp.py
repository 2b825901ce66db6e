"""A program of yours as a node: what `@gw.expose` marks is what others reach, until Ctrl-C.

python examples/lamp.py unix:///tmp/lamp.sock

    import rpyc_gateway as gw
    with gw.connect("unix:///tmp/lamp.sock", service="lamp") as conn:
        print(conn.root.switch("on"))
"""

from __future__ import annotations

import sys

import rpyc_gateway as gw


class Lamp(gw.Service):
    """One lamp for all who connect."""

    def __init__(self) -> None:
        self._state = "off"  # nobody else sees it

    @gw.expose
    def switch(self, state: str) -> str:
        """Switch it, and say what it was."""
        self._state, before = state, self._state
        return f"it was {before}, it is {state}"


if __name__ == "__main__":
    gw.serve(Lamp(), sys.argv[1])  # Lamp instead of Lamp(): a lamp for each session
