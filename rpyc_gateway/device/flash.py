"""The agent as a file for the flash of a board."""

from __future__ import annotations

from rpyc_gateway.device.driver import BUFFER, DELAY, ESCAPES, PIECE, SHORT, SMALL, SMALL_PART
from rpyc_gateway.device.installed import MODULE, version
from rpyc_gateway.device.source import agent, parts
from rpyc_gateway.proto.lineframes import NONCE, Greeting

__all__ = ["BEGIN", "agent_file"]

BEGIN = f"import {MODULE}\n{MODULE}.begin()\n"
"""What starts it, in main.py."""


def agent_file(*, binary: bool, printer: bool, free: int) -> bytes:
    """The content of gwagent.py, for a board whose sys has print_exception or not, whose stdin has a buffer or which has usb_cdc, with so many free bytes of heap."""
    sections = ("console" if binary else "usb", "micropython" if printer else "others", "core", "callbacks")
    piece = SHORT if free < SMALL else PIECE
    hello = Greeting(nonce=bytes(NONCE), mtu=piece, window=8, buffer=BUFFER, delay=DELAY, escapes=ESCAPES).encode()
    about = f"VERSION={version(sections)!r}\nGREETING={hello[3 + 2 * NONCE :]!r}\nPIECE={piece}\n"
    # In parts, each compiled alone: a small heap has no room for all of it.
    source = parts(agent(*sections, "installed") + about, SMALL_PART)
    return "".join(f"exec({part!r})\n" for part in source).encode()
