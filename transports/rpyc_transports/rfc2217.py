"""`rfc2217://host:port?baudrate=115200`: a serial port of another machine, by telnet with port control (RFC 2217). Not encrypted."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import trio

from rpyc_gateway.errors import ConfigError, DialFailed
from rpyc_gateway.transport import Handler, Pipe, without_secrets
from rpyc_transports import urls
from rpyc_transports.portclient import PortClient
from rpyc_transports.portserving import ANY_RATE, pipe, serve_port
from rpyc_transports.portsettings import LINE_OPTIONS, Settings, level
from rpyc_transports.portstream import PortStream
from rpyc_transports.threaded import open_threaded

__all__ = ["Rfc2217Transport"]

OPEN_TIMEOUT = 15.0  # seconds, for a connection and some rounds of questions and answers


class Rfc2217Transport:
    """The port of a port server, such as ser2net: whoever can reach the server can have the line."""

    @asynccontextmanager
    async def connect(self, url: str) -> AsyncIterator[Pipe]:
        """Connect to the server and have it set up the port. Raises DialFailed if it cannot be reached or refuses a setting."""
        try:
            target = self._target(url)
            stream = await _open(url, target)
        except ConfigError as exc:
            raise DialFailed(str(exc)) from exc
        async with stream:
            yield _pipe(stream, target.fastest or 0)

    async def serve(
        self, url: str, handler: Handler, *, task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve whoever is at the other end of that line, one pipe after the other. Raises ConfigError before `started`."""
        target = self._target(url)
        fastest = ANY_RATE if target.fastest is None else target.fastest

        async def open_again() -> tuple[PortStream, Pipe]:
            stream = await _open(url, target)
            return stream, _pipe(stream, fastest)

        await serve_port(url, open_again, handler, task_status)

    def is_private(self, url: str) -> bool:
        return False

    def is_guarded(self, url: str) -> bool:
        return False

    def check(self, url: str) -> str | None:
        return "; ".join(_parse(url)[1]) or None

    def _target(self, url: str) -> Target:
        target, problems = _parse(url)
        if problems:
            raise ConfigError([f"{without_secrets(url)}: {'; '.join(problems)}"])
        return target


class Target(NamedTuple):
    """What a URL says."""

    server: str  # host:port
    settings: Settings
    fastest: int | None
    ign_set_control: bool


URL = re.compile(
    r"rfc2217://(?P<server>(?:\[[0-9a-fA-F:.]+\]|[^\[\]:/@?#\s]+):(?P<port>[0-9]{1,5}))/?(\?[^#]*)?", re.IGNORECASE
)
OPTIONS = {
    **LINE_OPTIONS,
    "dtr": level("on", "off"),
    "rts": level("on", "off"),
    "ign_set_control": urls.flag,
}


def _parse(url: str) -> tuple[Target, list[str]]:
    given, problems = urls.parse(url, OPTIONS)
    found = URL.fullmatch(url)
    if not found:
        problems = ["is not of the form rfc2217://host:port?baudrate=115200"]
    elif not 0 < int(found["port"]) < 1 << 16:
        problems.append(f"port {found['port']} is not in 1..65535")
    if given.get("xonxoff") and given.get("rtscts"):
        problems.append("asks for xonxoff and rtscts, which a server cannot do both")
    fastest, ignoring = given.pop("fastest", None), given.pop("ign_set_control", False)
    return Target(found["server"] if found else "", Settings(**given), fastest, ignoring), problems


def _pipe(stream: PortStream, fastest: int) -> Pipe:
    return pipe(stream, identity="", private=False, fastest=fastest)


async def _open(url: str, target: Target) -> PortStream:
    query = "?ign_set_control" if target.ign_set_control else ""
    name = f"rfc2217://{target.server}"
    try:
        with trio.fail_after(OPEN_TIMEOUT):
            return await open_threaded(name, target.settings, lambda: PortClient(name + query))
    except trio.TooSlowError:
        raise ConfigError(
            [f"{url}: no answer within {OPEN_TIMEOUT:g} s: is this a port server that speaks RFC 2217?"]
        ) from None
    except (OSError, ValueError) as exc:
        hint = "is this a port server that speaks RFC 2217?"
        if "Could not open port" in str(exc):  # nothing was heard of it
            hint = "is the port server running, and is this its address?"
        elif "'control'" in str(exc):
            hint = "a server whose port has no modem lines does not answer to that: add ign_set_control=1"
        raise ConfigError([f"{url}: {exc}; {hint}"]) from exc
