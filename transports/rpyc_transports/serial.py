"""`serial:///dev/ttyUSB0?baudrate=115200` and `serial://?vid=2E8A&pid=0005`: a serial port of this machine, by path or by what its device is."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import NamedTuple
from urllib.parse import quote, unquote

import trio

from rpyc_gateway.errors import ConfigError, DialFailed
from rpyc_gateway.transport import Handler, Pipe, Place, without_secrets
from rpyc_transports import ports, urls
from rpyc_transports.portserving import ANY_RATE, pipe, serve_port
from rpyc_transports.portsettings import LINE_OPTIONS, Settings, level
from rpyc_transports.portstream import PortStream

if sys.platform == "win32":
    from rpyc_transports.threaded import open_threaded as open_stream
else:
    from rpyc_transports.uart import open_uart as open_stream

__all__ = ["SerialTransport"]

OPEN_TIMEOUT = 15.0  # seconds that a driver may take; one whose device is broken takes for ever


class SerialTransport:
    """One pipe at a time, between the two ends of a line. The port is locked, so that no second program opens it by mistake."""

    @asynccontextmanager
    async def connect(self, url: str) -> AsyncIterator[Pipe]:
        """Open the port. Whether anybody is at the other end of the line is not known by that.

        Raises DialFailed: no such port (what is plugged in is named), no permission, or another program has it.
        """
        try:
            target = self._target(url)
            stream, port = await _open(url, target, None)
        except ConfigError as exc:
            raise DialFailed(str(exc)) from exc
        async with stream:
            yield _pipe(stream, port, target.fastest or 0)

    async def serve(
        self, url: str, handler: Handler, *, task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve whoever is at the other end, one pipe after the other; each begins when something is heard.

        A port that goes away later is waited for; a device that has a serial number is found again under any path.
        Raises ConfigError before `started` for what `connect` raises DialFailed for.
        """
        target = self._target(url)
        fastest = ANY_RATE if target.fastest is None else target.fastest
        port: ports.Port | None = None

        async def open_again() -> tuple[PortStream, Pipe]:
            nonlocal port
            stream, port = await _open(url, target, port)
            return stream, _pipe(stream, port, fastest)

        await serve_port(url, open_again, handler, task_status)

    def is_private(self, url: str) -> bool:
        return True

    def is_guarded(self, url: str) -> bool:
        return False

    def check(self, url: str) -> str | None:
        return "; ".join(_parse(url)[1]) or None

    def places(self) -> Iterable[Place]:
        """The ports that are plugged in."""
        found = ports.plugged_in()
        return [port.place(found) for port in found]

    def fields(self, url: str) -> Collection[str]:
        target, problems = _parse(url)
        return () if problems or target.path else tuple(IDS)

    def fitting(self, url: str, places: Iterable[Place]) -> list[Place]:
        """A path that exists fits, whatever it is."""
        target, _ = _parse(url)
        if target.ids:
            return [replace(place, url=_url_of(place, url, target.ids)) for place in places if _fits(place, target.ids)]
        real = os.path.realpath(target.path)
        known = [place for place in places if os.path.realpath(place.name) == real]
        if not known and os.path.exists(target.path):
            known = [Place(url, target.path, {})]
        return [replace(place, url=url) for place in known]

    def _target(self, url: str) -> Target:
        target, problems = _parse(url)
        if problems:
            raise ConfigError([f"{without_secrets(url)}: {'; '.join(problems)}"])
        return target


class Target(NamedTuple):
    """What a URL says."""

    path: str  # or "", and `ids` say which
    ids: Mapping[str, str]
    settings: Settings
    fastest: int | None


URL = re.compile(r"serial://(?P<path>[^?#]*)(\?[^#]*)?", re.IGNORECASE | re.DOTALL)
FORM = "serial:///dev/ttyUSB0?baudrate=115200, or serial://?serial=NUMBER (`rpyc-gw ports` lists what is plugged in)"


def usb_id(given: str) -> str:
    """Four hexadecimal digits, as they come from list_ports."""
    if not re.fullmatch(r"(0x)?[0-9a-fA-F]{1,4}", given):
        raise ValueError(f"is {given!r}, and such an id is up to four hexadecimal digits")
    return f"{int(given, 16):04X}"


IDS = {"vid": usb_id, "pid": usb_id, "serial": urls.text, "location": urls.text}
OPTIONS = {
    **LINE_OPTIONS,
    **IDS,
    "dtr": level("on", "off", "keep"),
    "rts": level("on", "off", "keep"),
    "exclusive": urls.flag,
    "low_latency": urls.flag,
}


def _parse(url: str) -> tuple[Target, list[str]]:
    given, problems = urls.parse(url, OPTIONS)
    found = URL.fullmatch(url)
    path = unquote(found["path"]) if found else ""
    ids = {name: given.pop(name) for name in IDS if name in given}
    fastest = given.pop("fastest", None)
    if not found or "\0" in path:
        problems = [f"is not of the form {FORM}"]
    elif path and ids:
        problems.append(f"has a path and {' and '.join(ids)}: give the one or the other")
    elif not (path or ids):
        problems.append(f"does not say which port: write {FORM}")
    elif path and os.name == "posix" and not path.startswith("/"):
        hint = "" if "@" in path else f": did you mean serial:///{path}?"  # before an @ may be a password
        problems.append(f"names a port by a path without its first slash{hint}")
    return Target(path, ids, Settings(**given), fastest), problems


def _fits(place: Place, ids: Mapping[str, str]) -> bool:
    return all(place.about.get(name, "").casefold() == wanted.casefold() for name, wanted in ids.items())


def _url_of(place: Place, url: str, ids: Mapping[str, str]) -> str:
    """The same URL, with all that tells this port from others added."""
    telling = ("serial", "location") if "serial" in place.about else ("vid", "pid", "location")
    ids = {**ids, **{name: place.about[name] for name in telling if name in place.about}}
    options = [option for option in url.partition("?")[2].split("&") if option.partition("=")[0] not in IDS]
    return "serial://?" + "&".join([*(f"{name}={quote(known, safe='')}" for name, known in ids.items()), *options])


def _pipe(stream: PortStream, port: ports.Port, fastest: int) -> Pipe:
    return pipe(stream, identity=f"tty:{port.path}", private=True, fastest=fastest)


async def _open(url: str, target: Target, before: ports.Port | None) -> tuple[PortStream, ports.Port]:
    """Find and open the port; if it was found `before`, it is that device that is looked for. Raises ConfigError."""
    path = target.path
    try:
        with trio.fail_after(OPEN_TIMEOUT):
            port = await trio.to_thread.run_sync(_find, target, before, abandon_on_cancel=True)
            path = port.path
            return await open_stream(path, target.settings), port
    except LookupError as exc:
        raise ConfigError([f"{url}: {exc}"]) from exc
    except trio.TooSlowError:
        raise ConfigError(
            [f"{url}: it did not open within {OPEN_TIMEOUT:g} s: its device does not answer; plug it in anew"]
        ) from None
    except (OSError, ValueError) as exc:
        reason = await trio.to_thread.run_sync(_why_not, exc, path)
        raise ConfigError([f"{url}: {reason}"]) from exc


def _find(target: Target, before: ports.Port | None) -> ports.Port:
    found = ports.plugged_in()
    again = ports.twin(before, found) if before else None
    if again:
        return again
    if target.ids:
        return ports.choose(target.ids, found)
    real = os.path.realpath(target.path)
    known = (port for port in found if os.path.realpath(port.path) == real)
    return next((port._replace(path=target.path) for port in known), ports.Port(target.path))


def _why_not(exc: OSError | ValueError, path: str) -> str:
    # pyserial puts what a port says to its settings into the text only: "Could not configure port: (25, 'Inappropriate ioctl for device')".
    said = re.search(r"\((\d+), ", str(exc))
    code = getattr(exc, "errno", None) or (int(said[1]) if said else None)
    if code in (errno.ENOENT, errno.ENOTDIR, errno.ENODEV, errno.ENXIO):
        return f"there is no port {path}; {ports.listing(ports.plugged_in())}"
    if code in (errno.EACCES, errno.EPERM):
        return _not_permitted(path)
    if code == errno.EAGAIN:
        return f"{path} is in use: {ports.holder(path)} has locked it; stop that, or take another port"
    if code == errno.EBUSY:
        return f"{path} is in use: another program keeps it for itself (ModemManager does, for the first seconds after plugging in)"
    if code in (errno.ENOTTY, errno.EISDIR):
        return f"{path} is no serial port; {ports.listing(ports.plugged_in())}"
    if code == errno.EIO:
        return f"{path}: there is no device behind it: plug it in anew, or take another port"
    return f"{path} cannot be set up like this: {exc}"


def _not_permitted(path: str) -> str:
    group = "dialout"
    try:
        import grp

        group = grp.getgrgid(os.stat(path).st_gid).gr_name
    except (ImportError, OSError, KeyError):
        pass
    who = f"become one of its group: `sudo usermod -aG {group} $USER`, then log in anew"
    if group == "root":
        who = "run as root, or have an udev rule give it to the group dialout"
    return f"{path}: permission denied; {who}"
