"""`rpyc-gw ports`: a table for people, JSON for programs, a line when there is nothing."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner, Result

from rpyc_gateway.cli import main
from rpyc_transports import ports
from rpyc_transports.ports import Port

PICO = Port("/dev/ttyACM0", "2E8A", "0005", "E6614C77", "1-1", "Board in FS mode")
BUILT_IN = Port("/dev/ttyS0")


def ask(monkeypatch: pytest.MonkeyPatch, plugged_in: list[Port], *options: str) -> Result:
    monkeypatch.setattr(ports, "plugged_in", lambda: plugged_in)
    told = CliRunner().invoke(main, ["ports", *options])
    assert told.exit_code == 0, told.output
    return told


def test_what_is_plugged_in_has_a_line_with_what_to_write(monkeypatch: pytest.MonkeyPatch) -> None:
    told = ask(monkeypatch, [PICO, BUILT_IN])
    assert told.stdout.splitlines() == [
        "PORT          USB ID     SERIAL NUMBER  PRODUCT           URL",
        "/dev/ttyACM0  2E8A:0005  E6614C77       Board in FS mode  serial://?serial=E6614C77",
        "/dev/ttyS0    -          -              -                 serial:///dev/ttyS0",
    ]
    assert told.stderr == ""


def test_programs_are_told_in_json(monkeypatch: pytest.MonkeyPatch) -> None:
    assert json.loads(ask(monkeypatch, [PICO, BUILT_IN], "--json").stdout) == [
        {
            "port": "/dev/ttyACM0",
            "url": "serial://?serial=E6614C77",
            "vid": "2E8A",
            "pid": "0005",
            "serial": "E6614C77",
            "location": "1-1",
            "product": "Board in FS mode",
        },
        {"port": "/dev/ttyS0", "url": "serial:///dev/ttyS0"},
    ]
    assert json.loads(ask(monkeypatch, [], "--json").stdout) == []


def test_nothing_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    told = ask(monkeypatch, [])
    assert (told.stdout, told.stderr) == ("", "no serial port is plugged in (a USB cable may be for charging only)\n")


def test_what_a_device_calls_itself_does_not_reach_the_terminal_as_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    told = ask(monkeypatch, [PICO._replace(product="\x1b[2Jgone")])
    assert "\x1b" not in told.stdout
    assert "?[2Jgone" in told.stdout


def test_ports_of_this_machine_can_be_listed() -> None:
    told = CliRunner().invoke(main, ["ports"])
    assert told.exit_code == 0
    assert told.output
