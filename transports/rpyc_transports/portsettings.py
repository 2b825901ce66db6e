"""How a serial port is set up, and the options of a URL that say so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import serial

from rpyc_transports import urls

__all__ = ["LINE_OPTIONS", "Settings", "level"]


@dataclass(frozen=True, slots=True)
class Settings:
    """The defaults are those of nearly every board.

    DTR and RTS are on: without DTR many USB boards say nothing, and those that have their reset line between the two are reset by
    one without the other.
    """

    baudrate: int = 115_200
    bytesize: int = 8
    parity: str = "N"
    stopbits: float = 1
    xonxoff: bool = False
    rtscts: bool = False
    dsrdtr: bool = False
    dtr: str = "on"  # on, off, keep
    rts: str = "on"
    exclusive: bool = True
    low_latency: bool = True

    def rate(self, baudrate: int = 0) -> float:
        """Bytes per second; at another baud rate than its own if one is given."""
        start_bit = 1
        bits = start_bit + self.bytesize + (self.parity != "N") + self.stopbits
        return (baudrate or self.baudrate) / bits

    def configure(self, port: serial.SerialBase) -> None:
        """Tell a port that is not open yet."""
        port.baudrate = self.baudrate
        port.bytesize = self.bytesize
        port.parity = self.parity
        port.stopbits = self.stopbits
        port.xonxoff = self.xonxoff
        port.rtscts = self.rtscts
        port.dsrdtr = self.dsrdtr


def baudrate(given: str) -> int:
    rate = urls.number(given)
    if not 0 < rate < 1 << 31:
        raise ValueError(f"is {given}, which is no baud rate")
    return rate


def bytesize(given: str) -> int:
    if given != "8":
        raise ValueError(f"is {given!r}, but a link needs whole bytes: 8")
    return 8


def parity(given: str) -> str:
    """By its first letter: none, even, odd, mark, space."""
    letter = given[:1].upper()
    if given.lower() not in {"n", "e", "o", "m", "s", "none", "even", "odd", "mark", "space"}:
        raise ValueError(f"is {given!r}: say N, E, O, M or S")
    return letter


def stopbits(given: str) -> float:
    try:
        return {"1": 1, "1.5": 1.5, "2": 2}[given]
    except KeyError:
        raise ValueError(f"is {given!r}: say 1, 1.5 or 2") from None


def level(*known: str) -> Callable[[str], str]:
    """One of these words."""

    def read(given: str) -> str:
        if given not in known:
            raise ValueError(f"is {given!r}: say {', '.join(known[:-1])} or {known[-1]}")
        return given

    return read


LINE_OPTIONS: Mapping[str, urls.Reader] = {
    "baudrate": baudrate,
    "bytesize": bytesize,
    "parity": parity,
    "stopbits": stopbits,
    "xonxoff": urls.flag,
    "rtscts": urls.flag,
    "dsrdtr": urls.flag,
    "fastest": urls.number,
}
"""What any port can be told. `fastest` is the highest baud rate that the two ends may agree on; 0 keeps the one it begins with."""
