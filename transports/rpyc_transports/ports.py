"""What serial ports are plugged in, and which one is meant by an id that stays the same wherever it is plugged in."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from serial.tools import list_ports

from rpyc_gateway.transport import Place

__all__ = ["Port", "choose", "holder", "listing", "plugged_in", "twin"]


class Port(NamedTuple):
    """One that is plugged in. Of a port that is not USB only the path is known."""

    path: str
    vid: str = ""  # four hexadecimal digits, as on the box
    pid: str = ""
    serial: str = ""
    location: str = ""  # the USB socket it is in: "1-1.4"
    product: str = ""

    def __str__(self) -> str:
        usb = f"{self.vid}:{self.pid}" if self.vid else ""
        number = f"serial number {self.serial}" if self.serial else ""
        about = ", ".join(filter(None, (usb, self.product, number)))
        return f"{self.path} ({about})" if about else self.path

    def matches(self, ids: Mapping[str, str]) -> bool:
        """Whether it has all these ids, by the names of its fields; hexadecimal digits in either case."""
        return all(getattr(self, name).casefold() == wanted.casefold() for name, wanted in ids.items())

    def place(self, others: Sequence[Port]) -> Place:
        """What to write to dial it: by what tells it from the others and stays with the device, or by its path."""
        return Place(self._url(others), self.path, self.about)

    @property
    def about(self) -> dict[str, str]:
        """What is known of its device."""
        return {name: known for name, known in self._asdict().items() if known and name != "path"}

    def _url(self, others: Sequence[Port]) -> str:
        for ids in ({"serial": self.serial}, {"vid": self.vid, "pid": self.pid}):
            if all(ids.values()) and not any(other.matches(ids) for other in others if other != self):
                return "serial://?" + "&".join(f"{name}={quote(known, safe='')}" for name, known in ids.items())
        return f"serial://{quote(self.path, safe='/:')}"


def plugged_in() -> list[Port]:
    """All of them, in the order of their names. It reads files of the system: some milliseconds."""
    return [
        Port(
            found.device,
            vid=_usb_id(found.vid),
            pid=_usb_id(found.pid),
            serial=found.serial_number or "",
            location=found.location or "",
            product=found.product or "",
        )
        for found in sorted(list_ports.comports())
    ]


def _usb_id(number: int | None) -> str:
    return "" if number is None else f"{number:04X}"


def choose(ids: Mapping[str, str], ports: Sequence[Port]) -> Port:
    """The one port with these ids. Raises LookupError, saying what is plugged in, if there is none or more than one."""
    fitting = [port for port in ports if port.matches(ids)]
    if len(fitting) == 1:
        return fitting[0]
    wanted = " and ".join(f"{name} {value}" for name, value in ids.items())
    if not fitting:
        raise LookupError(f"no port has {wanted}; {listing(ports)}")
    several = "; ".join(map(str, fitting))
    raise LookupError(f"{len(fitting)} ports have {wanted}: {several}; add serial= or location=, or give a path")


def twin(port: Port, ports: Sequence[Port]) -> Port | None:
    """The same device where it is plugged in now. None if it is not, or if nothing tells it from others of its kind."""
    if not port.serial:
        return None
    ids = {"vid": port.vid, "pid": port.pid, "serial": port.serial}
    fitting = [other for other in ports if other.matches(ids)]
    if len(fitting) == 1:
        return fitting[0]
    # One device can have several ports; then it has to be in the same place.
    return next((other for other in fitting if other.path == port.path), None)


def listing(ports: Sequence[Port]) -> str:
    """What is plugged in, for an error."""
    return f"plugged in: {'; '.join(map(str, ports))}" if ports else "no serial port is plugged in"


def holder(path: str) -> str:
    """Who has a port locked, as far as this system tells: "`python3 app.py` (pid 812)", or "another program"."""
    try:
        place = os.stat(path)
        locks = Path("/proc/locks").read_text()
    except OSError:
        return "another program"
    where = f"{os.major(place.st_dev):02x}:{os.minor(place.st_dev):02x}:{place.st_ino}"
    found = re.search(rf"FLOCK +\w+ +\w+ (\d+) {re.escape(where)} ", locks)
    return _program(int(found[1])) if found else "another program"


def _program(pid: int) -> str:
    if pid == os.getpid():
        return "this program itself"
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return f"a program with pid {pid}"
    return f"`{' '.join(words).strip()[:60]}` (pid {pid})"
